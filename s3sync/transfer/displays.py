"""Show the progress while bytes move: live on a terminal, or a line a minute elsewhere.

Displays ask for a snapshot when they need one; nothing that moves bytes waits for a display.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s3sync.text import human_bytes, human_seconds, pluralize, printable
from s3sync.transfer.progress import ProgressRate, Snapshot, Watcher, counts, speed

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

LINE_SECONDS = 60.0


class LineStream(Protocol):
    """Accepts printed lines: a text stream, or an object that logs them."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


class Display(Protocol):
    """Shows an upload. `follow` gives it the progress to show; `print` prints a line above it or between its lines."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None: ...

    def print(self, line: str) -> None: ...


class Lines:
    """A display for logs and cron: a line at the start, one a minute, one at the end."""

    def __init__(self, stream: LineStream, seconds: float = LINE_SECONDS, name: str = "") -> None:
        """Begin each line with `name`, unless it has that: other uploads may print to the stream as well."""
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
            self.print(f"{'ended' if kind else 'done'} after {human_seconds(self._rate.elapsed())}")

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None:
        """Start to show the progress. Call this once."""
        first = snapshot()
        self.print(f"{title}: {pluralize(first.files_total, 'file')}, {human_bytes(first.size_total)}")
        self._rate = ProgressRate()
        self._rate.rate(first.size)
        self._watcher.begin(snapshot)

    def print(self, line: str) -> None:
        """Print a line at once."""
        print(name_line(self._name, printable(line)), file=self._stream, flush=True)

    def _show(self, now: Snapshot) -> None:
        self.print(f"{counts(now)}, {speed(now, self._rate)}")


class LiveBoard:
    """A part of the terminal that shows the running uploads: four lines for each, redrawn, and removed at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._changing = threading.Lock()
        self._shown: list[BoardDisplay] = []
        self._live: Live | None = None

    def display(self, name: str = "") -> BoardDisplay:
        """Return the display of one upload. A `name` begins each of its lines: there may be other uploads."""
        return BoardDisplay(self, name)

    def add(self, display: BoardDisplay) -> None:
        """Show an upload."""
        with self._changing:
            self._shown = [*self._shown, display]
            if self._live is None:
                self._live = Live(
                    get_renderable=self._render, console=self._console, transient=True, refresh_per_second=4
                )
                self._live.start()

    def drop(self, display: BoardDisplay) -> None:
        """Stop showing an upload."""
        with self._changing:
            self._shown = [other for other in self._shown if other is not display]
            if not self._shown and self._live:
                self._live.stop()
                self._live = None

    def print(self, line: str) -> None:
        """Print a line above all uploads."""
        self._console.print(Text(line))

    def _render(self) -> RenderableType:
        return Group(*(display.render(self._console.width) for display in self._shown))


class BoardDisplay:
    """The lines of one upload on a board."""

    def __init__(self, board: LiveBoard, name: str) -> None:
        self._board = board
        self._name = name
        self._title = name
        self._snapshot: Callable[[], Snapshot] | None = None
        self._rate = ProgressRate()

    def __enter__(self) -> Self:
        self._board.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.drop(self)

    def follow(self, title: str, snapshot: Callable[[], Snapshot]) -> None:
        """Start to show the progress. Call this once."""
        self._rate = ProgressRate()
        self._title, self._snapshot = title, snapshot

    def print(self, line: str) -> None:
        """Print a line above the board."""
        self._board.print(name_line(self._name, printable(line)))

    def render(self, width: int) -> RenderableType:
        """Return the current lines about this upload."""
        return render_progress(self._title, self._snapshot, self._rate, width)


def render_progress(
    title: str, snapshot: Callable[[], Snapshot] | None, rate: ProgressRate, width: int
) -> RenderableType:
    """Return the lines about an upload for a terminal of this width. There is no snapshot before bytes move."""
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
    """Return a line with the name of its upload, after `warning: ` if it starts with that."""
    if name in line:
        return line
    kind = "warning: " if line.startswith("warning: ") else ""
    return f"{kind}{name}: {line.removeprefix(kind)}"


def for_stream(stream: TextIO) -> Display:
    """Return the display for a stream."""
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")  # cannot redraw
    return LiveBoard(stream).display() if stream.isatty() and not is_dumb else Lines(stream)
