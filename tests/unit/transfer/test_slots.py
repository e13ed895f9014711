"""Uploads share slots: the one with the least left to do goes first, and none starves."""

from __future__ import annotations

import contextlib
import threading

import pytest

from s3sync.transfer.sharing import SharedMachine
from s3sync.transfer.slots import SlotPool, SlotUser, allot


def users_of(*needs: tuple[float, int]) -> list[SlotUser]:
    return [SlotUser(left=left, wanted=wanted) for left, wanted in needs]


@pytest.mark.parametrize(
    ("needs", "size", "shares"),
    [
        ([(100, 8)], 4, [4]),
        ([(100, 4), (5, 4)], 4, [1, 4]),  # the small one takes what it can use,
        ([(100, 4), (5, 1)], 4, [3, 1]),  # and leaves the rest
        ([(100, 4), (5, 0)], 4, [4, 0]),
        ([(100, 4), (50, 4), (5, 3)], 4, [1, 1, 3]),
        ([(100, 2), (50, 2), (5, 2), (1, 2)], 1, [1, 1, 1, 1]),  # each makes progress
    ],
)
def test_the_user_with_the_least_left_goes_first_and_each_has_a_slot(
    needs: list[tuple[float, int]], size: int, shares: list[int]
) -> None:
    users = users_of(*needs)
    assert [allot(users, size).get(user, 0) for user in users] == shares


def test_the_large_upload_takes_what_the_small_one_gives_back() -> None:
    pool = SlotPool(4, 16)
    with pool.join() as large, pool.join() as small:
        assert pool.request(large, left=100, wanted=4, taken=0) == 4
        assert pool.request(small, left=5, wanted=4, taken=0) == 4
        assert pool.request(large, left=100, wanted=4, taken=4) == 1
        assert pool.fraction(small) == 0.8
        assert pool.request(small, left=0, wanted=0, taken=0) == 1
        assert pool.request(large, left=100, wanted=4, taken=1) == 4
        assert pool.fraction(large) == 1


def test_half_of_a_share_does_not_wait_for_what_is_given_back_late() -> None:
    """A large file keeps its process for hours: the small run has what the bound leaves, and half of its share."""
    pool = SlotPool(4, 6)
    with pool.join() as large, pool.join() as small:
        pool.request(large, left=100, wanted=4, taken=4)
        assert pool.request(small, left=5, wanted=4, taken=0) == 2
        pool.request(large, left=100, wanted=4, taken=6)
        assert pool.request(small, left=5, wanted=4, taken=0) == 2


def test_a_turn_waits_until_the_smaller_upload_leaves_room() -> None:
    pool, order = SlotPool(1), list[str]()
    began, end = threading.Event(), threading.Event()

    def work(user: SlotUser, name: str) -> None:
        with pool.turn(user):
            order.append(name)
            began.set()
            end.wait(120)

    with pool.join() as large, pool.join() as small:
        large.left, small.left = 100, 5
        threads = [threading.Thread(target=work, args=(large, "large")) for _ in range(2)]
        threads[0].start()
        assert began.wait(120)
        threads[1].start()
        with pool.turn(small):  # at once, beside the one that every user has
            assert order == ["large"]
        end.set()
        for thread in threads:
            thread.join()
    assert order == ["large", "large"]


def test_the_least_work_left_is_known_once_every_user_has_reported() -> None:
    pool = SlotPool(4)
    assert pool.least_left() == 0
    with pool.join() as large, pool.join() as small:
        large.left = 100
        assert pool.least_left() == 0
        small.left = 5
        assert pool.least_left() == 5


def test_requests_about_single_objects_share_slots_of_their_own_and_none_waits_for_what_is_sent() -> None:
    machine, done = SharedMachine(2, 8), threading.Event()
    with contextlib.ExitStack() as stack:
        large, small = (stack.enter_context(machine.join(list)) for _ in range(2))
        large.note_left(100)
        small.note_left(1)
        large.concurrency().update(8, has_work=True, left=100, is_waiting=True)  # has taken all processes
        turns = stack.enter_context(contextlib.ExitStack())
        for share in (small, small, large):  # beyond the two slots: each has at least one
            turns.enter_context(share.reading_turn())

        def ask() -> None:
            with large.reading_turn():
                done.set()

        waiting = threading.Thread(target=ask)
        waiting.start()
        assert not done.is_set()
        turns.close()
        waiting.join(120)
        assert done.is_set()


def test_no_run_is_small_beside_a_restore_alone() -> None:
    """It would not wait for `max_runs_at_once`."""
    machine = SharedMachine(2, 8)
    with machine.join(list) as restore:
        restore.stay_behind_uploads()
        assert machine.processes.least_left() == 0
        with machine.join(list) as upload:
            assert machine.processes.least_left() == 0, "not known yet"
            upload.note_left(100)
            assert machine.processes.least_left() == 100
