"""Expected ETags and checksums against a plain reading of S3's rules, part sizes against the CLI's own rule."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from itertools import count
from pathlib import Path

import pytest
from awscli.s3transfer.utils import ChunksizeAdjuster  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync.aws.digests import expected_checksum, expected_etags, expected_etags_and_crc32
from s3sync.aws.etag import (
    DEFAULT_MULTIPART,
    MIB,
    Multipart,
    likely_part_sizes,
    normalize_etag,
)

GIB = 1024 * MIB
TIB = 1024 * GIB


def bytes_of(size: int) -> bytes:
    """Bytes that differ from part to part."""
    return b"".join(struct.pack(">Q", n) for n in range(-(-size // 8)))[:size]


def cut(content: bytes, part_size: int) -> list[bytes]:
    """The parts of an upload; nothing at all is one empty part."""
    return [content[at : at + part_size] for at in range(0, len(content), part_size)] or [b""]


def etag_of(content: bytes, part_size: int | None) -> str:
    if part_size is None:
        return hashlib.md5(content).hexdigest()
    parts = cut(content, part_size)
    return hashlib.md5(bytes.fromhex("".join(hashlib.md5(p).hexdigest() for p in parts))).hexdigest() + f"-{len(parts)}"


def crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = crc_table()


def crc32_of(content: bytes) -> bytes:
    """CRC-32 by its definition, four bytes."""
    register = 0xFFFFFFFF
    for byte in content:
        register = register >> 8 ^ CRC_TABLE[(register ^ byte) & 0xFF]
    return struct.pack(">I", register ^ 0xFFFFFFFF)


def crc32s_of(content: bytes, part_size: int | None) -> tuple[str, str]:
    parts = [content] if part_size is None else cut(content, part_size)
    whole, composite = crc32_of(content), crc32_of(b"".join(map(crc32_of, parts)))
    return base64.b64encode(whole).decode(), f"{base64.b64encode(composite).decode()}-{len(parts)}"


def expected_etag(file: Path, part_size: int | None) -> str:
    return expected_etags(file, [part_size])[part_size]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "L001_1.cbcl"


@pytest.fixture(scope="module")
def reused_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a property."""
    return tmp_path_factory.mktemp("etag") / "file"


@pytest.mark.parametrize(
    "size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB - 1, 16 * MIB, 16 * MIB + 1, 24 * MIB]
)
def test_etag_around_the_default_borders(file: Path, size: int) -> None:
    content = bytes_of(size)
    file.write_bytes(content)
    part_size = DEFAULT_MULTIPART.part_size_for(size)
    assert part_size == (None if size < 8 * MIB else 8 * MIB)
    assert expected_etag(file, part_size) == etag_of(content, part_size)


@pytest.mark.parametrize("part_size", [None, 1, 4, 1000, 1001])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 2001, 4000])
def test_small_parts(file: Path, size: int, part_size: int | None) -> None:
    content = bytes_of(size)
    file.write_bytes(content)
    assert expected_etag(file, part_size) == etag_of(content, part_size)
    sums = expected_checksum(file, "crc32", part_size)
    assert (sums, sums.number) == (crc32s_of(content, part_size), zlib.crc32(content))


@pytest.mark.parametrize("part_size", [None, MIB - 1, MIB, MIB + 1])
@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 2 * MIB])
def test_parts_around_the_size_of_the_read_buffer(file: Path, size: int, part_size: int | None) -> None:
    content = bytes_of(size)
    file.write_bytes(content)
    assert expected_etag(file, part_size) == etag_of(content, part_size)


@settings(deadline=None, max_examples=100)
@given(
    content=st.binary(max_size=3000),
    threshold=st.integers(0, 3000),
    part_size=st.integers(1, 700),
)
def test_any_bytes_threshold_and_part_size(reused_file: Path, content: bytes, threshold: int, part_size: int) -> None:
    reused_file.write_bytes(content)
    size = None if len(content) < threshold else part_size
    assert expected_etag(reused_file, size) == etag_of(content, size)
    assert expected_checksum(reused_file, "crc32", size) == crc32s_of(content, size)


@pytest.mark.parametrize(
    ("content", "etag", "crc32"),
    [
        (b"", "d41d8cd98f00b204e9800998ecf8427e", "AAAAAA=="),
        (b"123456789", "25f9e794323b453885f5181f1b624d0b", "y/Q5Jg=="),
    ],
)
def test_published_values(file: Path, content: bytes, etag: str, crc32: str) -> None:
    file.write_bytes(content)
    assert expected_etag(file, None) == etag
    assert expected_checksum(file, "crc32", None).whole == crc32


def test_a_missing_file_is_an_os_error(file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        expected_etags(file, [None])
    with pytest.raises(FileNotFoundError):
        expected_checksum(file, "crc32", None)


@settings(deadline=None, max_examples=100)
@given(
    content=st.binary(max_size=3000),
    part_sizes=st.sets(st.one_of(st.none(), st.integers(1, 700), st.integers(2900, 3100)), min_size=1, max_size=5),
)
def test_many_part_sizes_take_one_reading(reused_file: Path, content: bytes, part_sizes: set[int | None]) -> None:
    reused_file.write_bytes(content)
    reads: list[int] = []

    etags = expected_etags(reused_file, part_sizes, reads.append)

    assert etags == {part_size: etag_of(content, part_size) for part_size in part_sizes}
    assert sum(reads) == len(content)
    assert expected_etags_and_crc32(reused_file, part_sizes) == (etags, zlib.crc32(content))


@settings(deadline=None, max_examples=100)
@given(parts=st.lists(st.binary(max_size=900), min_size=2, max_size=6))
def test_parts_of_given_sizes(reused_file: Path, parts: list[bytes]) -> None:
    """Some may be empty, and the file may be longer than one reading."""
    reused_file.write_bytes(b"".join(parts))
    sizes = tuple(map(len, parts))
    md5s = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    etag = f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(parts)}"
    assert expected_etags(reused_file, [sizes, 7])[sizes] == etag
    crcs = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    crc32 = base64.b64encode(zlib.crc32(crcs).to_bytes(4, "big")).decode()
    assert expected_checksum(reused_file, "crc32", sizes).composed == f"{crc32}-{len(parts)}"
    sha256s = b"".join(hashlib.sha256(part).digest() for part in parts)
    sha256 = base64.b64encode(hashlib.sha256(sha256s).digest()).decode()
    assert expected_checksum(reused_file, "sha256", sizes).composed == f"{sha256}-{len(parts)}"


@pytest.mark.parametrize("part_sizes", [[None], [5 * MIB], [None, 5 * MIB, 5 * MIB // 2 + 1]])
def test_part_sizes_larger_than_what_is_read_at_once(file: Path, part_sizes: list[int | None]) -> None:
    content = bytes_of(10 * MIB + 1)
    file.write_bytes(content)
    assert expected_etags(file, part_sizes) == {part_size: etag_of(content, part_size) for part_size in part_sizes}


@pytest.mark.parametrize(
    ("size", "etag", "mib"),
    [
        (20, "a" * 32, [None]),
        (20 * MIB, "a" * 32, [None]),  # one PUT, however large
        (20 * MIB, "a-3", [7, 8]),
        (8 * 10_000 * MIB, "a-10000", [8]),
        (20 * MIB, "a-x", []),
        (20 * MIB, "a-0", []),
        (20 * MIB, "a-10001", []),
        (20 * MIB, f"a-{'9' * 5000}", []),
        (6 * MIB, "a-1", [6]),  # any size that it fits into gives the same
        (0, "a-1", [1]),
    ],
)
def test_likely_part_sizes(size: int, etag: str, mib: list[int | None]) -> None:
    found = [part for part in likely_part_sizes(size, etag) if part is None or part % MIB == 0 or size < MIB]
    assert found == [None if number is None else number * MIB for number in mib]


@settings(deadline=None, max_examples=200)
@given(size=st.integers(1, 5 * TIB), part_mib=st.sampled_from([5, 8, 16, 64, 100, 1024]))
def test_the_usual_part_sizes_are_likely(size: int, part_mib: int) -> None:
    number = -(-size // (part_mib * MIB))
    found = likely_part_sizes(size, f"a-{number}")
    assert number > 10_000 or number == 1 or part_mib * MIB in found
    assert all(part_size is not None and -(-size // part_size) == number for part_size in found)


@pytest.mark.parametrize("part_size", [None, 8 * MIB, MIB // 2])
def test_every_mib_that_is_read_is_counted(file: Path, part_size: int | None) -> None:
    file.write_bytes(bytes(5 * MIB))
    of_etags: list[int] = []
    of_crc32: list[int] = []

    expected_etags(file, [part_size], of_etags.append)
    expected_checksum(file, "crc32", part_size, of_crc32.append)

    for reads in (of_etags, of_crc32):
        assert sum(reads) == 5 * MIB
        assert max(reads) <= MIB


@pytest.mark.parametrize("part_size", [None, MIB])
@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_the_reading_may_be_stopped(file: Path, size: int, part_size: int | None) -> None:
    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    file.write_bytes(bytes(size))
    with pytest.raises(KeyboardInterrupt):
        expected_etags(file, [part_size], stop)
    with pytest.raises(KeyboardInterrupt):
        expected_checksum(file, "crc32", part_size, stop)


def test_the_reading_may_be_stopped_in_mid_file(file: Path) -> None:
    calls = count()

    def stop_later(_count: int) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    file.write_bytes(bytes(10 * MIB))
    with pytest.raises(KeyboardInterrupt):
        expected_etags(file, [8 * MIB], stop_later)
    assert next(calls) == 3


def cli_part_size(size: int, multipart: Multipart) -> int | None:
    """What the CLI's transfer library does with these settings."""
    if size < multipart.threshold:
        return None
    adjusted: int = ChunksizeAdjuster().adjust_chunksize(multipart.part_size, size)
    return adjusted


BORDERS = [edge + d for edge in (0, 1, 8 * MIB, 80_000 * MIB, 160_000 * MIB, 5 * TIB, 50 * TIB) for d in (-1, 0, 1)]


@pytest.mark.parametrize("part_size", [1, 5 * MIB - 1, 5 * MIB, 8 * MIB, 100 * MIB, 5 * GIB, 5 * GIB + 1])
@pytest.mark.parametrize("threshold", [0, 1, 8 * MIB])
def test_part_size_is_the_clis_at_the_borders(threshold: int, part_size: int) -> None:
    multipart = Multipart(threshold, part_size)
    for size in (border for border in BORDERS if border >= 0):
        assert multipart.part_size_for(size) == cli_part_size(size, multipart), size


# aws-c-s3, `aws_s3_calculate_optimal_mpu_part_size_and_num_parts`: sizes of files and of their parts, bytes.
CRT_PARTS = [
    (8 * MIB - 1, None),
    (8 * MIB, 8 * MIB),
    (80_000 * MIB, 8 * MIB),
    (80_000 * MIB + 1, 8 * MIB + 1),
    (84 * 10**9, 8_400_000 if 8 * MIB < 8_400_000 else 8 * MIB),
    (100 * 10**9, 10_000_000),
    (200 * GIB, 21_474_837),
    (5 * TIB, 549_755_814),
]


@pytest.mark.parametrize(("size", "part_size"), CRT_PARTS)
def test_parts_of_the_client_in_c_are_as_small_as_ten_thousand_allow(size: int, part_size: int | None) -> None:
    assert Multipart(crt=True).part_size_for(size) == part_size


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        *[(size, part) for size, part in CRT_PARTS if part],
        (100 * 10**9, 10_000_001),  # the SDK for Go
        (100 * 10**9, 16 * MIB),  # s3transfer, from 8 MiB
        (200 * GIB, 20 * MIB + 5 * MIB),  # from 25 MiB
        (400 * GIB, 60 * MIB),  # from 15 MiB
        (1 * TIB, 105 * MIB),  # rclone: whole MiB
        (1 * TIB, 112 * MIB),  # minio-go: multiples of 16 MiB
    ],
)
def test_parts_of_large_files_are_recognised_by_their_number(size: int, part_size: int) -> None:
    parts = -(-size // part_size)
    likely = likely_part_sizes(size, f"{'a' * 32}-{parts}")
    assert part_size in likely or parts == 1
    assert len(likely) <= 6, "each costs time"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f'"{"A" * 32}"', "a" * 32),
        (f'"{"0Ab" * 10}FF-12"', f"{'0ab' * 10}ff-12"),
        (f'W/"{"a" * 32}"', "a" * 32),
        ('"ABwcsNIEIx/3TX"', "ABwcsNIEIx/3TX"),
        ("", ""),
    ],
)
def test_etags_are_kept_in_one_form(said: str, kept: str) -> None:
    assert normalize_etag(said) == kept


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(0, 50 * TIB),
    threshold=st.integers(0, 6 * GIB),
    part_size=st.integers(1, 6 * GIB),
)
def test_part_size_is_the_clis(size: int, threshold: int, part_size: int) -> None:
    multipart = Multipart(threshold, part_size)
    assert multipart.part_size_for(size) == cli_part_size(size, multipart)


@settings(deadline=None, max_examples=200)
@given(size=st.integers(0, 50 * TIB))
def test_s3_takes_what_the_defaults_give(size: int) -> None:
    part_size = DEFAULT_MULTIPART.part_size_for(size)
    if part_size is not None:
        assert 5 * MIB <= part_size <= 5 * GIB
        assert -(-size // part_size) <= 10_240  # 50 TiB in parts of 5 GiB
