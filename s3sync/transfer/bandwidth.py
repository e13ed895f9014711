"""Limit the bandwidth by the time of the day: `50MB/s`, or a schedule such as `{"Mon-Fri 08:00-18:00": "50MB/s"}`.

The CLI reads its limit when it starts, so a process gets its share then: of what the others leave, and more if it has
much of what is left to send, so that the last one does not keep the share of one of many. A process that outlives a
window, and is faster than the next one allows, is terminated after a grace period, and its files are sent again.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import settings as aws_settings
from s3sync.text import parse_rate, printable
from s3sync.transfer.running_shares import RunningShares

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(_DAYS)
_WHEN = re.compile(rf"(?:({_DAY})(?:-({_DAY}))? )?([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)", re.IGNORECASE)
_MINUTES_A_DAY = 24 * 60
_SMALLEST_PART = 8  # a process gets at least an eighth of an equal share
_TOLERANCE = 1 + 2 / _SMALLEST_PART  # processes that start unexpectedly may get a little too much
GRACE_SECONDS = 120.0  # most batches are done after that time, so that nothing is sent twice


class Window(NamedTuple):
    """A part of some days, in minutes since midnight, and the rate in bytes a second that holds then.

    A window that ends before it starts continues into the next day.
    """

    days: frozenset[int]  # on which it starts; 0 is Monday
    start: int
    end: int
    rate: int

    def contains(self, moment: datetime) -> bool:
        """Return whether a local time is in the window."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


class BandwidthSchedule(NamedTuple):
    """Windows with limits; at any other time there is none."""

    windows: tuple[Window, ...]

    def rate(self, moment: datetime) -> int | None:
        """Return the bytes a second at a local time, the lowest if windows overlap; None without a limit."""
        return min((window.rate for window in self.windows if window.contains(moment)), default=None)

    def split(self, among: int) -> BandwidthSchedule:
        """Return the share of each host, if that many send at the same time."""
        return BandwidthSchedule(tuple(window._replace(rate=max(1, window.rate // among)) for window in self.windows))


def parse_schedule(limit: str | Mapping[str, str]) -> BandwidthSchedule:
    """Parse one rate, or rates by time; raises ValueError that says what is wrong."""
    if isinstance(limit, str):
        return BandwidthSchedule((Window(frozenset(range(7)), 0, _MINUTES_A_DAY, parse_rate(limit)),))
    return BandwidthSchedule(tuple(_window(when, parse_rate(rate)) for when, rate in limit.items()))


def _window(when: str, rate: int) -> Window:
    match = _WHEN.fullmatch(when.strip())
    if not match:
        raise ValueError(f"{printable(when)!r} is not a time of the day (e.g. 08:00-18:00, or Mon-Fri 08:00-18:00)")
    start, end = (int(hour) * 60 + int(minute) for hour, minute in (match.group(3, 4), match.group(5, 6)))
    if start >= _MINUTES_A_DAY or end > _MINUTES_A_DAY or start == end:
        raise ValueError(
            f"{printable(when)!r} is not a time of the day (from 00:00 to 24:00, with two different times)"
        )
    return Window(_days(match[1], match[2]), start, end, rate)


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if not first:
        return frozenset(range(7))
    begin, end = (_DAYS.index(day.capitalize()) for day in (first, last or first))
    return frozenset(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))


class Forecast(NamedTuple):
    """What a process that starts now has to expect."""

    processes: int  # that will start after it
    part: float = 0.0  # its part of the work that is left, from 0 to 1


class Throttle:
    """Shares a bandwidth among the processes of one upload, beside those of others; any thread may call its methods."""

    def __init__(
        self,
        schedule: BandwidthSchedule,
        processes: int,
        environ: Mapping[str, str],
        settings: aws_settings.S3Settings,
        work: Path,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
        *,
        running: RunningShares | None = None,
        fraction: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Start with the shares of the processes of all uploads; `fraction` returns the part that is this one's."""
        self._running = running or RunningShares()
        self._fraction = fraction
        self._schedule = schedule
        self._processes = processes
        self._environ = environ
        self._settings = settings
        self._work = work
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._configs: dict[int, Path] = {}
        self._over_limit_since: float | None = None  # since when a process is faster than allowed

    def share(self) -> int | None:
        """Return an equal share in bytes a second; None without a limit."""
        rate = self._schedule.rate(self._now())
        return None if rate is None else max(1, rate // self._processes)

    def begin(self, batch: int, forecast: Forecast | None) -> int | None:
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
        """Return the share, in bytes a second, of a process that starts beside those of this upload and of others.

        It is as large as its part of the work requires, but leaves the smallest share to each process that will follow,
        and to other uploads what is theirs. None without a limit.
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

    def config(self, share: int) -> Path:
        """Return the path of an AWS config with this limit; raises AwsError."""
        with self._lock:
            if share not in self._configs:
                path = self._work / f"aws-config-{share}"
                aws_settings.write_config(self._environ, replace(self._settings, max_bandwidth=share), path)
                self._configs[share] = path
            return self._configs[share]

    def over_limit(self, shares: Mapping[int, int | None] | None = None) -> list[int]:
        """Return the processes to terminate, of these, or of all, with the share that each started with, by process id.

        These are, after a grace period, the processes without a limit; and, if the others exceed the limit together,
        those with more than an equal share.
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
