"""Signals that ask for the end, turned into a flag that every stage looks at.

A handler that raises could tear a write of the state; so nothing is raised from one. A signal sets
the flag and ends the children; the stages then come to their own orderly end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

from s3sync.errors import InterruptedBySignal, LeaseLostError

_TOGETHER_SECONDS = 0.25  # signals that come within it are one request
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Says whether to stop, and runs what was registered as soon as somebody asks for it."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._actions: list[Callable[[], None]] = []
        self.signum: int | None = None
        self._lost = ""

    @property
    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._asked.is_set()

    @property
    def has_lost(self) -> bool:
        """Whether that was for the loss of a lock."""
        return bool(self._lost)

    def request(self, signum: int) -> None:
        """Ask for the end; only the first call counts."""
        self._ask(signum, "")

    def lose(self, why: LeaseLostError) -> None:
        """The same, since a lock was lost: `check` raises this error then."""
        self._ask(None, str(why))

    def _ask(self, signum: int | None, lost: str) -> None:
        with self._lock:
            if self._asked.is_set():
                return
            self.signum, self._lost = signum, lost
            self._asked.set()
            actions = list(self._actions)
        for action in actions:
            action()

    def on_request(self, action: Callable[[], None]) -> None:
        """Run `action` (in the thread that asks) when the end is asked for."""
        with self._lock:
            self._actions.append(action)

    def forget(self, action: Callable[[], None]) -> None:
        """Take back what `on_request` was given, so that nothing that is over is kept or called."""
        with self._lock:
            self._actions = [other for other in self._actions if other != action]

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until somebody asks; says whether somebody did."""
        return self._asked.wait(seconds)

    def check(self) -> None:
        """Raise InterruptedBySignal if somebody asked, LeaseLostError if that was for the loss of a lock."""
        if self._lost:
            raise LeaseLostError(self._lost)
        if self._asked.is_set():
            signum = self.signum or signal.SIGTERM
            raise InterruptedBySignal(signum, f"interrupted by {signal.Signals(signum).name}")


class Insistence:
    """Sees that a person asks again for the end, and ends the process at once then."""

    def __init__(self, end: Callable[[int], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._end = end or end_at_once
        self._clock = clock
        self._first: float | None = None

    def saw(self, signum: int) -> None:
        """Take note of a signal. Two that come together are one: `timeout` sends it to process and group."""
        now = self._clock()
        if self._first is None:
            self._first = now
        elif signum == signal.SIGINT and now - self._first >= _TOGETHER_SECONDS:
            self._end(signum)


_before_exit: list[Callable[[], None]] = []


def before_exit(action: Callable[[], None]) -> None:
    """Have `action` run before `end_at_once` ends the process: children must not outlive it."""
    _before_exit.append(action)


def end_at_once(signum: int) -> None:
    """End this process and its children now. As after a kill, the state is valid, and the next call goes on from it."""
    for action in _before_exit:
        with contextlib.suppress(Exception):
            action()
    with contextlib.suppress(OSError):
        cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # a live display hides it
        said = "s3sync: interrupted again, so it ended at once; the same command goes on from there\n"
        os.write(2, cursor + said.encode())
    os._exit(128 + signum)


@contextlib.contextmanager
def second_interrupt_ends_at_once() -> Iterator[None]:
    """While inside, a second SIGINT ends the process, whatever it waits for; the first is the usual handler's."""
    insistence = Insistence()
    with _received_by(lambda signum: insistence.saw(signum) if signum == signal.SIGINT else None):
        yield


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """While inside, SIGINT, SIGTERM and SIGHUP call `stop.request` from a thread of their own. A SIGINT that follows
    another signal ends the process at once: somebody has waited for long enough.

    A signal that was ignored before (nohup, a background shell) stays without effect here; it gets a
    handler all the same, since children would inherit the ignoring and could not be ended gently.
    """
    ignored = {s for s in SIGNALS if signal.getsignal(s) is signal.SIG_IGN}
    insistence = Insistence()

    def receive(signum: int) -> None:
        if signum in SIGNALS and signum not in ignored:
            insistence.saw(signum)
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
    """While inside, a thread of its own calls this with each signal that has a handler."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader, receive), name="signals", daemon=True)
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


def _watch(reader: socket.socket, receive: Callable[[int], None]) -> None:
    while received := reader.recv(64):
        for signum in received:
            receive(signum)


def _do_nothing(_signum: int, _frame: object) -> None:
    """The wake-up descriptor does the work; without a handler the default action would be taken."""
