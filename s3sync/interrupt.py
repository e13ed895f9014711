"""Signals that ask for the end, turned into a flag that every stage looks at.

A handler that raises could tear a write of the state; so nothing is raised from one. A signal sets
the flag and ends the children; the stages then come to their own orderly end.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from s3sync.errors import InterruptedBySignal, LeaseLostError

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


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """While inside, SIGINT, SIGTERM and SIGHUP call `stop.request` from a thread of their own.

    A signal that was ignored before (nohup, a background shell) stays without effect here; it gets a
    handler all the same, since children would inherit the ignoring and could not be ended gently.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    ignored = {s for s in SIGNALS if signal.getsignal(s) is signal.SIG_IGN}
    before = {s: signal.signal(s, _do_nothing) for s in SIGNALS}
    wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, stop, ignored), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for signum, handler in before.items():
            signal.signal(signum, handler)
        writer.close()
        watcher.join()
        reader.close()


def _watch(reader: socket.socket, stop: Stop, ignored: set[signal.Signals]) -> None:
    while received := reader.recv(64):
        for signum in received:
            if signum in SIGNALS and signum not in ignored:
                stop.request(signum)


def _do_nothing(_signum: int, _frame: object) -> None:
    """The wake-up descriptor does the work; without a handler the default action would be taken."""
