"""What there is to know of the scans (calls of `monitor`): the last one that ended, and the one that is at work."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.monitor import last_scan
from s3sync.monitor.last_scan import LastScan
from s3sync.state import lock
from s3sync.state import log_dir as state_log_dir

STALE_SECONDS = 3 * 3600  # without a scan that ended, or is at work


class Scans(NamedTuple):
    """Moments are seconds since the epoch. `problem` is what is wrong with the scans themselves, besides their age."""

    last: LastScan | None = None
    problem: str = ""
    began: float | None = None  # of the scan that is at work; None if none is
    host: str = ""  # on which that is, if it is another one

    def about(self, keys: Collection[str]) -> Scans:
        """The same, without the problems of other runs than these."""
        if self.last is None:
            return self
        problems = tuple(p for p in self.last.problems if p.kind != "run" or p.key in keys)
        return self._replace(last=self.last._replace(problems=problems))

    def age(self, now: float) -> float:
        """Seconds since there was news of a scan; infinite if there never was any."""
        moment = now if self.began is not None else self.last.ended if self.last else float("-inf")
        return max(0.0, now - moment)


def lock_path(log_dir: Path) -> Path:
    """The lock that a scan holds."""
    return log_dir / "locks" / "monitor.lock"


def look(config: Config, now: float | None = None) -> Scans:
    """How things are. Reads only."""
    moment = time.time() if now is None else now
    path = lock_path(config.log_dir)
    signed = _mtime(path)  # a scan signs its lock when it begins
    host = lock.held_where(path)
    ended = _mtime(last_scan.place(config.log_dir))  # after the look at the lock: a scan may have ended meanwhile
    last, problem = last_scan.load(config.log_dir)
    if host is not None:
        began = moment if signed is None else signed
        return Scans(last, problem or why_too_long(config, moment - began), began, host)
    problem = problem or _why_not_writable(config)
    if last and signed is not None and ended is not None and signed > ended and not problem:
        problem = "the last scan did not come to its end: was it killed? (see the main log; the next one goes on)"
    return Scans(last, problem)


def why_too_long(config: Config, seconds: float) -> str:
    """What to say of a scan that has been at work for so long; empty if that is as usual."""
    if seconds <= config.alert_after_busy_hours * 3600:
        return ""
    return f"the scan has been running for more than {config.alert_after_busy_hours:g} h: is it stuck? (`status`)"


def are_ours(config: Config) -> bool:
    """Whether this user is the one that scans: the owner of what they leave, where that is known; or root."""
    left = (config.log_dir, config.report_dir and config.report_dir / "index.html", config.metrics_file)
    owners = {owner for path in left if path and (owner := _owner(path)) is not None}
    return not owners or os.geteuid() in (0, *owners)


def _why_not_writable(config: Config) -> str:
    """Why the next scan cannot begin, as far as its own user can see that: others need not be able to write."""
    why = state_log_dir.unwritable(config.log_dir) if _owner(config.log_dir) is not None and are_ours(config) else ""
    return f"scans cannot begin: {why}" if why else ""


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
