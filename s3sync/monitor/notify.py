"""Notify people and programs of a scan by Slack, a JSON webhook, and a heartbeat URL (dead man's switch).

Sending never raises, and never takes long. A problem is sent once, again if its text changes in more than numbers or
after a day, and when it is resolved. The next scan retries a message about a problem, but not one about an upload.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3sync.config import Config
from s3sync.errors import Notice
from s3sync.monitor import messages, notifications, transport
from s3sync.monitor.messages import Message, Update
from s3sync.monitor.notifications import Sent, SentByKey, Topic
from s3sync.monitor.problems import Problem
from s3sync.text import printable

LOG = logging.getLogger(__name__)
TIMEOUT = 10.0  # seconds for each recipient and call
_SUMMARY_CHARS = 10_000
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"
_GOOD, _BAD = ("uploaded",), ("failed", "warning", "alert", "recovered")
_PING_URL = "the ping URL"


@dataclass(frozen=True, slots=True)
class Channels:
    """The URLs that get notifications, empty for none. If one of the Slack URLs is empty, the other replaces it."""

    slack_log: str = field(default="", repr=False)
    slack_alert: str = field(default="", repr=False)
    webhook: str = field(default="", repr=False)
    ping: str = field(default="", repr=False)

    @classmethod
    def of(cls, config: Config) -> Channels:
        """Return the channels of a config."""

        def text(key: str) -> str:
            secret = getattr(config, key)
            return secret.get_secret_value() if secret else ""

        return cls(
            slack_log=text("slack_log_webhook"),
            slack_alert=text("slack_alert_webhook"),
            webhook=text("webhook"),
            ping=text("ping_url"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A channel that gets messages about these events."""

    role: str  # the name in the memory of sent notifications
    name: str  # for people
    url: str = field(repr=False)
    events: tuple[str, ...]
    payload: Callable[[Message, float], dict[str, Any]]

    def send(self, message: Message, now: float, timeout: float) -> str:
        """Send a message and return why that failed; empty if it was accepted."""
        return transport.post(self.url, json.dumps(self.payload(message, now)), _JSON, timeout)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of sending a test message; `error` is empty if it was accepted."""

    channel: str
    error: str


class Notifier:
    """Sends notifications. A call takes at most `timeout` seconds for each recipient, even a slow one."""

    def __init__(
        self, channels: Channels, log_dir: Path, clock: Callable[[], float] = time.time, timeout: float = TIMEOUT
    ) -> None:
        self._ping_url = channels.ping
        self._recipients = recipients_of(channels)
        self._log_dir = log_dir
        self._clock = clock
        self._timeout = timeout

    def ping_start(self) -> None:
        """Ping that a scan starts."""
        self._ping("/start", "")

    def ping_end(self, is_ok: bool, summary: str) -> None:
        """Ping that a scan has ended or is still running, and whether it has succeeded so far."""
        self._ping("" if is_ok else "/fail", summary)

    def _ping(self, ending: str, summary: str) -> None:
        if self._ping_url:
            text = "\n".join(map(printable, summary.splitlines()))[:_SUMMARY_CHARS]
            _log_error(_PING_URL, transport.post(_ping_address(self._ping_url, ending), text, _TEXT, self._timeout))

    def notify(self, update: Update, topic: Topic = "scan", *, wait: bool = True) -> None:
        """Send each recipient the part of an update that is new to it.

        Without `wait`, raises BusyError if another process is sending, StateError if the memory cannot be used.
        """
        if not self._recipients or not (update.uploads or update.problems or self._may_be_resolved(topic)):
            return
        with notifications.open_for_update(self._log_dir, wait=wait) as memory:
            known = memory.sent.get(topic, {})
            memory.sent[topic] = {each.role: known.get(each.role, {}) for each in self._recipients}
            for recipient in self._recipients:
                self._notify_one(recipient, memory.sent[topic][recipient.role], update.as_printable())

    def _may_be_resolved(self, topic: Topic) -> bool:
        memory = notifications.read(self._log_dir)
        return memory is None or any(memory.sent.get(topic, {}).values())

    def _notify_one(self, recipient: Recipient, sent: SentByKey, update: Update) -> None:
        now, deadline = self._clock(), time.monotonic() + self._timeout
        for key in update.resolved(sent):
            if sent[key].kind == "note":
                del sent[key]
        for message in messages.messages_for(dict(sent), update, now):
            left = deadline - time.monotonic()
            if message.event in recipient.events and left > 0:
                error = recipient.send(message, now, left)
                _log_error(recipient.name, error)
                if not error:
                    _mark_sent(sent, message, now)


def send_trial(config: Config) -> list[TrialResult]:
    """Send a test message through each channel of a config, and return the results.

    The ping URL gets a ping of success, the only kind that neither announces a start nor raises an alarm.
    """
    channels, message = Channels.of(config), messages.trial()
    by_url = {recipient.url: recipient for recipient in recipients_of(channels)}  # one message for both Slack roles
    results = [TrialResult(each.name, each.send(message, time.time(), TIMEOUT)) for each in by_url.values()]
    if channels.ping:
        text = "test message of `s3sync check --notify`"
        results.append(TrialResult(_PING_URL, transport.post(_ping_address(channels.ping, ""), text, _TEXT, TIMEOUT)))
    return results


def recipients_of(channels: Channels) -> tuple[Recipient, ...]:
    """Return the recipients that have a URL."""
    log = ("the Slack log webhook", channels.slack_log)
    alert = ("the Slack alert webhook", channels.slack_alert)
    (log_name, log_url), (alert_name, alert_url) = log if log[1] else alert, alert if alert[1] else log
    slack, as_json = messages.slack_payload, messages.json_payload
    wanted = (
        Recipient(role="slack_log", name=log_name, url=log_url, events=_GOOD, payload=slack),
        Recipient(role="slack_alert", name=alert_name, url=alert_url, events=_BAD, payload=slack),
        Recipient(role="webhook", name="the JSON webhook", url=channels.webhook, events=_GOOD + _BAD, payload=as_json),
    )
    return tuple(recipient for recipient in wanted if recipient.url)


def _ping_address(url: str, ending: str) -> str:
    path, mark, query = url.partition("?")
    return path.rstrip("/") + ending + mark + query


def _log_error(name: str, error: str) -> None:
    if error:
        LOG.warning("%s", Notice(f"could not send to {name}: {error}", id="notify.not-sent"))


def _mark_sent(sent: SentByKey, message: Message, now: float) -> None:
    for item in message.items:
        if isinstance(item, Problem):
            sent[item.key] = Sent(item.text, item.kind, now)
        elif message.event == "recovered":
            del sent[item.key]
