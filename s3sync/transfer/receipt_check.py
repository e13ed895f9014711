"""Compare S3's answer to each upload with the local hashes. Reading back still has the last word."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from s3sync.aws.etag import normalize_etag
from s3sync.aws.objects import ObjectState, RemoteObject
from s3sync.aws.receipts import ObjectStored
from s3sync.runs import LocalFile
from s3sync.transfer import proof
from s3sync.transfer.hashing import FileHashes


def find_contradictions(
    files: Iterable[LocalFile],
    hashes: Mapping[str, FileHashes],
    stored: Mapping[str, ObjectStored],
    evidence: proof.Evidence,
    are_md5s: Callable[[str], bool],
) -> dict[str, str]:
    """Return the reason for each file whose receipt is about other bytes, by path.

    An ETag alone contradicts only where ETags of its kind are known to be MD5s.
    """
    found = {}
    for file in files:
        hashed, receipt = hashes.get(file.path), stored.get(file.path)
        if hashed and receipt:
            with contextlib.suppress(OSError):  # reading back meets that error as well
                verdict = _compare(file, hashed, receipt, evidence, are_md5s)
                if isinstance(verdict, str) and not isinstance(verdict, proof.Mismatch):
                    found[file.path] = verdict
    return found


def _compare(
    file: LocalFile,
    hashed: FileHashes,
    receipt: ObjectStored,
    evidence: proof.Evidence,
    are_md5s: Callable[[str], bool],
) -> object:
    etag = normalize_etag(receipt.etag)
    claimed = RemoteObject(file.size, etag, receipt.crc32, opaque_etag=receipt.opaque_etag)
    if hashed.sums:
        return proof.verify_by_crc32(file, claimed, hashed.sums)
    return proof.verify_object(file, claimed, hashed.etag, evidence, are_md5s) if hashed.etag else None


def with_checksum(seen: ObjectState, receipt: ObjectStored | None) -> ObjectState:
    """Return the listed state of an object, with CRC-32 and encryption from its receipt if that is of the same object.

    A listing does not show which ETags are not MD5s because of KMS.
    """
    if not isinstance(seen, RemoteObject) or receipt is None or seen.crc32 or not seen.listed:
        return seen
    etag = normalize_etag(receipt.etag)  # empty from servers that send none and list none
    is_same = etag and seen.etag == etag and receipt.size in (None, seen.size)
    return replace(seen, crc32=receipt.crc32, opaque_etag=receipt.opaque_etag) if is_same else seen


def reports_checksums_of_parts(stored: Mapping[str, ObjectStored]) -> bool:
    """Return whether S3 answered a multipart upload with a CRC-32."""
    return any(receipt.size is None and receipt.crc32 for receipt in stored.values())
