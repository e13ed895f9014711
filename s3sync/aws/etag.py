"""The ETags and checksums that S3 must have for a local file.

A single PUT's ETag is the MD5 of its bytes; a multipart upload's is the MD5 of its parts' MD5s and
`-N`. Which one it is, and where the parts are cut, follows from settings this program pins, by the
rule of the CLI's transfer library (s3transfer, `ChunksizeAdjuster`).
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024
MAX_PARTS = 10_000
MAX_PART_BYTES = 5 * 1024 * MIB
_READ_BYTES = 1 * MIB


class Multipart(NamedTuple):
    """From which size on files go up in parts, and the size of a part; bytes.

    The defaults are the CLI's own, so that what somebody uploaded by hand with `aws s3 cp` is
    recognised and not sent again. `crt` says that the client in C cuts the parts.
    """

    threshold: int = 8 * MIB
    part_size: int = 8 * MIB
    crt: bool = False

    def part_size_for(self, size: int) -> int | None:
        """The part size for a file of `size` bytes, or None if it goes up in one PUT.

        More than 10,000 parts are not allowed: the client in Python doubles the size until that is met, the one in C
        (aws-c-s3, `aws_s3_calculate_optimal_mpu_part_size_and_num_parts`) takes the smallest number of bytes.
        """
        if size < self.threshold:
            return None
        part = self.part_size
        if self.crt:
            return min(max(part, -(-size // MAX_PARTS)), MAX_PART_BYTES)
        while -(-size // part) > MAX_PARTS:
            part *= 2
        return min(max(part, 5 * MIB), MAX_PART_BYTES)


DEFAULT_MULTIPART = Multipart()

# What other uploaders cut at, MiB: their defaults, and round numbers that people set.
_USUAL_PARTS = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)
_UNITS = (MIB, 5 * MIB, 8 * MIB, 16 * MIB)

# What an ETag that may be an MD5 looks like; some servers write it in capitals.
_MD5_FORM = re.compile("[0-9a-fA-F]{32}(-[0-9]{1,5})?")


def normalize_etag(said: str) -> str:
    """An ETag as it is compared and kept: without quotes and the mark of a weak one, an MD5 in small letters."""
    etag = said.removeprefix("W/").strip('"')
    return etag.lower() if is_md5_like(etag) else etag


def is_md5_like(etag: str) -> bool:
    """Whether it may be an MD5, or that of the MD5s of parts."""
    return _MD5_FORM.fullmatch(etag) is not None


def number_of_parts(etag: str) -> int:
    """Of how many parts an object with such an ETag is; 0 if it does not say so."""
    _, _, number = etag.partition("-")
    return int(number) if is_md5_like(etag) and number else 0


def likely_part_sizes(size: int, etag: str) -> list[int | None]:
    """Part sizes (bytes; None: one PUT) that give an ETag of this form, `HEX` or `HEX-N`, for `size` bytes."""
    _, dash, number = etag.partition("-")
    if not dash:
        return [None]
    if not re.fullmatch("[0-9]{1,5}", number) or not 0 < int(number) <= MAX_PARTS:
        return []
    parts = int(number)
    if parts == 1:
        return [max(size, MIB)]  # as good as every other size that the file fits into
    candidates = sorted({*(usual * MIB for usual in _USUAL_PARTS), *_parts_of_large_files(size, parts)})
    return [part for part in candidates if part > 0 and -(-size // part) == parts]


def _parts_of_large_files(size: int, parts: int) -> Iterator[int]:
    """The sizes that uploaders compute for themselves where their usual one would make too many parts."""
    for unit in _UNITS:  # the smallest multiple that makes so many parts: rclone, minio-go
        yield -(-size // (parts * unit)) * unit
    if size <= MAX_PARTS * 5 * MIB:  # no part may be smaller
        return
    yield -(-size // MAX_PARTS)  # the CLI's client in C, and the SDK for Java
    yield size // MAX_PARTS + 1  # the SDK for Go
    for usual in _USUAL_PARTS:  # s3transfer: the CLI's client in Python, boto3
        part = usual * MIB
        while -(-size // part) > MAX_PARTS:
            part *= 2
        yield part


OnRead = Callable[[int], None]


def _ignore(_count: int) -> None:
    """Nobody wants to know, or to stop the hashing."""


class Digests(NamedTuple):
    """What one reading of a file gave: ETags, without quotes, by part size; the CRC-32 of all of it if wanted."""

    etags: dict[int | None, str]
    crc32: int | None


def expected_etags(path: Path, part_sizes: Iterable[int | None], on_read: OnRead = _ignore) -> dict[int | None, str]:
    """The ETags, without quotes, of the file's bytes as they are now: by part size, all in one reading.

    Part size None is one PUT; that ETag is the MD5 of the file. `on_read` is called after every read, at
    least once a MiB, with the number of bytes, and may raise to stop. Raises OSError.
    """
    return digests(path, part_sizes, on_read, crc32=False).etags


def digests(path: Path, part_sizes: Iterable[int | None], on_read: OnRead = _ignore, *, crc32: bool) -> Digests:
    """As `expected_etags`, and if wanted the CRC-32 of the file, in the same reading."""
    etags = {part_size: RunningEtag(part_size) for part_size in part_sizes}
    crc = 0
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        for chunk in _chunks(stream, None, on_read):
            for etag in etags.values():
                etag.update(chunk)
            if crc32:
                crc = zlib.crc32(chunk, crc)
    return Digests({part_size: etag.value() for part_size, etag in etags.items()}, crc if crc32 else None)


def expected_crc32(path: Path, part_size: int | None, on_read: OnRead = _ignore) -> tuple[str, str]:
    """The file's CRC32 as S3 gives it: of the full object, and composed of those of the parts (`-N`).

    Which of the two an object has depends on who uploaded it. `on_read` as for ETags. Raises OSError.
    """
    whole = part = 0
    parts: list[int] = []
    for chunk, ends_part in in_parts(path, part_size, on_read):
        part, whole = zlib.crc32(chunk, part), zlib.crc32(chunk, whole)
        if ends_part:
            parts.append(part)
            part = 0
    composite = zlib.crc32(b"".join(part.to_bytes(4, "big") for part in parts))
    return _base64(whole), f"{_base64(composite)}-{len(parts)}"


def in_parts(path: Path, part_size: int | None, on_read: OnRead) -> Iterator[tuple[memoryview, bool]]:
    """The file in pieces, each with whether a part ends there; an empty file is one empty part. Raises OSError."""
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        fed, parts = 0, 0
        for chunk in _chunks(stream, None, on_read):
            rest = chunk
            while part_size is not None and fed + len(rest) >= part_size:
                yield rest[: part_size - fed], True
                rest = rest[part_size - fed :]
                fed, parts = 0, parts + 1
            if rest:
                yield rest, False
                fed += len(rest)
        if fed or not parts:
            yield memoryview(b""), True


def _open_file(path: str, flags: int) -> int:
    """Open what has to be a file without ever waiting: a pipe may have taken its place. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "no file", path)


class RunningEtag:
    """An ETag that comes about as the file is read; `part_size` in bytes, None for one PUT."""

    def __init__(self, part_size: int | None) -> None:
        self._part_size = part_size
        self._digests: list[bytes] = []
        self._begin_part()

    def update(self, chunk: memoryview) -> None:
        """The next bytes."""
        while self._left is not None and len(chunk) > self._left:
            self._md5.update(chunk[: self._left])
            chunk = chunk[self._left :]
            self._end_part()
        self._md5.update(chunk)
        if self._left is not None:
            self._left -= len(chunk)

    def value(self) -> str:
        """The ETag of what came; once."""
        if self._part_size is None:
            return self._md5.hexdigest()
        self._end_part()  # the last has at least one byte, unless the file has none
        whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._digests)}"

    def _begin_part(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)  # works on FIPS systems too: it is S3's format, no secret
        self._left = self._part_size

    def _end_part(self) -> None:
        self._digests.append(self._md5.digest())
        self._begin_part()


def _chunks(stream: FileIO, limit: int | None, on_read: OnRead) -> Iterator[memoryview]:
    """Up to `limit` bytes (None: all) in pieces that share one buffer."""
    size = os.fstat(stream.fileno()).st_size  # most files of a run are far smaller than the buffer
    buffer = memoryview(bytearray(max(1, min(size, limit or size, _READ_BYTES))))
    left = limit
    while left is None or left > 0:
        wanted = len(buffer) if left is None else min(left, len(buffer))
        count = stream.readinto(buffer[:wanted]) or 0
        on_read(count)
        if not count:
            return
        yield buffer[:count]
        if left is not None:
            left -= count


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")
