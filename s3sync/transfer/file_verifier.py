"""Find out which files S3 holds: what is on disk, what was read from it, and what S3 says have to agree."""

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
from s3sync.transfer.prover import Prover

CHANGED = "changed while it was uploaded"
VANISHED = "gone from the disk while it was uploaded"


class Retry(Enum):
    """What may help a file that is not verified."""

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


class PassResult(NamedTuple):
    """The proofs and failures that reading back has produced."""

    proofs: tuple[Proof, ...]
    failures: tuple[Failure, ...]


class FileVerifier:
    """Verifies files of one run, whether they were sent just now or may have been in S3 before."""

    def __init__(
        self, run: Run, reader: objects.ObjectReader, hasher: Hasher, choice: EvidenceChoice, trust: EtagTrust
    ) -> None:
        self.reader = reader
        self.hasher = hasher
        self.choice = choice
        self._run = run
        self._prover = Prover(reader, hasher, trust, choice, self._is_ours)
        self._sent_paths: set[str] = set()  # of files that were sent, as far as their processes say

    def note_sent(self, result: BatchResult) -> None:
        """Note which files a process says that it has sent."""
        self._sent_paths.update(file.path for file in result.batch.files)
        self._sent_paths.difference_update(result.errors_by_path)  # also sent by an earlier pass: it may have changed

    def verify(self, files: Sequence[LocalFile], sent: Sequence[BatchResult] = ()) -> PassResult:
        """Return the proofs of these files, and why the others have none; `sent` is what sent them just now, if it was.

        Of each file: is it as it was listed, are its bytes those of the instrument, does S3 have them?
        """
        unchanged, failures = self._split_changed(files)
        hashes = self.hasher.hashed(unchanged) if unchanged and self._prover.needs_hashes else {}
        intact, corrupted = _split_corrupted(unchanged, hashes)
        stored = {path: receipt for result in sent for path, receipt in result.stored.items()}
        wrong = self._prover.find_contradictions(intact, hashes, stored)
        failures += corrupted
        failures += [_to_send(file, wrong[file.path]) for file in intact if file.path in wrong]
        intact = [file for file in intact if file.path not in wrong]
        if not intact:
            return PassResult((), tuple(failures))
        seen = self._prover.read_back(intact, hashes, stored)
        rejected = {path for batch in sent for path in batch.errors_by_path}
        verdicts = self._prover.verdicts(seen, hashes, rejected)
        proofs = tuple(verdict for verdict in verdicts.values() if isinstance(verdict, Proof))
        why = {file: verdict for file, verdict in verdicts.items() if not isinstance(verdict, Proof)}
        return PassResult(proofs, (*failures, *_unproven(why, seen, sent)))

    def _split_changed(self, files: Sequence[LocalFile]) -> tuple[list[LocalFile], list[Failure]]:
        """Return the files that are as they were listed, and a failure for each other one."""
        now = local_files.restat_all(self._run, (file.path for file in files))
        unchanged, failures = [], []
        for file in files:
            fresh = now[file.path]
            if fresh == file:
                unchanged.append(file)
            elif fresh:
                failures.append(_to_send(fresh, CHANGED))
            else:
                failures.append(_hopeless(file, VANISHED))
        return unchanged, failures

    def _is_ours(self, file: LocalFile, seen: objects.RemoteObject) -> bool:
        """Return whether an object is what this call has sent."""
        return file.path in self._sent_paths and self.reader.is_new(file.path, seen)


def _split_corrupted(
    files: Sequence[LocalFile], hashes: Mapping[str, FileHashes]
) -> tuple[list[LocalFile], list[Failure]]:
    """Return the files with the bytes of the instrument, as far as that is known, and the failures of the others."""
    damage = {path: found.damage for path, found in hashes.items() if found.damage}
    intact = [file for file in files if file.path not in damage]
    return intact, [_hopeless(file, damage[file.path]) for file in files if file.path in damage]


def _unproven(
    why: Mapping[LocalFile, str], seen: Mapping[LocalFile, objects.ObjectState], sent: Sequence[BatchResult]
) -> list[Failure]:
    """Return a failure for each file that S3 does not prove, with what the process that sent it said."""
    errors = {file.path: batch.error_of(file.path) for batch in sent for file in batch.batch.files}
    failures = []
    for file, verdict in why.items():
        error = errors.get(file.path)
        reason = f"{verdict}; {error}" if error else verdict
        retry = Retry.VERIFY if isinstance(seen[file], objects.Unknown) else Retry.SEND
        failures.append(Failure(path=file.path, reason=reason, file=file, retry=retry))
    return failures


def _to_send(file: LocalFile, reason: str) -> Failure:
    return Failure(path=file.path, reason=reason, file=file, retry=Retry.SEND)


def _hopeless(file: LocalFile, reason: str) -> Failure:
    return Failure(path=file.path, reason=reason, file=None, retry=Retry.NEVER)
