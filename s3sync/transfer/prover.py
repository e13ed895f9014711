"""Read back what S3 has of files, and prove each by the evidence that was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from s3sync.aws import digests, objects
from s3sync.aws.receipts import ObjectStored
from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.transfer import proof, receipt_check
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.etag_trust import EtagTrust, Judge
from s3sync.transfer.hashing import FileHashes, Hasher

IsOurs = Callable[[LocalFile, objects.RemoteObject], bool]


class Prover:
    """Proves files of one run; `is_ours` says which objects this call has sent."""

    def __init__(
        self, reader: objects.ObjectReader, hasher: Hasher, trust: EtagTrust, choice: EvidenceChoice, is_ours: IsOurs
    ) -> None:
        self._reader = reader
        self._hasher = hasher
        self._choice = choice
        self._is_ours = is_ours
        self._trust = trust
        self._judge = Judge(reader, hasher, trust, hasher.part_size, is_ours)

    @property
    def needs_hashes(self) -> bool:
        """Return whether files have to be read."""
        return self._choice.compares_bytes or self._hasher.has_expected_crc

    def find_contradictions(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[str, str]:
        """Return the reason for each file that S3 has accepted with other bytes, as its receipt says, by path."""
        if not self._choice.compares_bytes:
            return {}
        return receipt_check.find_contradictions(files, hashes, stored, self._hasher, self._trust.are_md5s)

    def read_back(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[LocalFile, objects.ObjectState]:
        """Return what S3 has of each file, asked more closely where a listing and its receipt do not settle it."""
        by_crc32 = [file for file in files if self._sums(file, hashes)]
        others = [file for file in files if not self._sums(file, hashes)]
        seen = self._read_back_by_etag(others, hashes, stored) if others else {}
        if by_crc32:
            seen.update(self._read_back_by_crc32(by_crc32, stored))
        return {file: seen[file.path] for file in files}

    def _read_back_by_crc32(
        self, files: Sequence[LocalFile], stored: Mapping[str, ObjectStored]
    ) -> dict[str, objects.ObjectState]:
        """Return what S3 has of each file, with a checksum: a listing has none, but a receipt may have it."""
        seen: dict[str, objects.ObjectState] = {}
        reported = [file for file in files if file.path in stored]
        if reported:
            listed = self._reader.get_many(reported)
            seen = {path: receipt_check.with_checksum(state, stored[path]) for path, state in listed.items()}
        unsettled = [file for file in files if not _has_checksum(seen.get(file.path))]
        if unsettled:
            seen.update(self._reader.head_checksums(unsettled))
        return seen

    def verdicts(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        hashes: Mapping[str, FileHashes],
        rejected: Collection[str],
    ) -> dict[LocalFile, Proof | str]:
        """Return the proof of each file, or why there is none; `rejected` are paths that the CLI failed with."""
        found = self._verdicts_by_crc32(seen, hashes)
        etags = self._etags(hashes) | self._etags_after_all(seen, hashes, found)
        by_size = not self._choice.compares_bytes
        was_read = hashes if by_size else etags  # also by size: the instrument's checksums are compared
        readable = {
            file: item
            for file, item in seen.items()
            if file not in found and (file.path in was_read or not self.needs_hashes)
        }
        found.update(self._judge.verdicts(readable, etags, by_size=by_size))
        return {file: self._unless_older(file, item, found, rejected) for file, item in seen.items()}

    def _read_back_by_etag(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[str, objects.ObjectState]:
        etags = self._etags(hashes)
        seen = self._reader.get_many(files)
        unsettled = [f for f in files if not proof.is_conclusive(f, seen[f.path], etags.get(f.path))]
        if self._choice.compares_bytes:
            seen.update((f.path, receipt_check.with_checksum(seen[f.path], stored.get(f.path))) for f in unsettled)
            unsettled = [f for f in unsettled if not _has_checksum(seen[f.path])]
        if unsettled:
            seen.update(self._reader.head_unsettled(unsettled, seen))
        return seen

    def _verdicts_by_crc32(
        self, seen: Mapping[LocalFile, objects.ObjectState], hashes: Mapping[str, FileHashes]
    ) -> dict[LocalFile, Proof | str]:
        """Return the verdicts on files whose CRC-32 can be compared."""
        found: dict[LocalFile, Proof | str] = {}
        for file, item in seen.items():
            sums = self._sums(file, hashes)
            if not sums:
                continue
            if isinstance(item, objects.RemoteObject) and self._is_ours(file, item):
                self._choice.note_object(item)
            verdict = proof.prove_by_crc32(file, item, sums)
            if verdict is not None:
                found[file] = verdict
        return found

    def _etags_after_all(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        hashes: Mapping[str, FileHashes],
        found: Mapping[LocalFile, Proof | str],
    ) -> dict[str, str]:
        """Return the ETags of files that were to be proven by a CRC-32 that S3 does not have."""
        return self._hasher.etags_after_all([f for f in seen if self._sums(f, hashes) and f not in found])

    def _sums(self, file: LocalFile, hashes: Mapping[str, FileHashes]) -> digests.Crc32Sums | None:
        """Return the CRC-32 by which a file is to be proven; None if by other evidence."""
        hashed = hashes.get(file.path)
        return hashed.sums if hashed and self._choice.compares_bytes else None

    def _etags(self, hashes: Mapping[str, FileHashes]) -> dict[str, str]:
        """Return the ETags to compare, by path."""
        if not self._choice.compares_bytes:
            return {}
        return {path: found.etag for path, found in hashes.items() if found.etag}

    def _unless_older(
        self,
        file: LocalFile,
        seen: objects.ObjectState,
        found: Mapping[LocalFile, Proof | str],
        rejected: Collection[str],
    ) -> Proof | str:
        """Return the verdict, unless only the size matches, of an object that this call may not have sent."""
        verdict = found.get(file, "cannot be read")
        is_by_size = isinstance(verdict, Proof) and verdict.verified_by == "size"
        is_known = isinstance(seen, objects.RemoteObject) and not self._reader.is_new(file.path, seen)
        if file.path in rejected and is_by_size and is_known:
            return "S3 has an object of this size, which was there before"
        return verdict


def _has_checksum(seen: objects.ObjectState | None) -> bool:
    return isinstance(seen, objects.RemoteObject) and bool(seen.crc32)
