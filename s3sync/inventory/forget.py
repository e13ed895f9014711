"""Set aside the state logs of runs whose folders are gone, so that these runs are no longer reported.

Nothing is deleted, here or in S3: the log is kept under another name. A later upload of a run with the same name is
compared with S3 again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import BusyError, RunError
from s3sync.inventory import statuses
from s3sync.inventory.states import RunStatus
from s3sync.runs import run_folder
from s3sync.slurm import work_folder
from s3sync.state import identity, lock
from s3sync.text import printable

_FORGETTABLE_STATES = ("gone", "duplicate name")


class Forgotten(NamedTuple):
    """A run whose log was set aside, with the old and the new path of the log."""

    run: RunStatus
    log: Path
    kept_as: Path


def forget_runs(config: Config, names: Iterable[str]) -> list[Forgotten]:
    """Set the logs of these runs aside.

    Raises RunError, before anything is changed, if one of them must not be forgotten; BusyError if one is in use;
    StateError if its log cannot be moved.
    """
    runs = statuses.take_inventory(config).runs
    chosen: dict[Path, RunStatus] = {}
    for name in names:
        found = {run.log_path: run for run in runs if name in (run.run.run_id, run.run.root.name)}
        forgettable = {path: run for path, run in found.items() if _may_be_forgotten(run)}
        if not forgettable:
            raise _refusal(name, list(found.values()))
        chosen.update(forgettable)
    return [_set_aside(run, config) for run in chosen.values()]


def _may_be_forgotten(run: RunStatus) -> bool:
    if run.head is None or not run.log_path.exists():
        return False
    has_run_info = os.path.lexists(run.run.root / run_folder.RUN_INFO)
    if run.state not in _FORGETTABLE_STATES and (run.state != "unreadable" or has_run_info):
        return False
    return identity.find_presence(run.head.run_path, run.head.folder).state != "here"


def _refusal(name: str, found: Sequence[RunStatus]) -> RunError:
    shown = printable(name)
    if not found:
        where = "in the monitored directories, or among the runs whose folders are gone"
        return RunError(f"nothing to forget: no run {shown} {where} (`status` lists them)", id="run.unknown")
    run = found[0]
    is_there = run.state in _FORGETTABLE_STATES and run.head is not None
    why = "its folder still exists" if is_there else f"it is {run.state}: {run.reason}"
    text = f"cannot forget {shown}: only a run whose folder is gone can be forgotten, and {why}"
    return RunError(text, id="run.not-gone")


def _set_aside(run: RunStatus, config: Config) -> Forgotten:
    store = run.store(config.log_dir)
    with lock.hold(store.lock_path, f"{run.key} is in use", wait_for_dead_holder=False):
        if work_folder.WorkFolder.of(config.log_dir, store).exists():
            advice = "cancel its jobs and remove its work folder first"
            raise BusyError(f"{run.key} was handed over to Slurm ({advice})", id="slurm.handed-over")
        return Forgotten(run, run.log_path, store.set_aside("forgotten"))
