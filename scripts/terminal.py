"""Run a command on a pseudo-terminal, and return the lines that stay on the screen."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS, ROWS = 80, 40
_CHUNK = 65536
_TOKEN = re.compile(r"\x1b\[(?P<numbers>[?\d;]*)(?P<letter>[A-Za-z])|\x1b[=>]|(?P<char>.)", re.DOTALL)


class Cell(NamedTuple):
    """A character, and the numbers of the SGR sequence that it is drawn with."""

    char: str
    style: str = ""


class Screen:
    """Understands what `rich` draws with: line breaks, the cursor up, lines erased, styles. Lines are never broken."""

    def __init__(self) -> None:
        self._rows: list[list[Cell]] = [[]]
        self._row = self._column = 0
        self._style = ""
        self._rest = ""  # of an escape sequence that is not whole yet

    def feed(self, text: str) -> None:
        """Draw; sequences may be cut anywhere."""
        text = self._rest + text
        cut = re.search(r"\x1b(\[[?\d;]*)?$", text)
        self._rest = cut[0] if cut else ""
        for token in _TOKEN.finditer(text.removesuffix(self._rest) if self._rest else text):
            if token["char"]:
                self._put(token["char"])
            elif token["letter"]:
                self._control(token["letter"], token["numbers"])

    def lines(self) -> list[str]:
        """Return the lines as text, without trailing blanks."""
        return ["".join(cell.char for cell in row).rstrip() for row in self._rows]

    def styled(self) -> list[str]:
        """Return the lines as text with SGR sequences."""
        return ["".join(_spans(row)) + "\x1b[0m" for row in self._rows]

    def _put(self, char: str) -> None:
        if char == "\n":
            self._row += 1
            self._rows += [[]] if self._row == len(self._rows) else []
        elif char == "\r":
            self._column = 0
        elif char >= " ":
            row = self._rows[self._row]
            row += [Cell(" ")] * (self._column + 1 - len(row))
            row[self._column] = Cell(char, self._style)
            self._column += 1

    def _control(self, letter: str, numbers: str) -> None:
        if letter == "A":
            self._row = max(0, self._row - int(numbers or 1))
        elif letter == "K":
            self._rows[self._row] = [] if numbers == "2" else self._rows[self._row][: self._column]
        elif letter == "m":
            self._style = "" if numbers in ("", "0") else ";".join(filter(None, (self._style, numbers)))


def _spans(row: Sequence[Cell]) -> Iterator[str]:
    for style, cells in itertools.groupby(row, key=lambda cell: cell.style):
        yield f"\x1b[0;{style}m" + "".join(cell.char for cell in cells)


def run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    show: Callable[[Screen], None] = lambda _: None,
) -> tuple[int, Screen]:
    """Run it to its end: its exit code, and the final screen; `show` sees every state on the way."""
    ours, its = pty.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environ = {**environ, "TERM": "xterm-256color"}
        process = subprocess.Popen(argv, env=environ, cwd=folder, stdin=its, stdout=its, stderr=its)
    finally:
        os.close(its)
    screen = Screen()
    try:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, _CHUNK):
                screen.feed(chunk.decode("utf-8", "replace"))
                show(screen)
    finally:
        os.close(ours)
    return process.wait(), screen
