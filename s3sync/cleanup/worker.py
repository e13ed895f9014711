"""Runs verified one by one and, if wanted, deleted: locked, compared with S3, recorded, and then off the disk."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from s3sync.aws import destination
from s3sync.cleanup import delete as cleanup_delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.candidates import NOTHING, Plan, Proven, Subject, doubt, joined, mounted_in, record_of
from s3sync.cleanup.delete import Removal
from s3sync.cleanup.record import Deleted, Record, Target
from s3sync.config import Config
from s3sync.errors import AwsError, BusyError, S3SyncError, StateError, StoppedError
from s3sync.inventory import Problem, RunStatus, request_for, statuses
from s3sync.runs import Run, readiness, run_folder
from s3sync.signals import StopRequest
from s3sync.state import StateStore, lock
from s3sync.text import human_bytes, now_iso, pluralize, printable
from s3sync.transfer import progress, verify

LOG = logging.getLogger(__name__)
_NAMED = 3  # of what stays

DisplayMaker = Callable[[], progress.Display]
Verdict = Literal["kept", "busy", "may be deleted", "deleted", "partly deleted"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a subject. `stays` are paths that are no part of what is deleted; `left` what should have gone."""

    subject: Subject
    verdict: Verdict
    reason: str = ""
    files: int = 0  # identical on disk and in S3, or deleted
    size: int = 0  # their bytes
    stays: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    record: Path | None = None
    found: tuple[verify.Verification, ...] = ()
    failed: bool = False  # it could not be found out


class Done(NamedTuple):
    """What came of all; `finished` are the folders of which an earlier call had left only empty ones."""

    outcomes: tuple[Outcome, ...]
    finished: tuple[Path, ...]
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]


def clean(cleaner: Cleaner, planned: Plan, names: Iterable[str], *, delete: bool) -> Done:
    """Verify one run after the other and, with `delete`, delete each as soon as it is. Raises StoppedError."""
    finished, problems = cleaner.finish_rests(names) if delete else ([], [])
    work = cleaner.delete if delete else cleaner.look
    outcomes = tuple(work(subject) for subject in planned.subjects)
    unknown = tuple(name for name in planned.unknown if name not in {folder.name for folder in finished})
    return Done(outcomes, tuple(finished), (*planned.problems, *problems), unknown)


def is_all_done(done: Done, names: Sequence[str], *, delete: bool) -> bool:
    """Whether all was found out, and all is deleted that was to be: the runs that were named, or else those that are
    old enough and uploaded everywhere."""
    if done.unknown or done.problems or any(outcome.failed for outcome in done.outcomes):
        return False
    if not delete:
        return True
    return all(outcome.verdict == "deleted" for outcome in done.outcomes if names or not outcome.subject.reason)


class Cleaner:
    """Verifies subjects one by one and, if wanted, deletes them. A bucket that cannot be reached is asked once."""

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
        self._unreachable: dict[str, str] = {}

    def look(self, subject: Subject) -> Outcome:
        """Whether the run may go; nothing is written but lock files. Raises StoppedError."""
        return self._explained(subject, lambda: self._look(subject))

    def delete(self, subject: Subject) -> Outcome:
        """Verify, and delete what was found identical. Raises StoppedError."""
        return self._explained(subject, lambda: self._delete(subject))

    def finish_rests(self, names: Iterable[str]) -> tuple[list[Path], list[Problem]]:
        """Close the records of runs of which an interrupted cleanup left nothing but empty folders; gives the folders,
        and those that cannot go. Raises StoppedError.
        """
        wanted = {name.rstrip("/") for name in names}
        wanted |= {os.path.abspath(name) for name in wanted}  # the run itself may be gone already
        finished, problems = [], []
        for path in cleanup_record.unfinished(self._config.log_dir):
            self._stop.raise_if_requested()
            try:
                record = cleanup_record.load(path)
                if (
                    record is None
                    or (wanted and wanted.isdisjoint({record.run_id, printable(record.run_id), record.run_path}))
                    or not _is_rest(record)
                ):
                    continue
                if why := self._finish_rest(path, record):
                    problems.append(Problem(printable(record.run_path), why))
                else:
                    finished.append(Path(record.run_path))
            except StoppedError:
                raise
            except S3SyncError as error:
                problems.append(Problem(printable(str(path)), str(error)))
        return finished, problems

    def _explained(self, subject: Subject, work: Callable[[], Outcome]) -> Outcome:
        self._stop.raise_if_requested()
        if subject.reason:
            return Outcome(subject, "kept", subject.reason)
        try:
            return work()
        except StoppedError:
            raise
        except BusyError as error:
            return Outcome(subject, "busy", str(error), failed=True)
        except S3SyncError as error:
            return Outcome(subject, "kept", str(error), failed=True)

    def _look(self, subject: Subject) -> Outcome:
        with self._held(subject):
            reason, _, _, proven = self._verify(subject)
            verdict: Verdict = "kept" if reason else "may be deleted"
            return Outcome(subject, verdict, reason, len(proven.files), proven.size, proven.stays, found=proven.found)

    def _delete(self, subject: Subject) -> Outcome:
        with self._held(subject) as check:
            reason, identity, record, proven = self._verify(subject)
            check()
            if reason:
                files, size = len(proven.files), proven.size
                return Outcome(subject, "kept", reason, files, size, proven.stays, found=proven.found)
            return self._remove(subject, identity, record, proven)

    @contextlib.contextmanager
    def _held(self, subject: Subject) -> Iterator[Callable[[], None]]:
        """The locks of all destinations, so that neither an upload nor another cleanup is at work on the run; gives
        what raises LeaseLostError if one was lost."""
        stores = {
            StateStore(self._config.log_dir, run.run, run.entry.destination).lock_path: run for run in subject.units
        }
        with contextlib.ExitStack() as locks:
            held = [locks.enter_context(self._lock(path, run.key)) for path, run in sorted(stores.items())]

            def check() -> None:
                for each in held:
                    each.check()

            yield check

    def _lock(self, path: Path, key: str) -> contextlib.AbstractContextManager[lock.Held]:
        return lock.held(path, f"{key} is being worked on", stop=self._stop, say=self._say)

    def _say(self, line: str) -> None:
        with self._make_display() as display:
            display.say(line)

    def _verify(self, subject: Subject) -> tuple[str, tuple[int, int], Record | None, Proven]:
        """Why the run cannot go, empty if it can; the folder's identity, the record of an interrupted cleanup, what is
        proven."""
        identity = cleanup_delete.identity_of(subject.folder)
        record = record_of(
            cleanup_record.load(cleanup_record.path_for(self._config.log_dir, subject.folder)), subject.folder
        )
        again = statuses.refresh(self._config, subject.runs)
        if [(unit.state, unit.head) for unit in again] != [(unit.state, unit.head) for unit in subject.units]:
            return "its state has changed meanwhile (give the same command again)", identity, record, NOTHING
        found = []
        for run in subject.uploaded:
            found.append(self._compare(run))
            if reason := doubt(found[-1], record, self._config.log_dir):
                files = {p.path: (f.identities or {})[p.path] for f in found for p in f.proven}
                return reason, identity, record, NOTHING._replace(files=files, found=tuple(found))
        reason, proven = joined(subject, found)
        reason = reason or ("" if record else self._lacking(subject))
        return reason or mounted_in(subject.folder), identity, record, proven

    def _lacking(self, subject: Subject) -> str:
        """Why a run stays although S3 has all that is here: neither here nor there is it whole."""
        if not self._config.require_whole_runs:
            return ""
        excludes = [pattern for run in subject.uploaded for pattern in run.entry.excludes]
        if what := readiness.describe_missing_base_calls(subject.uploaded[0].run, excludes):
            return f"incomplete here and in S3: {what} (copy and upload the rest, or set `require_whole_runs: false`)"
        return ""

    def _compare(self, run: RunStatus) -> verify.Verification:
        """Raises S3SyncError; a bucket that could not be reached is not tried again."""
        if why := self._unreachable.get(run.entry.bucket):
            raise AwsError(why)
        try:
            with self._make_display() as display:
                return verify.verify(request_for(run, self._config), self._environ, self._stop, display, remember=True)
        except AwsError as error:
            self._unreachable[run.entry.bucket] = str(error)
            raise

    def _remove(self, subject: Subject, identity: tuple[int, int], record: Record | None, proven: Proven) -> Outcome:
        path = cleanup_record.path_for(self._config.log_dir, subject.folder)
        new = self._record(subject, identity, record, proven)
        old = cleanup_record.load(path)
        if old and not record:
            cleanup_record.put_aside(path, old)
        cleanup_record.save(path, new)
        where = " and ".join(printable(run.url) for run in subject.uploaded)
        run, count = printable(str(subject.folder)), pluralize(len(proven.files), "file")
        LOG.info("deleting %s: %s, %s, identical in %s; record: %s", run, count, human_bytes(proven.size), where, path)
        removed = Removal()
        try:
            cleanup_delete.remove(
                subject.folder, identity, proven.files, frozenset(proven.stays), self._stop.raise_if_requested, removed
            )
        except StoppedError as error:
            done = f"{removed.deleted:,} of {count} of {run} deleted"
            LOG.info("%s: %s", error, done)
            stopped = StoppedError(f"{error}: {done} (run the same command again to go on)", id=error.id)
            stopped.exit_code = error.exit_code
            raise stopped from error
        return self._removed(subject, path, new, removed, proven)

    def _removed(self, subject: Subject, path: Path, record: Record, removed: Removal, proven: Proven) -> Outcome:
        run, count = printable(str(subject.folder)), pluralize(removed.deleted, "file")
        left = [file.size for name, file in record.files.items() if name in removed.left]
        record = replace(
            record,
            deleted_files=len(record.files) - len(left),
            deleted_bytes=sum(file.size for file in record.files.values()) - sum(left),
            left={printable(name): why for name, why in removed.left.items()},
        )
        reason = _why_left(removed.left)
        if removed.left:
            LOG.error("%s: %s deleted, but %s", run, count, reason)
        else:
            LOG.info("%s: %s deleted%s", run, count, "" if removed.gone else f"; {what_stays(proven.stays)}")
            record = replace(record, finished=now_iso())
        try:
            cleanup_record.save(path, record)
            if removed.gone:
                self._forget_unfinished(subject)
        except StateError as error:  # what is deleted is in it since before
            reason = "; ".join(filter(None, (reason, str(error))))
        done = removed.deleted, removed.size, proven.stays, removed.left, path, proven.found
        verdict: Verdict = "partly deleted" if removed.left else "deleted"
        return Outcome(subject, verdict, reason, *done, failed=bool(reason))

    def _forget_unfinished(self, subject: Subject) -> None:
        """Where the run was begun once, and is not meant to go, nobody misses it now."""
        for run in subject.units:
            if run.head and not run.head.completed:
                StateStore(self._config.log_dir, run.run, run.entry.destination).set_aside("cleaned-up")

    def _record(self, subject: Subject, identity: tuple[int, int], old: Record | None, proven: Proven) -> Record:
        """What is going to be deleted, with what an interrupted cleanup of the same folder had."""
        now = {run.url: _target(run) for run in subject.runs}
        before = {target.url: target for target in (old.targets if old else ())}
        targets = {**before, **now}
        files = dict(old.at(tuple(targets)) if old else {})
        for path in proven.files:
            proofs = [proven.proofs.get(url, {}).get(path) for url in targets]
            one = next(filter(None, proofs))  # of a link: what it leads to has the size
            files[path] = Deleted(one.size, one.mtime_ns, tuple(proof.etag if proof else None for proof in proofs))
        return Record(
            run_id=subject.folder.name,
            run_path=str(subject.folder),
            device=identity[0],
            inode=identity[1],
            user=_user(),
            host=socket.gethostname(),
            older_than_seconds=self._older_than,
            begun=old.begun if old else now_iso(),
            targets=tuple(targets.values()),
            stays=proven.stays,
            went_on=(*old.went_on, now_iso()) if old else (),
            files=dict(sorted(files.items())),
        )

    def _finish_rest(self, path: Path, record: Record) -> str:
        """Why something is left; empty if nothing is."""
        folder = Path(record.run_path)
        if os.path.lexists(folder):
            removed = Removal()
            with self._held_by(record):
                cleanup_delete.remove(
                    folder, record.identity, {}, frozenset(record.stays), self._stop.raise_if_requested, removed
                )
            if removed.left:
                return f"the rest of an interrupted cleanup is left: {_why_left(removed.left)}"
        cleanup_record.save(path, replace(record, finished=now_iso(), left={}))
        LOG.info("%s: what an interrupted cleanup left is gone", record.run_path)
        return ""

    @contextlib.contextmanager
    def _held_by(self, record: Record) -> Iterator[None]:
        run = Run(Path(record.run_path), record.run_id, run_folder.RunInfo())
        suffix = f"/{record.run_id}/"
        with contextlib.ExitStack() as locks:
            for target in record.targets:
                bucket, _, prefix = target.url.removeprefix("s3://").removesuffix(suffix).partition("/")
                store = StateStore(self._config.log_dir, run, destination.parse_destination(bucket, prefix))
                locks.enter_context(self._lock(store.lock_path, printable(target.url)))
            yield


def _target(run: RunStatus) -> Target:
    uploaded = run.state == "uploaded"
    finished = run.head.finished if run.head and uploaded else ""
    verdict = "identical" if uploaded else "not compared"
    return Target(run.url, run.state, run.reason, str(run.log_path), finished, verdict)


def _why_left(left: Mapping[str, str]) -> str:
    if not left:
        return ""
    path, why = next(iter(left.items()))
    more = f", and {len(left) - 1:,} more" if len(left) > 1 else ""
    return f"{printable(path)}: {why}{more} (mend that, and give the same command again)"


def what_stays(stays: Sequence[str]) -> str:
    """`2 files not in S3 stay, with their folders: a, b`."""
    named = ", ".join(map(printable, stays[:_NAMED]))
    more = f", and {len(stays) - _NAMED:,} more" if len(stays) > _NAMED else ""
    verb = "stays, with its folder" if len(stays) == 1 else "stay, with their folders"
    return f"{pluralize(len(stays), 'file')} not in S3 {verb}: {named}{more}"


def _is_rest(record: Record) -> bool:
    """Whether nothing but empty folders can be left of it, or not even these. RunInfo.xml is deleted last; the file
    system has to be there, and the folder has to be the one that was verified."""
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
