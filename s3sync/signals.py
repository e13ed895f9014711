"""Turn the signals that stop this program into a request that every stage checks.

No signal handler raises an exception, because that could interrupt a write of the state. A signal sets the request and
ends the child processes; each stage then stops in an orderly way.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from s3sync.errors import InterruptedBySignal, LeaseLostError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_REQUEST_SECONDS = 0.25  # `timeout` sends a signal to the process and to its group: both are one request


class StopRequest:
    """A request to stop, made by a signal or because a lock was lost. Any thread may make it or wait for it."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self.signum: int | None = None
        self._lost_lease: LeaseLostError | None = None

    @property
    def is_requested(self) -> bool:
        """Return whether the stop was requested."""
        return self._requested.is_set()

    @property
    def has_lost_lease(self) -> bool:
        """Return whether the stop was requested because a lock was lost."""
        return self._lost_lease is not None

    def request(self, signum: int) -> None:
        """Request the stop because of a signal. Only the first request counts."""
        self._request(signum, None)

    def request_for_lost_lease(self, error: LeaseLostError) -> None:
        """Request the stop because a lock was lost; `raise_if_requested` then raises this error."""
        self._request(None, error)

    def _request(self, signum: int | None, lost_lease: LeaseLostError | None) -> None:
        with self._lock:
            if self._requested.is_set():
                return
            self.signum, self._lost_lease = signum, lost_lease
            self._requested.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def on_request(self, action: Callable[[], None]) -> None:
        """Run `action` when the stop is requested, in the thread that requests it."""
        with self._lock:
            self._actions.append(action)

    def remove_action(self, action: Callable[[], None]) -> None:
        """Undo `on_request`, so that finished work is neither kept in memory nor stopped."""
        with self._lock:
            self._actions = [other for other in self._actions if other != action]

    @contextlib.contextmanager
    def child(self) -> Iterator[StopRequest]:
        """Yield a request for a part of the work: this one includes it, but a lost lock stops that part alone."""
        child = StopRequest()

        def pass_on() -> None:
            child._request(self.signum, self._lost_lease)

        self.on_request(pass_on)
        if self.is_requested:
            pass_on()
        try:
            yield child
        finally:
            self.remove_action(pass_on)

    def wait(self, seconds: float) -> bool:
        """Sleep until the stop is requested, at most for `seconds`. Return whether it was requested."""
        return self._requested.wait(seconds)

    def pause(self, seconds: float) -> None:
        """Sleep for this time. Raises InterruptedBySignal or LeaseLostError as soon as the stop is requested."""
        self.wait(seconds)
        self.raise_if_requested()

    def poll(self, every: float, timeout: float = math.inf) -> Iterator[None]:
        """Yield at once, then every `every` seconds, until the stop is requested or `timeout` seconds have passed.

        It yields once more after `timeout`, so that the loop sees the latest changes. A loop breaks when its condition
        holds; its `else` runs if it never did. Call `raise_if_requested` afterwards if that matters.
        """
        deadline = time.monotonic() + timeout
        while not self.is_requested:
            yield
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            self.wait(min(every, remaining))

    def raise_if_requested(self) -> None:
        """Raise InterruptedBySignal, or LeaseLostError, if the stop was requested."""
        if self._lost_lease:
            raise LeaseLostError(str(self._lost_lease), id=self._lost_lease.id)
        if self.is_requested:
            signum = self.signum or signal.SIGTERM
            raise InterruptedBySignal(signum, f"interrupted by {signal.Signals(signum).name}", id="run.interrupted")


class RepeatedInterrupt:
    """End the process at once when a person interrupts it a second time."""

    def __init__(self, end: Callable[[int], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._end = end or exit_at_once
        self._clock = clock
        self._first: float | None = None

    def record(self, signum: int) -> None:
        """Record a signal. Two that arrive together count as one."""
        now = self._clock()
        if self._first is None:
            self._first = now
        elif signum == signal.SIGINT and now - self._first >= _SAME_REQUEST_SECONDS:
            self._end(signum)


_before_exit: list[Callable[[], None]] = []


def run_before_exit(action: Callable[[], None]) -> None:
    """Run `action` before `exit_at_once` ends the process, so that no child process survives it."""
    _before_exit.append(action)


def exit_at_once(signum: int) -> None:
    """End this process and its children now. The state stays valid, as after a kill, and the next call resumes it."""
    for action in _before_exit:
        with contextlib.suppress(Exception):
            action()
    with contextlib.suppress(OSError):
        cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # a live display hides it
        line = "s3sync: interrupted again: stopped at once (run the same command again to resume)\n"
        os.write(2, cursor + line.encode())
    os._exit(128 + signum)


@contextlib.contextmanager
def exit_on_second_interrupt() -> Iterator[None]:
    """Let a second SIGINT end the process, even while it waits. The usual handler gets the first one."""
    interrupts = RepeatedInterrupt()
    with _received_by(lambda signum: interrupts.record(signum) if signum == signal.SIGINT else None):
        yield


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP call `stop.request` from a separate thread.

    A SIGINT that follows another signal ends the process at once. A signal that was ignored before (nohup, a background
    shell) still has no effect. It gets a handler nevertheless: otherwise child processes would inherit that it is
    ignored, and could not be ended gently.
    """
    ignored = {s for s in SIGNALS if signal.getsignal(s) is signal.SIG_IGN}
    interrupts = RepeatedInterrupt()

    def receive(signum: int) -> None:
        if signum in SIGNALS and signum not in ignored:
            interrupts.record(signum)
            stop.request(signum)

    with _received_by(receive):
        before = {s: signal.signal(s, _do_nothing) for s in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


@contextlib.contextmanager
def _received_by(receive: Callable[[int], None]) -> Iterator[None]:
    """Call `receive` in a separate thread with each signal that has a handler."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_forward, args=(reader, receive), name="signals", daemon=True)
    try:
        watcher.start()
    except RuntimeError:  # no further thread
        writer.close()
        reader.close()
        raise
    wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        writer.close()
        watcher.join()
        reader.close()


def _forward(reader: socket.socket, receive: Callable[[int], None]) -> None:
    while received := reader.recv(64):
        for signum in received:
            receive(signum)


def _do_nothing(_signum: int, _frame: object) -> None:
    """Replace the default action of a signal; the wake-up descriptor does the work."""
