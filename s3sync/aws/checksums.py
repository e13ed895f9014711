"""The checksums besides CRC-32 that S3 may have of an object, computed from the bytes on disk.

S3 gives them as base64: of the whole object, or composed of those of its parts, followed by `-N`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from s3sync.aws.etag import MIB, OnRead, in_parts

NAMES = ("sha256", "sha1", "crc32c", "crc64nvme")  # the fastest first
MOST_BYTES = 64 * MIB  # of a file whose CRC is computed in Python: that takes 0.1 s a MiB


class _Sum(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _Crc:
    """A CRC that zlib does not know. All bits reflected, begun and ended with ones."""

    def __init__(self, polynomial: int, bits: int) -> None:
        self._table = _table(polynomial)
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
def _table(polynomial: int) -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return tuple(table)


_MAKERS: dict[str, Callable[[], _Sum]] = {
    "sha256": hashlib.sha256,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "crc32c": lambda: _Crc(0x82F63B78, 32),
    "crc64nvme": lambda: _Crc(0x9A6C9329AC4BC9B5, 64),
}


def can_compute(name: str, size: int) -> bool:
    """Whether the checksum of this name (of `NAMES`) can be had of so many bytes within seconds."""
    return name.startswith("sha") or size <= MOST_BYTES


def expected(path: Path, name: str, part_size: int | None, on_read: OnRead) -> tuple[str, str]:
    """The checksum of this name (of `NAMES`) as S3 gives it: of the whole file, and composed of those of its parts.

    `part_size` is in bytes, None for one PUT; `on_read` as for ETags. Raises OSError.
    """
    make = _MAKERS[name]
    whole, part = make(), make()
    digests: list[bytes] = []
    for chunk, ends_part in in_parts(path, part_size, on_read):
        whole.update(chunk)
        part.update(chunk)
        if ends_part:
            digests.append(part.digest())
            part = make()
    composed = make()
    composed.update(b"".join(digests))
    return _base64(whole.digest()), f"{_base64(composed.digest())}-{len(digests)}"


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")
