"""Read back the objects of files, and verify each file by the evidence that was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from s3sync.aws import digests, objects
from s3sync.aws.receipts import ObjectStored
from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.transfer import proof, receipt_check
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.etag_verifier import EtagVerifier
from s3sync.transfer.hashing import FileHashes, Hasher

IsOurs = Callable[[LocalFile, objects.RemoteObject], bool]


class ObjectVerifier:
    """Verifies files of one run; `is_ours` says which objects this call has sent."""

    def __init__(
        self, reader: objects.ObjectReader, hasher: Hasher, trust: EtagTrust, choice: EvidenceChoice, is_ours: IsOurs
    ) -> None:
        self._reader = reader
        self._hasher = hasher
        self._choice = choice
        self._is_ours = is_ours
        self._trust = trust
        self._etag_verifier = EtagVerifier(reader, hasher.digests, trust, is_ours)

    @property
    def needs_hashes(self) -> bool:
        """Return whether files must be read."""
        return self._choice.compares_bytes or self._hasher.has_expected_crc

    def find_contradictions(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[str, str]:
        """Return the reason for each file that S3 accepted with other bytes, according to its receipt, by path."""
        if not self._choice.compares_bytes:
            return {}
        return receipt_check.find_contradictions(files, hashes, stored, self._hasher.digests, self._trust.are_md5s)

    def read_back(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[LocalFile, objects.ObjectState]:
        """Return the state of each file's object, from head-object where listing and receipt are not conclusive."""
        by_crc32 = [file for file in files if self._sums(file, hashes)]
        others = [file for file in files if not self._sums(file, hashes)]
        seen = self._read_back_by_etag(others, hashes, stored) if others else {}
        if by_crc32:
            seen.update(self._read_back_by_crc32(by_crc32, stored))
        return {file: seen[file.path] for file in files}

    def _read_back_by_crc32(
        self, files: Sequence[LocalFile], stored: Mapping[str, ObjectStored]
    ) -> dict[str, objects.ObjectState]:
        """Return the state of each file's object with its checksum, from its receipt or from head-object."""
        seen: dict[str, objects.ObjectState] = {}
        reported = [file for file in files if file.path in stored]
        if reported:
            listed = self._reader.get_many(reported)
            seen = {path: receipt_check.with_checksum(state, stored[path]) for path, state in listed.items()}
        undecided = [file for file in files if not _has_checksum(seen.get(file.path))]
        if undecided:
            seen.update(self._reader.head_checksums(undecided))
        return seen

    def verdicts(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        hashes: Mapping[str, FileHashes],
        rejected: Collection[str],
    ) -> dict[LocalFile, Proof | str]:
        """Return the proof of each file, or why there is none; the CLI reported the paths `rejected` as failed."""
        found = self._verdicts_by_crc32(seen, hashes)
        etags = self._etags(hashes) | self._fallback_etags(seen, hashes, found)
        by_size = not self._choice.compares_bytes
        was_read = hashes if by_size else etags  # even by size: checksums of the instrument were compared
        readable = {
            file: item
            for file, item in seen.items()
            if file not in found and (file.path in was_read or not self.needs_hashes)
        }
        found.update(self._etag_verifier.verify(readable, etags, by_size=by_size))
        return {file: self._reject_older_object(file, item, found, rejected) for file, item in seen.items()}

    def _read_back_by_etag(
        self, files: Sequence[LocalFile], hashes: Mapping[str, FileHashes], stored: Mapping[str, ObjectStored]
    ) -> dict[str, objects.ObjectState]:
        etags = self._etags(hashes)
        seen = self._reader.get_many(files)
        undecided = [f for f in files if not proof.is_conclusive(f, seen[f.path], etags.get(f.path))]
        if self._choice.compares_bytes:
            seen.update((f.path, receipt_check.with_checksum(seen[f.path], stored.get(f.path))) for f in undecided)
            undecided = [f for f in undecided if not _has_checksum(seen[f.path])]
        if undecided:
            seen.update(self._reader.head_unsettled(undecided, seen))
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
            verdict = proof.verify_by_crc32(file, item, sums)
            if verdict is not None:
                found[file] = verdict
        return found

    def _fallback_etags(
        self,
        seen: Mapping[LocalFile, objects.ObjectState],
        hashes: Mapping[str, FileHashes],
        found: Mapping[LocalFile, Proof | str],
    ) -> dict[str, str]:
        """Return the ETags of files whose CRC-32 S3 does not have, by path."""
        return self._hasher.digests.fallback_etags([f for f in seen if self._sums(f, hashes) and f not in found])

    def _sums(self, file: LocalFile, hashes: Mapping[str, FileHashes]) -> digests.Sums | None:
        """Return the CRC-32 of a file that is verified by it; None if other evidence was chosen."""
        hashed = hashes.get(file.path)
        return hashed.sums if hashed and self._choice.compares_bytes else None

    def _etags(self, hashes: Mapping[str, FileHashes]) -> dict[str, str]:
        """Return the ETags to compare, by path."""
        if not self._choice.compares_bytes:
            return {}
        return {path: found.etag for path, found in hashes.items() if found.etag}

    def _reject_older_object(
        self,
        file: LocalFile,
        seen: objects.ObjectState,
        found: Mapping[LocalFile, Proof | str],
        rejected: Collection[str],
    ) -> Proof | str:
        """Return the verdict, unless it rests on the size of an object that was there before this call."""
        verdict = found.get(file, "cannot be read")
        is_by_size = isinstance(verdict, Proof) and verdict.verified_by == "size"
        is_known = isinstance(seen, objects.RemoteObject) and not self._reader.is_new(file.path, seen)
        if file.path in rejected and is_by_size and is_known:
            return "S3 has an object of this size, which was there before"
        return verdict


def _has_checksum(seen: objects.ObjectState | None) -> bool:
    return isinstance(seen, objects.RemoteObject) and bool(seen.crc32)
