"""Show the progress while bytes move: a live display on a terminal, a line a minute elsewhere.

Displays ask for a snapshot when they need one; nothing that moves bytes waits for a display.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s3sync.text import human_bytes, human_seconds, printable
from s3sync.transfer.batches import BYTE_COST, FILE_COST

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

LINE_SECONDS = 60.0
_RATE_WINDOW_SECONDS = 20.0  # over which the rate is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The progress of an upload or a comparison. Sizes are in bytes; `activity` is what is being done now.

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
        """Return the part of the work that is done, by the cost of files and bytes, from 0 to 1."""
        total = self.files_total * FILE_COST + self.size_total * BYTE_COST
        done = self.files * FILE_COST + self.size * BYTE_COST
        return min(1.0, done / total) if total else 0.0


class LineStream(Protocol):
    """Takes printed lines: a text stream, or something that makes log lines of them."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


class Display(Protocol):
    """Shows an upload. `follow` gives it the progress to show; `say` prints a line above or between."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None: ...

    def say(self, line: str) -> None: ...


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
        """Return an estimate of the seconds left; None at the beginning."""
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
    """Passes a snapshot on at regular intervals, in its own thread, until it is closed."""

    def __init__(self, seconds: float, show: Callable[[Snapshot], None]) -> None:
        self._seconds = seconds
        self._show = show
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, snapshot: Callable[[], Snapshot]) -> None:
        """Start; to be called once."""
        self._thread = threading.Thread(target=self._watch, args=(snapshot,), name="progress", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Stop; return whether it was started."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        return self._thread is not None

    def _watch(self, snapshot: Callable[[], Snapshot]) -> None:
        while not self._ended.wait(self._seconds):
            self._show(snapshot())


class Lines:
    """A display for logs and cron: a line at the start, one a minute, one at the end."""

    def __init__(self, stream: LineStream, seconds: float = LINE_SECONDS, name: str = "") -> None:
        """Begin each line with `name`, unless it is there: other uploads may print to the stream, too."""
        self._name = name
        self._stream = stream
        self._rate = ProgressRate()
        self._watcher = Watcher(seconds, self._show)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher.close():
            self.say(f"{'ended' if kind else 'done'} after {human_seconds(self._rate.elapsed())}")

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None:
        """Start to show the progress; to be called once."""
        first = snapshot()
        self.say(f"{title}: {first.files_total:,} files, {human_bytes(first.size_total)}")
        self._rate = ProgressRate()
        self._rate.rate(first.size)
        self._watcher.begin(snapshot)

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(name_line(self._name, printable(line)), file=self._stream, flush=True)

    def _show(self, now: Snapshot) -> None:
        self.say(f"{counts(now)}, {speed(now, self._rate)}")


class LiveDisplay:
    """A display for terminals: four lines that are redrawn, and removed at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._title = ""
        self._snapshot: Callable[[], Snapshot] | None = None
        self._rate = ProgressRate()
        self._live = Live(  # draws at once, so it comes last
            get_renderable=self._render, console=self._console, transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None:
        """Start to show the progress; to be called once."""
        self._rate = ProgressRate()
        self._title, self._snapshot = title, snapshot

    def say(self, line: str) -> None:
        """Print a line above the display."""
        self._console.print(Text(printable(line)))

    def _render(self) -> RenderableType:
        return render_progress(self._title, self._snapshot, self._rate, self._console.width)


def render_progress(
    title: str, snapshot: Callable[[], Snapshot] | None, rate: ProgressRate, width: int
) -> RenderableType:
    """Return what a terminal of this width shows of an upload; there is no snapshot before bytes move."""
    if snapshot is None:
        return Text(f"{title}{': ' if title else ''}reading the run folder and S3 ...")
    now = snapshot()
    rows = Table.grid()
    rows.add_row(Text(title, overflow="ellipsis", no_wrap=True))
    rows.add_row(ProgressBar(total=1.0, completed=now.fraction, width=max(10, width - 1)))
    for line in (counts(now), speed(now, rate)):
        rows.add_row(Text(line, overflow="ellipsis", no_wrap=True))
    return rows


def name_line(name: str, line: str) -> str:
    """Return a line that names the upload that it is about, behind the word that makes it a warning."""
    if name in line:
        return line
    kind = "warning: " if line.startswith("warning: ") else ""
    return f"{kind}{name}: {line.removeprefix(kind)}"


def display_for(stream: TextIO) -> Display:
    """Return the display for a stream."""
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")  # cannot redraw
    return LiveDisplay(stream) if stream.isatty() and not is_dumb else Lines(stream)
