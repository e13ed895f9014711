"""Take leases, and pretend to be another host."""

from __future__ import annotations

from typing import Any

from s3sync.errors import LeaseLostError
from s3sync.state import lease
from s3sync.state.lease import Lease, Pace, Wish
from s3sync.state.lease_files import Numbers
from tests.helpers.lease_text import theirs

QUICK = Pace(beat=0.02, looks=6)


LASTING = Pace(beat=0.02, looks=3000)  # of holders that have to live, however busy this machine is


def wish(place: str, pace: Pace = QUICK, **more: Any) -> Wish:
    return Wish("RUN", "RUN is being uploaded already", place, pace, **more)


def unheard(_why: LeaseLostError) -> None:
    """Nobody is told."""


def take(numbers: Numbers, place: str, pace: Pace = QUICK, **more: Any) -> Lease:
    return lease.take(numbers, wish(place, pace, **more), unheard)


def left_behind(numbers: Numbers, number: int = 1, **more: Any) -> bytes:
    """The lease of a holder that is dead; gives what it says."""
    content = theirs(**more)
    numbers.prepare()
    assert numbers.create(number, content, "theirs")
    return content


def taken_over(numbers: Numbers) -> bytes:
    """By another host, which took this one for dead."""
    return left_behind(numbers, numbers.highest() + 1)
