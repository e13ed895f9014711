"""Summarize state logs without the parts that grow with the run: the log of one run, or all others in LOG_DIR."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.errors import StateError, advice_for
from s3sync.state.log_head import LoggedRun as LoggedRun  # part of what other packages use
from s3sync.state.log_head import LogSummary as LogSummary
from s3sync.state.log_head import is_completed, read_logged_run
from s3sync.state.log_paths import LOG_SUFFIX, UPLOADS
from s3sync.state.store import StateStore
from s3sync.text import printable


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The summary of a run's log: `head` is None without a valid log, and `unreadable` says why it cannot be read."""

    log_path: Path
    head: LogSummary | None = None
    corrupt: bool = False
    unreadable: str = ""


def read_status(store: StateStore) -> LogStatus:
    """Return the status of a run's log. Never raises. For a completed run, only the log is read."""
    try:
        found = LogStatus(store.log_path)
    except StateError as error:
        return LogStatus(store.untagged_path, unreadable=str(error))
    try:
        found = replace(found, head=store.head())
    except OSError as error:
        reason = f"cannot read its state log {printable(str(found.log_path))}: {error.strerror}"
        advice = advice_for(error, "repair that, or run this as the owner of the log directory")
        return replace(found, unreadable=f"{reason} ({advice})")
    except (ValueError, RecursionError):
        found = replace(found, corrupt=True)
    if found.head and found.head.completed:
        return found
    try:
        store.require_readable()
    except StateError as error:
        return replace(found, unreadable=str(error))
    return found


def list_other_logs(log_dir: Path, known: Collection[Path]) -> list[LoggedRun]:
    """Return all logs except the known ones: of runs that are gone from the disk, or of unmonitored folders.

    Files that are not logs are left out. A folder that cannot be read has no logs.
    """
    found = []
    for path in _list_paths(log_dir, known):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found.append(read_logged_run(path))
    return found


def list_other_unfinished(log_dir: Path, known: Collection[Path]) -> list[tuple[Path, LoggedRun]]:
    """Return the logs, except the known ones, of uploads that were started and not completed."""
    found = []
    for path in _list_paths(log_dir, known):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if not is_completed(path) and not (logged := read_logged_run(path)).head.completed:
                found.append((path, logged))
    return found


def list_other_unreadable(log_dir: Path, known: Collection[Path]) -> list[tuple[Path, str]]:
    """Return the logs, except the known ones, that cannot be read, with the reason.

    If the run is gone, nothing else would report them.
    """
    found = []
    try:
        paths = _list_paths(log_dir, known, ignore_errors=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return [(log_dir / UPLOADS, error.strerror or "")]
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append((path, error.strerror or ""))
    return found


def _list_paths(log_dir: Path, known: Collection[Path], *, ignore_errors: bool = True) -> list[Path]:
    folder, known_names = log_dir / UPLOADS, {path.name for path in known}
    with contextlib.suppress(*([OSError] if ignore_errors else [])):
        names = sorted(os.listdir(folder))
        return [folder / name for name in names if name.endswith(LOG_SUFFIX) and name not in known_names]
    return []
