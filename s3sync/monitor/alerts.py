"""Find silent problems: runs that are not in S3 long after their instrument finished them, and disks that fill up.

They are reported once a day while they last, but change no exit code: they may be intended (a run whose samples do not
match), or another person's responsibility (a disk).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync.config import Config
from s3sync.errors import StateError
from s3sync.inventory import RunStatus, states
from s3sync.monitor.problems import LATE_SUFFIX, Kind, Problem
from s3sync.runs import completion, off_limits
from s3sync.text import human_bytes, human_seconds, printable

# From which day to which day a run that is not complete is reported: no run takes a week, and a month later it is known
# or no longer of interest.
_STALLED_DAYS = (7, 37)
_WAITING_STATES = ("sequencing", "settling", "analysing")


def find(runs: Sequence[RunStatus], config: Config) -> list[Problem]:
    """Return all alerts. Those that may be intended are notes."""
    return [*late_runs(runs, config), *full_disks(config)]


def late_runs(runs: Sequence[RunStatus], config: Config) -> list[Problem]:
    """Return alerts for the runs that their instrument finished more than `alert_after_hours` ago but are not in S3.

    A run that will not be uploaded to a destination is no alert if another destination has it, or will have it.
    """
    now = time.time()
    paths_elsewhere = {run.run.path for run in runs if run.state not in states.SKIPPED_STATES}
    late = []
    for run in runs:
        is_skipped = run.state in states.SKIPPED_STATES
        if run.state == "uploaded" or run.change or (is_skipped and run.run.path in paths_elsewhere):
            continue
        finished = completion.finished_at(run.run)
        if finished is None:
            late += _stalled(run, now)
        elif now - finished > config.alert_after_hours * 3600:
            ago = human_seconds(now - finished)
            text = f"not verified in S3 {ago} after the instrument finished it: {run.state}: {run.reason}"
            kind: Kind = "note" if is_skipped else "alert"
            late.append(Problem(f"{run.key}{LATE_SUFFIX}", text, kind, id="monitor.run-late"))
    return late


def _stalled(run: RunStatus, now: float) -> list[Problem]:
    """Return a note on a run, or an analysis, that began long ago and still has no completion marker."""
    days = (now - run.began) / 86_400
    if run.state not in _WAITING_STATES or not _STALLED_DAYS[0] <= days < _STALLED_DAYS[1]:
        return []
    text = f"not complete {days:.0f} days after it began: {run.state}: {run.reason} (has its instrument stopped?)"
    return [Problem(f"{run.key}{LATE_SUFFIX}", text, "note", id="monitor.run-stalled")]


@dataclass(frozen=True, slots=True)
class _FreeSpace:
    """The free space on a file system for this user. Shares are between 0 and 1."""

    share: float
    size: int  # bytes
    share_of_inodes: float


def full_disks(config: Config) -> list[Problem]:
    """Return alerts for the disks of logs, temporary files and runs with less than `alert_free_percent` left."""
    folders = [config.log_dir]
    with contextlib.suppress(StateError):  # uploads report it
        folders.append(off_limits.choose_temp_dir(os.environ))
    folders += config.monitored_directories
    least = config.alert_free_percent / 100
    full = []
    for device_folders in _by_device(folders).values():
        space = _free_space(device_folders[0])
        if space is None or min(space.share, space.share_of_inodes) >= least:
            continue
        names = ", ".join(dict.fromkeys(printable(str(folder)) for folder in device_folders))
        of_bytes = f"{human_bytes(space.size)} ({space.share:.1%})"
        left = of_bytes if space.share < least else f"{space.share_of_inodes:.1%} of the inodes"
        text = f"only {left} left on the disk of {names} (make room: `s3sync cleanup` lists runs that may be deleted)"
        full.append(Problem(f"disk of {printable(str(device_folders[0]))}", text, "alert", id="monitor.disk-full"))
    return full


def _by_device(folders: Iterable[Path]) -> dict[int, list[Path]]:
    """Return the folders that exist, by the device number of their file system."""
    devices: dict[int, list[Path]] = {}
    for folder in folders:
        with contextlib.suppress(OSError):  # the code that needs the folder reports this
            devices.setdefault(os.stat(folder).st_dev, []).append(folder)
    return devices


def _free_space(folder: Path) -> _FreeSpace | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    usable = found.f_blocks - found.f_bfree + found.f_bavail  # without the blocks that are reserved for root
    return _FreeSpace(
        share=found.f_bavail / usable if usable > 0 else 1.0,
        size=found.f_bavail * found.f_frsize,
        share_of_inodes=found.f_favail / found.f_files if found.f_files > 0 else 1.0,  # 0: not limited
    )
