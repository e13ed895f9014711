"""What is verified of files that cannot be read."""

from __future__ import annotations

from typing import Any, cast

import pytest

from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.objects import RemoteObject, Verify
from s3sync.runs import LocalFile
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.hashing import FileHashes
from s3sync.transfer.object_verifier import ObjectVerifier

FILE = LocalFile("Data/a.cbcl", 3, 0)
SEEN = RemoteObject(3, "a" * 32, listed=True)


class Reader:
    """Objects are new."""

    def is_new(self, _path: str, _item: RemoteObject) -> bool:
        return True


class Hashes:
    """Nothing more is read."""

    def __init__(self, *, has_manifest: bool) -> None:
        self.has_expected_crc = has_manifest
        self.digests = self

    def part_size(self, _size: int) -> int | None:
        return None

    def fallback_etags(self, _files: object) -> dict[str, str]:
        return {}


def verdict(verify: Verify, hashes: dict[str, FileHashes], *, has_manifest: bool) -> Any:
    verifier = ObjectVerifier(
        cast("Any", Reader()),
        cast("Any", Hashes(has_manifest=has_manifest)),
        EtagTrust(),
        EvidenceChoice(verify, DEFAULT_MULTIPART),
        lambda _file, _seen: True,
    )
    return verifier.verdicts({FILE: SEEN}, hashes, ())[FILE]


@pytest.mark.parametrize("verify", ["auto", "etag", "checksum", "size"])
def test_a_file_that_the_instrument_took_a_checksum_of_is_not_verified_unread(verify: Verify) -> None:
    assert verdict(verify, {}, has_manifest=True) == "cannot be read"


def test_by_size_files_are_read_only_for_the_instrument_s_checksums() -> None:
    assert verdict("size", {}, has_manifest=False).verified_by == "size"
    assert verdict("size", {FILE.path: FileHashes("b" * 32, None)}, has_manifest=True).verified_by == "size"
