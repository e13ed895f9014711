"""Remember in one file what each recipient was notified of, and which notes and alerts the main log has."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from s3sync import files
from s3sync.errors import BusyError, Notice, StateError
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.text import printable

LOG = logging.getLogger(__name__)
VERSION = 1
WAIT_SECONDS = 60.0  # for another process that is sending

# Who reports what: a scan its problems; scans and those that find one running, alerts; and these, what is wrong with
# the scan itself. A problem that is missing is resolved only for its own topic.
Topic: TypeAlias = Literal["scan", "alerts", "scan itself"]

_OLD_SENT: dict[Topic, str] = {  # files of version 0.1.0 and before
    "scan": "notified.json",
    "alerts": "notified.alerts.json",
    "scan itself": "notified.busy.json",
}
_OLD_LOGGED: dict[Topic, str] = {"scan": "noted.json", "alerts": "noted.alerts.json"}
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Sent:
    """A problem that a recipient was notified of; `at` is in seconds since the epoch."""

    text: str
    kind: str
    at: float


SentByKey: TypeAlias = dict[str, Sent]  # the problems that still existed when they were last reported


@dataclass(slots=True)
class Memory:
    """What was sent, by topic, recipient and key; and the keys of what was logged, by topic."""

    sent: dict[str, dict[str, SentByKey]] = field(default_factory=dict)
    logged: dict[str, set[str]] = field(default_factory=dict)


def path_of(log_dir: Path) -> Path:
    """Return the path of the file."""
    return log_dir / "notifications.json"


def lock_path(log_dir: Path) -> Path:
    """Return the lock that is held while the file is read, messages are sent, and the file is written."""
    return log_dir / "locks" / "notifications.lock"


def peek(log_dir: Path) -> Memory | None:
    """Return what is remembered, without a lock; None if the file cannot be read."""
    try:
        return _load(log_dir)
    except _UnreadableError:
        return None


@contextlib.contextmanager
def opened(log_dir: Path, *, is_patient: bool = True) -> Iterator[Memory]:
    """Yield what is remembered, and save what was changed, while no other process does the same.

    Without patience, raises BusyError if another process does, StateError if the lock cannot be used. With patience,
    waits for a minute and continues without the lock: better notified twice than not at all. A file that cannot be read
    counts as empty; what goes wrong is logged.
    """
    with contextlib.ExitStack() as held:
        _lock(held, log_dir, is_patient)
        memory, before = Memory(), b""
        try:
            memory = _load(log_dir)
            before = b"" if _old_files(log_dir) else _dump(memory)  # what was taken over is saved
        except _UnreadableError as error:
            LOG.warning("%s", Notice(f"{error} (some problems may be reported again)", id="notify.memory-unreadable"))
        yield memory
        if (content := _dump(memory)) != before:
            _save(log_dir, content)


def _lock(held: contextlib.ExitStack, log_dir: Path, is_patient: bool) -> None:
    path, busy = lock_path(log_dir), "another process is sending notifications"
    if not is_patient:
        held.enter_context(lock.hold(path, busy, wait_for_dead_holder=False))
        return
    if not log_dir.is_dir():  # a lock would make it
        return
    deadline = time.monotonic() + WAIT_SECONDS
    with contextlib.suppress(BusyError, StateError):
        held.enter_context(lock.wait_for(path, busy, StopRequest(), lambda: time.monotonic() >= deadline))


class _UnreadableError(Exception):
    """The message says which file, and why."""


def _load(log_dir: Path) -> Memory:
    """Return what is remembered; raises _UnreadableError."""
    memory = _read(path_of(log_dir), _parse)
    return memory if memory is not None else _take_over(log_dir)


def _take_over(log_dir: Path) -> Memory:
    """Return what the files of earlier versions have; one that cannot be read does not spoil the others."""
    memory = Memory()
    for topic, name in _OLD_SENT.items():
        with contextlib.suppress(_UnreadableError):
            memory.sent[topic] = _read(log_dir / name, lambda facts: _sent(facts["recipients"], "told")) or {}
    for topic, name in _OLD_LOGGED.items():
        with contextlib.suppress(_UnreadableError):
            memory.logged[topic] = _read(log_dir / name, lambda facts: set(map(str, facts))) or set()
    return memory


def _old_files(log_dir: Path) -> list[Path]:
    paths = [log_dir / name for name in (*_OLD_SENT.values(), *_OLD_LOGGED.values())]
    return [path for path in paths if path.is_file()]


def _read(path: Path, parse: Callable[[Any], _Value]) -> _Value | None:
    """Return what a file has, None if it is missing; raises _UnreadableError."""
    try:
        return parse(files.read_json(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        reason = "it is corrupt"
    raise _UnreadableError(f"cannot read {printable(str(path))}: {reason}")


def _save(log_dir: Path, content: bytes) -> None:
    path = path_of(log_dir)
    try:
        files.atomic_write(path, content)
        for old in _old_files(log_dir):
            old.unlink()
    except OSError as error:
        text = f"cannot write {printable(str(path))}: {error.strerror} (some problems may be reported again)"
        LOG.warning("%s", Notice(text, id="notify.memory-unwritable"))


def _dump(memory: Memory) -> bytes:
    """Return the content of the file, without what is empty."""
    sent = {
        topic: {role: {key: asdict(each) for key, each in by_key.items()} for role, by_key in roles.items() if by_key}
        for topic, roles in memory.sent.items()
        if any(roles.values())
    }
    logged = {topic: sorted(keys) for topic, keys in memory.logged.items() if keys}
    return (json.dumps({"version": VERSION, "sent": sent, "logged": logged}, indent=1) + "\n").encode()


def _parse(facts: Any) -> Memory:
    """Parse the file; wrong values raise ValueError, LookupError or TypeError."""
    if facts["version"] != VERSION:
        raise ValueError("another version's")
    return Memory(
        {str(topic): _sent(sent, "at") for topic, sent in facts["sent"].items()},
        {str(topic): set(map(str, keys)) for topic, keys in facts["logged"].items()},
    )


def _sent(recipients: Any, at: str) -> dict[str, SentByKey]:
    return {
        str(recipient): {
            printable(key): Sent(printable(str(each["text"])), str(each["kind"]), float(each[at]))
            for key, each in by_key.items()
        }
        for recipient, by_key in recipients.items()
    }
