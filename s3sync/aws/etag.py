"""Recognize the forms of ETags, and compute where uploaders split files into parts.

The ETag of a single PUT is the MD5 of its bytes. That of a multipart upload is the MD5 of its parts' MD5s, followed by
`-N`. Which one it is, and how large the parts are, follows from settings that this program pins, by the rule of the
CLI's transfer library (s3transfer, `ChunksizeAdjuster`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MIB = 1024 * 1024
MAX_PARTS = 10_000
MAX_PART_BYTES = 5 * 1024 * MIB


class Multipart(NamedTuple):
    """The size from which on files are uploaded in parts, and the size of a part, in bytes.

    The defaults are those of the CLI, so that what was uploaded by hand with `aws s3 cp` is recognized and not sent
    again. With `crt`, the client in C chooses the size of the parts.
    """

    threshold: int = 8 * MIB
    part_size: int = 8 * MIB
    crt: bool = False

    def part_size_for(self, size: int) -> int | None:
        """Return the part size for a file of this size, in bytes; None if it is uploaded in one PUT.

        S3 allows 10,000 parts. For larger files the client in Python doubles the part size; the one in C (aws-c-s3,
        `aws_s3_calculate_optimal_mpu_part_size_and_num_parts`) takes the smallest number of bytes.
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

# Part sizes of other uploaders in MiB: their defaults, and round numbers that people choose.
_USUAL_PARTS = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)
_UNITS = (MIB, 5 * MIB, 8 * MIB, 16 * MIB)

# The form of an ETag that may be an MD5; some servers write it in capitals.
_MD5_FORM = re.compile("[0-9a-fA-F]{32}(-[0-9]{1,5})?")


def normalize_etag(text: str) -> str:
    """Return an ETag as it is compared and kept: without quotes and the mark of a weak one, an MD5 in lower case."""
    etag = text.removeprefix("W/").strip('"')
    return etag.lower() if not etag.islower() and is_md5_like(etag) else etag


def is_md5_like(etag: str) -> bool:
    """Return whether an ETag may be an MD5, or the MD5 of the parts' MD5s."""
    return _MD5_FORM.fullmatch(etag) is not None


def number_of_parts(etag: str) -> int:
    """Return how many parts an object with this ETag has; 0 if it does not say."""
    _, _, number = etag.partition("-")
    return int(number) if is_md5_like(etag) and number else 0


def likely_part_sizes(size: int, etag: str) -> list[int | None]:
    """Return the part sizes (bytes; None: one PUT) that give an ETag of this form, `HEX` or `HEX-N`, for this size."""
    _, dash, number = etag.partition("-")
    if not dash:
        return [None]
    if not re.fullmatch("[0-9]{1,5}", number) or not 0 < int(number) <= MAX_PARTS:
        return []
    parts = int(number)
    if parts == 1:
        return [max(size, MIB)]  # any size that the file fits into would do
    candidates = sorted({*(usual * MIB for usual in _USUAL_PARTS), *_parts_of_large_files(size, parts)})
    return [part for part in candidates if part > 0 and -(-size // part) == parts]


def _parts_of_large_files(size: int, parts: int) -> Iterator[int]:
    """Yield the sizes that uploaders compute where their usual size would make too many parts."""
    for unit in _UNITS:  # the smallest multiple that makes this number of parts: rclone, minio-go
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
