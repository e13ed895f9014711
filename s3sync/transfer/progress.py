"""Count the progress of an upload or a comparison, and describe it in a line."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from s3sync.text import human_bytes, human_seconds
from s3sync.transfer.batches import BYTE_COST, FILE_COST

_RATE_WINDOW_SECONDS = 20.0  # over which the rate is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The progress of an upload or a comparison. Sizes are in bytes; `activity` is a verb, such as `uploading`.

    `processes` is the number of processes that move the bytes; None if this program reads them itself.
    """

    activity: str
    files: int
    files_total: int
    size: int
    size_total: int
    processes: int | None

    @property
    def fraction(self) -> float:
        """Return the part of the work that is done, from 0 to 1, weighing files and bytes by their cost."""
        total = self.files_total * FILE_COST + self.size_total * BYTE_COST
        done = self.files * FILE_COST + self.size * BYTE_COST
        return min(1.0, done / total) if total else 0.0


class ProgressRate:
    """Computes the rate and the time left from the snapshots."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, size: int) -> float:
        """Return bytes a second over the last seconds."""
        now = self._clock()
        self._seen.append((now, size))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return max(0.0, (size - before) / (now - then)) if now > then else 0.0

    def seconds_left(self, fraction: float) -> float | None:
        """Return the estimated seconds left; None at the beginning."""
        elapsed = self._clock() - self._start
        return elapsed * (1 - fraction) / fraction if fraction > 0.005 and elapsed > 1 else None

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._start


def counts(snapshot: Snapshot) -> str:
    """Return files and bytes in one line."""
    percent = math.floor(100 * snapshot.fraction)  # 100 only at the end
    return (
        f"{snapshot.activity} {percent}%: {snapshot.files:,} of {snapshot.files_total:,} files, "
        f"{human_bytes(snapshot.size)} of {human_bytes(snapshot.size_total)}"
    )


def speed(snapshot: Snapshot, rate: ProgressRate) -> str:
    """Return rate, time left and processes in one line."""
    number = snapshot.processes
    is_ending = number == 0 or snapshot.size == snapshot.size_total  # the rest has no bytes
    left = None if is_ending else rate.seconds_left(snapshot.fraction)
    rest = f", {human_seconds(left)} left" if left is not None else ""
    processes = "" if number is None else f", {number} aws process{'' if number == 1 else 'es'}"
    return f"{human_bytes(rate.rate(snapshot.size))}/s{rest}{processes}"


class Watcher:
    """Shows a snapshot at regular intervals, in its own thread, until it is closed."""

    def __init__(self, seconds: float, show: Callable[[Snapshot], None]) -> None:
        self._seconds = seconds
        self._show = show
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, snapshot: Callable[[], Snapshot]) -> None:
        """Start the thread. Call this once."""
        self._thread = threading.Thread(target=self._watch, args=(snapshot,), name="progress", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Stop the thread; return whether it was started."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        return self._thread is not None

    def _watch(self, snapshot: Callable[[], Snapshot]) -> None:
        while not self._ended.wait(self._seconds):
            self._show(snapshot())
