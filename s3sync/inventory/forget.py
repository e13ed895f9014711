"""`forget`: the state log of a run whose folder is gone is set aside, so that nobody is told of it any more.

Nothing is deleted, here or in S3: the log is kept under another name, and what is uploaded under the run's name later
is compared with S3 again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import BusyError, RunError
from s3sync.inventory import survey
from s3sync.inventory.survey import Judged
from s3sync.runs import run_folder
from s3sync.slurm import work_folder
from s3sync.state import StateStore, identity, lock
from s3sync.text import printable

_FORGETTABLE = ("gone", "duplicate name")


class Forgotten(NamedTuple):
    """A log that was set aside."""

    run: Judged
    log: Path
    kept_as: Path


def forget(config: Config, names: Iterable[str]) -> list[Forgotten]:
    """Set the logs of these runs aside. Raises RunError, before anything is done, where one is not to be forgotten."""
    judged = survey.look(config).runs
    chosen: dict[Path, Judged] = {}
    for name in names:
        found = {run.log_path: run for run in judged if name in (run.run.run_id, run.run.root.name)}
        able = {path: run for path, run in found.items() if _may_be_forgotten(run)}
        if not able:
            raise RunError(_why_not(name, list(found.values())))
        chosen.update(able)
    return [_set_aside(run, config) for run in chosen.values()]


def _may_be_forgotten(run: Judged) -> bool:
    if run.head is None or not run.log_path.exists():
        return False
    if run.state not in _FORGETTABLE and (
        run.state != "unreadable" or os.path.lexists(run.run.root / run_folder.RUN_INFO)
    ):
        return False
    return identity.presence(run.head.run_path, run.head.folder).state != "here"


def _why_not(name: str, found: list[Judged]) -> str:
    if not found:
        return f"nothing to forget: no run {printable(name)} is in the monitored directories, and none is missing there"
    run = found[0]
    why = f"{run.state}: {run.reason}" if run.state not in _FORGETTABLE or run.head is None else "its folder is there"
    return f"{printable(name)} is not forgotten: only a run whose folder is gone can be; it is {why}"


def _set_aside(run: Judged, config: Config) -> Forgotten:
    """Raises BusyError, StateError."""
    store = StateStore(config.log_dir, run.run, run.entry.destination)
    with lock.held(store.lock_path, f"{run.key} is being worked on", patient=False):
        if work_folder.WorkFolder.of(config.log_dir, store).exists():
            raise BusyError(f"{run.key} was handed over to Slurm: end its jobs first, and remove its work folder")
        return Forgotten(run, run.log_path, store.set_aside("forgotten"))
