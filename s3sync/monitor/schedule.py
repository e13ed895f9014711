"""Decide which of the waiting runs a scan works on next."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Literal, TypeAlias

from s3sync.errors import ConfigError, SlurmError
from s3sync.inventory import RunStatus
from s3sync.monitor.problems import Problem

Lane: TypeAlias = Literal["cluster", "upload", "stream", "hook"]


class Obstacles:
    """Unreachable buckets, and Slurm if it does not work: other runs need not try them again."""

    def __init__(self) -> None:
        self._unreachable_buckets: set[str] = set()
        self._has_slurm = True

    def block(self, run: RunStatus) -> bool:
        """Return whether one of them prevents the upload of a run."""
        return run.entry.bucket in self._unreachable_buckets or (bool(run.entry.cluster) and not self._has_slurm)

    def add(self, run: RunStatus, error: Exception, problem: Problem) -> None:
        """Add the obstacle, if it is one for other runs, that an error of a run shows."""
        self._has_slurm &= not isinstance(error, (SlurmError, ConfigError))
        if problem.kind == "aws":
            self._unreachable_buckets.add(run.entry.bucket)

    def clear(self) -> None:
        """Forget all obstacles, so that everything is tried again."""
        self._unreachable_buckets.clear()
        self._has_slurm = True


class Schedule:
    """The waiting runs of a scan, in order.

    Work that takes seconds comes first, one run at a time: submitting to Slurm, and collecting its results. Of the
    other runs `max_runs` are uploaded at once, and as many are streamed; a run that `is_small` compared with those that
    are being uploaded need not wait for them. A run that was tried is tried again after `repeat_seconds`.
    """

    def __init__(
        self,
        max_runs: int,
        repeat_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        is_small: Callable[[RunStatus], bool] = lambda _run: False,
    ) -> None:
        self.obstacles = Obstacles()
        self._is_small = is_small
        self._max_runs = max_runs
        self._repeat_seconds = repeat_seconds
        self._clock = clock
        self._waiting: list[RunStatus] = []
        self._tried: dict[str, float] = {}  # when, by key
        self._obstacles_cleared = clock()

    def offer(self, runs: Iterable[RunStatus]) -> None:
        """Replace the waiting runs by these, without those that were tried a short time ago."""
        now = self._clock()
        if now - self._obstacles_cleared >= self._repeat_seconds:
            self._obstacles_cleared = now
            self.obstacles.clear()
        self._waiting = [
            run for run in runs if now - self._tried.get(run.key, -self._repeat_seconds) >= self._repeat_seconds
        ]

    def put_first(self, run: RunStatus) -> None:
        """Make a run the next one, even if it was tried a short time ago."""
        self._tried.pop(run.key, None)
        self._waiting.insert(0, run)

    def take(self, working: Collection[RunStatus]) -> RunStatus | None:
        """Remove and return the run to begin now; None if there is none. `working` are the runs in progress."""
        self._waiting = [run for run in self._waiting if not self.obstacles.block(run)]
        first = next((index for index, run in enumerate(self._waiting) if self._may_begin(run, working)), None)
        return None if first is None else self._waiting.pop(first)

    def mark_tried(self, run: RunStatus) -> None:
        """Note that a run was tried. It is no longer waiting, even if it was offered again in the meantime."""
        self._tried[run.key] = self._clock()
        self._waiting = [other for other in self._waiting if other.key != run.key]

    def _may_begin(self, run: RunStatus, working: Collection[RunStatus]) -> bool:
        lanes = [lane_of(other) for other in working]
        lane = lane_of(run)
        if any(other.key == run.key for other in working) or (lane != "cluster" and "cluster" in lanes):
            return False
        if lane in ("cluster", "hook"):
            return lane not in lanes
        return lanes.count(lane) < self._max_runs or (self._max_runs > 1 and self._is_small(run))


def lane_of(run: RunStatus) -> Lane:
    """Return which kind of work a run needs; limits are by lane."""
    if run.state == "streaming":
        return "stream"
    if run.entry.cluster:
        return "cluster"
    return "hook" if run.state == "uploaded" else "upload"
