"""Decide whether an object in S3 proves that the bytes of a file arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from s3sync.aws import digests
from s3sync.aws import etag as aws_etag
from s3sync.aws.objects import Absent, ObjectState, RemoteObject, Unknown
from s3sync.runs import LocalFile, analysis_manifest, local_files
from s3sync.state import Proof
from s3sync.transfer.batches import is_verified

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on


def _no(_kind: str) -> bool:
    return False


class Evidence(Protocol):
    """Computes checksums of a local file, for objects whose ETag proves nothing. All methods raise OSError."""

    def checksum(self, file: LocalFile, name: str) -> digests.Sums: ...

    def match_other_part_size(self, file: LocalFile, etag: str) -> str | None: ...


class Mismatch(str):
    """Why an object of the right size proves nothing: it has another ETag, and no checksum to compare.

    `kind` is the kind of ETag: other objects may show whether ETags of this kind are MD5s at all (`etag_trust`).
    """

    kind: str

    def __new__(cls, reason: str, kind: str) -> Self:
        """Return the reason, with the kind of ETag."""
        made = super().__new__(cls, reason)
        made.kind = kind
        return made


def verify_object(
    file: LocalFile, seen: ObjectState, expected: str | None, evidence: Evidence, are_md5s: Callable[[str], bool] = _no
) -> Proof | str:
    """Return the proof that S3 holds this file, or why there is none: a Mismatch if only the ETag differs.

    `expected` is the ETag computed from the local bytes; None if only sizes are compared. `evidence` is used only for
    objects whose ETag is not an MD5, or has parts of another size than ours. `are_md5s` returns whether ETags of a kind
    are known to be MD5s on this server.
    """
    if not isinstance(seen, RemoteObject) or seen.size != file.size:
        return _why_no_candidate(file, seen)
    if expected is None:
        return Proof.of(file, seen.etag, "size")
    if aws_etag.normalize_etag(seen.etag) == aws_etag.normalize_etag(expected):
        return Proof.of(file, seen.etag, "etag")
    kind = kind_of(seen.etag, expected)
    if not seen.opaque_etag and evidence.match_other_part_size(file, seen.etag):
        return Proof.of(file, seen.etag, "etag")
    other = f"S3 has other bytes: ETag {seen.etag}, not {expected}"
    if not seen.opaque_etag and are_md5s(kind):
        return other
    by_checksum = _compare_checksums(file, seen, evidence)
    if by_checksum is not None:
        return by_checksum
    return Proof.of(file, seen.etag, "size") if seen.opaque_etag else Mismatch(other, kind)


def verify_by_crc32(file: LocalFile, seen: ObjectState, sums: digests.Sums) -> Proof | str | None:
    """Return the proof that S3 holds a file with these CRC-32, or why there is none; None if they cannot be compared.

    They cannot if S3 has no CRC-32 of the object, or one composed of another number of parts.
    """
    if not isinstance(seen, RemoteObject) or seen.size != file.size:
        return _why_no_candidate(file, seen)
    return _compare_values(file, seen, "crc32", seen.crc32, sums) if seen.crc32 else None


def _why_no_candidate(file: LocalFile, seen: ObjectState) -> str:
    if isinstance(seen, Absent):
        return "not in S3"
    if isinstance(seen, Unknown):
        return f"could not be read back from S3: {seen.reason}"
    return f"S3 has {seen.size:,} bytes, the disk {file.size:,}"


def kind_of(etag: str, expected: str) -> str:
    """Return the kind of an unexpected ETag. On one server, either all ETags of a kind are MD5s, or none is."""
    sent = "multipart" if aws_etag.number_of_parts(expected) else "single"
    if not aws_etag.is_md5_like(etag):
        return f"{sent}, no MD5"
    same = aws_etag.number_of_parts(etag) == aws_etag.number_of_parts(expected)
    return sent if same else f"{sent}, -{aws_etag.number_of_parts(etag)}"


def _compare_checksums(file: LocalFile, seen: RemoteObject, evidence: Evidence) -> Proof | str | None:
    """Compare the first checksum of the object that can be computed here; None if there is none."""
    for name, value in _usable_checksums(file, seen):
        verdict = _compare_values(file, seen, name, value, evidence.checksum(file, name))
        if verdict is not None:
            return verdict
    return None


def _compare_values(
    file: LocalFile, seen: RemoteObject, name: str, theirs: str, ours: digests.Sums
) -> Proof | str | None:
    """Compare a checksum with the checksums of the whole file and of its parts; return None if it has other parts."""
    if theirs in (*ours, ours.composed.partition("-")[0]):  # some servers leave out the number of parts
        return Proof.of(file, seen.etag, "checksum")
    if any(_parts_of(theirs) == _parts_of(our) for our in ours):
        return f"S3 has other bytes: its {name.upper()} is {theirs}"
    return None


def composed_checksums(file: LocalFile, seen: RemoteObject) -> list[tuple[str, str]]:
    """Return name and value of the checksums that are composed of checksums of the parts, the fastest first."""
    return [(name, value) for name, value in _usable_checksums(file, seen) if _parts_of(value)]


def _usable_checksums(file: LocalFile, seen: RemoteObject) -> list[tuple[str, str]]:
    """Return name and value of an object's checksums that are computed here in short time, the fastest first."""
    found = (("crc32", seen.crc32), *seen.sums)
    return [(name, value) for name, value in found if value and digests.is_computed_fast(name, file.size)]


def _parts_of(checksum: str) -> str:
    """Return the number of parts that a checksum is composed of; empty if it is of the whole file."""
    return checksum.partition("-")[2]


def is_conclusive(file: LocalFile, seen: ObjectState, expected: str | None) -> bool:
    """Return whether no head-object is needed: its answer is final, and a listing is if it proves the file."""
    if isinstance(seen, RemoteObject) and (seen.size, expected or seen.etag) == (file.size, seen.etag):
        return True
    return not seen.listed


def with_same_checksums(
    verified: Mapping[str, Proof], listing: local_files.Listing, expected: analysis_manifest.Checksums
) -> dict[str, Proof]:
    """Drop the proofs of files that the instrument's manifest names, if the manifest has changed since."""
    manifest = next((file for file in listing.files if file.path == analysis_manifest.MANIFEST_TSV), None)
    if not expected or (manifest and is_verified(manifest, verified)):
        return dict(verified)
    return {path: proof for path, proof in verified.items() if path not in expected}
