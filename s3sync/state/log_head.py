"""Read the beginning of a state log, without the parts that grow with the run."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3sync.aws.destination import Destination
from s3sync.state.log_values import destination_of, number_of, shared_values
from s3sync.text import printable

_HEAVY_KEY = re.compile(r',\s*"(failed_upload_files|uploaded_files)":')  # the first whose value grows with the run
_HEAD_BYTES = 16 * 1024
_FIRST_BYTES = 2048  # contain "completed" in our log, unless its path is very long
_COMPLETED = re.compile(rb'\{\n "run_id": "[^\n]*",\n "run_path": "[^\n]*",\n "completed": true,')
_TAIL_BYTES = 16
_FAILURES_BEGIN, _PROOFS_BEGIN = b' "failed_reasons": {\n', b' "uploaded_files": '  # lines of our log
_REQUIRED_IF_COMPLETED = {"run_id": str, "run_path": str, "total_local_files": int}
_LIGHT_KEYS = {"run_id", "completed", "total_local_files", "total_uploaded_files", "total_failed_upload"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """The keys of a log that can be read without the parts that grow with the run. Times are ISO 8601 or empty."""

    completed: bool
    total_files: int
    uploaded_files: int
    failed_files: int
    size: int  # bytes in S3
    attempts: int
    finished: str
    on_complete: str
    instrument_done: str = ""
    sent_bytes: int = 0  # by all calls of the upload
    seconds: float = 0.0  # how long all these calls took
    run_path: str = ""  # the folder that the log belongs to
    folder: tuple[int, ...] = ()  # its numbers, as in RunState
    first_completed: str = ""
    watched: dict[str, tuple[int, int]] | None = None  # None in a log of an older version
    is_from_predecessor: bool = False

    @property
    def was_complete(self) -> bool:
        """Return whether the run was completed once; if so, its instrument has finished it."""
        return self.completed or bool(self.first_completed)

    @classmethod
    def of(cls, log: dict[str, Any]) -> LogSummary:
        """Return the summary of a log from its keys. Raises ValueError if they do not come from a log."""
        if not isinstance(log.get("completed"), bool):
            raise ValueError("completed is missing")  # noqa: TRY004 - a value read from a file, not an argument
        if log["completed"] and not all(isinstance(log.get(key), kind) for key, kind in _REQUIRED_IF_COMPLETED.items()):
            raise ValueError("it does not say which run is completed")
        return cls(
            completed=log["completed"],
            total_files=number_of(log, "total_local_files"),
            uploaded_files=number_of(log, "total_uploaded_files"),
            failed_files=number_of(log, "total_failed_upload"),
            size=number_of(log, "bytes"),
            run_path=str(log.get("run_path", "")),
            **shared_values(log),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """A log with its run and destination, which is None in a log of the predecessor."""

    run_id: str
    run_path: str
    destination: Destination | None
    head: LogSummary


def read_head(path: Path) -> dict[str, Any]:
    """Return the keys of a log before those that grow with the run, without reading the rest.

    This works for logs of the predecessor too. A log in another layout is read as a whole. Raises OSError, or
    ValueError if the file is not a log.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEAD_BYTES)
        text = start.decode("ascii", "replace")  # one character for each byte, so that indices stay the same
        heavy = _HEAVY_KEY.search(text)
        log = json.loads(start[: heavy.start()] + b"}" if heavy else start + stream.read())
        if heavy and isinstance(log, dict) and not log.keys() >= _LIGHT_KEYS:  # in another order
            log = json.loads(start + stream.read())
    if not isinstance(log, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a value read from a file, not an argument
    return log


def read_logged_run(path: Path) -> LoggedRun:
    """Return the summary of a log with its run and destination. Raises OSError, or ValueError if it is not a log."""
    log = read_head(path)
    run_id, run_path = log.get("run_id"), log.get("run_path")
    if not isinstance(run_id, str) or not isinstance(run_path, str):
        raise ValueError("it does not name its run")  # noqa: TRY004 - a value read from a file, not an argument
    destination = destination_of(log)
    return LoggedRun(run_id=run_id, run_path=run_path, destination=destination, head=LogSummary.of(log))


def is_completed(path: Path) -> bool:
    """Return whether a log of this program is completed. Reads only its first bytes. Raises OSError."""
    with path.open("rb") as stream:
        return _COMPLETED.match(stream.read(_FIRST_BYTES)) is not None


def read_failures(path: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Yield the first failed files, as printable absolute paths, with their reasons. Raises OSError.

    Reads no more than needed, because a log may have hundreds of MB. Yields nothing from a log of the predecessor.
    """
    with path.open("rb") as stream:
        before = itertools.takewhile(lambda line: not line.startswith(_PROOFS_BEGIN), stream)
        if not any(line == _FAILURES_BEGIN for line in before):
            return
        for line in itertools.islice(stream, limit):
            try:
                entry = json.loads(b"{" + line.strip().removesuffix(b",") + b"}")
            except (ValueError, RecursionError):
                return  # the brace after the last entry
            yield from ((printable(name), printable(str(reason))) for name, reason in entry.items())


def is_truncated(path: Path) -> bool:
    """Return whether a log has lost its end, or has zeros there. Raises OSError."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL_BYTES))
        _, line_end, last = stream.read().rstrip().rpartition(b"\n")
    return last != b"}" if line_end else not last.endswith(b"}")  # the brace of an inner value is indented


def destination_of_log(log_path: Path) -> Destination | None:
    """Return the destination of a log; None if it is missing, unreadable, or from the predecessor."""
    try:
        return destination_of(read_head(log_path))
    except (OSError, ValueError, RecursionError):
        return None
