"""What a receipt says about a file, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from s3sync.aws.digests import Sums
from s3sync.aws.objects import Absent, RemoteObject
from s3sync.aws.receipts import ObjectStored
from s3sync.runs import LocalFile
from s3sync.transfer.hashing import FileHashes
from s3sync.transfer.receipt_check import find_contradictions, reports_checksums_of_parts, with_checksum

FILE = LocalFile("a", 3, 0)
OURS, THEIRS = "a" * 32, "b" * 32
GOOD, BAD = "AAAAAA==", "BBBBBB=="


class Evidence:
    """The CRC-32 of the file is always the same one."""

    def checksum(self, _file: LocalFile, name: str) -> Sums:
        assert name == "crc32"
        return Sums(GOOD, f"{GOOD}-1")

    def match_other_part_size(self, file: LocalFile, etag: str) -> str | None:
        return None


def receipt(etag: str, size: int | None = 3, crc32: str = "") -> ObjectStored:
    return ObjectStored(key="R/a", size=size, etag=etag, crc32=crc32)


def contradiction(stored: ObjectStored, hashed: FileHashes, *, are_md5s: bool = False) -> str:
    return find_contradictions([FILE], {"a": hashed}, {"a": stored}, Evidence(), lambda _: are_md5s).get("a", "")


def test_a_receipt_with_our_etag_contradicts_nothing() -> None:
    assert not contradiction(receipt(OURS.upper()), FileHashes(OURS, None), are_md5s=True)


def test_another_etag_contradicts_where_etags_are_md5s() -> None:
    assert contradiction(receipt(THEIRS), FileHashes(OURS, None), are_md5s=True) == (
        f"S3 has other bytes: ETag {THEIRS}, not {OURS}"
    )
    assert not contradiction(receipt(THEIRS), FileHashes(OURS, None)), "KMS: it says nothing"


@pytest.mark.parametrize("crc32", [GOOD, ""])
def test_an_etag_that_is_not_an_md5_contradicts_nothing_even_if_others_are_md5s(crc32: str) -> None:
    """Part of the run was there before the bucket encrypted by KMS."""
    stored = replace(receipt(THEIRS, crc32=crc32), opaque_etag=True)
    assert not contradiction(stored, FileHashes(OURS, None), are_md5s=True)
    wrong = replace(receipt(THEIRS, crc32=BAD), opaque_etag=True)
    assert "CRC32" in contradiction(wrong, FileHashes(OURS, None), are_md5s=True)


def test_another_checksum_contradicts_and_ours_does_not() -> None:
    assert "CRC32" in contradiction(receipt(THEIRS, crc32=BAD), FileHashes(OURS, None))
    assert not contradiction(receipt(THEIRS, crc32=GOOD), FileHashes(OURS, None))
    assert "CRC32" in contradiction(receipt(THEIRS, crc32=BAD), FileHashes("", None, sums=Sums(GOOD, f"{GOOD}-1")))
    assert not contradiction(receipt(THEIRS, crc32=GOOD), FileHashes("", None, sums=Sums(GOOD, f"{GOOD}-1")))


def test_files_without_a_receipt_or_a_hash_are_left_to_the_read_back() -> None:
    assert find_contradictions([FILE], {}, {"a": receipt(THEIRS)}, Evidence(), lambda _: True) == {}
    assert find_contradictions([FILE], {"a": FileHashes(OURS, None)}, {}, Evidence(), lambda _: True) == {}


def test_a_listing_gets_the_checksum_of_its_receipt_only_if_it_is_the_same_object() -> None:
    listed = RemoteObject(3, THEIRS, listed=True)
    assert with_checksum(listed, receipt(THEIRS, crc32=GOOD)) == RemoteObject(3, THEIRS, GOOD, listed=True)
    by_kms = replace(receipt(THEIRS, crc32=GOOD), opaque_etag=True)
    assert with_checksum(listed, by_kms) == RemoteObject(3, THEIRS, GOOD, opaque_etag=True, listed=True)
    assert with_checksum(listed, receipt(OURS, crc32=GOOD)) == listed
    assert with_checksum(listed, receipt(THEIRS, size=4, crc32=GOOD)) == listed
    assert with_checksum(listed, None) == listed
    assert with_checksum(Absent(listed=True), receipt(THEIRS, crc32=GOOD)) == Absent(listed=True)
    asked = RemoteObject(3, THEIRS, BAD)
    assert with_checksum(asked, receipt(THEIRS, crc32=GOOD)) == asked, "head-object knows better"


def test_without_an_etag_a_listing_may_show_another_object_than_the_receipt() -> None:
    listed = RemoteObject(3, "", listed=True)
    assert with_checksum(listed, receipt("", crc32=GOOD)) == listed


def test_only_the_answers_to_multipart_uploads_show_that_parts_have_checksums() -> None:
    assert not reports_checksums_of_parts({"a": receipt(OURS, crc32=GOOD)})
    assert not reports_checksums_of_parts({"a": receipt(OURS, size=None)})
    assert reports_checksums_of_parts({"a": receipt(OURS, size=None, crc32=f"{GOOD}-2")})
