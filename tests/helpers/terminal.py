"""Run a command on a terminal."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios


def on_terminal(argv: list[str], env: dict[str, str], *, both: bool = False) -> list[str]:
    """What a command prints on a terminal of 80 columns, without the escapes; `both`: stderr is one, too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        argv, env={**env, "TERM": "xterm"}, stdout=theirs, stderr=theirs if both else None
    ) as process:
        os.close(theirs)
        out = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 65536):
                out += piece
        assert process.wait() == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.decode()).splitlines()


CONTROL = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-_])")


COLUMNS = 80


class Terminal:
    """A pseudo-terminal of 80 columns, and what was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, COLUMNS)) if hasattr(termios, "tcsetwinsize") else self._set_size()
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end within a character

    def _set_size(self) -> None:  # Python 3.10
        subprocess.run(("stty", "rows", "24", "columns", str(COLUMNS)), stdin=self.slave, check=True)

    def read_until(self, pattern: str) -> None:
        """Read until the whole text has it; a display draws a few times a second."""
        for _ in range(500):
            if re.search(pattern, self.text):
                return
            assert select.select([self._master], [], [], 120)[0], f"no {pattern} in {self.text!r}"
            self.text += self._decode(os.read(self._master, 65536))
        raise AssertionError(f"no {pattern} in {self.text!r}")

    def wait(self, process: subprocess.Popen[str]) -> str:
        """Read until the process has ended, and give its stdout."""
        for _ in range(2000):
            if select.select([self._master], [], [], 0.05)[0]:
                self.text += self._decode(os.read(self._master, 65536))
            elif process.poll() is not None:
                return process.communicate()[0]
        raise AssertionError(f"it does not end: {self.text!r}")

    def close(self) -> None:
        os.close(self._master)
        os.close(self.slave)

    def screen(self) -> list[str]:
        """Return the final screen of an 80-column terminal that knows `\\r`, cursor up, and erase line."""
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[0-9;?]*[@-~]|\n|\r|[^\x1b\n\r]+", self.text):
            if part == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif part == "\r":
                column = 0
            elif part.startswith("\x1b["):
                count = int(part[2:-1]) if part[2:-1].isdigit() else 1
                row -= count if part[-1] == "A" else 0
                rows[row] = "" if part == "\x1b[2K" else rows[row]
            else:
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                column += len(part)
        return [line.rstrip() for line in rows]

    def drawn(self) -> list[str]:
        """Every line that was ever drawn, without its colours."""
        return [CONTROL.sub("", line) for line in re.split(r"[\r\n]+", self.text)]
