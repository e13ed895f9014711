"""Notifications that are not sent, and their memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync.monitor import messages, notifications, problem_log
from s3sync.monitor.messages import Update, Upload
from s3sync.monitor.notify import Channels, Notifier
from s3sync.monitor.problems import Problem
from tests.helpers.hooks import SECRET, check_log_for_secrets

RUN_1 = "240101_M01234_0001_A to s3://lab/seq/240101_M01234_0001_A/"
FAILED_1 = Problem(RUN_1, "3 of 10 files failed: SlowDown; it is tried again on the next scan", "run")
UPLOADED_1 = Upload(RUN_1, "5,492 files, 102.3 GB")


@pytest.fixture(autouse=True)
def no_secrets_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield from check_log_for_secrets(caplog)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return notifications.path_of(tmp_path)


def test_no_channels_nothing_happens(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(Channels(), memory.parent)
    notifier.ping_start()
    notifier.notify(Update((UPLOADED_1,), (FAILED_1,)))
    notifier.ping_end(True, "")
    assert not memory.exists()
    assert not caplog.records


def test_a_name_server_that_does_not_answer(
    memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Looking up a name knows no timeout."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: over.wait())
    try:
        Notifier(Channels(ping=f"http://ping.example/{SECRET}"), memory.parent, timeout=0.2).ping_start()
    finally:
        over.set()
    assert caplog.messages == ["could not send to the ping URL: no answer in time [notify.not-sent]"]


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"ftp://127.0.0.1/{SECRET}",
        f"file:///etc/hostname?{SECRET}",
        f"data:text/plain,{SECRET}",
        f"http://{SECRET}:{SECRET}@127.0.0.1/",
        f"http://[{SECRET}",
        f"http://127.0.0.1/{SECRET}\r\nX: y",
        f"http://127.0.0.1/{SECRET}/é\ud800",
        f"http:///{SECRET}",
        f"https://127.0.0.1:99999/{SECRET}",
    ],
)
def test_what_is_not_a_web_address(url: str, memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(Channels(slack_log=url, slack_alert=url, webhook=url, ping=url), memory.parent)
    notifier.ping_start()
    notifier.notify(Update((UPLOADED_1,), (FAILED_1,)))
    notifier.ping_end(True, "")
    assert len(caplog.messages) == 6
    assert all(message.startswith("could not send to the ") for message in caplog.messages)


def test_notes_and_alerts_are_logged_once_while_they_last(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    note, failed = Problem("RUN 1", "too old", "note"), Problem("RUN 2", "vanished", "run", id="run.gone")
    for problems in ([note, failed], [note], [], [note]):
        problem_log.log_problems(memory.parent, "scan", problems)
    assert caplog.messages == ["RUN 1 too old", "RUN 2: vanished [run.gone]", "RUN 1 too old"]


_texts = st.text(st.characters(), max_size=60)


@settings(max_examples=40, deadline=None)
@given(key=_texts, text=st.text(st.sampled_from("<>&a;é💥\n"), max_size=4000))
def test_a_slack_line_is_bounded_and_its_escapes_are_whole(key: str, text: str) -> None:
    line = messages.slack_line(Update((Upload(key, text),)).as_printable().uploads[0])
    assert len(line) <= 1500
    for escape in ("&lt;", "&gt;", "&amp;"):
        line = line.replace(escape, "")
    assert not set("<>&") & set(line)
