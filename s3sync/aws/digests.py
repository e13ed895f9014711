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
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from s3sync.aws.etag import MIB

try:
    from isal.isal_zlib import crc32 as crc32_of  # uses the CPU's instructions
except ImportError:  # there are no wheels for this machine
    from zlib import crc32 as crc32_of

CHECKSUM_NAMES = ("sha256", "sha1", "crc32c", "crc64nvme")  # besides crc32; the fastest first
MAX_SLOW_CRC_BYTES = 64 * MIB  # largest file whose CRC is computed in Python, which takes 0.1 s per MiB
_READ_BYTES = 1 * MIB

OnRead = Callable[[int], None]
Split: TypeAlias = "int | tuple[int, ...] | None"
"""How a file is split into parts: their size in bytes; None for one PUT; or the size of each part."""


def _ignore(_count: int) -> None: ...


class Sums(NamedTuple):
    """A checksum of a file as S3 has it: of the whole object, or composed of the checksums of its parts, `BASE64-N`.

    Which of the two an object has depends on the uploader.
    """

    whole: str
    composed: str

    @property
    def number(self) -> int:
        """Return the checksum of the whole object as a number."""
        return int.from_bytes(base64.b64decode(self.whole), "big")


def expected_etags(path: Path, part_sizes: Iterable[Split], on_read: OnRead = _ignore) -> dict[Split, str]:
    """Return the ETags of a file, without quotes, by part size; without parts it is the MD5 of the file.

    The file is read once. `on_read` gets the number of bytes after every read, at least once a MiB; it may raise to
    stop. Raises OSError.
    """
    etags = {part_size: RunningEtag(part_size) for part_size in part_sizes}
    _read(path, etags.values(), on_read)
    return {part_size: etag.value() for part_size, etag in etags.items()}


def expected_etags_and_crc32(
    path: Path, part_sizes: Iterable[Split], on_read: OnRead = _ignore
) -> tuple[dict[Split, str], int]:
    """Return what `expected_etags` does, and the CRC-32 of the file from the same reading."""
    etags = {part_size: RunningEtag(part_size) for part_size in part_sizes}
    crc32 = _Crc32()
    _read(path, (*etags.values(), crc32), on_read)
    return {part_size: etag.value() for part_size, etag in etags.items()}, crc32.value


def expected_checksum(path: Path, name: str, part_size: Split, on_read: OnRead = _ignore) -> Sums:
    """Return a checksum of a file: `crc32`, which takes a twentieth of the CPU time of an ETag, or a CHECKSUM_NAMES.

    `part_size` and `on_read` are as for `expected_etags`. Raises OSError.
    """
    make = _MAKERS[name]
    whole = make()
    parts = None if part_size is None else _Parts(make, part_size)
    _read(path, (whole, parts) if parts else (whole,), on_read)
    digests = parts.digests() if parts else [whole.digest()]
    composed = make()
    composed.update(b"".join(digests))
    return Sums(_base64(whole), f"{_base64(composed)}-{len(digests)}")


def is_computed_fast(name: str, size: int) -> bool:
    """Return whether the checksum of this name takes only seconds for this many bytes."""
    return name == "crc32" or name.startswith("sha") or size <= MAX_SLOW_CRC_BYTES


class _Updated(Protocol):
    def update(self, data: memoryview, /) -> object: ...


class _Checksum(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Parts:
    """The digests of the parts of bytes that arrive in chunks."""

    def __init__(self, make: Callable[[], _Checksum], part_size: Split) -> None:
        self._make = make
        self._sizes = _sizes_of(part_size)
        self._least = len(part_size) if isinstance(part_size, tuple) else 0  # the last ones may be empty
        self._digests: list[bytes] = []
        self._begin_part()

    def update(self, chunk: memoryview) -> None:
        """Add the next bytes."""
        while self._left is not None and len(chunk) > self._left:
            self._part.update(chunk[: self._left])
            chunk = chunk[self._left :]
            self._end_part()
        self._part.update(chunk)
        if self._left is not None:
            self._left -= len(chunk)

    def digests(self) -> list[bytes]:
        """Return the digest of each part, at least one. Call it once, at the end."""
        self._end_part()
        while len(self._digests) < self._least:
            self._end_part()
        return self._digests

    def _begin_part(self) -> None:
        self._part = self._make()
        self._left = next(self._sizes)

    def _end_part(self) -> None:
        self._digests.append(self._part.digest())
        self._begin_part()


class RunningEtag:
    """The ETag of bytes that arrive in chunks."""

    def __init__(self, part_size: Split) -> None:
        self._is_one_put = part_size is None
        self._parts = _Parts(_md5, part_size)
        self.update = self._parts.update

    def value(self) -> str:
        """Return the ETag of all bytes. Call it once, at the end."""
        digests = self._parts.digests()
        return digests[0].hex() if self._is_one_put else f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"


def _md5(data: bytes = b"") -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)  # S3's format, no secret: allowed on FIPS systems, too


def _sizes_of(part_size: Split) -> Iterator[int | None]:
    """Yield the size of each part without end; None for one that takes all other bytes."""
    if isinstance(part_size, tuple):
        yield from part_size
        part_size = None
    yield from itertools.repeat(part_size)


class _Crc32:
    def __init__(self) -> None:
        self.value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self.value = crc32_of(data, self.value)

    def digest(self) -> bytes:
        return self.value.to_bytes(4, "big")


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
    "crc32": _Crc32,
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32c": lambda: _SlowCrc(0x82F63B78, 32),
    "crc64nvme": lambda: _SlowCrc(0x9A6C9329AC4BC9B5, 64),
}


def _base64(checksum: _Checksum) -> str:
    return base64.b64encode(checksum.digest()).decode("ascii")


def _read(path: Path, takers: Iterable[_Updated], on_read: OnRead) -> None:
    """Give all bytes of a file to each of these, in chunks that share one buffer."""
    takers = tuple(takers)
    with open(path, "rb", buffering=0, opener=_open_file) as stream:
        size = os.fstat(stream.fileno()).st_size  # most files of a run are far smaller than the buffer
        buffer = memoryview(bytearray(max(1, min(size, _READ_BYTES))))
        while count := stream.readinto(buffer):
            on_read(count)
            for taker in takers:
                taker.update(buffer[:count])
        on_read(0)


def _open_file(path: str, flags: int) -> int:
    """Open a regular file; never wait for a pipe in its place. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", path)
