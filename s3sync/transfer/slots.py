"""Divide slots among several users: the one with the least left to do goes first, and each has at least one."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Seconds of work of a user that lets all uploads go first: it gets the slots that they leave, but at least one.
BEHIND_UPLOADS = 1e12


@dataclass(slots=True, eq=False)
class SlotUser:
    """A user of slots, such as an upload: how many it wants now, and how many it has taken."""

    left: float = math.inf  # seconds of work; infinite until that is known
    wanted: int = 0
    taken: int = 0


class SlotPool:
    """Slots that several users share; all methods can be called from any thread.

    The user with the least left may have all slots; each other one has at least one, even beyond the size of the pool.
    So a large user loses no more than a small one takes, and none starves.
    """

    def __init__(self, size: int, max_size: int | None = None) -> None:
        """`max_size` bounds the slots taken while some users still hold too many; half a share is always free."""
        self._size = size
        self._max_size = max(size, max_size or size)
        self._users: dict[SlotUser, None] = {}  # in the order in which they joined
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def join(self) -> Iterator[SlotUser]:
        """Add a user for the time of the `with`."""
        user = SlotUser()
        with self._changed:
            self._users[user] = None
        try:
            yield user
        finally:
            with self._changed:
                del self._users[user]
                self._changed.notify_all()

    def resize(self, size: int) -> None:
        """Change the number of slots."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def request(self, user: SlotUser, *, left: float, wanted: int, taken: int) -> int:
        """Note what a user wants and has, and return how many slots it may have. Slots are never taken back."""
        with self._changed:
            user.left, user.wanted, user.taken = left, wanted, taken
            self._changed.notify_all()
            return self._allowance(user)

    def least_left(self) -> float:
        """Return the least work that an upload has left, in seconds; 0 without uploads, or while one is unknown."""
        with self._changed:
            lefts = [user.left for user in self._users if user.left != BEHIND_UPLOADS]
        return min(lefts, default=0.0) if math.inf not in lefts else 0.0

    def taken_by_others(self, user: SlotUser) -> int:
        """Return how many slots the other users have taken."""
        with self._changed:
            return self._taken_by_others(user)

    def fraction(self, user: SlotUser) -> float:
        """Return a user's part of all slots, from 0 to 1; 1 if no other user wants any."""
        with self._changed:
            shares = allot(self._users, self._size)
            others = sum(share for other, share in shares.items() if other is not user)
            mine = shares.get(user, 1)
            return mine / (mine + others)

    @contextlib.contextmanager
    def turn(self, user: SlotUser) -> Iterator[None]:
        """Wait for a slot, and hold it during the `with`."""
        with self._changed:
            user.wanted += 1
            self._changed.wait_for(lambda: user.taken < self._allowance(user))
            user.taken += 1
        try:
            yield
        finally:
            with self._changed:
                user.wanted -= 1
                user.taken -= 1
                self._changed.notify_all()

    def _allowance(self, user: SlotUser) -> int:
        share = allot(self._users, self._size).get(user, 1)
        free = self._max_size - self._taken_by_others(user)
        return min(share, max(free, math.ceil(share / 2)))  # half of it at once, even if others still hold slots

    def _taken_by_others(self, user: SlotUser) -> int:
        return sum(other.taken for other in self._users if other is not user)


def allot(users: Iterable[SlotUser], size: int) -> dict[SlotUser, int]:
    """Return the number of slots of each user that wants some."""
    shares: dict[SlotUser, int] = {}
    free = size
    for user in sorted((user for user in users if user.wanted), key=lambda user: user.left):
        shares[user] = max(1, min(user.wanted, free))
        free = max(0, free - shares[user])
    return shares
