"""Read what the plugin in an `aws` process reports: S3's answer for each object and part, one JSON object a line.

A receipt reports S3's answer, and is never proof: only reading back is conclusive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from s3sync.text import printable

VARIABLE = "S3SYNC_RECEIPTS_FD"  # names the descriptor to which the plugin writes
_PIPE_BYTES = 256 * 1024  # room for about a thousand receipts, so that a slow reader loses none
_READ_BYTES = 64 * 1024
_MAX_LINE = 8192  # bytes; a key of 1,024 bytes takes up to 3,072 in ASCII
_MAX_TEXT = 512  # characters of an ETag, a checksum or a reason


@dataclass(frozen=True, slots=True)
class Hello:
    """The plugin works in a process. `reason` says why it leaves the requests to the CLI, if it does.

    `can_list` says that the process can take its files from a list.
    """

    version: str
    is_fast: bool
    reason: str = ""
    can_list: bool = False


@dataclass(frozen=True, slots=True)
class FellBack:
    """The process has left the fast path for good."""

    reason: str


@dataclass(frozen=True, slots=True)
class PartStored:
    """S3 has accepted a part. `size` is in bytes."""

    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStored:
    """S3 has accepted an object. `crc32` is in base64, as S3 answered it; empty if it has not.

    `size` is in bytes; None if that is not known, as after a multipart upload. `seconds` is what the request took; 0
    if that is not known. `is_fast` says that it took the fast path. With `opaque_etag` the object is encrypted, so that
    its ETag is no MD5.
    """

    key: str
    size: int | None
    etag: str
    crc32: str = ""
    seconds: float = 0.0
    is_fast: bool = False
    opaque_etag: bool = False


Receipt: TypeAlias = "Hello | FellBack | PartStored | ObjectStored"


def parse_receipt(line: bytes) -> Receipt | None:
    """Return the receipt in a line; None for anything else."""
    try:
        fields = json.loads(line)
        return _PARSERS[fields["event"]](fields)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _parse_hello(fields: Mapping[str, Any]) -> Receipt:
    reason = _capped(fields.get("reason") or "")
    return Hello(_capped(fields["version"]), fields.get("fast") is True, reason, fields.get("lists") is True)


def _parse_slow(fields: Mapping[str, Any]) -> Receipt:
    return FellBack(_capped(fields["reason"]))


def _parse_part(fields: Mapping[str, Any]) -> Receipt:
    return PartStored(_text(fields["key"]), _size(fields["size"]))


def _parse_put(fields: Mapping[str, Any]) -> Receipt:
    return _stored(fields, None if fields["size"] is None else _size(fields["size"]))


def _parse_object(fields: Mapping[str, Any]) -> Receipt:
    return _stored(fields, None)


def _stored(fields: Mapping[str, Any], size: int | None) -> ObjectStored:
    sums = fields.get("checksums") or {}
    checksums = {name.lower(): value for name, value in sums.items()} if isinstance(sums, dict) else {}
    seconds = fields.get("seconds")
    return ObjectStored(
        key=_text(fields["key"]),
        size=size,
        etag=_capped(fields["etag"]),
        crc32=_capped(checksums.get("crc32", "")),
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 1e6 else 0.0,
        is_fast=fields.get("fast") is True,
        opaque_etag=fields.get("opaque") is True,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _capped(value: Any) -> str:
    return printable(_text(value)[:_MAX_TEXT])


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:  # a bool is an int
        raise TypeError
    return value


_PARSERS: Mapping[str, Callable[[Mapping[str, Any]], Receipt]] = {
    "hello": _parse_hello,
    "slow": _parse_slow,
    "put": _parse_put,
    "part": _parse_part,
    "object": _parse_object,
}


class LineSplitter:
    """Splits a stream into lines. A line of more than `max_bytes` bytes comes in pieces, so that memory is bounded."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete now, without their line feeds."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        size = self._max_bytes
        pieces = [line[start : start + size] for line in lines for start in range(0, len(line) or 1, size)]
        while len(self._rest) >= size:
            pieces.append(self._rest[:size])
            self._rest = self._rest[size:]
        return pieces

    def flush(self) -> list[bytes]:
        """Return the last line if it has no line feed."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


class ReceiptPipe:
    """A pipe from the plugin of one process. The process never waits for its reader: what does not fit is lost."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()  # descriptors
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        with contextlib.suppress(OSError, AttributeError):  # beyond the user's limit, or not on Linux
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._splitter = LineSplitter(_MAX_LINE)

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that the process needs."""
        return {VARIABLE: str(self.writer)}

    def close_writer(self) -> None:
        """Close the end of the process, which has inherited it."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_writer()
        os.close(self.reader)

    def read(self) -> Iterator[Receipt] | None:
        """Return the receipts that are there now, without waiting; None at the end of the pipe."""
        try:
            chunk = os.read(self.reader, _READ_BYTES)
        except BlockingIOError:
            return iter(())
        if not chunk:
            return None
        return filter(None, map(parse_receipt, self._splitter.feed(chunk)))
