"""Clean up: lock each run, verify it, write the record, and delete it."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from s3sync.aws import destination
from s3sync.cleanup import delete as cleanup_delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup import verdict as cleanup_verdict
from s3sync.cleanup.candidates import CleanupCandidate, CleanupPlan
from s3sync.cleanup.delete import DeletionRequest, DeletionResult
from s3sync.cleanup.reasons import Reason
from s3sync.cleanup.record import Record, RecordedFile, Target
from s3sync.cleanup.verdict import Verdict, VerifiedFiles
from s3sync.config import Config
from s3sync.errors import AwsError, BusyError, S3SyncError, StateError, StoppedError
from s3sync.inventory import Problem, RunStatus, request_for
from s3sync.runs import Run, run_folder
from s3sync.signals import StopRequest
from s3sync.state import StateStore, lock
from s3sync.text import human_bytes, now_iso, pluralize, printable
from s3sync.transfer import progress, verify

LOG = logging.getLogger(__name__)
_MAX_NAMES = 3  # of files that are kept

DisplayMaker: TypeAlias = Callable[[], progress.Display]
Outcome: TypeAlias = Literal["kept", "busy", "may be deleted", "deleted", "partly deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What happened to a run. `kept` are paths that were not to be deleted, `not_deleted` those that should be gone."""

    candidate: CleanupCandidate
    outcome: Outcome
    reason: str = ""
    reason_id: str = ""
    files: int = 0  # identical on disk and in S3, or deleted
    size: int = 0  # their bytes
    kept: tuple[str, ...] = ()
    not_deleted: Mapping[str, str] = field(default_factory=dict)
    record: Path | None = None
    found: tuple[verify.Verification, ...] = ()
    has_failed: bool = False  # whether it may be deleted is not known, or not all of it could be


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What happened to all runs; `finished` are folders of which an earlier cleanup had left only empty folders."""

    runs: tuple[RunResult, ...]
    finished: tuple[Path, ...]
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]

    def is_complete(self, names: Sequence[str], *, delete: bool) -> bool:
        """Return whether every check succeeded and every selected run was deleted.

        Selected are the runs with these `names`; without names, those that are old enough and uploaded everywhere.
        """
        if self.unknown or self.problems or any(result.has_failed for result in self.runs):
            return False
        if not delete:
            return True
        return all(result.outcome == "deleted" for result in self.runs if names or not result.candidate.keep)


def clean(cleaner: Cleaner, plan: CleanupPlan, names: Iterable[str], *, delete: bool) -> CleanupResult:
    """Verify one run after the other and, with `delete`, delete each that may be. Raises StoppedError."""
    finished, problems = cleaner.finish_interrupted(names) if delete else ([], [])
    work = cleaner.delete if delete else cleaner.check
    results = tuple(work(candidate) for candidate in plan.candidates)
    unknown = tuple(name for name in plan.unknown if name not in {folder.name for folder in finished})
    return CleanupResult(results, tuple(finished), (*plan.problems, *problems), unknown)


def describe_kept(paths: Sequence[str]) -> str:
    """Return `2 files not in S3 stay, with their folders: a, b`."""
    named = ", ".join(map(printable, paths[:_MAX_NAMES]))
    more = f", and {len(paths) - _MAX_NAMES:,} more" if len(paths) > _MAX_NAMES else ""
    verb = "stays, with its folder" if len(paths) == 1 else "stay, with their folders"
    return f"{pluralize(len(paths), 'file')} not in S3 {verb}: {named}{more}"


class Cleaner:
    """Verifies runs one by one and, if wanted, deletes them. A bucket that cannot be reached is not tried again."""

    def __init__(
        self,
        config: Config,
        older_than: float,
        environ: Mapping[str, str],
        stop: StopRequest,
        make_display: DisplayMaker,
    ) -> None:
        self._config = config
        self._older_than = older_than
        self._environ = environ
        self._stop = stop
        self._make_display = make_display
        self._unreachable: dict[str, AwsError] = {}

    def check(self, candidate: CleanupCandidate) -> RunResult:
        """Return whether a run may be deleted; only lock files are written. Raises StoppedError."""
        return self._with_errors(candidate, self._check)

    def delete(self, candidate: CleanupCandidate) -> RunResult:
        """Verify a run, and delete it if it is identical in S3. Raises StoppedError."""
        return self._with_errors(candidate, self._delete)

    def finish_interrupted(self, names: Iterable[str]) -> tuple[list[Path], list[Problem]]:
        """Finish interrupted cleanups that left only empty folders, of all runs or of those with these names.

        Returns the finished folders and the problems. Raises StoppedError.
        """
        wanted = {name.rstrip("/") for name in names}
        wanted |= {os.path.abspath(name) for name in wanted}  # the run itself may be gone already
        finished, problems = [], []
        for path in cleanup_record.unfinished(self._config.log_dir):
            self._stop.raise_if_requested()
            try:
                record = cleanup_record.load(path)
                if record is None or not _is_wanted(record, wanted) or not _is_finished_except_folders(record):
                    continue
                if why := self._finish(path, record):
                    problems.append(Problem(printable(record.run_path), why, id="cleanup.folders-not-deleted"))
                else:
                    finished.append(Path(record.run_path))
            except StoppedError:
                raise
            except S3SyncError as error:
                problems.append(Problem(printable(str(path)), str(error), id=error.id))
        return finished, problems

    def _with_errors(self, candidate: CleanupCandidate, work: Callable[[CleanupCandidate], RunResult]) -> RunResult:
        """Turn errors into results: a problem of one run does not stop the others."""
        self._stop.raise_if_requested()
        if candidate.keep:
            return _kept(candidate, candidate.keep)
        try:
            return work(candidate)
        except StoppedError:
            raise
        except S3SyncError as error:
            outcome: Outcome = "busy" if isinstance(error, BusyError) else "kept"
            return RunResult(
                candidate=candidate, outcome=outcome, reason=str(error), reason_id=error.id, has_failed=True
            )

    def _check(self, candidate: CleanupCandidate) -> RunResult:
        with self._locked(candidate):
            verdict = cleanup_verdict.decide(candidate, self._config, self._compare)
        if verdict.keep:
            return _kept(candidate, verdict.keep, verdict.verified)
        return replace(_with_files(candidate, verdict.verified), outcome="may be deleted")

    def _delete(self, candidate: CleanupCandidate) -> RunResult:
        with self._locked(candidate) as check_locks:
            verdict = cleanup_verdict.decide(candidate, self._config, self._compare)
            check_locks()
            if verdict.keep:
                return _kept(candidate, verdict.keep, verdict.verified)
            return self._delete_verified(candidate, verdict)

    @contextlib.contextmanager
    def _locked(self, candidate: CleanupCandidate) -> Iterator[Callable[[], None]]:
        """Hold the locks of all destinations, so that no upload and no other cleanup of the run is in progress.

        Yields a function that raises LeaseLostError if one of them was lost.
        """
        runs = {run.store(self._config.log_dir).lock_path: run for run in candidate.units}
        with contextlib.ExitStack() as locks:
            held = [locks.enter_context(self._lock(path, run.key)) for path, run in sorted(runs.items())]

            def check() -> None:
                for each in held:
                    each.check()

            yield check

    def _lock(self, path: Path, key: str) -> contextlib.AbstractContextManager[lock.Held]:
        return lock.held(path, f"{key} is in use", stop=self._stop, say=self._say)

    def _say(self, line: str) -> None:
        with self._make_display() as display:
            display.say(line)

    def _compare(self, run: RunStatus) -> verify.Verification:
        """Raises S3SyncError; a bucket that could not be reached is not tried again."""
        if error := self._unreachable.get(run.entry.bucket):
            raise error
        request = request_for(run, self._config)
        try:
            with self._make_display() as display:
                return verify.verify(request, self._environ, self._stop, display, remember=True)
        except AwsError as error:
            self._unreachable[run.entry.bucket] = error
            raise

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
            cleanup_delete.delete_run(request, self._stop.raise_if_requested, deletion)
        except StoppedError as error:
            done = f"{deletion.deleted:,} of {count} of {run} deleted"
            LOG.info("%s: %s", error, done)
            stopped = StoppedError(f"{error}: {done} (run the same command again to go on)", id=error.id)
            stopped.exit_code = error.exit_code
            raise stopped from error
        return self._finish_run(_with_files(candidate, verified), path, record, deletion)

    def _finish_run(self, result: RunResult, path: Path, record: Record, deletion: DeletionResult) -> RunResult:
        """Write down what was deleted, and return it."""
        run, count = printable(str(result.candidate.folder)), pluralize(deletion.deleted, "file")
        reason, reason_id = _describe_not_deleted(deletion.not_deleted), "cleanup.not-all-deleted"
        record = _with_deletion(record, deletion)
        if reason:
            LOG.error("%s: %s deleted, but %s [%s]", run, count, reason, reason_id)
        else:
            LOG.info("%s: %s deleted%s", run, count, "" if deletion.is_gone else f"; {describe_kept(result.kept)}")
        try:
            cleanup_record.save(path, record)
            if deletion.is_gone:
                self._forget_incomplete_uploads(result.candidate)
        except StateError as error:  # what is deleted is in the record since before
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
        """Set aside the state logs of destinations that were begun once, and will not get the run."""
        for run in candidate.units:
            if run.head and not run.head.completed:
                run.store(self._config.log_dir).set_aside("cleaned-up")

    def _new_record(self, candidate: CleanupCandidate, verdict: Verdict) -> Record:
        """Return what is going to be deleted, with what an interrupted cleanup of the same folder had deleted."""
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
            older_than_seconds=self._older_than,
            begun=old.begun if old else now_iso(),
            targets=tuple(targets.values()),
            kept=verdict.verified.kept,
            resumed_at=(*old.resumed_at, now_iso()) if old else (),
            files=dict(sorted(files.items())),
        )

    def _finish(self, path: Path, record: Record) -> str:
        """Delete the empty folders of a run; returns why some are left, empty if none are."""
        folder = Path(record.run_path)
        if os.path.lexists(folder):
            deletion = DeletionResult()
            request = DeletionRequest(folder=folder, identity=record.identity, files={}, kept=frozenset(record.kept))
            with self._locks_of_record(record):
                cleanup_delete.delete_run(request, self._stop.raise_if_requested, deletion)
            if deletion.not_deleted:
                return f"folders of an interrupted cleanup are left: {_describe_not_deleted(deletion.not_deleted)}"
        cleanup_record.save(path, replace(record, finished=now_iso(), not_deleted={}))
        LOG.info("%s: what an interrupted cleanup left is gone", printable(record.run_path))
        return ""

    @contextlib.contextmanager
    def _locks_of_record(self, record: Record) -> Iterator[None]:
        run = Run(Path(record.run_path), record.run_id, run_folder.RunInfo())
        suffix = f"/{record.run_id}/"
        with contextlib.ExitStack() as locks:
            for target in record.targets:
                bucket, _, prefix = target.url.removeprefix("s3://").removesuffix(suffix).partition("/")
                store = StateStore(self._config.log_dir, run, destination.parse_destination(bucket, prefix))
                locks.enter_context(self._lock(store.lock_path, printable(target.url)))
            yield


def _kept(candidate: CleanupCandidate, keep: Reason, verified: VerifiedFiles = cleanup_verdict.NO_FILES) -> RunResult:
    return replace(_with_files(candidate, verified), reason=keep.text, reason_id=keep.id)


def _with_files(candidate: CleanupCandidate, verified: VerifiedFiles) -> RunResult:
    return RunResult(
        candidate=candidate,
        outcome="kept",
        files=len(verified.files),
        size=verified.size,
        kept=verified.kept,
        found=verified.found,
    )


def _with_deletion(record: Record, deletion: DeletionResult) -> Record:
    """Return the record with what was deleted; finished if nothing is left that should be gone."""
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
    one = next(proof for proof in proofs if proof)  # the file's own size is that of the link, if it is one
    return RecordedFile(one.size, one.mtime_ns, tuple(proof.etag if proof else None for proof in proofs))


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


def _describe_not_deleted(not_deleted: Mapping[str, str]) -> str:
    if not not_deleted:
        return ""
    path, why = next(iter(not_deleted.items()))
    more = f", and {len(not_deleted) - 1:,} more" if len(not_deleted) > 1 else ""
    return f"{printable(path)}: {why}{more} (fix that, and run the same command again)"


def _is_wanted(record: Record, names: set[str]) -> bool:
    return not names or not names.isdisjoint({record.run_id, printable(record.run_id), record.run_path})


def _is_finished_except_folders(record: Record) -> bool:
    """Return whether only empty folders can be left of a run: RunInfo.xml is deleted last.

    The file system has to be mounted, and the folder has to be the one that was verified.
    """
    folder = Path(record.run_path)
    if os.path.lexists(folder / run_folder.RUN_INFO) or _device(folder.parent) != record.device:
        return False
    return not os.path.lexists(folder) or (
        not folder.is_symlink() and cleanup_delete.identity_of(folder) == record.identity
    )


def _device(folder: Path) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name in the environment, and none for the id
        return f"uid {os.getuid()}"
