"""Where log lines go: the main log, rotated between ticks, and what has to be seen, on stderr."""

from __future__ import annotations

import logging
import sys
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from s3sync.errors import StateError
from s3sync.files import make_private_folder
from s3sync.text import printable

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # takes no types before Python 3.11

MAIN_LOG = "s3_upload.log"
_KEPT = 5
_FORMAT = "%(asctime)s %(levelname)s [%(process)d] %(message)s"


class _OneLine(logging.Formatter):
    """A line for each message, and no escape sequence in it or in a traceback, whatever went into them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """The whole line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the standard library's name
        """A traceback: of several lines, as it is read by people."""
        return "\n".join(map(printable, super().formatException(ei).splitlines()))


class _BetweenTicks(TimedRotatingFileHandler):
    """Rotates at midnight, but never in the middle of a tick: only before its first line."""

    _begun = False

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802 - the standard library's name
        """Whether this line begins a new file."""
        first, self._begun = not self._begun, True
        return super().shouldRollover(record) if first else 0


class _Stderr(_StreamHandler):
    """To whatever stderr is at the moment: a live display takes its place while it is shown."""

    @property
    def stream(self) -> TextIO:
        """Looked up at every line."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """Not kept."""


class LogStream:
    """What is printed to it becomes log lines: the display of a tick without a terminal."""

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
        main = _BetweenTicks(path, when="midnight", backupCount=_KEPT, encoding="utf-8", errors="backslashreplace")
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
