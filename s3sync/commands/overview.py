"""Find out how all runs are: their status, their problems, and how the scans went."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import RunError
from s3sync.inventory import Problem, RunStatus, discovery, history, statuses
from s3sync.monitor import health, scan_status
from s3sync.runs import run_folder
from s3sync.state import StateStore, lock


class Row(NamedTuple):
    """A run at a destination, with what is known of it besides its state. `proven` counts a journal too."""

    run: RunStatus
    info: run_folder.RunInfo | None  # None if RunInfo.xml cannot be read
    proven: int
    working: bool  # an upload of it is under way
    host: str = ""  # on which this is, if that is another one

    @property
    def reason(self) -> str:
        """The reason of its state, or that it is being worked on."""
        where = f" on {self.host}" if self.host else ""
        return f"being uploaded now{where}: {self.proven:,} proven so far" if self.working else self.run.reason


class Overview(NamedTuple):
    """Rows of all runs and their analyses, or of those that were asked for, newest last; and whether all is well."""

    rows: list[Row]
    troubles: list[Problem]
    notes: list[Problem]
    scans: scan_status.ScanStatus
    verdict: health.Verdict
    unknown: list[str]  # names that no run has


def load_overview(config: Config, names: Iterable[str] = ()) -> Overview:
    """How all runs are, or those with these names (a run's stands for its analyses, too)."""
    at, found = time.time(), discovery.discover(config)
    wanted = set(discovery.resolve_names(names, found.candidates))
    judged, problems = statuses.take_inventory(config, wanted, found=found)
    rows = [_row(r, config) for r in judged if not wanted or not wanted.isdisjoint((r.run.run_id, r.run.root.name))]
    rows.sort(key=lambda row: (row.run.began, row.run.key))
    known = history.history_of(config, [row.run for row in rows], problems, at)
    of_scans = scan_status.read_status(config)
    if wanted:
        keys = {row.run.key for row in rows}
        known = known._replace(rows=tuple(row for row in known.rows if row.key in keys))
        of_scans = of_scans.without_other_runs(keys)
    unknown = sorted(wanted - {name for row in rows for name in (row.run.run.run_id, row.run.run.root.name)})
    return Overview(rows, list(known.problems), found.notes, of_scans, health.verdict_of(known, of_scans), unknown)


def _row(run: RunStatus, config: Config) -> Row:
    store = StateStore(config.log_dir, run.run, run.entry.destination)
    host = None if run.state == "uploaded" else lock.held_where(store.lock_path)
    working = host is not None
    proven = (run.head.uploaded_files if run.head else 0) + (store.journaled() if working else 0)
    try:
        info = run_folder.read_run_info(run.run.root / run_folder.RUN_INFO)
    except RunError:
        info = None
    return Row(run, info, proven, working, host or "")
