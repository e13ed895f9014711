"""What proves each file."""

from __future__ import annotations

import pytest

from s3sync.aws.digests import Sums
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.objects import Absent, ObjectState, RemoteObject, Unknown, Verify
from s3sync.runs.local_files import LocalFile
from s3sync.state import Proof
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.proof import verify_by_crc32

SMALL, LARGE, HUGE = (LocalFile(f"Data/{size}", size, 1) for size in (10_000, 20_000_000, 2_000_000_000))
OURS = Sums("AAAAAA==", "BBBBBB==-3")


def chosen(choice: EvidenceChoice) -> list[bool]:
    return [choice.uses_checksum(file) for file in (SMALL, LARGE, HUGE)]


@pytest.mark.parametrize(
    ("verify", "without", "reported"),
    [
        ("auto", [False, False, True], [False, True, True]),
        ("etag", [False, False, False], [False, False, False]),
        ("size", [False, False, False], [False, False, False]),
        ("checksum", [True, True, True], [True, True, True]),
    ],
)
def test_a_checksum_is_used_where_it_costs_less(verify: Verify, without: list[bool], reported: list[bool]) -> None:
    choice = EvidenceChoice(verify, DEFAULT_MULTIPART)
    assert chosen(choice) == without
    choice.note_reported()
    assert chosen(choice) == reported


@pytest.mark.parametrize("verify", ["auto", "checksum"])
def test_a_server_without_checksums_is_known_after_one_file(verify: Verify) -> None:
    said: list[str] = []
    choice = EvidenceChoice(verify, DEFAULT_MULTIPART, said.append)
    choice.note_object(RemoteObject(1, "e", crc32="AAAAAA=="))
    choice.note_object(RemoteObject(1, "e", opaque_etag=True))  # KMS
    assert choice.uses_checksum(HUGE)
    choice.note_object(RemoteObject(1, "e", sums=(("crc64nvme", "AAAAAAAAAAA="),)))
    choice.note_object(RemoteObject(1, "e"))
    assert not choice.uses_checksum(HUGE)
    assert len(said) == (verify == "checksum")


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (Absent(), "not in S3"),
        (Unknown("it hung"), "could not be read back from S3: it hung"),
        (RemoteObject(1, "e", crc32="AAAAAA=="), "S3 has 1 bytes, the disk 20,000,000"),
        (RemoteObject(LARGE.size, "e"), None),
        (RemoteObject(LARGE.size, "e", crc32="AAAAAA=="), "verified"),
        (RemoteObject(LARGE.size, "e", crc32="BBBBBB==-3"), "verified"),
        (RemoteObject(LARGE.size, "e", crc32="BBBBBB=="), "verified"),  # servers that do not say of how many parts
        (RemoteObject(LARGE.size, "e", crc32="CCCCCC=="), "S3 has other bytes: its CRC32 is CCCCCC=="),
        (RemoteObject(LARGE.size, "e", crc32="CCCCCC==-3"), "S3 has other bytes: its CRC32 is CCCCCC==-3"),
        (RemoteObject(LARGE.size, "e", crc32="CCCCCC==-4"), None),  # parts of another size
        (RemoteObject(LARGE.size, "e", sums=(("sha256", "S"),)), None),
    ],
)
def test_a_crc32_proves_a_file_or_not(seen: ObjectState, verdict: str | None) -> None:
    found = verify_by_crc32(LARGE, seen, OURS)
    assert found == (Proof.of(LARGE, "e", "checksum") if verdict == "verified" else verdict)
