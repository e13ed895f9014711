"""Take leases, and pretend to be another host."""

from __future__ import annotations

from typing import Any

from s3sync.errors import LeaseLostError
from s3sync.state import lease
from s3sync.state.lease import Lease, LeaseRequest, LeaseTiming
from s3sync.state.lease_files import LeaseFiles
from tests.helpers.lease_text import theirs

QUICK = LeaseTiming(heartbeat=0.02, missed_beats=6)


LASTING = LeaseTiming(heartbeat=0.02, missed_beats=3000)  # of holders that have to live, however busy this machine is


def wish(place: str, pace: LeaseTiming = QUICK, **more: Any) -> LeaseRequest:
    return LeaseRequest(name="RUN", busy="RUN is already being uploaded", lock_domain=place, timing=pace, **more)


def unheard(_why: LeaseLostError) -> None:
    """Ignore that a lease was lost."""


def take(numbers: LeaseFiles, place: str, pace: LeaseTiming = QUICK, **more: Any) -> Lease:
    return lease.acquire(numbers, wish(place, pace, **more), unheard)


def left_behind(numbers: LeaseFiles, number: int = 1, **more: Any) -> bytes:
    """The lease of a holder that is dead; gives what it says."""
    content = theirs(**more)
    numbers.prepare()
    assert numbers.create(number, content, "theirs")
    return content


def taken_over(numbers: LeaseFiles) -> bytes:
    """By another host, which took this one for dead."""
    return left_behind(numbers, numbers.highest() + 1)
