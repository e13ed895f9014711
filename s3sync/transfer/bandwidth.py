"""What may be sent at which time of the day: `50MB/s`, or a timetable such as `{"Mon-Fri 08:00-18:00": "50MB/s"}`."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import settings as aws_settings
from s3sync.text import parse_rate, printable

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(_DAYS)
_WHEN = re.compile(rf"(?:({_DAY})(?:-({_DAY}))? )?([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)", re.IGNORECASE)
_MINUTES_A_DAY = 24 * 60
_LEAST = 8  # a process gets no less than such a part of an equal share
_TOLERANCE = 1 + 2 / _LEAST  # where processes started unexpectedly, the least that they got may be too much
GRACE_SECONDS = 120.0  # most batches are done by then, and nothing is sent twice


class Window(NamedTuple):
    """A time of some days, in minutes since midnight, and the rate then in bytes a second.

    One that ends before it begins goes on into the next day.
    """

    days: frozenset[int]  # 0 is Monday; the days on which it begins
    start: int
    end: int
    rate: int

    def contains(self, moment: datetime) -> bool:
        """Whether that moment is in it."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)


class BandwidthSchedule(NamedTuple):
    """Windows; at any other time there is no limit."""

    windows: tuple[Window, ...]

    def rate(self, moment: datetime) -> int | None:
        """Bytes a second at that local time, the least if windows overlap; None: no limit."""
        return min((window.rate for window in self.windows if window.contains(moment)), default=None)

    def split(self, among: int) -> BandwidthSchedule:
        """The share of each of so many hosts that send at once."""
        return BandwidthSchedule(tuple(window._replace(rate=max(1, window.rate // among)) for window in self.windows))


def parse_schedule(limit: str | Mapping[str, str]) -> BandwidthSchedule:
    """A rate for all times, or rates by time; raises ValueError that says what is wrong."""
    if isinstance(limit, str):
        return BandwidthSchedule((Window(frozenset(range(7)), 0, _MINUTES_A_DAY, parse_rate(limit)),))
    return BandwidthSchedule(tuple(_window(when, parse_rate(rate)) for when, rate in limit.items()))


def _window(when: str, rate: int) -> Window:
    match = _WHEN.fullmatch(when.strip())
    if not match:
        raise ValueError(f"no time of the day: {printable(when)!r} (e.g. 08:00-18:00, or Mon-Fri 08:00-18:00)")
    start, end = (int(hour) * 60 + int(minute) for hour, minute in (match.group(3, 4), match.group(5, 6)))
    if start >= _MINUTES_A_DAY or end > _MINUTES_A_DAY or start == end:
        raise ValueError(
            f"no time of the day: {printable(when)!r} (from 00:00 to 24:00, and not from a time to itself)"
        )
    return Window(_days(match[1], match[2]), start, end, rate)


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if not first:
        return frozenset(range(7))
    begin, end = (_DAYS.index(day.capitalize()) for day in (first, last or first))
    return frozenset(day % 7 for day in range(begin, end + 1 if end >= begin else end + 8))


class Ahead(NamedTuple):
    """What a process that starts now may expect."""

    coming: int  # more processes will start beside it
    part: float = 0.0  # of what is to be sent yet, that process sends so much


class Throttle:
    """The shares of so many processes; may be asked from several threads."""

    def __init__(
        self,
        timetable: BandwidthSchedule,
        processes: int,
        environ: Mapping[str, str],
        settings: aws_settings.S3Settings,
        work: Path,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timetable = timetable
        self._processes = processes
        self._environ = environ
        self._settings = settings
        self._work = work
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._configs: dict[int, Path] = {}
        self._over_limit_since: float | None = None  # since when processes run that are faster than they may

    def share(self) -> int | None:
        """What one of all processes may send, bytes a second, if all of them run; None: no limit."""
        rate = self._timetable.rate(self._now())
        return None if rate is None else max(1, rate // self._processes)

    def share_beside(self, others: Iterable[int | None], ahead: Ahead | None = None) -> int | None:
        """What a process that starts now beside others with these shares may send, bytes a second; None: no limit.

        As much as its part of the work wants, but each that is still to come is left a part of an equal share.
        """
        rate, others = self._timetable.rate(self._now()), list(others)
        if rate is None:
            return None
        coming, part = ahead or Ahead(max(0, self._processes - 1 - len(others)))
        least = rate // (_LEAST * self._processes)
        free = rate - sum(rate // self._processes if other is None else other for other in others)
        wanted = max(free // (coming + 1), int(rate * part))
        return max(1, least, min(wanted, free - coming * least))

    def config(self, share: int) -> Path:
        """An AWS config with this limit; raises AwsError."""
        with self._lock:
            if share not in self._configs:
                path = self._work / f"aws-config-{share}"
                aws_settings.write_config(self._environ, self._settings._replace(max_bandwidth=share), path)
                self._configs[share] = path
            return self._configs[share]

    def over_limit(self, shares: Mapping[int, int | None]) -> list[int]:
        """Which processes, given the share that each began with, have to be ended by now.

        Those that began without a limit; and if the others together exceed it, those with more than an equal share.
        """
        equal = self.share()
        if equal is None:
            self._over_limit_since = None
            return []
        known = [began for began in shares.values() if began is not None]
        is_too_much = sum(known) > equal * self._processes * _TOLERANCE
        fast = [pid for pid, began in shares.items() if began is None or (is_too_much and began > equal)]
        if not fast:
            self._over_limit_since = None
            return []
        if self._over_limit_since is None:
            self._over_limit_since = self._clock()
        return fast if self._clock() - self._over_limit_since >= GRACE_SECONDS else []
