"""Show the progress while bytes move: live on a terminal, or a line a minute elsewhere.

Displays ask for a snapshot when they need one; nothing that moves bytes waits for a display.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from s3sync.text import human_bytes, human_seconds, pluralize, printable
from s3sync.transfer.progress import ProgressRate, Snapshot, Watcher, counts, speed

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

    from s3sync.transfer.live_board import LiveBoard

LINE_SECONDS = 60.0


class LineStream(Protocol):
    """Accepts printed lines: a text stream, or an object that logs them."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> None: ...


class Display(Protocol):
    """Shows an upload. `follow` gives it the progress to show; `print` prints a line above it or between its lines."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, *error: object) -> None: ...

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

    def __exit__(self, kind: object, *_error: object) -> None:
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


def name_line(name: str, line: str) -> str:
    """Return a line with the name of its upload, after `warning: ` if it starts with that."""
    if name in line:
        return line
    kind = "warning: " if line.startswith("warning: ") else ""
    return f"{kind}{name}: {line.removeprefix(kind)}"


def for_stream(stream: TextIO) -> Display:
    """Return the display for a stream."""
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")  # cannot redraw
    return live_board(stream).display() if stream.isatty() and not is_dumb else Lines(stream)


def live_board(stream: TextIO) -> LiveBoard:
    """Return the part of this terminal that shows the running uploads."""
    from s3sync.transfer.live_board import LiveBoard  # it takes a tenth of a start, and cron has no terminal

    return LiveBoard(stream)
