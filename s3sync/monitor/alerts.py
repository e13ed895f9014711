"""Silent trouble made loud: runs that are not in S3 long after their instrument finished them, disks that fill.

What is told here says nothing of this scan's work: it is told once a day as long as it stands, and changes no exit
code, since it may be meant (a run that does not match) or somebody else's (a disk).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import StateError
from s3sync.inventory import RunStatus, states
from s3sync.runs import completion, off_limits
from s3sync.text import human_bytes, human_seconds, printable

LATE = ", late"  # ends the key of an alert about a run
_STOPPED_DAYS = (7, 37)  # no run takes a week; what is a month older was known before, or is of no interest any more


class Alert(NamedTuple):
    """What has to be looked at: `key` tells it from all others and is shown; `lasting` if it may well be meant."""

    key: str
    text: str
    lasting: bool = False


def late_runs(runs: Sequence[RunStatus], config: Config, now: float | None = None) -> list[Alert]:
    """Runs that their instrument has finished `alert_after_hours` ago, and that are not proven in S3, whatever the
    reason. One that is not to be uploaded here is none of them if it is, or will be, at another destination.
    """
    moment = time.time() if now is None else now
    elsewhere = {run.run.path for run in runs if run.state not in states.SKIPPED_STATES}
    alerts = []
    for run in runs:
        never = run.state in states.SKIPPED_STATES
        if run.state == "uploaded" or run.change or (never and run.run.path in elsewhere):
            continue
        finished = completion.finished_at(run.run)
        if finished is None:
            alerts += _stopped(run, moment)
        elif moment - finished > config.alert_after_hours * 3600:
            ago = human_seconds(moment - finished)
            text = f"not proven in S3 {ago} after the instrument finished it: {run.state}: {run.reason}"
            alerts.append(Alert(f"{run.key}{LATE}", text, lasting=never))
    return alerts


def _stopped(run: RunStatus, now: float) -> list[Alert]:
    """A run, or an analysis, that began long ago, and of which no marker ever came: said once, for it may be known."""
    days = (now - run.began) / 86_400
    waits = run.state in ("sequencing", "settling", "analysing")
    if not waits or not _STOPPED_DAYS[0] <= days < _STOPPED_DAYS[1]:
        return []
    text = f"not complete {days:.0f} days after it began: {run.state}: {run.reason} (has its instrument stopped?)"
    return [Alert(f"{run.key}{LATE}", text, lasting=True)]


class _Space(NamedTuple):
    """What is free for us on a file system, as shares of 1; `size` in bytes."""

    blocks: float
    size: int
    inodes: float


def full_disks(config: Config) -> list[Alert]:
    """Disks of the logs, of the temporary files and of the monitored directories with too little space left."""
    folders = [config.log_dir]
    with contextlib.suppress(StateError):  # whoever needs one says so
        folders.append(off_limits.choose_temp_dir(os.environ))
    folders += [Path(directory) for entry in config.monitor for directory in entry.monitored_directories]
    alerts = []
    for device_folders in _by_device(folders).values():
        space = _space(device_folders[0])
        if space is None:
            continue
        names = ", ".join(dict.fromkeys(printable(str(folder)) for folder in device_folders))
        least = config.alert_free_percent / 100
        bytes_left, inodes_left = f"{human_bytes(space.size)} ({space.blocks:.1%})", f"{space.inodes:.1%} of the inodes"
        if min(space.blocks, space.inodes) < least:
            left = bytes_left if space.blocks < least else inodes_left
            text = f"only {left} left on the disk of {names} (make room: `s3sync cleanup` lists the runs that may go)"
            alerts.append(Alert(f"disk of {printable(str(device_folders[0]))}", text))
    return alerts


def _by_device(folders: Iterable[Path]) -> dict[int, list[Path]]:
    """Those that are there, by the number of their file system."""
    devices: dict[int, list[Path]] = {}
    for folder in folders:
        try:
            devices.setdefault(os.stat(folder).st_dev, []).append(folder)
        except OSError:
            continue  # who needs it says so
    return devices


def _space(folder: Path) -> _Space | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    usable = found.f_blocks - found.f_bfree + found.f_bavail  # without what is kept for root
    blocks = found.f_bavail / usable if usable > 0 else 1.0
    inodes = found.f_favail / found.f_files if found.f_files > 0 else 1.0  # some file systems have no such number
    return _Space(blocks, found.f_bavail * found.f_frsize, inodes)
