"""Write log lines to the main log, which is rotated between scans, and warnings to stderr too."""

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

from s3sync.errors import Notice, explained
from s3sync.files import make_private_folder, open_private
from s3sync.text import printable

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # takes no types before Python 3.11

MAIN_LOG = "s3_upload.log"
_KEPT_LOGS = 5
_DAY_OF_LINE = re.compile(rb"(\d{4}-\d\d-\d\d) ")  # as _FORMAT does
_ROTATED = re.compile(rf"{re.escape(MAIN_LOG)}\.\d{{4}}-\d\d-\d\d(\.\d+)?")
_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


class _OneLine(logging.Formatter):
    """Format each message as one line, without escape sequences in it or in a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """Return the whole line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """Return a traceback, which has several lines because people read it."""
        return "\n".join(map(printable, super().formatException(ei).splitlines()))


class _MainLog(WatchedFileHandler):
    """The main log: a private file, which another scan may rotate."""

    _has_reported = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - the standard library's name
        """Report once that lines are lost, and why, instead of a traceback for each of them."""
        error = sys.exc_info()[1]
        if not self._has_reported:
            self._has_reported = True
            reason = error.strerror if isinstance(error, OSError) else error
            text = f"cannot write {self.baseFilename}: {reason} (lines of this scan are missing there)"
            line = Notice(printable(text), id="state.main-log-unwritable")
            with contextlib.suppress(OSError):
                os.write(2, f"s3sync: {line}\n".encode("utf-8", "backslashreplace"))

    def _open(self) -> TextIOWrapper:
        descriptor = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        return os.fdopen(descriptor, "a", encoding=self.encoding, errors=self.errors)


class _Stderr(_StreamHandler):
    """A handler for the present stderr: a live display replaces it while it is shown."""

    @property
    def stream(self) -> TextIO:
        """Return the present stderr."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """Ignore the stream, because it is looked up for every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Do nothing: stderr has no reader, and the main log has the line."""


class LogStream:
    """A text stream that turns printed lines into log lines, for the display of a scan without a terminal."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def write(self, text: str) -> int:
        """Log a line; ignore a line break."""
        if line := text.rstrip("\n"):
            level = logging.WARNING if line.startswith("warning: ") else logging.INFO
            self._logger.log(level, "%s", line.removeprefix("warning: "))
        return len(text)

    def flush(self) -> None:
        """Do nothing: the handlers flush each line."""


def configure(log_dir: Path, level: str) -> None:
    """Write messages of `level` and above to the main log, and warnings also to stderr. Raises StateError."""
    path = log_dir / MAIN_LOG
    with _explain_open(path):
        make_private_folder(log_dir)
        main = _MainLog(path, encoding="utf-8", errors="backslashreplace")
        path.chmod(0o600)
    main.setFormatter(_OneLine(_FORMAT))
    seen = _Stderr()
    seen.setLevel(logging.WARNING)
    seen.setFormatter(_OneLine("s3sync: %(message)s"))
    logging.basicConfig(level=level, handlers=[main, seen], force=True)


def require_writable(log_dir: Path) -> None:
    """Raise the StateError that `configure` would raise for a main log that exists. Changes nothing."""
    path = log_dir / MAIN_LOG
    with _explain_open(path), contextlib.suppress(FileNotFoundError):
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC))


def main_log() -> logging.FileHandler | None:
    """Return the handler of the main log; None if this command has none."""
    return next((handler for handler in logging.getLogger().handlers if isinstance(handler, _MainLog)), None)


def rotate(log_dir: Path) -> None:
    """Start a new main log if the present one was started before today; keep five old ones.

    Call this only in the scan that holds the monitor's lock. If another process rotated the log, a long scan would
    continue to write under the name of a past day. If the log cannot be renamed, it stays in use.
    """
    path = log_dir / MAIN_LOG
    with contextlib.suppress(OSError):
        began = _first_day(path)
        if began >= f"{datetime.now():%Y-%m-%d}":  # noqa: DTZ005 - local, as in the log's lines
            return
        old_names = [name for name in sorted(os.listdir(log_dir)) if _ROTATED.fullmatch(name)]
        again = sum(name.startswith(f"{MAIN_LOG}.{began}") for name in old_names)  # if the clock was set back
        path.rename(path.with_name(f"{MAIN_LOG}.{began}{f'.{again}' if again else ''}"))
        for name in old_names[: 1 - _KEPT_LOGS]:
            (log_dir / name).unlink()


def _explain_open(path: Path) -> contextlib.AbstractContextManager[None]:
    return explained("write", path, "change log_dir in the config", id="state.main-log-unwritable")


def _first_day(path: Path) -> str:
    """Return the day of a log's first line, or of its last change if that line has none. Raises OSError."""
    with path.open("rb") as stream:
        if match := _DAY_OF_LINE.match(stream.readline(100)):
            return match[1].decode()
        return f"{datetime.fromtimestamp(os.fstat(stream.fileno()).st_mtime):%Y-%m-%d}"  # noqa: DTZ006 - as above
