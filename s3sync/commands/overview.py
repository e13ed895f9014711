"""Collect the status of all runs, their problems, and the results of the scans."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from s3sync.config import Config
from s3sync.errors import RunError
from s3sync.inventory import Problem, RunStatus, discovery, history, states, statuses
from s3sync.inventory.restores import PendingRestore
from s3sync.monitor import health, scan_status
from s3sync.runs import run_folder
from s3sync.state import StateStore, lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The status of a run at a destination, with its instrument data and its progress."""

    run: RunStatus
    info: run_folder.RunInfo | None  # None if RunInfo.xml cannot be read
    verified: int  # files, including those of the journal
    is_uploading: bool
    host: str = ""  # the host that uploads it, if that is another one

    @property
    def reason(self) -> str:
        """The reason for its state, or that it is being uploaded now."""
        where = f" on {self.host}" if self.host else ""
        return f"being uploaded now{where}: {self.verified:,} verified so far" if self.is_uploading else self.run.reason

    @property
    def reason_with_id(self) -> str:
        """The reason, with its id if something is wrong with the run or it will not be uploaded."""
        is_problem = self.run.state in (*states.BROKEN_STATES, *states.SKIPPED_STATES, "failed")
        return f"{self.reason} [{self.run.id}]" if is_problem and not self.is_uploading else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All runs and their analyses, or the selected ones, newest last; with all problems and the overall verdict."""

    rows: list[Row]
    problems: list[Problem]
    notes: list[Problem]
    scans: scan_status.ScanStatus
    verdict: health.Verdict
    restores: tuple[PendingRestore, ...]
    unknown: list[str]  # names that no run has


def load_overview(config: Config, names: Iterable[str] = ()) -> Overview:
    """Return the status of all runs, or of those with these names; the name of a run includes its analyses."""
    at, found = time.time(), discovery.discover(config)
    wanted = set(discovery.resolve_names(names, found.candidates))
    all_runs, problems = statuses.take_inventory(config, wanted, found=found)
    rows = [_row(r, config) for r in all_runs if not wanted or wanted & _names_of(r)]
    rows.sort(key=lambda row: (row.run.began, row.run.key))
    known = history.history_of(config, [row.run for row in rows], problems, at)
    of_scans = scan_status.read_status(config)
    if wanted:
        keys = {row.run.key for row in rows}
        known = known._replace(rows=tuple(row for row in known.rows if row.key in keys))
        of_scans = of_scans.without_other_runs(keys)
    unknown = sorted(wanted.difference(*(_names_of(row.run) for row in rows)))
    return Overview(
        rows=rows,
        problems=list(known.problems),
        notes=found.notes,
        scans=of_scans,
        verdict=health.verdict_of(known, of_scans),
        restores=known.restores,
        unknown=unknown,
    )


def _names_of(run: RunStatus) -> set[str]:
    """Return the names by which users select a run: its own, and for an analysis the name of its run."""
    return {run.run.run_id, run.run.root.name}


def _row(run: RunStatus, config: Config) -> Row:
    store = StateStore(config.log_dir, run.run, run.entry.destination)
    host = None if run.state == "uploaded" else lock.current_holder(store.lock_path)
    is_uploading = host is not None
    verified = (run.head.uploaded_files if run.head else 0) + (store.count_journaled() if is_uploading else 0)
    try:
        info = run_folder.read_run_info(run.run.root / run_folder.RUN_INFO)
    except RunError:
        info = None
    return Row(run=run, info=info, verified=verified, is_uploading=is_uploading, host=host or "")
