"""Hold a lease: a lock between hosts whose `flock` does not reach each other, as on NFS without locks.

The folder of a lease has one file for each time that the lease was acquired, and the highest number counts. To acquire
the lease, a host creates the file with the next number, which only one host can. The holder replaces that file at each
heartbeat.

Times of two hosts are never compared. A holder whose file changes is alive. One whose file stays the same in a number
of polls, one heartbeat apart, is dead. No library does this: flufl.lock compares mtimes with the local clock, and
filelock's SoftFileLease ends a live lease when the file server fails over.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from s3sync.errors import BusyError, LeaseLostError
from s3sync.state import lease_files
from s3sync.state.lease_files import Holder, LeaseFiles, parse
from s3sync.text import human_seconds, now_iso

_POLLS_PER_HEARTBEAT = 5  # so that a live holder is noticed soon; those that count are a heartbeat apart
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # continues while a machine is suspended

# The content of all other leases at the start of a watch that found a holder dead. A lease that still has this content
# had no heartbeat meanwhile either, so its holder is dead too: all leases of a dead host are taken over after one wait.
_CONTENT_OF_DEAD: dict[Path, bytes] = {}


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """The seconds between heartbeats, and after how many unchanged polls, so far apart, a holder is dead.

    A release waits `release_wait` seconds for a file server that hangs.
    """

    heartbeat: float = 5.0
    missed_beats: int = 12
    release_wait: float = 5.0

    @property
    def renew_deadline(self) -> float:
        """Return after how many seconds without a heartbeat a lease is overdue; two heartbeats later it is lost."""
        return self.heartbeat * (self.missed_beats - 4)


DEFAULT_TIMING = LeaseTiming()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """An attempt to acquire a lease: its name, what to say if it is busy, and how to wait."""

    name: str
    busy: str
    lock_domain: str = ""  # this process holds the `flock` there, so another holder with this domain is dead
    timing: LeaseTiming = DEFAULT_TIMING
    pause: Callable[[float], None] = time.sleep  # sleeps for some seconds, or raises to give up
    show: Callable[[str], None] = lambda _line: None
    wait_for_dead_holder: bool = True  # otherwise every unreleased lease is busy

    def is_free(self, holder: Holder | None) -> bool:
        """Return whether this holder has released the lease, or is dead because its lock domain is the same."""
        return holder is not None and (holder.is_released or holder.lock_domain == self.lock_domain)

    def busy_error(self, holder: Holder | None) -> BusyError:
        """Return the error for a lease with a live holder."""
        return BusyError(f"{self.busy}: held by {holder or 'another process'} (wait, or end it)", id="lock.busy")


class Lease:
    """A held lease, renewed by a thread until it is released or lost. `on_lost` is called once if it is lost."""

    def __init__(
        self,
        files: LeaseFiles,
        number: int,
        token: str,
        request: LeaseRequest,
        on_lost: Callable[[LeaseLostError], None],
    ) -> None:
        self._files = files
        self._number = number
        self._token = token
        self._request = request
        self._on_lost = on_lost
        self._since = now_iso()
        self._sequence = 0
        self._renewed = now()
        self._last_problem = "the file server does not answer"
        self._lost: LeaseLostError | None = None
        self._write_lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._heartbeat, self._watchdog)]

    def start(self) -> None:
        """Start the heartbeat."""
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise LeaseLostError if the lease is lost. Call this right before a write that needs it.

        This renews the lease, so that no other host takes it over during the write. If it cannot be renewed, the time
        since the last heartbeat decides: a write to the same file server fails anyway.
        """
        try:
            self._renew()
        except OSError as error:
            self._last_problem = error.strerror or str(error)
            if self._is_overdue():
                self._lose(self._not_renewed_error())
        self._raise_if_lost()

    def release(self) -> None:
        """Let other hosts acquire the lease at once. One that was taken over stays with its new holder."""
        self._stopped.set()
        last = threading.Thread(target=self._write_released, daemon=True)
        last.start()
        for thread in (*self._threads, last):
            thread.join(self._request.timing.release_wait)

    def _write_released(self) -> None:
        """Run in a separate thread: if the file server hangs, nobody waits, and others find the holder dead."""
        with contextlib.suppress(OSError), self._write_lock:
            self._files.replace(self._number, self.content(is_released=True), self._token)

    def content(self, *, is_released: bool = False) -> bytes:
        """Return the content of the file of this lease."""
        values = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._since,
            "place": self._request.lock_domain,
            "pids": lease_files.pid_namespace(),
            "token": self._token,
            "beat": self._sequence,
            "released": is_released,
        }
        return json.dumps(values).encode() + b"\n"

    def _heartbeat(self) -> None:
        while not self._stopped.wait(self._request.timing.heartbeat):
            try:
                self._renew()
            except LeaseLostError:
                return
            except OSError as error:  # it may pass; the watchdog notices when it takes too long
                self._last_problem = error.strerror or str(error)

    def _watchdog(self) -> None:
        """Declare the lease lost if it is not renewed in time. Uses no disk, so a hanging file server cannot stop it.

        Overdue once is not a loss: after a pause (Ctrl-Z, a suspended machine) the heartbeat first checks who holds it.
        """
        was_overdue = False
        while not self._stopped.wait(self._request.timing.heartbeat):
            is_overdue = self._is_overdue()
            if is_overdue and was_overdue:
                self._lose(self._not_renewed_error())
            was_overdue = is_overdue

    def _is_overdue(self) -> bool:
        return now() - self._renewed > self._request.timing.renew_deadline

    def _renew(self) -> None:
        """Write a heartbeat, then check whether another host took over. Raises LeaseLostError, OSError.

        In this order, because an NFS client knows the content of a folder only just after it has changed it.
        """
        with self._writing():
            self._raise_if_lost()
            if self._stopped.is_set():
                return
            began = now()
            self._sequence += 1
            self._files.replace(self._number, self.content(), self._token)
            highest = self._files.highest()
            if highest <= self._number:
                self._renewed = began
                return
        self._lose(self._taken_over_error(highest))
        self._raise_if_lost()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Let one thread write at a time. A thread that waits for one that hangs learns of a loss meanwhile."""
        while not self._write_lock.acquire(timeout=self._request.timing.heartbeat):
            self._raise_if_lost()
        try:
            yield
        finally:
            self._write_lock.release()

    def _raise_if_lost(self) -> None:
        if self._lost:
            raise LeaseLostError(str(self._lost), id=self._lost.id)

    def _lose(self, error: LeaseLostError) -> None:
        if not self._lost:
            self._lost = error
            self._stopped.set()
            self._on_lost(error)

    def _taken_over_error(self, number: int) -> LeaseLostError:
        holder = None
        with contextlib.suppress(OSError):
            holder = parse(self._files.read(number))
        host = holder.host if holder else "another host"
        silent = human_seconds(now() - self._renewed)
        return LeaseLostError(
            f"lost to {host}: {self._request.name} was taken over, because this process was silent for {silent}"
            f" (was it paused, or cut off from the file server?); {host} continues with it",
            id="lock.taken-over",
        )

    def _not_renewed_error(self) -> LeaseLostError:
        silent = human_seconds(now() - self._renewed)
        return LeaseLostError(
            f"lost: the lease of {self._request.name} could not be renewed for {silent} ({self._last_problem}),"
            " so another host may have taken it over; run the same command again to continue",
            id="lock.not-renewed",
        )


def acquire(files: LeaseFiles, request: LeaseRequest, on_lost: Callable[[LeaseLostError], None]) -> Lease:
    """Acquire a lease. Raises BusyError if its holder is alive, OSError, and what `request.pause` raises."""
    files.prepare()
    while True:
        number = files.highest()
        if number == 0 or _is_available(files, number, request):
            token = uuid4().hex
            lease = Lease(files, number + 1, token, request, on_lost)
            if files.create(number + 1, lease.content(), token):
                if files.highest() == number + 1:
                    break
                files.discard(number + 1)  # the listing was outdated
        request.pause(request.timing.heartbeat / _POLLS_PER_HEARTBEAT)  # another host was faster: check its lease
    files.prune(number + 1)
    lease.start()
    return lease


def now() -> float:
    """Return the seconds of a clock of this machine that is never set."""
    return time.clock_gettime(_CLOCK)


def _is_available(files: LeaseFiles, number: int, request: LeaseRequest) -> bool:
    """Return whether the lease is released or its holder dead; False if another host has acquired it meanwhile.

    Raises BusyError, OSError.
    """
    try:
        content = files.read(number)
    except FileNotFoundError:
        return False
    holder = parse(content)
    if request.is_free(holder):
        return True
    if not request.wait_for_dead_holder:
        raise request.busy_error(holder)
    if _CONTENT_OF_DEAD.get(files.path(number)) == content and files.is_still(number, content):
        return True
    return _watch_holder(files, number, content, request)


def _watch_holder(files: LeaseFiles, number: int, content: bytes, request: LeaseRequest) -> bool:
    """Poll a lease until its holder releases it or turns out to be dead; return False if another host acquires it.

    Raises BusyError as soon as the content changes, because the holder is alive then.
    """
    others = files.others()
    unchanged = 0
    for poll in _poll(files, number, request):
        if poll.content != content:
            holder = parse(poll.content)
            if request.is_free(holder):
                return True
            raise request.busy_error(holder)
        if not poll.counts:
            continue
        unchanged += 1
        if unchanged == request.timing.missed_beats:
            _CONTENT_OF_DEAD.update(others)
            return True
        if unchanged == 1:
            request.show(_waiting_line(request, parse(content)))
    return False


class _Poll(NamedTuple):
    content: bytes
    counts: bool  # towards the unchanged polls after which a holder is dead


def _poll(files: LeaseFiles, number: int, request: LeaseRequest) -> Iterator[_Poll]:
    """Read a lease repeatedly until there is a higher number.

    A poll counts only if it comes one heartbeat after the previous one that counted, and if the file server answered
    promptly. A server that was away proves nobody dead, because holders could not reach it either.
    """
    heartbeat = request.timing.heartbeat
    last = now()
    while True:
        request.pause(heartbeat / _POLLS_PER_HEARTBEAT)
        began = now()
        try:
            content, highest = files.read(number), files.highest()
        except OSError:
            last = now()
            continue
        if highest != number:
            return
        is_prompt = now() - began <= heartbeat
        counts = is_prompt and now() - last >= heartbeat
        if counts or not is_prompt:
            last = now()
        yield _Poll(content, counts)


def _waiting_line(request: LeaseRequest, holder: Holder | None) -> str:
    seconds = human_seconds(request.timing.heartbeat * request.timing.missed_beats)
    host = holder.host if holder else "another process"
    return f"{host} holds the lease of {request.name}; checking for {seconds} whether it is alive ..."
