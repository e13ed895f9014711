"""A lease: what says between hosts that a lock is held, where `flock` works on each host alone (NFS without locks).

Its folder has one file for each time that somebody took it; the highest number counts. Whoever takes it makes the
next number, which of several only one can, and replaces that file again and again: its beat. No times of two hosts
are ever compared: a lease whose beat changes is alive, and one that stays the same in so many looks is dead.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from s3sync.errors import BusyError, LeaseLostError
from s3sync.state import lease_files
from s3sync.state.lease_files import Numbers, parse
from s3sync.text import human_seconds, now_iso

_LOOKS_A_BEAT = 5  # so that a live holder is found soon; those that count are a beat apart
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a machine is suspended


class Pace(NamedTuple):
    """Seconds between two beats, and in how many looks, so far apart, the beat of a dead holder stays the same."""

    beat: float = 5.0
    looks: int = 12

    @property
    def overdue(self) -> float:
        """Seconds without a beat after which a holder doubts that it is one: two beats later it is none."""
        return self.beat * (self.looks - 4)


PACE = Pace()

# What leases beside one that was found dead held when the looks at that one began. A lease that holds the same later
# had no beat for as long, so it is dead, too: of a host that died, several are taken over, but waited for only once.
_SILENT: dict[Path, bytes] = {}


class Wish(NamedTuple):
    """Somebody who wants a lease: what to call it, what to say if it is held, and how to wait.

    `place` is the caller's own, whose `flock` it holds: a holder there is dead. `pause` sleeps for so many seconds,
    or raises; without `patient` a lease that is not released is held, dead or alive.
    """

    name: str
    busy: str
    place: str
    pace: Pace = PACE
    pause: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda _line: None
    patient: bool = True


class Lease:
    """A lease that is held, and renewed by a thread until it is released or lost. `on_lost` is called once."""

    def __init__(
        self, numbers: Numbers, number: int, token: str, wish: Wish, on_lost: Callable[[LeaseLostError], None]
    ) -> None:
        self._numbers = numbers
        self._number = number
        self._token = token
        self._wish = wish
        self._on_lost = on_lost
        self._since = now_iso()
        self._beat = 0
        self._renewed = now()
        self._trouble = "the file server does not answer"
        self._lost = ""
        self._turn = threading.Lock()  # of the one thread that writes
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._go_on, self._watch)]

    def start(self) -> None:
        """Begin to beat."""
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """To be asked right before what only the holder may do; raises LeaseLostError.

        It renews the lease, so that nobody who looks at it takes it meanwhile. Where that is not possible it goes by
        the time since the last beat: what is to be written then fails by itself.
        """
        try:
            self._renew()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            if now() - self._renewed > self._wish.pace.overdue:
                self._lose(self._why_doubtful())
        self._raise_if_lost()

    def release(self) -> None:
        """Let others take it at once; if it was taken over, it stays with whoever has it, whose number is higher."""
        self._over.set()
        last = threading.Thread(target=self._say_released, daemon=True)
        last.start()
        for thread in (*self._threads, last):
            thread.join(self._wish.pace.beat)

    def _say_released(self) -> None:
        """In a thread of its own: where the file server hangs, nobody waits for it, and others find the lease dead."""
        with contextlib.suppress(OSError), self._turn:
            self._numbers.replace(self._number, self.content(released=True), self._token)

    def content(self, *, released: bool = False) -> bytes:
        """What stands in its file."""
        told = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._since,
            "place": self._wish.place,
            "pids": lease_files.pid_namespace(),
            "token": self._token,
            "beat": self._beat,
            "released": released,
        }
        return json.dumps(told).encode() + b"\n"

    def _go_on(self) -> None:
        while not self._over.wait(self._wish.pace.beat):
            try:
                self._renew()
            except LeaseLostError:
                return
            except OSError as error:  # it may pass; `_watch` says when it has taken too long
                self._trouble = error.strerror or str(error)

    def _watch(self) -> None:
        """Touches no disk: it sees to it that this ends in time when the file server never answers.

        Overdue once is no loss: after a pause (Ctrl-Z, a suspended machine) the other thread first looks who has it.
        """
        doubtful = False
        while not self._over.wait(self._wish.pace.beat):
            if now() - self._renewed <= self._wish.pace.overdue:
                doubtful = False
            elif doubtful:
                self._lose(self._why_doubtful())
            else:
                doubtful = True

    def _renew(self) -> None:
        """Raise the beat, and then see whether somebody took over: a client of NFS knows what is in a folder for
        certain only when it has just changed it. Raises LeaseLostError, OSError.
        """
        with self._writing():
            self._raise_if_lost()
            if self._over.is_set():
                return
            began = now()
            self._beat += 1
            self._numbers.replace(self._number, self.content(), self._token)
            highest = self._numbers.highest()
            if highest <= self._number:
                self._renewed = began
                return
        self._lose(self._why_lost(highest))
        self._raise_if_lost()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One thread at a time; whoever waits for one that the file server keeps waiting learns of the loss."""
        while not self._turn.acquire(timeout=self._wish.pace.beat):
            self._raise_if_lost()
        try:
            yield
        finally:
            self._turn.release()

    def _raise_if_lost(self) -> None:
        if self._lost:
            raise LeaseLostError(self._lost)

    def _lose(self, why: str) -> None:
        if not self._lost:
            self._lost = why
            self._over.set()
            self._on_lost(LeaseLostError(why))

    def _why_lost(self, highest: int) -> str:
        holder = None
        with contextlib.suppress(OSError):
            holder = parse(self._numbers.read(highest))
        host = holder.host if holder else "another host"
        silent = human_seconds(now() - self._renewed)
        return (
            f"lost to {host}: {self._wish.name} was taken over, since nothing was heard from here for {silent}"
            f" (was this process paused, or cut off from the file server?); {host} goes on with it"
        )

    def _why_doubtful(self) -> str:
        return (
            f"lost: the lease of {self._wish.name} could not be renewed for {human_seconds(now() - self._renewed)}"
            f" ({self._trouble}), so another host may have taken it over; the same command goes on from there"
        )


def take(numbers: Numbers, wish: Wish, on_lost: Callable[[LeaseLostError], None]) -> Lease:
    """Take the lease that these are; raises BusyError if its holder is alive, OSError, and what `pause` does."""
    numbers.prepare()
    while True:
        number = numbers.highest()
        if number == 0 or _may_be_taken(numbers, number, wish):
            token = uuid4().hex
            lease = Lease(numbers, number + 1, token, wish, on_lost)
            if numbers.create(number + 1, lease.content(), token):
                if numbers.highest() == number + 1:
                    break
                numbers.withdraw(number + 1)  # the listing was outdated
        wish.pause(wish.pace.beat / _LOOKS_A_BEAT)  # somebody was quicker: look at theirs
    numbers.tidy(number + 1)
    lease.start()
    return lease


def now() -> float:
    """Seconds by a clock of this machine that nobody sets."""
    return time.clock_gettime(_CLOCK)


def _may_be_taken(numbers: Numbers, number: int, wish: Wish) -> bool:
    """Whether it is released, or its holder dead; False if there is another one by now. Raises BusyError, OSError."""
    try:
        seen = numbers.read(number)
    except FileNotFoundError:
        return False
    if _is_free(seen, wish):
        return True
    if not wish.patient:
        raise _busy(wish, seen)
    if _SILENT.get(numbers.path(number)) == seen and numbers.is_still(number, seen):
        return True
    unchanged = 0
    others = numbers.others()
    for found, counts in _looks(numbers, number, wish.pace, wish.pause):
        if found != seen and not _is_free(found, wish):
            raise _busy(wish, found)
        unchanged += counts
        if found != seen:
            return True
        if unchanged == wish.pace.looks:
            _SILENT.update(others)
            return True
        if counts and unchanged == 1:
            wish.say(_waiting(wish, seen))
    return False


def _looks(numbers: Numbers, number: int, pace: Pace, pause: Callable[[float], None]) -> Iterator[tuple[bytes, bool]]:
    """What a lease holds, again and again until there is a higher number, and whether the look counts.

    It does if it is a beat after the last that did, and the file server answered at once: one that was away for a
    while lets nobody seem dead, since holders could not reach it either.
    """
    last = now()
    while True:
        pause(pace.beat / _LOOKS_A_BEAT)
        began = now()
        try:
            found, highest = numbers.read(number), numbers.highest()
        except OSError:
            last = now()
            continue
        if highest != number:
            return
        was_quick = now() - began <= pace.beat
        counts = was_quick and now() - last >= pace.beat
        if counts or not was_quick:
            last = now()
        yield found, counts


def _is_free(content: bytes, wish: Wish) -> bool:
    holder = parse(content)
    return holder is not None and (holder.released or holder.place == wish.place)


def _busy(wish: Wish, content: bytes) -> BusyError:
    return BusyError(f"{wish.busy}: by {parse(content) or 'another process'} (wait for it, or end it)")


def _waiting(wish: Wish, content: bytes) -> str:
    holder = parse(content)
    seconds = human_seconds(wish.pace.beat * wish.pace.looks)
    host = holder.host if holder else "somebody"
    return f"{host} holds the lease of {wish.name}; looking for {seconds} whether it is alive ..."
