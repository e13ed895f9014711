"""The ETags and checksums that S3 must have for a local file.

A single PUT's ETag is the MD5 of its bytes; a multipart upload's is the MD5 of its parts' MD5s and
`-N`. Which one it is, and where the parts are cut, follows from settings this program pins, by the
rule of the CLI's transfer library (s3transfer, `ChunksizeAdjuster`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
