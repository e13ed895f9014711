"""Compute the ETags and checksums that S3 must have for the bytes of a local file.

S3 gives checksums as base64: of the whole object, or composed of those of its parts, followed by `-N`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from s3sync.aws.etag import MIB

try:
    from isal.isal_zlib import crc32 as crc32_of  # uses the CPU's instructions
except ImportError:  # there are no wheels for this machine
    from zlib import crc32 as crc32_of

CHECKSUM_NAMES = ("sha256", "sha1", "crc32c", "crc64nvme")  # besides CRC-32; the fastest first
MAX_SLOW_CRC_BYTES = 64 * MIB  # largest file whose CRC is computed in Python, which takes 0.1 s per MiB
_READ_BYTES = 1 * MIB

OnRead = Callable[[int], None]
Split: TypeAlias = "int | tuple[int, ...] | None"
"""How a file is split into parts: their size in bytes; None for one PUT; or the size of each part."""


def _ignore(_count: int) -> None: ...


class Crc32Sums(NamedTuple):
    """The CRC-32 of a file as S3 has it: of the whole object, or composed of those of its parts, `BASE64-N`.

    Which of the two an object has depends on the uploader.
    """

    whole: str
    composed: str


@dataclass(frozen=True, slots=True)
class Digests:
    """What one reading of a file computed: ETags without quotes, by part size, and its CRC-32 if requested.

    `sums` is that CRC-32 as S3 has it, for the first of the part sizes.
    """

    etags: dict[Split, str]
    crc32: int | None
    sums: Crc32Sums | None = None


def expected_etags(path: Path, part_sizes: Iterable[Split], on_read: OnRead = _ignore) -> dict[Split, str]:
    """Return the ETags of a file, without quotes, by part size; without parts it is the MD5 of the file.

    The file is read once. `on_read` gets the number of bytes after every read, at least once a MiB; it may raise to
    stop. Raises OSError.
    """
    return compute_digests(path, part_sizes, on_read, crc32=False).etags


def compute_digests(path: Path, part_sizes: Iterable[Split], on_read: OnRead = _ignore, *, crc32: bool) -> Digests:
    """Return what `expected_etags` does and, if requested, the CRC-32 of the file from the same reading."""
    etags = {part_size: RunningEtag(part_size) for part_size in part_sizes}
    crc = RunningCrc32(next(iter(etags), None)) if crc32 else None
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        for chunk in _read_chunks(stream, on_read):
            for etag in etags.values():
                etag.update(chunk)
            if crc:
                crc.update(chunk)
    values = {part_size: etag.value() for part_size, etag in etags.items()}
    return Digests(values, crc.whole, crc.sums()) if crc else Digests(values, None)


def compute_crc32(path: Path, part_size: Split, on_read: OnRead = _ignore) -> Digests:
    """Return the CRC-32 of a file, and no ETags; `part_size` and `on_read` are as for `expected_etags`.

    That takes a twentieth of the CPU time of an ETag. Raises OSError.
    """
    crc = RunningCrc32(part_size)
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        for chunk in _read_chunks(stream, on_read):
            crc.update(chunk)
    return Digests({}, crc.whole, crc.sums())


def expected_crc32(path: Path, part_size: Split, on_read: OnRead = _ignore) -> Crc32Sums:
    """Return the CRC-32 of a file as S3 has it. `on_read` is as for `expected_etags`. Raises OSError."""
    sums = compute_crc32(path, part_size, on_read).sums
    assert sums is not None
    return sums


def expected_checksum(path: Path, name: str, part_size: Split, on_read: OnRead = _ignore) -> tuple[str, str]:
    """Return what `expected_crc32` does for the checksum of this name, one of CHECKSUM_NAMES."""
    return _expected(path, _MAKERS[name], part_size, on_read)


def is_computed_fast(name: str, size: int) -> bool:
    """Return whether the checksum of this name, one of CHECKSUM_NAMES, takes only seconds for this many bytes."""
    return name.startswith("sha") or size <= MAX_SLOW_CRC_BYTES


def read_parts(path: Path, part_size: Split, on_read: OnRead = _ignore) -> Iterator[tuple[memoryview, bool]]:
    """Yield a file in chunks, each with whether a part ends there. An empty file is one empty part. Raises OSError."""
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        filled, parts, sizes = 0, 0, _sizes_of(part_size)
        left = next(sizes)
        for chunk in _read_chunks(stream, on_read):
            rest = chunk
            while left is not None and len(rest) >= left:
                yield rest[:left], True
                rest = rest[left:]
                filled, parts, left = 0, parts + 1, next(sizes)
            if rest:
                yield rest, False
                filled += len(rest)
                left = None if left is None else left - len(rest)
        if filled or not parts:
            parts += 1
            yield memoryview(b""), True
        for _ in range(parts, _least_parts(part_size)):
            yield memoryview(b""), True


class RunningEtag:
    """The ETag of bytes that arrive in chunks."""

    def __init__(self, part_size: Split) -> None:
        self._part_size = part_size
        self._sizes = _sizes_of(part_size)
        self._digests: list[bytes] = []
        self._begin_part()

    def update(self, chunk: memoryview) -> None:
        """Add the next bytes."""
        while self._left is not None and len(chunk) > self._left:
            self._md5.update(chunk[: self._left])
            chunk = chunk[self._left :]
            self._end_part()
        self._md5.update(chunk)
        if self._left is not None:
            self._left -= len(chunk)

    def value(self) -> str:
        """Return the ETag of all bytes. Call it once, at the end."""
        if self._part_size is None:
            return self._md5.hexdigest()
        self._end_part()
        while len(self._digests) < _least_parts(self._part_size):
            self._end_part()
        whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(self._digests)}"

    def _begin_part(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)  # S3's format, no secret: allowed on FIPS systems, too
        self._left = next(self._sizes)

    def _end_part(self) -> None:
        self._digests.append(self._md5.digest())
        self._begin_part()


class RunningCrc32:
    """The CRC-32 of bytes that arrive in chunks, and of their parts."""

    def __init__(self, part_size: Split) -> None:
        self.whole = 0  # CRC of all bytes so far
        self._part_size = part_size
        self._sizes = _sizes_of(part_size)
        self._left = next(self._sizes)
        self._part = 0
        self._parts: list[bytes] = []

    def update(self, chunk: memoryview) -> None:
        """Add the next bytes."""
        self.whole = crc32_of(chunk, self.whole)
        if self._part_size is None:
            return
        while self._left is not None and len(chunk) > self._left:
            self._part = crc32_of(chunk[: self._left], self._part)
            chunk = chunk[self._left :]
            self._end_part()
        self._part = crc32_of(chunk, self._part)
        if self._left is not None:
            self._left -= len(chunk)

    def sums(self) -> Crc32Sums:
        """Return the CRC-32 of all bytes. Call it once, at the end."""
        if self._part_size is None:
            self._part = self.whole
        self._end_part()
        while len(self._parts) < _least_parts(self._part_size):
            self._end_part()
        composed = crc32_of(b"".join(self._parts))
        return Crc32Sums(_encode_crc32(self.whole), f"{_encode_crc32(composed)}-{len(self._parts)}")

    def _end_part(self) -> None:
        self._parts.append(self._part.to_bytes(4, "big"))
        self._part, self._left = 0, next(self._sizes)


def _sizes_of(part_size: Split) -> Iterator[int | None]:
    """Yield the size of each part without end; None for one that takes all other bytes."""
    if isinstance(part_size, tuple):
        yield from part_size
        part_size = None
    yield from itertools.repeat(part_size)


def _least_parts(part_size: Split) -> int:
    """Return how many parts there are at least: the last ones may be empty."""
    return len(part_size) if isinstance(part_size, tuple) else 0


def _encode_crc32(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")


class _Checksum(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _SlowCrc:
    """A CRC that zlib does not have: bits reflected, initial value and final XOR all ones."""

    def __init__(self, polynomial: int, bits: int) -> None:
        self._table = _crc_table(polynomial)
        self._bytes = bits // 8
        self._ones = (1 << bits) - 1
        self._crc = self._ones

    def update(self, data: bytes | memoryview, /) -> None:
        table, crc = self._table, self._crc
        for byte in data:
            crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        self._crc = crc

    def digest(self) -> bytes:
        return (self._crc ^ self._ones).to_bytes(self._bytes, "big")


@lru_cache
def _crc_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_MAKERS: dict[str, Callable[[], _Checksum]] = {
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32c": lambda: _SlowCrc(0x82F63B78, 32),
    "crc64nvme": lambda: _SlowCrc(0x9A6C9329AC4BC9B5, 64),
}


def _expected(path: Path, make: Callable[[], _Checksum], part_size: Split, on_read: OnRead) -> tuple[str, str]:
    whole, part, composed = make(), make(), make()
    count = 0
    for chunk, ends_part in read_parts(path, part_size, on_read):
        whole.update(chunk)
        part.update(chunk)
        if ends_part:
            composed.update(part.digest())
            count += 1
            part = make()
    return _base64(whole), f"{_base64(composed)}-{count}"


def _base64(checksum: _Checksum) -> str:
    return base64.b64encode(checksum.digest()).decode("ascii")


def _open_file(path: str, flags: int) -> int:
    """Open a regular file; never wait for a pipe in its place. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", path)


def _read_chunks(stream: FileIO, on_read: OnRead) -> Iterator[memoryview]:
    """Yield all bytes in chunks that share one buffer."""
    size = os.fstat(stream.fileno()).st_size  # most files of a run are far smaller than the buffer
    buffer = memoryview(bytearray(max(1, min(size, _READ_BYTES))))
    while True:
        count = stream.readinto(buffer) or 0
        on_read(count)
        if not count:
            return
        yield buffer[:count]
