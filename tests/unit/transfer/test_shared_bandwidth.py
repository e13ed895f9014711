"""All uploads together keep `max_bandwidth`, whichever of them run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from s3sync.transfer.request.bandwidth import parse_schedule
from s3sync.transfer.sharing import MachineShare, SharedMachine
from s3sync.transfer.throttle import Forecast, Throttle

RATE = 40_000_000


class Uploads:
    """A large and a small upload on one machine with four cores."""

    def __init__(self, stack: ExitStack) -> None:
        limit = parse_schedule("40MB/s")
        machine = SharedMachine(4, 16, limit)

        def join(left: float) -> tuple[MachineShare, Throttle]:
            share = stack.enter_context(machine.join(list))
            share.note_left(left)
            return share, share.throttle(limit, 4)

        self.large, self.large_throttle = join(1000)
        self.small, self.small_throttle = join(10)


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    with ExitStack() as stack:
        yield Uploads(stack)


def start(share: MachineShare, throttle: Throttle, first: int, left: float, running: int = 0) -> list[int]:
    """Start as many processes as an upload may have beside those that run; return what they may send."""
    concurrency = share.concurrency()
    allowed = concurrency.update(running, has_work=True, left=left, is_waiting=True)
    numbers = range(first, first + allowed - running)
    shares = [throttle.begin(number, Forecast(numbers[-1] - number)) or 0 for number in numbers]
    concurrency.note_running(running + len(shares))
    return shares


def test_one_upload_alone_has_all_of_it(uploads: Uploads) -> None:
    shares = start(uploads.large, uploads.large_throttle, 1, 1000)
    assert sum(shares) == RATE


def test_two_uploads_share_the_bandwidth_and_the_small_one_gets_most(uploads: Uploads) -> None:
    uploads.small.concurrency().update(0, has_work=True, left=10, is_waiting=True)  # it has begun
    large = start(uploads.large, uploads.large_throttle, 1, 1000)
    small = start(uploads.small, uploads.small_throttle, 1, 10)
    assert (len(large), len(small)) == (1, 4)
    assert sum(large) == RATE // 5
    assert RATE * 0.75 <= sum(small) <= RATE - sum(large)


def test_a_late_upload_has_little_until_the_processes_of_the_other_end(uploads: Uploads) -> None:
    large = start(uploads.large, uploads.large_throttle, 1, 1000)
    small = start(uploads.small, uploads.small_throttle, 1, 10)
    assert sum(large) + sum(small) <= RATE * 1.25
    for number in range(1, 5):
        uploads.large_throttle.end(number)
        uploads.small_throttle.end(number)
    large = start(uploads.large, uploads.large_throttle, 5, 990)
    small = start(uploads.small, uploads.small_throttle, 5, 5)
    assert sum(large) + sum(small) <= RATE
    assert sum(small) > 3 * sum(large)
