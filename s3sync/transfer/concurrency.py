"""How many `aws` processes at once: as many as the user sets, and more while that leaves the CPU idle.

Without latency a process keeps a core busy and more of them only fight for it. With latency, or a slow
network, each waits most of its time: then more of them pay, up to a bound.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import psutil

_WINDOW = 2.0  # seconds over which the load is judged, and left to a new process to get past its start-up


class Load(NamedTuple):
    """Shares of the CPU, 0 to 1: of the cores that may be used by this program and its children, and of the machine."""

    ours: float
    machine: float


class LoadMeter:
    """The load since the last time it was asked."""

    def __init__(self, cores: int, pids: Callable[[], Iterable[int]]) -> None:
        self._cores = cores
        self._pids = pids
        self._then = time.monotonic()
        self._used = self._cpu_seconds()
        psutil.cpu_percent()  # the first answer has nothing to go by

    def __call__(self) -> Load:
        now, used = time.monotonic(), self._cpu_seconds()
        elapsed, spent = now - self._then, used - self._used
        self._then, self._used = now, used
        machine = psutil.cpu_percent() / 100
        return Load(max(0.0, spent / elapsed / self._cores) if elapsed > 0 else 1.0, machine)

    def _cpu_seconds(self) -> float:
        """Of this process, of its children that have ended, and of those that live."""
        return sum(map(_cpu_seconds, (os.getpid(), *self._pids())))


class ConcurrencyController:
    """Says how many may run; begins with `base`, never exceeds `most`."""

    def __init__(
        self,
        base: int,
        most: int,
        load: Callable[[], Load],
        clock: Callable[[], float] = time.monotonic,
        is_limited: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_limited`: whether the processes share a limit by now, so that more of them are no use."""
        self.size = base
        self.most = most
        self._base = base
        self._is_limited = is_limited
        self._load = load
        self._clock = clock
        self._judged = clock()
        self._grows = True  # as far as is known

    def begin(self) -> None:
        """They start now: what was before, with no work for them, says nothing."""
        self._load()
        self._judged = self._clock()

    def look(self, running: int, waiting: bool) -> int:
        """To be asked now and then: with how many run, and whether more work waits. Gives the number that may run."""
        if self._is_limited():
            self.size = self._base
            return self.size
        now = self._clock()
        if now - self._judged < _WINDOW:
            return self.size
        self._judged = now
        self._grows = waiting and running >= self.size and self._add(self._load(), running)
        return self.size

    @property
    def soon(self) -> int:
        """How many may run before long: what is handed out now has to leave work for them."""
        return self.most if self._grows and not self._is_limited() else self.size

    def _add(self, load: Load, running: int) -> bool:
        """As many as there is room for, if each uses what one uses now, but at most twice as many; whether there was.

        With room for less than half of one, the next would only take from the others.
        """
        share = max(0.01, load.ours / max(1, running))
        more = min(round((1 - max(load)) / share), self.size, self.most - self.size)
        self.size += max(0, more)
        return more > 0


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0
