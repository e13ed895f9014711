"""Remember in one file which problems each recipient was notified of, and which notes and alerts were logged."""

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
WAIT_SECONDS = 60.0  # how long to wait for another process that is sending

# A scan reports its own problems. Alerts are also reported by a scan that finds another one running, as are problems of
# the running scan itself. If a problem is missing from a report, it is resolved only for the report's topic.
Topic: TypeAlias = Literal["scan", "alerts", "scan itself"]

_OLD_SENT: dict[Topic, str] = {  # files of versions up to 0.1.0
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


SentByKey: TypeAlias = dict[str, Sent]  # the problems that are not known to be resolved


@dataclass(slots=True)
class Memory:
    """The problems that were sent, by topic, recipient and key; and the keys that were logged, by topic."""

    sent: dict[str, dict[str, SentByKey]] = field(default_factory=dict)
    logged: dict[str, set[str]] = field(default_factory=dict)


def path_of(log_dir: Path) -> Path:
    """Return the path of the file."""
    return log_dir / "notifications.json"


def lock_path(log_dir: Path) -> Path:
    """Return the path of the lock, held from reading the file until messages are sent and the file is written."""
    return log_dir / "locks" / "notifications.lock"


def read(log_dir: Path) -> Memory | None:
    """Return the memory, without locking it; None if the file cannot be read."""
    try:
        return _load(log_dir)
    except _UnreadableError:
        return None


@contextlib.contextmanager
def open_for_update(log_dir: Path, *, wait: bool = True) -> Iterator[Memory]:
    """Lock the memory, yield it, and save its changes.

    If another process has the lock, waits for a minute and then continues without it: two notifications are better than
    none. Without `wait`, raises BusyError instead, or StateError if the lock cannot be used. A file that cannot be read
    counts as empty. Errors of the file are logged.
    """
    with contextlib.ExitStack() as held:
        _lock(held, log_dir, wait=wait)
        memory, before = Memory(), b""
        try:
            memory = _load(log_dir)
            before = b"" if _old_files(log_dir) else _dump(memory)  # the content of old files is always saved
        except _UnreadableError as error:
            LOG.warning("%s", Notice(f"{error} (some problems may be reported again)", id="notify.memory-unreadable"))
        yield memory
        if (content := _dump(memory)) != before:
            _save(log_dir, content)


def _lock(held: contextlib.ExitStack, log_dir: Path, *, wait: bool) -> None:
    path, busy = lock_path(log_dir), "another process is sending notifications"
    if not wait:
        held.enter_context(lock.hold(path, busy, wait_for_dead_holder=False))
        return
    if not log_dir.is_dir():  # locking would create it
        return
    deadline = time.monotonic() + WAIT_SECONDS
    with contextlib.suppress(BusyError, StateError):
        held.enter_context(lock.wait_for(path, busy, StopRequest(), lambda: time.monotonic() >= deadline))


class _UnreadableError(Exception):
    """The message names the file and the reason."""


def _load(log_dir: Path) -> Memory:
    """Return the memory; raises _UnreadableError."""
    memory = _read_file(path_of(log_dir), _parse)
    return memory if memory is not None else _load_old_files(log_dir)


def _load_old_files(log_dir: Path) -> Memory:
    """Return the memory from the files of earlier versions, without those that cannot be read."""
    memory = Memory()
    for topic, name in _OLD_SENT.items():
        with contextlib.suppress(_UnreadableError):
            memory.sent[topic] = _read_file(log_dir / name, lambda facts: _sent(facts["recipients"], "told")) or {}
    for topic, name in _OLD_LOGGED.items():
        with contextlib.suppress(_UnreadableError):
            memory.logged[topic] = _read_file(log_dir / name, lambda facts: set(map(str, facts))) or set()
    return memory


def _old_files(log_dir: Path) -> list[Path]:
    paths = [log_dir / name for name in (*_OLD_SENT.values(), *_OLD_LOGGED.values())]
    return [path for path in paths if path.is_file()]


def _read_file(path: Path, parse: Callable[[Any], _Value]) -> _Value | None:
    """Return the parsed content of a file, None if it is missing; raises _UnreadableError."""
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
    """Return the content of the file, without empty mappings."""
    sent = {
        topic: {role: {key: asdict(each) for key, each in by_key.items()} for role, by_key in roles.items() if by_key}
        for topic, roles in memory.sent.items()
        if any(roles.values())
    }
    logged = {topic: sorted(keys) for topic, keys in memory.logged.items() if keys}
    return (json.dumps({"version": VERSION, "sent": sent, "logged": logged}, indent=1) + "\n").encode()


def _parse(facts: Any) -> Memory:
    """Parse the file; invalid values raise ValueError, LookupError or TypeError."""
    if facts["version"] != VERSION:
        raise ValueError("of another version")
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
