"""Keep track of the running `aws` processes, and end those that stall or that a requested stop interrupts."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator

from s3sync import process_tree
from s3sync.delays import DELAYS
from s3sync.process_tree import StallDetector
from s3sync.processes import Process
from s3sync.signals import StopRequest
from s3sync.text import human_seconds

_WATCH_SECONDS = (0.2, 15.0)  # the shortest and the longest interval between two checks for stalled processes
_INTERRUPTED = "was interrupted"


class ProcessSet:
    """The running processes of one AWS CLI. All methods can be called from any thread."""

    def __init__(self, stop: StopRequest, stall_seconds: float) -> None:
        self.started = 0  # processes so far
        self._stop = stop
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._running: dict[int, Process] = {}  # by process id
        self._surviving: set[int] = set()  # running ones that a stop does not end
        self._without_parts: set[int] = set()  # running ones that have no multipart uploads to abort
        self._killed: dict[int, str] = {}  # why this program ended a process, by process id
        self._stalls = StallDetector(stall_seconds)
        self._watchdog: threading.Thread | None = None

    @contextlib.contextmanager
    def running(
        self, start: Callable[[], Process], *, survives_stop: bool = False, has_parts: bool = True
    ) -> Iterator[Process]:
        """Start a process and keep track of it until it has ended. Kill it if the body of the `with` fails.

        A process that may have multipart uploads to abort (`has_parts`) gets more time to end.
        """
        process = self._add(start, survives_stop=survives_stop, has_parts=has_parts)
        if self._stop.is_requested and not survives_stop:  # `terminate_all` may have come before the start
            self.terminate(process.pid, _INTERRUPTED)
        try:
            with process:
                try:
                    yield process
                except BaseException:  # `with process` waits for its end
                    process_tree.send_signal(process.pid, signal.SIGKILL)
                    raise
        finally:
            self._remove(process.pid)

    def pids(self) -> list[int]:
        """Return the ids of the running processes."""
        with self._lock:
            return list(self._running)

    def bytes_read(self) -> dict[int, int]:
        """Return the bytes that each running process and its children have read so far, by process id."""
        return {pid: process_tree.count_bytes_read(pid) for pid in self.pids()}

    def terminate(self, pid: int, reason: str) -> None:
        """Begin to end a running process, with increasing force; return at once. `reason` follows "aws"."""
        with self._lock:
            process = self._running.get(pid)
            if process is None or pid in self._killed:
                return
            self._killed[pid] = reason
            grace = DELAYS.signal_grace_without_parts if pid in self._without_parts else math.inf
        arguments = (pid, lambda: process.returncode is not None, grace)  # set by the thread that waits for it
        try:
            threading.Thread(target=process_tree.terminate, args=arguments, daemon=True).start()
        except RuntimeError:  # no further thread; a stop must reach the other processes, too
            process_tree.send_signal(pid, signal.SIGKILL)

    def terminate_all(self) -> None:
        """Begin to end all running processes but those that survive a stop; return at once."""
        with self._lock:
            pids = [pid for pid in self._running if pid not in self._surviving]
        for pid in pids:
            self.terminate(pid, _INTERRUPTED)

    def kill(self, pid: int, reason: str) -> None:
        """Kill a running process and its children at once. `reason` follows "aws"."""
        with self._lock:
            self._killed[pid] = reason
        process_tree.send_signal(pid, signal.SIGKILL)

    def pop_killed_reason(self, pid: int) -> str:
        """Return and forget why this program ended a process; empty if it did not."""
        with self._lock:
            return self._killed.pop(pid, "")

    def _add(self, start: Callable[[], Process], *, survives_stop: bool, has_parts: bool) -> Process:
        with self._lock:
            process = start()
            self.started += 1
            if not self._running:  # an idle set is not registered, so that nothing keeps it in memory
                self._stop.on_request(self.terminate_all)
            self._running[process.pid] = process
            self._killed.pop(process.pid, None)
            if survives_stop:
                self._surviving.add(process.pid)
            if not has_parts:
                self._without_parts.add(process.pid)
            if self._watchdog is None:
                watchdog = threading.Thread(target=self._watch_for_stalls, name="stalls", daemon=True)
                with contextlib.suppress(RuntimeError):  # no further thread: the next process tries it again
                    watchdog.start()
                    self._watchdog = watchdog
        return process

    def _remove(self, pid: int) -> None:
        with self._lock:
            del self._running[pid]
            self._surviving.discard(pid)
            self._without_parts.discard(pid)
            if not self._running:
                self._stop.remove_action(self.terminate_all)
            self._changed.notify_all()

    def _watch_for_stalls(self) -> None:
        """Terminate stalled processes until none is running."""
        shortest, longest = _WATCH_SECONDS
        interval = min(longest, max(shortest, self._stalls.seconds / 10))
        while True:
            with self._lock:
                self._changed.wait_for(lambda: not self._running, interval)
                if not self._running:
                    self._watchdog = None
                    return
                pids = list(self._running)
            for pid in self._stalls.stalled(pids):
                self.terminate(pid, f"moved no bytes for {human_seconds(self._stalls.seconds)}")
