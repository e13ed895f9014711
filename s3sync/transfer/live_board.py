"""Show running uploads in a part of the terminal, which is redrawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s3sync.text import printable
from s3sync.transfer.displays import name_line
from s3sync.transfer.progress import ProgressRate, Snapshot, counts, speed

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on


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

    def __exit__(self, *_error: object) -> None:
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
