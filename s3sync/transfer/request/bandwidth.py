"""Limit the bandwidth by the time of day: `50MB/s`, or a schedule such as `{"Mon-Fri 08:00-18:00": "50MB/s"}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from s3sync.text import parse_rate, printable

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "|".join(_DAYS)
_WHEN = re.compile(rf"(?:({_DAY})(?:-({_DAY}))? )?([0-2]\d):([0-5]\d)-([0-2]\d):([0-5]\d)", re.IGNORECASE)
_MINUTES_A_DAY = 24 * 60


class Window(NamedTuple):
    """A time of some days, in minutes since midnight, and its limit in bytes a second.

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
    """Windows with limits; there is no limit at any other time."""

    windows: tuple[Window, ...]

    def rate(self, moment: datetime) -> int | None:
        """Return the limit in bytes a second at a local time, the lowest if windows overlap; None without a limit."""
        return min((window.rate for window in self.windows if window.contains(moment)), default=None)

    def split(self, among: int) -> BandwidthSchedule:
        """Return the share of each host, if this number of them send at the same time."""
        return BandwidthSchedule(tuple(window._replace(rate=max(1, window.rate // among)) for window in self.windows))


UNLIMITED = BandwidthSchedule(())


def parse_schedule(limit: str | Mapping[str, str]) -> BandwidthSchedule:
    """Parse one rate, or rates by time. Raises ValueError with the reason."""
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
