"""Verify files: the file on disk, the bytes that were read, and the object in S3 must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from s3sync.aws import objects
from s3sync.runs import LocalFile, Run, local_files
from s3sync.state import Proof
from s3sync.transfer.batch_sender import BatchResult
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.object_verifier import ObjectVerifier

CHANGED = "changed while it was uploaded"
VANISHED = "gone from the disk while it was uploaded"


class Retry(Enum):
    """What to try for a file that is not verified."""

    SEND = "send it again"
    VERIFY = "ask S3 again: it may be there"
    NEVER = "nothing: it is gone, or corrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A file that is not verified, and why. `file` is as it is on disk now; None if `retry` is NEVER."""

    path: str
    reason: str
    file: LocalFile | None
    retry: Retry

    @classmethod
    def to_resend(cls, file: LocalFile, reason: str) -> Failure:
        """Return the failure of a file that may be verified once it is sent again."""
        return cls(path=file.path, reason=reason, file=file, retry=Retry.SEND)

    @classmethod
    def final(cls, path: str, reason: str) -> Failure:
        """Return the failure of a file that nothing can help."""
        return cls(path=path, reason=reason, file=None, retry=Retry.NEVER)


class PassResult(NamedTuple):
    """The proofs and failures of some files."""

    proofs: tuple[Proof, ...]
    failures: tuple[Failure, ...]


class FileVerifier:
    """Verifies files of one run that were sent just now, or that S3 may have had before."""

    def __init__(
        self, run: Run, reader: objects.ObjectReader, hasher: Hasher, choice: EvidenceChoice, trust: EtagTrust
    ) -> None:
        self.reader = reader
        self.hasher = hasher
        self.choice = choice
        self._run = run
        self._verifier = ObjectVerifier(reader, hasher, trust, choice, self._is_ours)
        self._sent_paths: set[str] = set()  # files that processes reported as sent, until they are verified

    def note_sent(self, result: BatchResult) -> None:
        """Note the files that a process reported as sent."""
        self._sent_paths.update(file.path for file in result.batch.files)
        self._sent_paths.difference_update(
            result.errors_by_path
        )  # even if an earlier pass sent them: they may have changed

    def verify(self, files: Sequence[LocalFile], sent: Sequence[BatchResult] = ()) -> PassResult:
        """Return a proof or a failure for each file; `sent` are the results of the batches that just sent them, if any.

        A file is verified if it is as it was listed, has the bytes that the instrument wrote, and S3 has them.
        """
        unchanged, failures = self._split_changed(files)
        hashes = self.hasher.hashed(unchanged) if unchanged and self._verifier.needs_hashes else {}
        intact, corrupted = _split_corrupted(unchanged, hashes)
        stored = {path: receipt for result in sent for path, receipt in result.stored.items()}
        contradictions = self._verifier.find_contradictions(intact, hashes, stored)
        failures += corrupted
        failures += [Failure.to_resend(file, reason) for file in intact if (reason := contradictions.get(file.path))]
        intact = [file for file in intact if file.path not in contradictions]
        if not intact:
            return PassResult((), tuple(failures))
        seen = self._verifier.read_back(intact, hashes, stored)
        rejected = {path for batch in sent for path in batch.errors_by_path}
        verdicts = self._verifier.verdicts(seen, hashes, rejected)
        proofs = tuple(verdict for verdict in verdicts.values() if isinstance(verdict, Proof))
        self._sent_paths.difference_update(proof.path for proof in proofs)
        why = {file: verdict for file, verdict in verdicts.items() if not isinstance(verdict, Proof)}
        return PassResult(proofs, (*failures, *_unverified(why, seen, sent)))

    def _split_changed(self, files: Sequence[LocalFile]) -> tuple[list[LocalFile], list[Failure]]:
        """Return the files that are unchanged since they were listed, and a failure for each other one."""
        now = local_files.restat_all(self._run, (file.path for file in files))
        unchanged, failures = [], []
        for file in files:
            fresh = now[file.path]
            if fresh == file:
                unchanged.append(file)
            elif fresh:
                failures.append(Failure.to_resend(fresh, CHANGED))
            else:
                failures.append(Failure.final(file.path, VANISHED))
        return unchanged, failures

    def _is_ours(self, file: LocalFile, seen: objects.RemoteObject) -> bool:
        """Return whether this call sent the object."""
        return file.path in self._sent_paths and self.reader.is_new(file.path, seen)


def _split_corrupted(
    files: Sequence[LocalFile], hashes: Mapping[str, FileHashes]
) -> tuple[list[LocalFile], list[Failure]]:
    """Return the files that have the bytes of the instrument, as far as known, and the failures of the others."""
    damage = {path: found.damage for path, found in hashes.items() if found.damage}
    intact = [file for file in files if file.path not in damage]
    return intact, [Failure.final(path, why) for path, why in damage.items()]


def _unverified(
    why: Mapping[LocalFile, str], seen: Mapping[LocalFile, objects.ObjectState], sent: Sequence[BatchResult]
) -> list[Failure]:
    """Return a failure for each file that S3 does not prove, with the error of the process that sent it."""
    errors = {file.path: batch.error_of(file.path) for batch in sent for file in batch.batch.files}
    failures = []
    for file, verdict in why.items():
        error = errors.get(file.path)
        reason = f"{verdict}; {error}" if error else verdict
        retry = Retry.VERIFY if isinstance(seen[file], objects.Unknown) else Retry.SEND
        failures.append(Failure(path=file.path, reason=reason, file=file, retry=retry))
    return failures
