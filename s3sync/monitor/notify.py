"""Tells people and machines what a scan did: Slack, a JSON webhook, and a ping that is missed when scans stop.

Nothing here raises, and nothing waits long. The URLs are secrets (who has one can post): no log line,
error or repr holds any part of one.

What each recipient was told is remembered in a file, so that a problem is told once, and again only when
its text changes (in more than numbers: a counter is no news) or it still stands a day later. What could
not be sent does not count as told, so the next scan tries again; only uploads are told by their scan alone.
"""

from __future__ import annotations

import html
import json
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar
from urllib import request
from urllib.error import URLError

from s3sync import __version__, files
from s3sync.text import pluralize, printable

VERSION = 1  # of the JSON webhook's payload, and of the memory file
Kind: TypeAlias = Literal["run", "aws", "other", "note", "alert"]

_log = logging.getLogger(__name__)
_DAY = 24 * 3600.0
_NUMBER = re.compile(r"\d[\d.,]*")
_SLACK_LINES = 20
_SLACK_LINE_CHARS = 1500  # a message may have 40,000
_SUMMARY_CHARS = 10_000

# What a problem of each kind is to the JSON webhook, and how a Slack message of them begins.
_EVENTS: dict[Kind, tuple[str, str]] = {
    "run": ("failed", ":x:  *S3 Upload*: Failed uploading {runs}"),
    "aws": ("failed", ":warning:  *S3 Upload*: Error in connecting to AWS!"),
    "other": ("failed", ":warning:  *S3 Upload*: Needs attention"),
    "note": ("warning", ":warning:  *S3 Upload*: Please note"),
    "alert": ("alert", ":rotating_light:  *S3 Upload*: Look at this"),
}
_UPLOADED = ":white_check_mark:  *S3 Upload*: Successfully uploaded {runs}"
_RECOVERED = ":white_check_mark:  *S3 Upload*: Recovered:"


@dataclass(frozen=True, slots=True)
class Channels:
    """Where to tell: URLs, "" for none. Each of the two of Slack stands in for the other where that is missing."""

    slack_log: str = field(default="", repr=False)
    slack_alert: str = field(default="", repr=False)
    webhook: str = field(default="", repr=False)
    ping: str = field(default="", repr=False)


class Upload(NamedTuple):
    """A run that was uploaded: `key` as a Problem of it has, `text` about it in one line."""

    key: str
    text: str


class Problem(NamedTuple):
    """What went wrong: `key` tells it from all others and is shown, `text` says what and what to do in one line.

    A `note` (a run too old) is told once while it stands: not again a day later, and its end is no recovery.
    """

    key: str
    text: str
    kind: Kind


class News(NamedTuple):
    """What a scan has to tell: the runs it uploaded, and every problem that stands now, new or not.

    A problem that is missing has recovered; but while one of kind `aws` stands, only what was uploaded has, and
    problems of runs only if their keys are among `looked_at` (None: all were): a run may be out of sight.
    """

    uploaded: tuple[Upload, ...] = ()
    problems: tuple[Problem, ...] = ()
    looked_at: frozenset[str] | None = None


class _Told(NamedTuple):
    text: str
    kind: str
    told: float  # seconds since the epoch


_Memory: TypeAlias = dict[str, _Told]  # what one recipient was told of what still stood then, by key
_Item = TypeVar("_Item", Upload, Problem)


class _Message(NamedTuple):
    event: str
    heading: str
    items: Sequence[Upload | Problem]


@dataclass(frozen=True, slots=True)
class _Recipient:
    role: str  # its name in the memory file
    name: str  # as people know it
    url: str = field(repr=False)
    events: tuple[str, ...]
    payload: Callable[[_Message, float], dict[str, Any]]


class Notifier:
    """Tells the channels what happened. `timeout` (seconds) bounds what each may cost a call, whatever it does."""

    def __init__(
        self, channels: Channels, memory_path: Path, clock: Callable[[], float] = time.time, timeout: float = 10.0
    ) -> None:
        self._ping_url = channels.ping
        self._recipients = _recipients(channels)
        self._memory_path = memory_path
        self._clock = clock
        self._timeout = timeout

    def begin(self) -> None:
        """Ping that a scan starts."""
        self._ping("/start", "")

    def end(self, ok: bool, summary: str) -> None:
        """Ping that the scan is over, and how it went."""
        self._ping("" if ok else "/fail", summary)

    def _ping(self, ending: str, summary: str) -> None:
        if self._ping_url:
            path, mark, query = self._ping_url.partition("?")
            url = path.rstrip("/") + ending + mark + query
            text = "\n".join(map(printable, summary.splitlines()))[:_SUMMARY_CHARS]
            _post("the ping URL", url, text, "text/plain; charset=utf-8", self._timeout)

    def tell(self, news: News) -> None:
        """Tell each recipient what it does not know yet."""
        if not self._recipients:
            return
        news = news._replace(uploaded=_clean(news.uploaded), problems=_clean(news.problems))
        before, memories = self._recall()
        memories = {each.role: memories.get(each.role, {}) for each in self._recipients}
        for recipient in self._recipients:
            self._tell_one(recipient, memories[recipient.role], news)
        if (content := _dump(memories)) != before:
            self._remember(content)

    def _tell_one(self, recipient: _Recipient, memory: _Memory, news: News) -> None:
        now, deadline = self._clock(), time.monotonic() + self._timeout
        for key in [key for key in _gone(memory, news) if memory[key].kind == "note"]:
            del memory[key]
        for message in _messages(memory, news, now):
            left = deadline - time.monotonic()
            if message.items and message.event in recipient.events and left > 0:
                body = json.dumps(recipient.payload(message, now))
                if _post(recipient.name, recipient.url, body, "application/json", left):
                    _settle(memory, message, now)

    def _recall(self) -> tuple[bytes, dict[str, _Memory]]:
        """The memory file's content and what it means; what cannot be read was never told."""
        content = b""
        try:
            content = self._memory_path.read_bytes()
            return content, _parse(content)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn("read", error.strerror)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
            self._warn("read", "it is corrupt")
        return content, {}

    def _remember(self, content: bytes) -> None:
        try:
            files.atomic_write(self._memory_path, content)
        except OSError as error:
            self._warn("write", error.strerror)

    def _warn(self, verb: str, why: str | None) -> None:
        path = printable(str(self._memory_path))
        _log.warning("cannot %s which problems were told, so some may be told again: %s: %s", verb, path, why)


def _recipients(channels: Channels) -> tuple[_Recipient, ...]:
    log = ("the Slack log webhook", channels.slack_log)
    alert = ("the Slack alert webhook", channels.slack_alert)
    good, bad = ("uploaded",), ("failed", "warning", "alert", "recovered")
    wanted = (
        _Recipient("slack_log", *(log if channels.slack_log else alert), good, _slack_payload),
        _Recipient("slack_alert", *(alert if channels.slack_alert else log), bad, _slack_payload),
        _Recipient("webhook", "the JSON webhook", channels.webhook, good + bad, _json_payload),
    )
    return tuple(recipient for recipient in wanted if recipient.url)


def _clean(items: Iterable[_Item]) -> tuple[_Item, ...]:
    """Printable, and of each key the last."""
    cleaned = (item._replace(key=printable(item.key), text=printable(item.text)) for item in items)
    return tuple({item.key: item for item in cleaned}.values())


def _messages(memory: _Memory, news: News, now: float) -> Iterator[_Message]:
    """What one recipient does not know yet; some have no items."""
    yield _message("uploaded", _UPLOADED, news.uploaded)
    due = [problem for problem in news.problems if _is_due(problem, memory.get(problem.key), now)]
    for kind, (event, heading) in _EVENTS.items():
        yield _message(event, heading, [problem for problem in due if problem.kind == kind])
    yield _message("recovered", _RECOVERED, [Upload(key, f"was: {memory[key].text}") for key in _gone(memory, news)])


def _gone(memory: _Memory, news: News) -> list[str]:
    """What was told and stands no more. With AWS out of reach nobody looked: then only uploads count."""
    standing = {problem.key for problem in news.problems}
    uploaded = {upload.key for upload in news.uploaded}
    blind = any(problem.kind == "aws" for problem in news.problems)

    def was_looked_at(key: str) -> bool:
        return news.looked_at is None or key in news.looked_at or memory[key].kind in ("aws", "other", "alert")

    gone = [key for key in memory if key not in standing and was_looked_at(key)]
    return [key for key in gone if key in uploaded or not blind]


def _is_due(problem: Problem, told: _Told | None, now: float) -> bool:
    if told is None or told.kind != problem.kind or _NUMBER.sub("#", told.text) != _NUMBER.sub("#", problem.text):
        return True
    return problem.kind != "note" and not 0 <= now - told.told < _DAY


def _message(event: str, heading: str, items: Sequence[Upload | Problem]) -> _Message:
    return _Message(event, heading.format(runs=pluralize(len(items), "run")), items)


def _settle(memory: _Memory, message: _Message, now: float) -> None:
    """Remember that this message was sent."""
    for item in message.items:
        if isinstance(item, Problem):
            memory[item.key] = _Told(item.text, item.kind, now)
        elif message.event == "recovered":
            del memory[item.key]


def _slack_payload(message: _Message, _now: float) -> dict[str, Any]:
    lines = [_slack_line(item) for item in message.items[:_SLACK_LINES]]
    if more := len(message.items) - len(lines):
        lines.append(f"and {more:,} more")
    return {"text": "\n\t\t• ".join([message.heading, *lines])}


def _slack_line(item: Upload | Problem) -> str:
    """`run: reason`, with Slack's special characters escaped; cut where too long, but never inside an escape."""
    heading_names_it = isinstance(item, Problem) and item.kind == "aws"
    line = html.escape(item.text if heading_names_it else f"{item.key}: {item.text}", quote=False)
    if len(line) <= _SLACK_LINE_CHARS:
        return line
    return re.sub(r"&[a-z]*$", "", line[: _SLACK_LINE_CHARS - 1]) + "…"


def _json_payload(message: _Message, now: float) -> dict[str, Any]:
    return {
        "version": VERSION,
        "host": socket.gethostname(),
        "event": message.event,
        "runs": [item._asdict() for item in message.items],
        "at": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
    }


def _dump(memories: dict[str, _Memory]) -> bytes:
    entries = {role: {key: told._asdict() for key, told in memory.items()} for role, memory in memories.items()}
    return (json.dumps({"version": VERSION, "recipients": entries}, indent=1) + "\n").encode()


def _parse(content: bytes) -> dict[str, _Memory]:
    """The opposite of `_dump`; raises what wrong values happen to raise."""
    loaded = json.loads(content)
    if loaded["version"] != VERSION:
        raise ValueError("another version's")
    return {
        role: {printable(key): _told(entry) for key, entry in entries.items()}
        for role, entries in loaded["recipients"].items()
    }


def _told(entry: Any) -> _Told:
    return _Told(printable(str(entry["text"])), str(entry["kind"]), float(entry["told"]))


def _post(name: str, url: str, body: str, content_type: str, timeout: float) -> bool:
    """Post, and say whether it was taken; if not, the log says why.

    In a thread of its own, left behind when the time is up: neither the look-up of a name nor an answer that
    comes byte by byte can be bounded otherwise.
    """
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()

    def attempt() -> None:
        answer.put(_attempt(url, body, content_type, timeout))

    try:
        threading.Thread(target=attempt, name="notify", daemon=True).start()
        problem = answer.get(timeout=timeout)
    except queue.Empty:
        problem = "no answer in time"
    except RuntimeError as error:  # no more threads
        problem = _explain(error)
    if problem:
        _log.warning("could not send to %s: %s", name, problem)
    return not problem


def _attempt(url: str, body: str, content_type: str, timeout: float) -> str:
    """What went wrong, "" if nothing did; never raises: a traceback could show the URL."""
    headers = {"Content-Type": content_type, "User-Agent": f"s3sync/{__version__}"}
    # Knows http, https and the environment's proxies; no files, and no redirects.
    opener = request.OpenerDirector()
    try:
        for handler in (request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.UnknownHandler):
            opener.add_handler(handler())
        post = request.Request(url, body.encode(), headers, method="POST")  # noqa: S310 - see the handlers
        with opener.open(post, timeout=timeout) as response:
            status: int = response.status  # the body says nothing more, and may never end
    except Exception as error:
        return _explain(error)
    if 300 <= status < 400:
        return f"HTTP {status}: redirects are not followed, give the address where it leads"
    return "" if 200 <= status < 300 else f"HTTP {status}"


def _explain(error: Exception) -> str:
    """The class of the error and the system's words for it; str(error) might hold the URL."""
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    said = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
