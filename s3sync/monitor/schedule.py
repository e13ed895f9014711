"""Decide which of the runs that wait a scan works on next, beside those that it works on already."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Literal, TypeAlias

from s3sync.errors import ConfigError, SlurmError
from s3sync.inventory import RunStatus
from s3sync.monitor.problems import Problem

Lane: TypeAlias = Literal["cluster", "upload", "stream", "hook"]


class Obstacles:
    """Buckets that cannot be reached, and Slurm if it does not work: they are not tried again with the next run."""

    def __init__(self) -> None:
        self._unreachable_buckets: set[str] = set()
        self._has_slurm = True

    def concern(self, run: RunStatus) -> bool:
        """Return whether one of them keeps a run from being uploaded."""
        return run.entry.bucket in self._unreachable_buckets or (bool(run.entry.cluster) and not self._has_slurm)

    def note(self, run: RunStatus, error: Exception, problem: Problem) -> None:
        """Note what kept a run from being uploaded."""
        self._has_slurm &= not isinstance(error, (SlurmError, ConfigError))
        if problem.kind == "aws":
            self._unreachable_buckets.add(run.entry.bucket)

    def forget(self) -> None:
        """Let everything be tried again."""
        self._unreachable_buckets.clear()
        self._has_slurm = True


class Schedule:
    """The runs that wait for a scan, in order.

    What takes seconds comes first and one by one: to submit to Slurm, and to collect what it has done. Of the others
    `max_runs` are uploaded at once, and as many are streamed; a run that `is_small` beside those at work waits for none
    of them. What was tried is tried again after `repeat_seconds`.
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
        self._last_forgotten = clock()

    def offer(self, runs: Iterable[RunStatus]) -> None:
        """Replace the runs that wait by these, without those that were tried a short time ago."""
        now = self._clock()
        if now - self._last_forgotten >= self._repeat_seconds:
            self._last_forgotten = now
            self.obstacles.forget()
        self._waiting = [
            run for run in runs if now - self._tried.get(run.key, -self._repeat_seconds) >= self._repeat_seconds
        ]

    def put_first(self, run: RunStatus) -> None:
        """Let a run be the next one, although it was tried a short time ago."""
        self._tried.pop(run.key, None)
        self._waiting.insert(0, run)

    def take(self, working: Collection[RunStatus]) -> RunStatus | None:
        """Return the run to begin now beside those that are being worked on; None if there is none."""
        self._waiting = [run for run in self._waiting if not self.obstacles.concern(run)]
        first = next((index for index, run in enumerate(self._waiting) if self._may_begin(run, working)), None)
        return None if first is None else self._waiting.pop(first)

    def note_end(self, run: RunStatus) -> None:
        """Note that a run was tried; it waits no longer, although it was offered again while it was worked on."""
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
    """Return how a scan works on a run."""
    if run.state == "streaming":
        return "stream"
    if run.entry.cluster:
        return "cluster"
    return "hook" if run.state == "uploaded" else "upload"
