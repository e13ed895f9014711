"""Decide how many `aws` processes run at once: as many as the user sets, and more while the CPU is idle.

Without latency a process keeps a core busy, and more processes only compete for it. With latency, or a slow network,
each process mostly waits, so more of them are faster, up to a limit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import psutil

_WINDOW_SECONDS = 2.0  # over which the load is measured; long enough for a new process to start up


class Load(NamedTuple):
    """The CPU load from 0 to 1: `own` is the load of this program and its children, on the cores that they may use."""

    own: float
    machine: float


class LoadMeter:
    """Measures the load since the last call."""

    def __init__(self, cores: int, pids: Callable[[], Iterable[int]]) -> None:
        self._cores = cores
        self._pids = pids
        self._then = time.monotonic()
        self._used = self._cpu_seconds()
        self._machine_times = _machine_times()

    def __call__(self) -> Load:
        now, used = time.monotonic(), self._cpu_seconds()
        elapsed, spent = now - self._then, used - self._used
        self._then, self._used = now, used
        return Load(max(0.0, spent / elapsed / self._cores) if elapsed > 0 else 1.0, self._machine_load())

    def _machine_load(self) -> float:
        busy_before, all_before = self._machine_times
        busy, every = self._machine_times = _machine_times()
        return (busy - busy_before) / (every - all_before) if every > all_before else 1.0

    def _cpu_seconds(self) -> float:
        """Return the CPU seconds of this process and its children, whether these have ended or run."""
        return sum(map(_cpu_seconds, (os.getpid(), *self._pids())))


def next_size(size: int, max_size: int, running: int, load: Load) -> int:
    """Return how many processes may run if each needs as much CPU as those that run now.

    At most twice as many as before; none more if there is room for less than half of one.
    """
    share = max(0.01, load.own / max(1, running))
    room = round((1 - max(load)) / share)
    return size + max(0, min(room, size, max_size - size))


class ConcurrencyController:
    """Decides how many processes may run: `base` at first, never more than `max_size`."""

    def __init__(
        self,
        base: int,
        max_size: int,
        load: Callable[[], Load],
        clock: Callable[[], float] = time.monotonic,
        is_limited: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_limited` returns whether the bandwidth is limited now, so that more processes would not help."""
        self.size = base
        self.max_size = max_size
        self._base = base
        self._is_limited = is_limited
        self._load = load
        self._clock = clock
        self._last_check = clock()
        self._may_grow = True  # until a measurement shows otherwise

    def reset(self) -> None:
        """Start to measure now: before, the processes had no work."""
        self._load()
        self._last_check = self._clock()

    def update(self, running: int, *, has_work: bool) -> int:
        """Return the number of processes that may run, given the number that run now, and whether one more has work."""
        if self._is_limited():
            self.size = self._base
        elif self._clock() - self._last_check >= _WINDOW_SECONDS:
            self._last_check = self._clock()
            before = self.size
            if has_work and running >= self.size:
                self.size = next_size(self.size, self.max_size, running, self._load())
            self._may_grow = self.size > before
        return self.size

    @property
    def expected_size(self) -> int:
        """Return how many may run soon: batches must leave work for them."""
        return self.max_size if self._may_grow and not self._is_limited() else self.size


def _machine_times() -> tuple[float, float]:
    """Return the busy seconds of the CPU, and all seconds; `psutil.cpu_percent` would count per thread."""
    times = psutil.cpu_times()
    every = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # `user` includes these
    return every - times.idle - getattr(times, "iowait", 0.0), every


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0
