"""Determine the state of the scans: the last one that has ended, and the one that is running. Leaves no trace."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync import logs
from s3sync.config import Config
from s3sync.errors import StateError
from s3sync.monitor import alerts, last_scan
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.problems import MONITOR, SCANS, Problem
from s3sync.state import lock
from s3sync.state import log_dir as state_log_dir

STALE_AFTER_SECONDS = 3 * 3600  # since a scan ended or was running


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanStatus:
    """The state of the scans."""

    last: LastScan | None = None
    problem: Problem | None = None  # with the scans, apart from their age
    running_since: float | None = None  # seconds since the epoch; None if no scan is running
    running_on: str = ""  # the host, if it is another one
    alerts: tuple[Problem, ...] = ()  # alerts about full disks, if no scan can start to report them

    def without_other_runs(self, keys: Collection[str]) -> ScanStatus:
        """Return the status with the problems of these runs only, and those that belong to no run."""
        if self.last is None:
            return self
        problems = tuple(each for each in self.last.problems if each.kind != "run" or each.key in keys)
        return replace(self, last=replace(self.last, problems=problems))

    def age(self, now: float) -> float:
        """Return the seconds since the last scan, 0 while one is running; infinite if there was none."""
        if self.running_since is not None:
            return 0.0
        return max(0.0, now - self.last.ended) if self.last else float("inf")


def lock_path(log_dir: Path) -> Path:
    """Return the path of the lock that a scan holds."""
    return log_dir / "locks" / "monitor.lock"


def read_status(config: Config, now: float | None = None) -> ScanStatus:
    """Return the state of the scans; `now` is in seconds since the epoch."""
    now = time.time() if now is None else now
    path = lock_path(config.log_dir)
    locked = _mtime(path)  # a scan writes to its lock when it starts
    host = lock.current_holder(path)
    ended = _mtime(last_scan.path_of(config.log_dir))  # read after the lock, since a scan may just have ended
    last, problem = last_scan.read_or_explain(config.log_dir)
    if host is not None:
        since = now if locked is None else locked
        problem = problem or _too_long(config, SCANS, now - since)
        return ScanStatus(last=last, problem=problem, running_since=since, running_on=host)
    if not problem and (problem := _cannot_start(config)):
        return ScanStatus(last=last, problem=problem, alerts=tuple(alerts.full_disks(config)))
    if last and locked is not None and ended is not None and locked > ended and not problem:
        text = "the last scan did not finish: was it killed? (see the main log; the next scan continues)"
        problem = Problem(SCANS, text, "other", id="monitor.killed")
    return ScanStatus(last=last, problem=problem)


def running_too_long(config: Config, path: Path) -> Problem | None:
    """Return the problem that the scan that holds the lock `path` runs for too long; None if it does not."""
    since = _mtime(path)
    return None if since is None else _too_long(config, MONITOR, time.time() - since)


def is_scanning_user(config: Config) -> bool:
    """Return whether this user runs the scans: root, or the owner of the files that they write, if there are any."""
    written = (config.log_dir, config.report_dir and config.report_dir / "index.html", config.metrics_file)
    owners = {owner for path in written if path and (owner := _owner(path)) is not None}
    return not owners or os.geteuid() in (0, *owners)


def why_not_startable(log_dir: Path) -> str:
    """Return why a scan by this user cannot start, as on a full disk; empty if it can."""
    if why := state_log_dir.unwritable(log_dir):
        return why
    try:
        logs.require_writable(log_dir)
    except StateError as error:
        return str(error)
    return str(lock.find_obstacle(lock_path(log_dir)) or "")


def _too_long(config: Config, key: str, seconds: float) -> Problem | None:
    longest = config.alert_after_busy_hours * 3600
    if seconds <= longest or state_log_dir.has_saved_since(config.log_dir, time.time() - longest):
        return None
    hours = f"{config.alert_after_busy_hours:g} h"
    text = f"the scan has been running for more than {hours}: is it stuck? (see `s3sync status` and the main log)"
    return Problem(key, text, "other", id="monitor.running-too-long")


def _cannot_start(config: Config) -> Problem | None:
    """Return why the next scan cannot start. Users who do not run the scans need no write permission."""
    owner, why = _owner(config.log_dir), ""
    if owner is not None and is_scanning_user(config):
        why = why_not_startable(config.log_dir)
    if not why and owner != os.geteuid():
        why = state_log_dir.out_of_order(config.log_dir)
    return Problem(SCANS, f"scans cannot start: {why}", "other", id="monitor.cannot-start") if why else None


def _owner(path: Path) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def _mtime(path: Path) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
