"""Load the history of all runs for dashboard and metrics: those on the disk, and those that were cleaned up."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, get_args

from s3sync.aws.destination import Destination
from s3sync.config import Config
from s3sync.inventory import restores, statuses
from s3sync.inventory.problems import Problem, broken_nodes
from s3sync.inventory.restores import PendingRestore
from s3sync.inventory.states import BROKEN_STATES, PENDING_STATES, RunStatus, State
from s3sync.runs import completion
from s3sync.state import lock, summary
from s3sync.text import parse_iso, pluralize, printable

STATES: tuple[State, ...] = get_args(State)
FAILING_STATES: tuple[State, ...] = ("failed", *BROKEN_STATES)  # these need attention
WAITING_STATES: tuple[State, ...] = (*PENDING_STATES, *BROKEN_STATES)  # not yet uploaded and verified

_MAX_FAILURES = 20  # failed files to name of one run
_MAX_INSTRUMENT_CHARS = 60  # an instrument's id may be any text
_INSTRUMENT_IN_NAME = re.compile(r"[0-9]{6,8}_([A-Za-z0-9-]{1,40})_[0-9]+_")  # 20261123_LH00130_0061_A22CC55LT4


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """A run at a destination. Times are in seconds since the epoch, None if unknown; all texts are printable."""

    run_id: str
    instrument: str = ""  # its family and id; empty if neither is known
    destination: str = ""  # without the run: s3://bucket/path; empty if unknown
    state: State = "new"  # "gone" is a problem only if the run is watched
    reason: str = ""
    is_watched: bool = True  # whether this config refers to it; if not, only its state log is known
    files: int = 0  # verified
    total_files: int = 0
    failed_files: int = 0
    size: int = 0  # bytes in S3
    rate: float | None = None  # bytes per second over all calls of its upload; None if unknown
    began: float | None = None  # when the instrument began to write it
    done: float | None = None  # when the instrument finished it
    verified: float | None = None  # when all of it was verified in S3
    tried: float | None = None  # when the last call ended
    failures: tuple[tuple[str, str], ...] = ()  # the first failed files, with reasons
    is_uploading: bool = False  # now
    status_key: str = ""  # RunStatus.key of a watched run

    @property
    def key(self) -> str:
        """The key of the run's problems."""
        return self.status_key or f"{self.run_id} to {self.destination.rstrip('/')}/{self.run_id}/"

    @property
    def lag(self) -> float | None:
        """Seconds from the end of the run on the instrument to the proof that all of it is in S3."""
        return None if self.done is None or self.verified is None else max(0.0, self.verified - self.done)

    @property
    def when(self) -> float | None:
        """The time of the last known event of the run."""
        return self.verified or self.tried or self.done or self.began

    @property
    def is_waiting(self) -> bool:
        """Whether the instrument has finished the run, but it is not verified in S3 yet."""
        return self.is_watched and self.state in WAITING_STATES and self.done is not None


class History(NamedTuple):
    """All runs at the time `at` (seconds since the epoch), newest first; other problems; and pending restores."""

    at: float
    rows: tuple[HistoryRow, ...]
    problems: tuple[Problem, ...]
    restores: tuple[PendingRestore, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The number of runs in each state that occurs."""
        return dict(Counter(row.state for row in self.rows))

    @property
    def failing(self) -> tuple[HistoryRow, ...]:
        """The runs that need attention, without those that are being uploaded again now."""
        watched = (row for row in self.rows if row.is_watched)
        return tuple(row for row in watched if row.state in FAILING_STATES and not row.is_uploading)

    @property
    def oldest_waiting(self) -> HistoryRow | None:
        """The waiting run that its instrument finished first; None if no run is waiting."""
        return min((row for row in self.rows if row.is_waiting), key=lambda row: row.done or 0, default=None)


def load_history(config: Config) -> History:
    """Return every run that is on the disk or has a state log. Only reads, and only the summaries of logs."""
    at = time.time()
    runs, problems = statuses.take_inventory(config)
    return history_of(config, runs, problems, at)


def history_of(config: Config, runs: Sequence[RunStatus], problems: Iterable[Problem], at: float) -> History:
    """Return the history with these runs, whose statuses were determined at the time `at` (seconds since the epoch)."""
    rows = [_row_of_run(run, config) for run in runs]
    rows += map(_row_of_log, summary.list_other_logs(config.log_dir, {run.log_path for run in runs}))
    rows.sort(key=lambda row: (-(row.when or 0), row.run_id, row.destination))
    return History(at, tuple(rows), (*problems, *broken_nodes(config)), restores.load(config.log_dir, at))


def _row_of_run(run: RunStatus, config: Config) -> HistoryRow:
    """Return the row of a run in a monitored directory."""
    row = _row(run.run.run_id, run.run.info.instrument, run.entry.destination, run.head)
    row = replace(row, state=run.state, reason=run.reason, began=run.began or None, status_key=run.key)
    if run.state == "uploaded":
        return row
    store = run.store(config.log_dir)
    row = replace(row, done=completion.finished_at(run.run))
    host = lock.current_holder(store.lock_path)
    if host is not None:
        verified = row.files + store.count_journaled()
        where = f" on {host}" if host else ""
        reason = f"being uploaded now{where}: {verified:,} verified so far"
        return replace(row, files=verified, is_uploading=True, reason=reason)
    if not row.failed_files:
        return row
    failures = tuple(store.failures(_MAX_FAILURES).items())
    # The failures are in the row, so the reason need not say where to find them.
    reason = run.reason.replace(" (`status RUN` names them)", "") if failures else run.reason
    return replace(row, reason=reason, failures=failures)


def _row_of_log(logged: summary.LoggedRun) -> HistoryRow:
    """Return the row of a run of which only the log is known: cleaned up, or not uploaded by this config."""
    head = logged.head
    is_there = os.path.isdir(logged.run_path)
    where = "this config does not upload it" if is_there else "no longer on this disk"
    row = replace(_row(logged.run_id, "", logged.destination, head), is_watched=False)
    if head.completed:
        return replace(row, state="uploaded", reason=where)
    reason = f"{where}; {head.uploaded_files:,} of {pluralize(head.total_files, 'file')} verified in S3"
    unfinished: State = "failed" if head.failed_files else "partial"
    return replace(row, state=unfinished if is_there else "gone", reason=reason)


def _row(run_id: str, instrument: str, destination: Destination | None, head: summary.LogSummary | None) -> HistoryRow:
    """Return a row with the facts from the log; the caller fills in the state of the run."""
    row = HistoryRow(
        run_id=printable(run_id),
        instrument=_instrument(instrument, run_id),
        destination=printable(destination.label) if destination else "",
    )
    if head is None:
        return row
    tried = parse_iso(head.finished)
    return replace(
        row,
        files=head.uploaded_files,
        total_files=head.total_files,
        failed_files=head.failed_files,
        size=head.size,
        rate=head.sent_bytes / head.seconds if head.sent_bytes and head.seconds else None,
        done=parse_iso(head.instrument_done),
        verified=tried if head.completed else None,
        tried=tried,
    )


def _instrument(known: str, run_id: str) -> str:
    """Return family and id of the instrument that RunInfo.xml or, if that was not read, the name of the run gives."""
    named = _INSTRUMENT_IN_NAME.match(run_id)
    return completion.instrument_label(known[:_MAX_INSTRUMENT_CHARS] or (named[1] if named else ""))
