"""The ETag and checksum that S3 must have for a local file.

A single PUT's ETag is the MD5 of its bytes; a multipart upload's is the MD5 of its parts' MD5s and
`-N`. Which one it is, and where the parts are cut, follows from settings this program pins, by the
rule of the CLI's transfer library (s3transfer, `ChunksizeAdjuster`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
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
    recognised and not sent again.
    """

    threshold: int = 8 * MIB
    part_size: int = 8 * MIB

    def part_size_for(self, size: int) -> int | None:
        """The part size for a file of `size` bytes, or None if it goes up in one PUT."""
        if size < self.threshold:
            return None
        part = self.part_size
        while -(-size // part) > MAX_PARTS:
            part *= 2
        return min(max(part, 5 * MIB), MAX_PART_BYTES)


DEFAULT_MULTIPART = Multipart()

# What other uploaders cut at, MiB: their defaults, and round numbers that people set.
_USUAL_PARTS = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)


def likely_part_sizes(size: int, etag: str) -> list[int]:
    """Part sizes (bytes) that give an ETag of this form, `HEX-N`, for `size` bytes; none if it is no multipart one."""
    _, dash, number = etag.partition("-")
    if not dash or not re.fullmatch("[0-9]{1,5}", number) or not 0 < int(number) <= MAX_PARTS:
        return []
    parts = int(number)
    even = -(-size // (parts * MIB)) * MIB  # the smallest whole MiB that makes so many parts
    candidates = sorted({*(usual * MIB for usual in _USUAL_PARTS), even})
    return [part for part in candidates if part > 0 and -(-size // part) == parts]


def _no_check() -> None:
    """Nobody wants to stop the hashing."""


def expected_etag(path: Path, part_size: int | None, check: Callable[[], None] = _no_check) -> str:
    """The ETag, without quotes, of the file's bytes as they are now.

    `check` is called at least once a MiB and may raise to stop. Raises OSError.
    """
    with path.open("rb", buffering=0) as stream:
        if part_size is None:
            return _md5_of(_chunks(stream, None, check)).hexdigest()
        digests: list[bytes] = []
        while True:
            part = _md5_of(_chunks(stream, part_size, check))
            if part.fed == 0 and digests:
                break
            digests.append(part.digest())
            if part.fed < part_size:
                break
        whole = hashlib.md5(b"".join(digests), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(digests)}"


def expected_crc32(path: Path, part_size: int | None) -> tuple[str, str]:
    """The file's CRC32 as S3 gives it: of the full object, and composed of those of the parts (`-N`).

    Which of the two an object has depends on who uploaded it. Raises OSError.
    """
    whole = 0
    parts: list[int] = []
    with path.open("rb", buffering=0) as stream:
        while True:
            part, fed = 0, 0
            for chunk in _chunks(stream, part_size, _no_check):
                part, whole, fed = zlib.crc32(chunk, part), zlib.crc32(chunk, whole), fed + len(chunk)
            if fed or not parts:
                parts.append(part)
            if part_size is None or fed < part_size:
                break
    composite = zlib.crc32(b"".join(part.to_bytes(4, "big") for part in parts))
    return _base64(whole), f"{_base64(composite)}-{len(parts)}"


class _Md5:
    """An MD5 that knows how many bytes it was fed."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)  # works on FIPS systems too: it is S3's format, no secret
        self.fed = 0
        self.digest = self._md5.digest
        self.hexdigest = self._md5.hexdigest

    def update(self, chunk: memoryview) -> None:
        self._md5.update(chunk)
        self.fed += len(chunk)


def _md5_of(chunks: Iterator[memoryview]) -> _Md5:
    md5 = _Md5()
    for chunk in chunks:
        md5.update(chunk)
    return md5


def _chunks(stream: FileIO, limit: int | None, check: Callable[[], None]) -> Iterator[memoryview]:
    """Up to `limit` bytes (None: all) in pieces that share one buffer."""
    size = os.fstat(stream.fileno()).st_size  # most files of a run are far smaller than the buffer
    buffer = memoryview(bytearray(max(1, min(size, limit or size, _READ_BYTES))))
    left = limit
    while left is None or left > 0:
        check()
        wanted = len(buffer) if left is None else min(left, len(buffer))
        count = stream.readinto(buffer[:wanted])
        if not count:
            return
        yield buffer[:count]
        if left is not None:
            left -= count


def _base64(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")
