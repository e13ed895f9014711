"""Find runs whose upload was started and whose folder is gone, by their state logs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3sync.config import Config, MonitorEntry
from s3sync.inventory.states import RunStatus
from s3sync.runs import Run, local_files, run_folder
from s3sync.state import identity, summary
from s3sync.text import parse_iso, pluralize, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    state: Literal["gone", "unreadable"]
    reason: str
    id: str


def lost_runs(config: Config, known: Collection[Path], unreadable: Iterable[str] = ()) -> list[RunStatus]:
    """Return the runs and analyses of this config whose folder is gone, or not visible.

    `known` are the logs of runs that are there. Runs in the `unreadable` directories are not reported, because the
    directories are. Each status has the last path of the run, and `began` is when its last call ended.
    """
    lost = []
    reported = {os.path.realpath(directory) for directory in unreadable}
    for path, logged in summary.list_other_unfinished(config.log_dir, known):
        if not identity.is_absolute_path(logged.run_path):
            continue
        run = _run_of(logged)
        watching = _entry_watching(config, run)
        entry = _entry_for(config, logged, watching)
        if entry is None or (loss := _loss_of(logged, run, is_watched=watching is not None)) is None:
            continue
        if loss.state == "gone" or os.path.realpath(run.root.parent) not in reported:
            lost.append(_status(run, entry, loss, logged, path))
    return lost


def _status(run: Run, entry: MonitorEntry, loss: _Loss, logged: summary.LoggedRun, log: Path) -> RunStatus:
    return RunStatus(
        run=run,
        entry=entry,
        began=parse_iso(logged.head.finished) or _mtime(log),
        state=loss.state,
        reason=printable(loss.reason),
        id=loss.id,
        head=logged.head,
        log_path=log,
    )


def _mtime(log: Path) -> float:
    try:
        return log.stat().st_mtime
    except OSError:
        return 0.0


def _run_of(logged: summary.LoggedRun) -> Run:
    folder = Path(os.path.normpath(logged.run_path))
    if local_files.is_analysis(logged.run_id.partition("/")[2]):
        return Run(path=folder, run_id=logged.run_id, info=run_folder.RunInfo(), parent_run=folder.parent.parent)
    return Run(path=folder, run_id=logged.run_id, info=run_folder.RunInfo())


def _entry_watching(config: Config, run: Run) -> MonitorEntry | None:
    """Return the first entry that watches the directory that contained the run."""
    directory = os.path.realpath(run.root.parent)
    for entry in config.monitor:
        if any(os.path.realpath(watched) == directory for watched in entry.monitored_directories):
            return entry
    return None


def _entry_for(config: Config, logged: summary.LoggedRun, watching: MonitorEntry | None) -> MonitorEntry | None:
    """Return the entry under which the run is reported; None if the run is not this config's."""
    destination = logged.destination
    if destination is None:
        return watching
    uploading = [entry for entry in config.monitor if entry.destination == destination]
    if uploading:
        return watching if watching in uploading else uploading[0]
    if watching is None or not logged.head.uploaded_files:  # nothing was uploaded, e.g. to a misspelt bucket
        return None
    return watching.model_copy(update={"bucket": destination.bucket, "remote_path": destination.remote_path})


def _loss_of(logged: summary.LoggedRun, run: Run, *, is_watched: bool) -> _Loss | None:
    """Describe the loss; None if the run still exists."""
    there = identity.find_presence(logged.run_path, logged.head.folder)
    if there.state == "gone":
        return _gone(logged, "its folder is gone", id="run.folder-gone")
    if (
        there.state == "here"
        and is_watched
        and not run.parent_run
        and not os.path.lexists(run.path / run_folder.RUN_INFO)
    ):
        return _gone(logged, f"its {run_folder.RUN_INFO} is gone", id="run.run-info-gone")
    if there.state == "unknown" and is_watched:
        advice = f"fix that or, if the folder is gone, run `s3sync forget {logged.run_id} --config FILE`"
        reason = f"{_verified(logged)}, and its folder may be gone: {there.why} ({advice})"
        return _Loss(state="unreadable", reason=reason, id="run.folder-not-visible")
    return None


def _verified(logged: summary.LoggedRun) -> str:
    return f"{logged.head.uploaded_files:,} of {pluralize(logged.head.total_files, 'file')} verified"


def _gone(logged: summary.LoggedRun, what: str, *, id: str) -> _Loss:  # noqa: A002
    advice = f"move it back, upload it from its new place, or run `s3sync forget {logged.run_id} --config FILE`"
    return _Loss(
        state="gone", reason=f"{_verified(logged)}, and {what}: it was {printable(logged.run_path)} ({advice})", id=id
    )
