"""Runs whose upload was begun, and whose folder is gone: by their state logs, since nothing else of them is left."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from s3sync.config import Config, MonitorEntry
from s3sync.runs import Run, run_folder
from s3sync.state import identity, log_format, store
from s3sync.text import parse_iso, pluralize, printable

_NO_INFO = run_folder.RunInfo("", "", "", "", ())


class Lost(NamedTuple):
    """A run, or an analysis, at a destination, with its last place as the path. It `began` when its last call did.

    `unreadable` where nobody can see whether its folder is gone.
    """

    run: Run
    entry: MonitorEntry
    began: float
    state: Literal["gone", "unreadable"]
    reason: str
    head: log_format.Head
    log_path: Path


def lost_runs(config: Config, known: Collection[Path], troubled: Iterable[str] = ()) -> list[Lost]:
    """Those with a log that is not among the known ones, and that this config would have uploaded.

    Where it cannot be seen whether a folder is gone, its directory may be the problem: the `troubled` ones are told as
    such, and their runs are not.
    """
    found = []
    told = {os.path.realpath(directory) for directory in troubled}
    for path, logged in store.unfinished_besides(config.log_dir, known):
        if not identity.is_path(logged.run_path):
            continue
        run = _run_of(logged)
        watching = _watching(config, run)
        entry = _entry_of(config, logged, watching)
        if entry and (lost := _lost(logged, run, is_watched=watching is not None)):
            if lost[0] == "unreadable" and os.path.realpath(run.root.parent) in told:
                continue
            began = parse_iso(logged.head.finished) or _written(path)
            found.append(Lost(run, entry, began, *lost, logged.head, path))
    return found


def _written(log: Path) -> float:
    try:
        return log.stat().st_mtime
    except OSError:
        return 0.0


def _run_of(logged: log_format.Logged) -> Run:
    folder = Path(os.path.normpath(logged.run_path))
    if run_folder.is_analysis(logged.run_id.partition("/")[2]):
        return Run(folder, logged.run_id, _NO_INFO, within=folder.parent.parent)
    return Run(folder, logged.run_id, _NO_INFO)


def _watching(config: Config, run: Run) -> MonitorEntry | None:
    """The first entry that watches the directory in which the run lay."""
    held_in = os.path.realpath(run.root.parent)
    for entry in config.monitor:
        if any(os.path.realpath(directory) == held_in for directory in entry.monitored_directories):
            return entry
    return None


def _entry_of(config: Config, logged: log_format.Logged, watching: MonitorEntry | None) -> MonitorEntry | None:
    """The entry by which it is told; None if it is no matter of this config's."""
    destination = logged.destination
    if destination is None:
        return watching
    going_there = [entry for entry in config.monitor if entry.destination == destination]
    if going_there:
        return watching if watching in going_there else going_there[0]
    if watching is None or not logged.head.uploaded_files:  # a misspelt bucket has nothing of it
        return None
    return watching.model_copy(update={"bucket": destination.bucket, "remote_path": destination.remote_path})


def _lost(logged: log_format.Logged, run: Run, *, is_watched: bool) -> tuple[Literal["gone", "unreadable"], str] | None:
    """State and reason; None if nothing is missing."""
    there = identity.presence(logged.run_path, logged.head.folder)
    if there.state == "gone":
        return "gone", _reason(logged, "its folder is gone")
    if there.state == "here" and is_watched and not run.within and not os.path.lexists(run.path / run_folder.RUN_INFO):
        return "gone", _reason(logged, f"its {run_folder.RUN_INFO} is gone")
    if there.state == "unknown" and is_watched:
        advice = f"repair that or, if it is gone, `s3sync forget {logged.run_id} --config FILE`"
        return "unreadable", f"{_done(logged)}, and nobody can see whether its folder is gone: {there.why} ({advice})"
    return None


def _done(logged: log_format.Logged) -> str:
    return f"{logged.head.uploaded_files:,} of {pluralize(logged.head.total_files, 'file')} proven"


def _reason(logged: log_format.Logged, why: str) -> str:
    advice = f"move it back, upload it from where it is now, or `s3sync forget {logged.run_id} --config FILE`"
    return f"{_done(logged)}, and {why}: it was {printable(logged.run_path)} ({advice})"
