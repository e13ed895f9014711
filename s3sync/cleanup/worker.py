"""Clean up each run: lock it, verify it, write the record, and delete it."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from s3sync.aws.access import Obstacle
from s3sync.cleanup import delete as cleanup_delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup import verdict as cleanup_verdict
from s3sync.cleanup.candidates import CleanupCandidate, CleanupPlan
from s3sync.cleanup.context import CleanupContext
from s3sync.cleanup.delete import DeletionRequest, DeletionResult
from s3sync.cleanup.interrupted import finish_interrupted
from s3sync.cleanup.record import Record, RecordedFile, Target
from s3sync.cleanup.result import (
    CleanupResult,
    Outcome,
    RunResult,
    checked_result,
    describe_kept,
    describe_not_deleted,
    kept_result,
)
from s3sync.cleanup.verdict import Verdict, VerifiedFiles
from s3sync.errors import AwsError, BusyError, Notice, S3SyncError, StateError, StoppedError
from s3sync.inventory import RunStatus, request_for
from s3sync.state import lock
from s3sync.text import human_bytes, now_iso, pluralize, printable
from s3sync.transfer import verify
from s3sync.transfer.verify import Verification, restorable

LOG = logging.getLogger(__name__)


def clean(context: CleanupContext, plan: CleanupPlan, names: Iterable[str], *, delete: bool) -> CleanupResult:
    """Verify the runs one by one and, with `delete`, delete each one that S3 provably has. Raises StoppedError.

    Without `delete`, only lock files are written.
    """
    finished, problems = finish_interrupted(context, names) if delete else ([], [])
    cleaner = _Cleaner(context, delete=delete)
    results = tuple(cleaner.clean_run(candidate) for candidate in plan.candidates)
    unknown = tuple(name for name in plan.unknown if name not in {folder.name for folder in finished})
    return CleanupResult(results, tuple(finished), (*plan.problems, *problems), unknown)


class _Cleaner:
    """Verifies runs and, with `delete`, deletes them. A bucket that cannot be reached is not tried again."""

    def __init__(self, context: CleanupContext, *, delete: bool) -> None:
        self._context = context
        self._config = context.config
        self._deletes = delete
        self._unreachable: dict[str, AwsError] = {}

    def clean_run(self, candidate: CleanupCandidate) -> RunResult:
        """Return the result of a run, also after an error: it does not stop the other runs. Raises StoppedError."""
        self._context.stop.raise_if_requested()
        if candidate.keep:
            return kept_result(candidate, candidate.keep)
        try:
            return self._clean_run(candidate)
        except StoppedError:
            raise
        except S3SyncError as error:
            outcome: Outcome = "busy" if isinstance(error, BusyError) else "kept"
            return RunResult(
                candidate=candidate, outcome=outcome, reason=str(error), reason_id=error.id, has_failed=True
            )

    def _clean_run(self, candidate: CleanupCandidate) -> RunResult:
        with self._locked(candidate) as locks:
            verdict = cleanup_verdict.decide(candidate, self._config, self._compare, self._find_obstacles)
            if self._deletes:
                for held in locks:
                    held.check()  # raises LeaseLostError
            if verdict.keep:
                return kept_result(candidate, verdict.keep, verdict.verified)
            if self._deletes:
                return self._delete_verified(candidate, verdict)
        return replace(checked_result(candidate, verdict.verified), outcome="may be deleted")

    @contextlib.contextmanager
    def _locked(self, candidate: CleanupCandidate) -> Iterator[list[lock.HeldLock]]:
        """Hold the locks of all destinations, so that no upload and no other cleanup of the run is in progress."""
        runs = {run.store(self._config.log_dir).lock_path: run for run in candidate.units}
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self._context.lock(path, run.key)) for path, run in sorted(runs.items())]

    def _compare(self, run: RunStatus) -> Verification:
        """Compare a run with S3. Raises S3SyncError: without a request, if the bucket could not be reached before."""
        if error := self._unreachable.get(run.entry.bucket):
            raise error
        request = request_for(run, self._config)
        try:
            with self._context.make_display() as display:
                return verify.verify(request, self._context.runtime(display), keep_identities=True)
        except AwsError as error:
            self._unreachable[run.entry.bucket] = error
            raise

    def _find_obstacles(self, run: RunStatus, found: Verification) -> Sequence[Obstacle]:
        """Return why objects of a run could not be restored, if that matters; raises S3SyncError."""
        context = self._context
        if not context.require_restorable:
            return ()
        request = request_for(run, self._config)
        with context.make_display() as display:
            return restorable.find_obstacles(request, found.run, found.remote or {}, context.runtime(display))

    def _delete_verified(self, candidate: CleanupCandidate, verdict: Verdict) -> RunResult:
        path = cleanup_record.path_for(self._config.log_dir, candidate.folder)
        record = self._new_record(candidate, verdict)
        old = cleanup_record.load(path)
        if old and not verdict.record:
            cleanup_record.archive(path, old)
        cleanup_record.save(path, record)
        verified = verdict.verified
        where = " and ".join(printable(run.url) for run in candidate.uploaded)
        run, count = printable(str(candidate.folder)), pluralize(len(verified.files), "file")
        size = human_bytes(verified.size)
        LOG.info("deleting %s: %s, %s, identical in %s; record: %s", run, count, size, where, path)
        deletion = DeletionResult()
        request = DeletionRequest(
            folder=candidate.folder,
            identity=verdict.identity,
            files=verified.files,
            kept=frozenset(verified.kept),
        )
        try:
            cleanup_delete.delete_run(request, self._context.stop.raise_if_requested, deletion)
        except StoppedError as error:
            done = f"{deletion.deleted:,} of {count} of {run} deleted"
            LOG.info("%s: %s", error, done)
            stopped = StoppedError(f"{error}: {done} (run the same command again to continue)", id=error.id)
            stopped.exit_code = error.exit_code
            raise stopped from error
        return self._finish_run(checked_result(candidate, verified), path, record, deletion)

    def _finish_run(self, result: RunResult, path: Path, record: Record, deletion: DeletionResult) -> RunResult:
        """Complete the record, and return the result of the deletion."""
        run, count = printable(str(result.candidate.folder)), pluralize(deletion.deleted, "file")
        reason, reason_id = describe_not_deleted(deletion.not_deleted), "cleanup.not-all-deleted"
        record = _with_deletion(record, deletion)
        if reason:
            LOG.error("%s: %s deleted, but %s", run, count, Notice(reason, id=reason_id))
        else:
            LOG.info("%s: %s deleted%s", run, count, "" if deletion.is_gone else f"; {describe_kept(result.kept)}")
        try:
            cleanup_record.save(path, record)
            if deletion.is_gone:
                self._forget_incomplete_uploads(result.candidate)
        except StateError as error:  # the record was written before the deletion, so it names all files
            reason, reason_id = "; ".join(filter(None, (reason, str(error)))), error.id
        return replace(
            result,
            outcome="partly deleted" if deletion.not_deleted else "deleted",
            reason=reason,
            reason_id=reason_id if reason else "",
            files=deletion.deleted,
            size=deletion.size,
            not_deleted=deletion.not_deleted,
            record=path,
            has_failed=bool(reason),
        )

    def _forget_incomplete_uploads(self, candidate: CleanupCandidate) -> None:
        """Set aside the state logs of uploads that were started and will not be completed."""
        for run in candidate.units:
            if run.head and not run.head.completed:
                run.store(self._config.log_dir).set_aside("cleaned-up")

    def _new_record(self, candidate: CleanupCandidate, verdict: Verdict) -> Record:
        """Return a record of the files to delete, and of those that an interrupted cleanup of the folder deleted."""
        old = verdict.record
        before = {target.url: target for target in (old.targets if old else ())}
        targets = {**before, **{run.url: _target(run) for run in candidate.runs}}
        files = dict(old.files_for(tuple(targets)) if old else {})
        for path in verdict.verified.files:
            files[path] = _recorded_file(path, verdict.verified, tuple(targets))
        return Record(
            run_id=candidate.folder.name,
            run_path=str(candidate.folder),
            device=verdict.identity[0],
            inode=verdict.identity[1],
            user=_user(),
            host=socket.gethostname(),
            older_than_seconds=self._context.older_than,
            begun=old.begun if old else now_iso(),
            targets=tuple(targets.values()),
            kept=verdict.verified.kept,
            resumed_at=(*old.resumed_at, now_iso()) if old else (),
            files=dict(sorted(files.items())),
        )


def _with_deletion(record: Record, deletion: DeletionResult) -> Record:
    """Return the record with the result of the deletion; finished if everything was deleted."""
    sizes = {path: file.size for path, file in record.files.items()}
    left = [size for path, size in sizes.items() if path in deletion.not_deleted]
    return replace(
        record,
        deleted_files=len(sizes) - len(left),
        deleted_bytes=sum(sizes.values()) - sum(left),
        not_deleted={printable(path): why for path, why in deletion.not_deleted.items()},
        finished="" if deletion.not_deleted else now_iso(),
    )


def _recorded_file(path: str, verified: VerifiedFiles, urls: Sequence[str]) -> RecordedFile:
    proofs = [verified.proofs.get(url, {}).get(path) for url in urls]
    known = next(proof for proof in proofs if proof)  # not the identity: for a link it has the size of the link
    return RecordedFile(known.size, known.mtime_ns, tuple(proof.etag if proof else None for proof in proofs))


def _target(run: RunStatus) -> Target:
    is_uploaded = run.state == "uploaded"
    return Target(
        url=run.url,
        state=run.state,
        reason=run.reason,
        log=str(run.log_path),
        completed=run.head.finished if run.head and is_uploaded else "",
        verdict="identical" if is_uploaded else "not compared",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # neither the environment nor the system has a name
        return f"uid {os.getuid()}"
