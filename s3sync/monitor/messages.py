"""Write notifications, for Slack and as JSON, with the news for each recipient."""

from __future__ import annotations

import html
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from s3sync.inventory.restores import KEY_PREFIX
from s3sync.monitor.notifications import Sent, SentByKey
from s3sync.monitor.problems import Kind, Problem
from s3sync.text import pluralize, printable

VERSION = 1  # version of the JSON document
_DAY = 24 * 3600.0
_NUMBER = re.compile(r"\d[\d.,]*")
_SLACK_LINES = 20
_SLACK_LINE_CHARS = 1500  # a message may have 40,000

# By kind of problem: the event in JSON, and the first line in Slack.
EVENTS: dict[Kind, tuple[str, str]] = {
    "run": ("failed", ":x:  *S3 Upload*: Failed to upload {runs}"),
    "aws": ("failed", ":warning:  *S3 Upload*: Cannot access AWS"),
    "other": ("failed", ":warning:  *S3 Upload*: Needs attention"),
    "note": ("warning", ":warning:  *S3 Upload*: Please note"),
    "alert": ("alert", ":rotating_light:  *S3 Upload*: Please check"),
}
_UPLOADED = ":white_check_mark:  *S3 Upload*: Successfully uploaded {runs}"
_RECOVERED = ":white_check_mark:  *S3 Upload*: Resolved"
_TRIAL = ":information_source:  *S3 Upload*: Test message"


@dataclass(frozen=True, slots=True)
class Upload:
    """A run that was uploaded; `key` is the key of its problems, `text` describes the upload in one line."""

    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Update:
    """The news of a scan: the runs that were uploaded, and every problem that exists, new or not.

    A problem that is missing is resolved, with these exceptions. Problems of runs are resolved only if their keys are
    in `checked_keys` (None: all were checked). While there is a problem of kind `aws`, or the scan is running
    (`is_final` is false), only problems of uploaded runs are resolved.
    """

    uploads: tuple[Upload, ...] = ()
    problems: tuple[Problem, ...] = ()
    checked_keys: frozenset[str] | None = None
    is_final: bool = True

    def as_printable(self) -> Update:
        """Return the update with printable texts, and only the last upload and problem of each key."""
        return replace(self, uploads=_printable(self.uploads), problems=_printable(self.problems))

    def resolved(self, sent: SentByKey) -> list[str]:
        """Return the keys of the problems that were sent to a recipient and are resolved."""
        existing = {problem.key for problem in self.problems}
        uploaded = {upload.key for upload in self.uploads}
        is_blind = any(problem.kind == "aws" for problem in self.problems)

        def is_checked(key: str) -> bool:
            is_of_run = sent[key].kind in ("run", "note") and not key.startswith(KEY_PREFIX)
            return not is_of_run or self.checked_keys is None or key in self.checked_keys

        resolved = [key for key in sent if key not in existing and is_checked(key)]
        return [key for key in resolved if key in uploaded or (self.is_final and not is_blind)]


@dataclass(frozen=True, slots=True)
class Message:
    """An event with its uploads or problems."""

    event: str
    heading: str
    items: Sequence[Upload | Problem]


def trial() -> Message:
    """Return a message that only shows that notifications arrive."""
    return Message("trial", _TRIAL, [Upload("s3sync", "notifications arrive here; there is nothing to do")])


def messages_for(sent: SentByKey, update: Update, now: float) -> Iterator[Message]:
    """Yield the messages that are new to a recipient, one per event and kind; `now` is in seconds since the epoch."""
    due = [problem for problem in update.problems if _is_due(problem, sent.get(problem.key), now)]
    yield from _message("uploaded", _UPLOADED, update.uploads)
    for kind, (event, heading) in EVENTS.items():
        yield from _message(event, heading, [problem for problem in due if problem.kind == kind])
    resolved = [Upload(key, f"was: {sent[key].text}") for key in update.resolved(sent)]
    yield from _message("recovered", _RECOVERED, resolved)


def _is_due(problem: Problem, sent: Sent | None, now: float) -> bool:
    """Return whether to send a problem: it is new, differs in more than numbers, or was sent a day ago."""
    if sent is None or sent.kind != problem.kind or _NUMBER.sub("#", sent.text) != _NUMBER.sub("#", problem.text):
        return True
    return problem.kind != "note" and not 0 <= now - sent.at < _DAY


def _message(event: str, heading: str, items: Sequence[Upload | Problem]) -> Iterator[Message]:
    if items:
        yield Message(event, heading.format(runs=pluralize(len(items), "run")), items)


def slack_payload(message: Message, _now: float) -> dict[str, Any]:
    """Return a message in the format of Slack's incoming webhooks."""
    lines = [slack_line(item) for item in message.items[:_SLACK_LINES]]
    if more := len(message.items) - len(lines):
        lines.append(f"and {more:,} more")
    return {"text": "\n\t\t• ".join([message.heading, *lines])}


def slack_line(item: Upload | Problem) -> str:
    """Return `key: text [id]`, escaped for Slack and cut to 1,500 characters."""
    text = item.text_with_id if isinstance(item, Problem) else item.text
    is_of_aws = isinstance(item, Problem) and item.kind == "aws"  # then the heading is enough
    line = html.escape(text if is_of_aws else f"{item.key}: {text}", quote=False)
    if len(line) <= _SLACK_LINE_CHARS:
        return line
    return re.sub(r"&[a-z]*$", "", line[: _SLACK_LINE_CHARS - 1]) + "…"  # an escape is not cut


def json_payload(message: Message, now: float) -> dict[str, Any]:
    """Return a message in the format of docs/reference/formats.md; `now` is in seconds since the epoch."""
    return {
        "version": VERSION,
        "host": socket.gethostname(),
        "event": message.event,
        "runs": [asdict(item) for item in message.items],
        "at": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
    }


_Item = TypeVar("_Item", Upload, Problem)


def _printable(items: Iterable[_Item]) -> tuple[_Item, ...]:
    clean = (replace(item, key=printable(item.key), text=printable(item.text)) for item in items)
    return tuple({item.key: item for item in clean}.values())
