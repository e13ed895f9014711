"""Where log lines go: the main log, rotated between scans, and what has to be seen, on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from datetime import datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from s3sync.errors import StateError
from s3sync.files import make_private_folder, open_private
from s3sync.text import printable

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # takes no types before Python 3.11

MAIN_LOG = "s3_upload.log"
_KEPT = 5
_BEGINS = re.compile(rb"(\d{4}-\d\d-\d\d) ")  # as _FORMAT does
_ROTATED = re.compile(rf"{re.escape(MAIN_LOG)}\.\d{{4}}-\d\d-\d\d(\.\d+)?")
_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


class _OneLine(logging.Formatter):
    """A line for each message, and no escape sequence in it or in a traceback, whatever went into them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """The whole line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """A traceback: of several lines, as it is read by people."""
        return "\n".join(map(printable, super().formatException(ei).splitlines()))


class _MainLog(WatchedFileHandler):
    """The main log, which another scan may rotate: a private file from the start."""

    _said = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - the standard library's name
        """Say once that lines are lost, and why, instead of a traceback for each."""
        why = sys.exc_info()[1]
        if not self._said:
            self._said = True
            reason = why.strerror if isinstance(why, OSError) else why
            line = f"s3sync: cannot write {self.baseFilename}: {reason} (lines of this scan are missing there)"
            with contextlib.suppress(OSError):
                os.write(2, f"{printable(line)}\n".encode("utf-8", "backslashreplace"))

    def _open(self) -> TextIOWrapper:
        descriptor = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)


class _Stderr(_StreamHandler):
    """To whatever stderr is at the moment: a live display takes its place while it is shown."""

    @property
    def stream(self) -> TextIO:
        """Looked up at every line."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """Not kept."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Nobody reads any more; the main log has the line."""


class LogStream:
    """What is printed to it becomes log lines: the display of a scan without a terminal."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def write(self, text: str) -> int:
        """A line, or a line break."""
        if line := text.rstrip("\n"):
            level = logging.WARNING if line.startswith("warning: ") else logging.INFO
            self._logger.log(level, "%s", line.removeprefix("warning: "))
        return len(text)

    def flush(self) -> None:
        """Handlers flush each line themselves."""


def set_up(log_dir: Path, level: str) -> None:
    """Log to the main log from `level` on, and warnings to stderr; raises StateError."""
    path = log_dir / MAIN_LOG
    try:
        make_private_folder(log_dir)
        main = _MainLog(path, encoding="utf-8", errors="backslashreplace")
        path.chmod(0o600)
    except OSError as error:
        raise StateError(
            f"cannot write {printable(str(path))}: {error.strerror} (mend log_dir in the config)"
        ) from error
    main.setFormatter(_OneLine(_FORMAT))
    seen = _Stderr()
    seen.setLevel(logging.WARNING)
    seen.setFormatter(_OneLine("s3sync: %(message)s"))
    logging.basicConfig(level=level, handlers=[main, seen], force=True)


def main_log() -> logging.FileHandler | None:
    """Return the handler of the main log; None if this command has none."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, _MainLog)), None)


def rotate(log_dir: Path, today: str = "") -> None:
    """Begin a new main log if the present one was begun on an earlier day (`today`: YYYY-MM-DD); keep five old ones.

    Only for the scan that holds the monitor's lock: rotated by another process, the log of a long scan would go on
    under the name of a day that is over. What cannot be renamed is written on.
    """
    path = log_dir / MAIN_LOG
    with contextlib.suppress(OSError):
        began = _first_day(path)
        if began >= (today or f"{datetime.now():%Y-%m-%d}"):  # noqa: DTZ005 - local, as in the log's lines
            return
        old = [name for name in sorted(os.listdir(log_dir)) if _ROTATED.fullmatch(name)]
        again = sum(name.startswith(f"{MAIN_LOG}.{began}") for name in old)  # by a clock that was set back
        path.rename(path.with_name(f"{MAIN_LOG}.{began}{f'.{again}' if again else ''}"))
        for name in old[: 1 - _KEPT]:
            (log_dir / name).unlink()


def _first_day(path: Path) -> str:
    """Return the day of a log's first line, or that of its last change if its lines have none; raises OSError."""
    with path.open("rb") as stream:
        if match := _BEGINS.match(stream.readline(100)):
            return match[1].decode()
        return f"{datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime):%Y-%m-%d}"  # noqa: DTZ006 - as above
