"""What the logs and the disk say of all runs, as values: those that are there, and those that were cleaned up."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias, get_args

from s3sync.aws import Destination
from s3sync.config import Config
from s3sync.inventory import survey
from s3sync.inventory.survey import Judged, State, Trouble
from s3sync.runs import completion
from s3sync.state import StateStore, lock, log_format
from s3sync.state import store as state_store
from s3sync.text import parse_iso, pluralize, printable

MOST_FAILURES = 20  # files of one run that are named
_SHOWN_CHARS = 60  # of an instrument's id, which the file may spell as it likes

Shown: TypeAlias = State  # of a log that no entry of the config is concerned with, "gone" is no problem
STATES: tuple[State, ...] = get_args(State)
FAILING: tuple[Shown, ...] = ("failed", *survey.BROKEN)  # somebody has to look at it
WAITING: tuple[Shown, ...] = (*survey.DUE, *survey.BROKEN)  # to be uploaded, and not proven

_INSTRUMENT_IN_NAME = re.compile(r"[0-9]{6,8}_([A-Za-z0-9-]{1,40})_[0-9]+_")  # 20261123_LH00130_0061_A22CC55LT4


class Entry(NamedTuple):
    """A run at a destination. Moments are seconds since the epoch; all texts are printable."""

    run_id: str
    state: Shown
    reason: str
    instrument: str  # the family and its id; empty if neither is known
    place: str  # the destination without the run: s3://bucket/path; empty if nobody knows
    watched: bool  # a run of this config, and on this disk; else there is nothing of it but a log
    files: int  # proven
    total_files: int
    failed_files: int
    size: int  # bytes in S3
    rate: float | None  # bytes a second, of the calls that it took; None if nobody knows
    began: float | None  # when the instrument began to write it
    done: float | None  # when the instrument had finished it
    proven: float | None  # when all of it was in S3
    tried: float | None  # when the last call ended
    failures: tuple[tuple[str, str], ...] = ()  # the first files that failed, and why
    working: bool = False  # it is being uploaded at the moment
    judged_key: str = ""  # of a run that was judged

    @property
    def key(self) -> str:
        """As a problem of the run has it."""
        return self.judged_key or f"{self.run_id} to {self.place.rstrip('/')}/{self.run_id}/"

    @property
    def lag(self) -> float | None:
        """Seconds from the end of the instrument's work to the proof that all is in S3."""
        return None if self.done is None or self.proven is None else max(0.0, self.proven - self.done)

    @property
    def when(self) -> float | None:
        """When something last happened to it."""
        return self.proven or self.tried or self.done or self.began

    @property
    def waits(self) -> bool:
        """Whether the instrument has finished it, and it is to be uploaded, and is not proven."""
        return self.watched and self.state in WAITING and self.done is not None


class History(NamedTuple):
    """All runs as they were at the moment `at` (seconds since the epoch), the newest first."""

    at: float
    entries: tuple[Entry, ...]
    troubles: tuple[Trouble, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many runs are in each state; those that there are none of are missing."""
        return dict(Counter(entry.state for entry in self.entries))

    @property
    def failing(self) -> tuple[Entry, ...]:
        """The runs that somebody has to look at; one that is being tried again at the moment may wait."""
        ours = (entry for entry in self.entries if entry.watched)
        return tuple(entry for entry in ours if entry.state in FAILING and not entry.working)

    @property
    def oldest_waiting(self) -> Entry | None:
        """Of the runs that are complete and not proven, the one that the instrument finished first."""
        return min((entry for entry in self.entries if entry.waits), key=lambda e: e.done or 0, default=None)


def look(config: Config) -> History:
    """Every run that is there or has a log. Reads only, and of the logs only what does not grow with the run."""
    at = time.time()
    judged, troubles = survey.look(config)
    return of(config, judged, troubles, at)


def of(config: Config, judged: Sequence[Judged], troubles: Iterable[Trouble], at: float) -> History:
    """The same, of runs that were judged at the moment `at`."""
    entries = [_of_run(run, config) for run in judged]
    entries += map(_of_log, state_store.logged_besides(config.log_dir, {run.log_path for run in judged}))
    entries.sort(key=lambda entry: (-(entry.when or 0), entry.run_id, entry.place))
    return History(at, tuple(entries), (*troubles, *survey.broken_nodes(config)))


def _of_run(run: Judged, config: Config) -> Entry:
    """One that is on the disk, in a monitored directory."""
    entry = _entry(run.run.run_id, run.run.info.instrument, run.entry.destination, run.head)
    entry = entry._replace(state=run.state, reason=run.reason, began=run.began or None, judged_key=run.key)
    if run.state == "uploaded":
        return entry
    store = StateStore(config.log_dir, run.run, run.entry.destination)
    done = completion.finished_at(run.run)
    host = lock.held_where(store.lock_path)
    if host is not None:
        proven = entry.files + store.journaled()
        where = f" on {host}" if host else ""
        reason = f"being uploaded now{where}: {proven:,} proven so far"
        return entry._replace(done=done, files=proven, working=True, reason=reason)
    failures = tuple(store.failures(MOST_FAILURES).items()) if entry.failed_files else ()
    reason = run.reason.replace(" (`status RUN` names them)", "") if failures else run.reason  # the page does
    return entry._replace(done=done, reason=reason, failures=failures)


def _of_log(logged: log_format.Logged) -> Entry:
    """One that was cleaned up, or that this config does not upload: there is a log, and nothing else."""
    head = logged.head
    is_there = os.path.isdir(logged.run_path)
    where = "this config does not upload it" if is_there else "no longer on this disk"
    entry = _entry(logged.run_id, "", logged.destination, head)._replace(watched=False)
    if head.completed:
        return entry._replace(state="uploaded", reason=where)
    reason = f"{where}; {head.uploaded_files:,} of {pluralize(head.total_files, 'file')} proven in S3"
    unfinished: Shown = "failed" if head.failed_files else "partial"
    return entry._replace(state=unfinished if is_there else "gone", reason=reason)


def _entry(run_id: str, instrument: str, destination: Destination | None, head: log_format.Head | None) -> Entry:
    """What the log says, and nothing of how the run is now."""
    tried = parse_iso(head.finished) if head else None
    return Entry(
        run_id=printable(run_id),
        state="new",
        reason="",
        instrument=_instrument(instrument, run_id),
        place=printable(f"s3://{destination.bucket}{destination.remote_path}") if destination else "",
        watched=True,
        files=head.uploaded_files if head else 0,
        total_files=head.total_files if head else 0,
        failed_files=head.failed_files if head else 0,
        size=head.size if head else 0,
        rate=head.sent_bytes / head.seconds if head and head.sent_bytes and head.seconds else None,
        began=None,
        done=parse_iso(head.instrument_done) if head else None,
        proven=tried if head and head.completed else None,
        tried=tried,
    )


def _instrument(known: str, run_id: str) -> str:
    """The family and the id: from RunInfo.xml, or where that is not read any more from the run's name."""
    named = _INSTRUMENT_IN_NAME.match(run_id)
    return completion.with_family(known[:_SHOWN_CHARS] or (named[1] if named else ""))
