"""What is remembered of a run and destination, in short, or why it cannot be read: neither corrupt nor absent."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from s3sync.errors import StateError
from s3sync.state.log_format import Head
from s3sync.state.store import StateStore
from s3sync.text import printable


class Remembered(NamedTuple):
    """`head` is the log in short, None if there is none or it is corrupt; `unreadable` says why it cannot be read."""

    log_path: Path
    head: Head | None = None
    corrupt: bool = False
    unreadable: str = ""


def look(store: StateStore) -> Remembered:
    """Of a run that is completed only the log is looked at. Never raises."""
    try:
        found = Remembered(store.log_path)
    except StateError as error:
        return Remembered(store.usual_path, unreadable=str(error))
    try:
        found = found._replace(head=store.head())
    except OSError as error:
        why = f"cannot read its state log {printable(str(found.log_path))}: {error.strerror}"
        return found._replace(unreadable=f"{why} (repair that, or run this as the owner of the log directory)")
    except (ValueError, RecursionError):
        found = found._replace(corrupt=True)
    if found.head and found.head.completed:
        return found
    try:
        store.require_readable()
    except StateError as error:
        return found._replace(unreadable=str(error))
    return found
