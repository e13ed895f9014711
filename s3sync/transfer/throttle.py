"""Share the bandwidth among `aws` processes.

The CLI reads its limit when it starts, so a process gets its share then: from what the others leave, and more if it has
most of the remaining work, so that the last one does not keep the share of one of many. A process that outlives a
window of the schedule, and is faster than the next window allows, is terminated after a grace period, and its files are
sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from s3sync.transfer.request.bandwidth import BandwidthSchedule

_SMALLEST_PART = 8  # a process gets at least an eighth of an equal share
_TOLERANCE = 1 + 2 / _SMALLEST_PART  # processes that start unexpectedly may get a little too much
GRACE_SECONDS = 120.0  # most batches end within this time, so that nothing is sent twice

Share: TypeAlias = "int | None"  # bytes a second; None without a limit
Decision: TypeAlias = Callable[[Sequence[Share], Sequence[Share]], Share]


class Forecast(NamedTuple):
    """The expectations of a process that starts now."""

    processes: int  # processes that will start after it
    part: float = 0.0  # its part of the work that is left, from 0 to 1


class RunningShares:
    """The shares of all `aws` processes that run or are about to start. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_batch: dict[tuple[object, int], Share] = {}  # by upload and the number of the batch
        self._by_pid: dict[int, Share] = {}

    def add(self, upload: object, batch: int, decide: Decision) -> Share:
        """Return the share of a batch, which `decide` computes from the shares of this upload and of the others."""
        with self._lock:
            own = [share for (other, _), share in self._by_batch.items() if other is upload]
            others = [share for (other, _), share in self._by_batch.items() if other is not upload]
            share = self._by_batch[upload, batch] = decide(own, others)
            return share

    def forget(self, upload: object, batch: int) -> None:
        """Forget the share of a batch that has ended."""
        with self._lock:
            del self._by_batch[upload, batch]

    def note_start(self, pid: int, share: Share) -> None:
        """Note that a process with this share runs."""
        with self._lock:
            self._by_pid[pid] = share

    def note_end(self, pid: int) -> None:
        """Note that a process has ended."""
        with self._lock:
            self._by_pid.pop(pid, None)

    def by_pid(self) -> dict[int, Share]:
        """Return the share of each process that runs, by process id."""
        with self._lock:
            return dict(self._by_pid)


class Throttle:
    """Shares a bandwidth among the processes of one upload, beside other uploads. Any thread may call its methods."""

    def __init__(
        self,
        schedule: BandwidthSchedule,
        processes: int,
        running: RunningShares,
        fraction: Callable[[], float],
        *,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Divide the part of the bandwidth, from 0 to 1, that `fraction` returns; `running` has all uploads' shares."""
        self._schedule = schedule
        self._processes = processes
        self._running = running
        self._fraction = fraction
        self._now = now
        self._clock = clock
        self._over_limit_since: float | None = None  # when a process began to exceed its limit

    def share(self) -> int | None:
        """Return an equal share in bytes a second; None without a limit."""
        rate = self._schedule.rate(self._now())
        return None if rate is None else max(1, rate // self._processes)

    def begin(self, batch: int, forecast: Forecast | None = None) -> int | None:
        """Return the share, in bytes a second, of the process of a batch that starts now; None without a limit."""
        return self._running.add(self, batch, lambda own, others: self.share_beside(own, forecast, others))

    def end(self, batch: int) -> None:
        """Note that the process of a batch has ended."""
        self._running.forget(self, batch)

    def note_start(self, pid: int, share: int | None) -> None:
        """Note that a process with this share runs."""
        self._running.note_start(pid, share)

    def note_end(self, pid: int) -> None:
        """Note that a process has ended."""
        self._running.note_end(pid)

    def share_beside(
        self, own: Sequence[int | None], forecast: Forecast | None = None, others: Sequence[int | None] = ()
    ) -> int | None:
        """Return the share, in bytes a second, of a process that starts beside the others of this and other uploads.

        It is as large as its part of the work requires, but leaves a smallest share to each process that will follow,
        and their part to other uploads. None without a limit.
        """
        rate = self._schedule.rate(self._now())
        if rate is None:
            return None
        coming, part = forecast or Forecast(max(0, self._processes - 1 - len(own)))
        smallest = rate // (_SMALLEST_PART * self._processes)
        ours = int(rate * self._fraction())
        spent = self._sum(own, rate)
        free = min(ours - spent, rate - spent - self._sum(others, rate))
        wanted = max(free // (coming + 1), int(ours * part))
        return max(1, smallest, min(wanted, free - coming * smallest))

    def _sum(self, shares: Iterable[int | None], rate: int) -> int:
        """Return the sum of shares; a process without a limit counts with an equal share."""
        return sum(rate // self._processes if share is None else share for share in shares)

    def over_limit(self, shares: Mapping[int, int | None] | None = None) -> list[int]:
        """Return the ids of the processes to terminate; `shares` maps the ids to consider to shares, all by default.

        After a grace period these are the processes without a limit and, if the others exceed the limit together, those
        with more than an equal share.
        """
        equal = self.share()
        if equal is None:
            self._over_limit_since = None
            return []
        shares = self._running.by_pid() if shares is None else shares
        limited = [share for share in shares.values() if share is not None]
        is_too_much = sum(limited) > equal * self._processes * _TOLERANCE
        fast = [pid for pid, share in shares.items() if share is None or (is_too_much and share > equal)]
        if not fast:
            self._over_limit_since = None
            return []
        if self._over_limit_since is None:
            self._over_limit_since = self._clock()
        return fast if self._clock() - self._over_limit_since >= GRACE_SECONDS else []
