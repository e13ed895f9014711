"""Notifications as a server receives them: once, whole, without secrets, and never in the way of an upload."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3sync import __version__
from s3sync.config import Config
from s3sync.errors import BusyError
from s3sync.monitor import notifications, notify, problem_log
from s3sync.monitor.messages import Update, Upload
from s3sync.monitor.notify import Channels, Notifier
from s3sync.monitor.problems import Kind, Problem
from tests.helpers.hooks import SECRET, Handler, Receiver, check_log_for_secrets, path_of, running
from tests.helpers.unprivileged import run_python

HOUR = 3600.0


DAY = 24 * HOUR


RUN_1 = "240101_M01234_0001_A to s3://lab/seq/240101_M01234_0001_A/"


RUN_2 = "240102_M01234_0002_B to s3://lab/seq/240102_M01234_0002_B/"


FAILED_1 = Problem(RUN_1, "3 of 10 files failed: SlowDown; it is tried again on the next scan", "run")


FAILED_2 = Problem(RUN_2, "a file vanished", "run")


NO_AWS = Problem("aws", "the token has expired: renew it", "aws", id="aws.expired-credentials")


NO_FOLDER = Problem("/data/seq", "cannot be read: mount it", "other")


TOO_OLD = Problem(RUN_2, "too old (80 hours): touch its RunInfo.xml to upload it", "note")


UPLOADED_1 = Upload(RUN_1, "5,492 files, 102.3 GB")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running(Receiver()) as started:
        yield started


@pytest.fixture(autouse=True)
def no_secrets_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield from check_log_for_secrets(caplog)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return notifications.path_of(tmp_path)


ScanWith = Callable[..., None]


@pytest.fixture
def scan_with(receiver: Receiver, memory: Path, clock: Clock) -> ScanWith:
    """One scan: a separate process, which knows the previous one only from the memory file."""

    def scan(*problems: Problem, uploaded: tuple[Upload, ...] = (), names: tuple[str, ...] = ("slack_alert",)) -> None:
        Notifier(receiver.channels(*names), memory.parent, clock, timeout=120).notify(Update(uploaded, problems))

    return scan


def test_slack_texts(receiver: Receiver, scan_with: ScanWith) -> None:
    both = ("slack_log", "slack_alert")
    scan_with(FAILED_1, FAILED_2, NO_FOLDER, names=both)
    assert receiver.texts("slack_log") == []
    assert receiver.texts("slack_alert") == [
        f":x:  *S3 Upload*: Failed to upload 2 runs\n\t\t• {RUN_1}: {FAILED_1.text}\n\t\t• {RUN_2}: a file vanished",
        ":warning:  *S3 Upload*: Needs attention\n\t\t• /data/seq: cannot be read: mount it",
    ]
    scan_with(NO_AWS, TOO_OLD, NO_FOLDER, names=both)
    assert receiver.texts("slack_alert") == [
        f":warning:  *S3 Upload*: Cannot access AWS\n\t\t• {NO_AWS.text_with_id}",
        f":warning:  *S3 Upload*: Please note\n\t\t• {RUN_2}: too old (80 hours): touch its RunInfo.xml to upload it",
    ]
    scan_with(TOO_OLD, uploaded=(UPLOADED_1,), names=both)
    assert receiver.texts("slack_log") == [
        f":white_check_mark:  *S3 Upload*: Successfully uploaded 1 run\n\t\t• {RUN_1}: 5,492 files, 102.3 GB"
    ]
    (recovered,) = receiver.texts("slack_alert")
    assert recovered.split("\n\t\t• ") == [
        ":white_check_mark:  *S3 Upload*: Resolved",
        f"{RUN_1}: was: {FAILED_1.text}",
        "/data/seq: was: cannot be read: mount it",
        "aws: was: the token has expired: renew it",
    ]


def test_headers(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_1)
    (post,) = receiver.take("slack_alert")
    assert (post.method, post.path) == ("POST", path_of("slack_alert"))
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["User-Agent"] == f"s3sync/{__version__}"


def test_json_webhook(receiver: Receiver, scan_with: ScanWith, clock: Clock) -> None:
    same = {"version": 1, "host": socket.gethostname(), "at": "2023-11-14T22:13:20+00:00"}
    scan_with(FAILED_2, NO_AWS, uploaded=(UPLOADED_1,), names=("webhook",))
    assert [each.json for each in receiver.take("webhook")] == [
        {**same, "event": "uploaded", "runs": [{"key": RUN_1, "text": "5,492 files, 102.3 GB"}]},
        {**same, "event": "failed", "runs": [{"key": RUN_2, "text": "a file vanished", "kind": "run", "id": ""}]},
        {
            **same,
            "event": "failed",
            "runs": [{"key": "aws", "text": NO_AWS.text, "kind": "aws", "id": "aws.expired-credentials"}],
        },
    ]
    clock.now += 60
    scan_with(TOO_OLD, names=("webhook",))
    same["at"] = "2023-11-14T22:14:20+00:00"
    assert [each.json for each in receiver.take("webhook")] == [
        {**same, "event": "warning", "runs": [{"key": RUN_2, "text": TOO_OLD.text, "kind": "note", "id": ""}]},
        {**same, "event": "recovered", "runs": [{"key": "aws", "text": "was: the token has expired: renew it"}]},
    ]


@pytest.mark.parametrize("only", ["slack_log", "slack_alert"])
def test_one_slack_webhook_replaces_the_other(only: str, receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_2, uploaded=(UPLOADED_1,), names=(only,))
    good, bad = receiver.texts(only)
    assert good.startswith(":white_check_mark:")
    assert bad.startswith(":x:")


def test_slack_escapes_and_bounds(receiver: Receiver, scan_with: ScanWith) -> None:
    hostile = Problem("RUN\x1b[31m\n<!channel>", "a & b > c\r\u202e", "run")
    scan_with(hostile)
    assert receiver.texts("slack_alert") == [
        ":x:  *S3 Upload*: Failed to upload 1 run\n\t\t• RUN\\x1b[31m\\n&lt;!channel&gt;: a &amp; b &gt; c\\r\\u202e"
    ]
    scan_with(*(Problem(f"RUN {number}", "<&>" * 1000, "run") for number in range(1025)))
    many, _recovered = receiver.texts("slack_alert")
    heading, *lines, last = many.split("\n\t\t• ")
    assert heading == ":x:  *S3 Upload*: Failed to upload 1,025 runs"
    assert last == "and 1,005 more"
    assert len(lines) == 20
    assert len(many) < 40_000
    for line in lines:
        assert line.endswith("…")
        assert not line[:-1].replace("&lt;", "").replace("&gt;", "").replace("&amp;", "").count("&")


def test_twenty_runs_need_no_more(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(*(Problem(f"RUN {number}", "no", "run") for number in range(20)))
    assert receiver.texts("slack_alert")[0].endswith("\n\t\t• RUN 19: no")


def test_ping(receiver: Receiver, memory: Path) -> None:
    notifier = Notifier(receiver.channels("ping"), memory.parent)
    notifier.ping_start()
    notifier.ping_end(True, "2 runs uploaded\nin 7 min \x1b[0m")
    notifier.ping_end(False, "x" * 20_000)
    notifier.notify(Update((), (FAILED_1,)))
    start, success, fail = receiver.take("ping")
    assert (start.method, start.path, start.body) == ("POST", f"{path_of('ping')}/start", b"")
    assert (success.path, success.body) == (path_of("ping"), b"2 runs uploaded\nin 7 min \\x1b[0m")
    assert success.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert (fail.path, fail.body) == (f"{path_of('ping')}/fail", b"x" * 10_000)
    assert not memory.exists()


@pytest.mark.parametrize(("ending", "start"), [("/", "/start"), ("?create=1", "/start?create=1")])
def test_ping_urls_with_more(ending: str, start: str, receiver: Receiver, memory: Path) -> None:
    Notifier(Channels(ping=receiver.url("ping") + ending), memory.parent).ping_start()
    assert [each.path for each in receiver.take("ping")] == [path_of("ping") + start]


def test_the_proxy_of_the_environment_is_used(
    receiver: Receiver, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://ping.invalid{path_of('ping')}"
    for proxy in (f"http://127.0.0.1:{receiver.server_port}", f"lab:pass@127.0.0.1:{receiver.server_port}"):
        monkeypatch.setenv("http_proxy", proxy)
        Notifier(Channels(ping=url), memory.parent).ping_start()
    assert [each.path for each in receiver.received] == [f"{url}/start"] * 2
    credentials = [each.headers.get("proxy-authorization") for each in receiver.received]
    assert credentials == [None, "Basic bGFiOnBhc3M="]


def test_urls_are_in_no_repr(receiver: Receiver, memory: Path) -> None:
    channels = receiver.channels("slack_log", "slack_alert", "webhook", "ping")
    notifier = Notifier(channels, memory.parent)
    assert SECRET not in repr([channels, notifier, notify.recipients_of(channels)])


def test_a_problem_is_sent_once_and_again_a_day_later(receiver: Receiver, scan_with: ScanWith, clock: Clock) -> None:
    started = clock.now
    told_at = []
    while clock.now <= started + 2 * DAY:
        scan_with(FAILED_1, NO_AWS)
        told_at += [(clock.now - started) / HOUR for _ in receiver.take("slack_alert")]
        clock.now += HOUR
    assert told_at == [0, 0, 24, 24, 48, 48]


def test_a_problem_is_sent_again_when_its_text_changes_in_more_than_numbers(
    receiver: Receiver, scan_with: ScanWith
) -> None:
    scan_with(FAILED_1)
    scan_with(replace(FAILED_1, text=FAILED_1.text.replace("3 of 10", "1,002 of 1,010.5")))
    assert len(receiver.take("slack_alert")) == 1
    scan_with(replace(FAILED_1, text="no credentials"))
    assert receiver.texts("slack_alert") == [f":x:  *S3 Upload*: Failed to upload 1 run\n\t\t• {RUN_1}: no credentials"]


def test_only_new_problems_are_sent(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_1)
    scan_with(FAILED_1, FAILED_2)
    _, second = receiver.texts("slack_alert")
    assert second == f":x:  *S3 Upload*: Failed to upload 1 run\n\t\t• {RUN_2}: a file vanished"


def test_runs_that_differ_in_numbers_only_are_two(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(Problem("RUN 1", "no", "run"))
    scan_with(Problem("RUN 1", "no", "run"), Problem("RUN 2", "no", "run"))
    assert [text.split("• ")[1] for text in receiver.texts("slack_alert")] == ["RUN 1: no", "RUN 2: no"]


def test_a_resolved_problem_is_sent_once_and_may_come_back(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_2)
    scan_with()
    scan_with()
    scan_with(FAILED_2)
    failed, recovered, failed_again = receiver.texts("slack_alert")
    assert recovered == f":white_check_mark:  *S3 Upload*: Resolved\n\t\t• {RUN_2}: was: a file vanished"
    assert failed == failed_again


def test_a_problem_that_was_never_sent_is_not_resolved(receiver: Receiver, scan_with: ScanWith) -> None:
    receiver.answers("slack_alert", 503)
    scan_with(FAILED_1)
    receiver.answers("slack_alert", 200)
    receiver.take("slack_alert")
    scan_with()
    assert receiver.take("slack_alert") == []


def test_a_note_is_sent_once(receiver: Receiver, scan_with: ScanWith, clock: Clock) -> None:
    for _ in range(5):
        scan_with(TOO_OLD)
        clock.now += DAY
    assert len(receiver.take("slack_alert")) == 1
    scan_with()
    assert receiver.take("slack_alert") == []
    scan_with(TOO_OLD)
    assert len(receiver.take("slack_alert")) == 1


def test_a_failure_that_becomes_a_note_is_sent_and_not_resolved(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_2)
    scan_with(replace(FAILED_2, kind="note"))
    assert ["Failed" in text for text in receiver.texts("slack_alert")] == [True, False]
    scan_with()
    assert receiver.take("slack_alert") == []


def test_nothing_but_uploads_recovers_while_aws_is_out_of_reach(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_1, replace(FAILED_2, kind="note"), NO_FOLDER)
    receiver.take("slack_alert")
    scan_with(NO_AWS, uploaded=(UPLOADED_1,))
    _uploaded, _aws, recovered = receiver.texts("slack_alert")
    assert recovered.split("\n\t\t• ")[1:] == [f"{RUN_1}: was: {FAILED_1.text}"]
    scan_with(replace(FAILED_2, kind="note"))
    (recovered,) = receiver.texts("slack_alert")
    assert [line.partition(":")[0] for line in recovered.split("\n\t\t• ")[1:]] == ["/data/seq", "aws"]


def test_a_clock_set_back_silences_nothing_for_longer_than_a_day(
    receiver: Receiver, scan_with: ScanWith, clock: Clock
) -> None:
    scan_with(FAILED_1)
    clock.now -= 365 * DAY
    scan_with(FAILED_1)
    scan_with(FAILED_1)
    assert len(receiver.take("slack_alert")) == 2


def test_a_key_given_twice_is_one_error(receiver: Receiver, scan_with: ScanWith) -> None:
    for _ in range(2):
        scan_with(FAILED_1, replace(FAILED_1, text="again"))
    assert receiver.texts("slack_alert") == [f":x:  *S3 Upload*: Failed to upload 1 run\n\t\t• {RUN_1}: again"]


def test_each_recipient_is_notified_until_it_succeeds(
    receiver: Receiver, scan_with: ScanWith, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("slack_alert", "webhook")
    receiver.answers("slack_alert", 500)
    scan_with(FAILED_1, names=names)
    scan_with(FAILED_1, names=names)
    assert caplog.messages == ["could not send to the Slack alert webhook: HTTP 500 [notify.not-sent]"] * 2
    assert len(receiver.take("slack_alert")) == 2
    assert len(receiver.take("webhook")) == 1
    receiver.answers("slack_alert", 200)
    scan_with(FAILED_1, names=names)
    scan_with(FAILED_1, names=names)
    assert len(receiver.take("slack_alert")) == 1
    assert receiver.take("webhook") == []


def test_a_recovery_that_could_not_be_sent_is_sent_later(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_1)
    receiver.answers("slack_alert", 429)
    scan_with()
    receiver.answers("slack_alert", 204)
    receiver.take("slack_alert")
    scan_with()
    scan_with()
    assert len(receiver.take("slack_alert")) == 1


def test_the_log_names_the_webhook_that_is_used_instead(
    receiver: Receiver, scan_with: ScanWith, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers("slack_log", 404)
    scan_with(FAILED_1, names=("slack_log",))
    assert caplog.messages == ["could not send to the Slack log webhook: HTTP 404 [notify.not-sent]"]


def test_redirects_are_not_followed(receiver: Receiver, memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers("ping", lambda handler: handler.accept(302, Location=receiver.url("elsewhere")))
    Notifier(receiver.channels("ping"), memory.parent).ping_end(True, "")
    assert caplog.messages == [
        (
            "could not send to the ping URL: HTTP 302: redirects are not followed (give the final address)"
            " [notify.not-sent]"
        )
    ]
    assert receiver.take("elsewhere") == []


def hang(handler: Handler) -> None:
    handler.server.over.wait()


def trickle(handler: Handler) -> None:
    """Send one byte at a time, each well within a socket's timeout, but never a whole answer."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"x")


def trickle_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("misbehaviour", [hang, trickle])
def test_a_server_that_does_not_answer_costs_its_timeout_once(
    misbehaviour: Callable[[Handler], None], receiver: Receiver, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers("slack_alert", misbehaviour)
    notifier = Notifier(receiver.channels("slack_alert", "webhook"), memory.parent, timeout=3.0)  # of a busy machine
    notifier.notify(Update((), (FAILED_1, NO_AWS, NO_FOLDER)))  # returns, though the server waits for this test
    assert caplog.messages == ["could not send to the Slack alert webhook: no answer in time [notify.not-sent]"]
    assert len(receiver.take("webhook")) == 3


def test_an_answer_without_end_is_an_answer(receiver: Receiver, memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers("ping", trickle_body)
    Notifier(receiver.channels("ping"), memory.parent).ping_end(True, "")  # returns, though the body never ends
    assert caplog.messages == []


def test_a_refused_connection_is_reported(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    channels = Channels(slack_log=f"http://127.0.0.1:{port}/{SECRET}")
    Notifier(channels, memory.parent).notify(Update((UPLOADED_1,)))
    assert caplog.messages == [
        "could not send to the Slack log webhook: ConnectionRefusedError: " + os.strerror(111) + " [notify.not-sent]",
    ]


def test_servers_that_speak_no_http(receiver: Receiver, memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers("ping", lambda handler: None, "/start")
    receiver.answers("ping", lambda handler: handler.wfile.write(b"220 smtp\r\n"), "/fail")
    notifier = Notifier(receiver.channels("ping"), memory.parent)
    notifier.ping_start()
    notifier.ping_end(False, "")
    assert caplog.messages == [
        "could not send to the ping URL: RemoteDisconnected [notify.not-sent]",
        "could not send to the ping URL: BadStatusLine [notify.not-sent]",
    ]


def test_no_more_threads(
    receiver: Receiver, memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    notifier = Notifier(receiver.channels("ping"), memory.parent)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        notifier.ping_start()
    assert caplog.messages == ["could not send to the ping URL: RuntimeError [notify.not-sent]"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Self-signed, for localhost: the key and the certificate in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + built.public_bytes(serialization.Encoding.PEM)
    path = tmp_path / "certificate.pem"
    path.write_bytes(pem)
    return path


def test_tls(
    certificate: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Receiver()
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server):
        url = f"https://localhost:{server.server_port}{path_of('ping')}"
        Notifier(Channels(ping=url), memory.parent).ping_start()
        assert server.take("ping") == []
        (message,) = caplog.messages
        assert message.startswith("could not send to the ping URL: SSLCertVerificationError: ")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        Notifier(Channels(ping=url), memory.parent).ping_start()
        assert len(server.take("ping")) == 1
        Notifier(Channels(ping=url.replace("localhost", "127.0.0.1")), memory.parent).ping_start()
        assert server.take("ping") == []
        assert caplog.messages[1].startswith("could not send to the ping URL: SSLCertVerificationError: ")


def test_a_process_ends_at_once_though_a_server_hangs(receiver: Receiver) -> None:
    receiver.answers("ping", trickle, "/start")
    code = """
import sys
from pathlib import Path
from s3sync.monitor.notify import Channels, Notifier
Notifier(Channels(ping=sys.argv[1]), Path(), timeout=0.2).ping_start()
print("sent")
"""
    assert run_python(code, receiver.url("ping")) == "sent\n"


def test_memory_is_private_and_written_only_when_it_changes(scan_with: ScanWith, memory: Path, clock: Clock) -> None:
    scan_with(FAILED_1)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert json.loads(memory.read_text()) == {
        "version": 1,
        "sent": {"scan": {"slack_alert": {RUN_1: {"text": FAILED_1.text, "kind": "run", "at": clock()}}}},
        "logged": {},
    }
    assert SECRET not in memory.read_text()
    inode = memory.stat().st_ino
    scan_with(FAILED_1)
    assert memory.stat().st_ino == inode


def test_a_channel_that_is_gone_is_forgotten(receiver: Receiver, scan_with: ScanWith) -> None:
    scan_with(FAILED_1, names=("slack_alert", "webhook"))
    scan_with(FAILED_1)
    scan_with(FAILED_1, names=("slack_alert", "webhook"))
    assert len(receiver.take("slack_alert")) == 1
    assert len(receiver.take("webhook")) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"version": 2, "logged": {}, "sent": {}}',
        b'{"version": 1, "logged": {}, "sent": []}',
        b'{"version": 1, "logged": [], "sent": {}}',
        b'{"version": 1, "logged": {}, "sent": {"scan": {"slack_alert": []}}}',
        b'{"version": 1, "logged": {}, "sent": {"scan": {"slack_alert": {"aws": {}}}}}',
        b'{"version": 1, "logged": {}, "sent": {"scan": {"webhook": {"aws": {"text": "", "kind": "", "at": "x"}}}}}',
        b'{"version": 1, "logged": {}, "sent": {"scan": {"slack_alert": {"aws": {"text": "", "kind": "", "at": 1'
        + b"0" * 400
        + b"}}}}}",
        b"[" * 100_000,
    ],
)
def test_a_corrupt_memory_counts_as_empty_and_is_fixed(
    content: bytes, receiver: Receiver, scan_with: ScanWith, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory.write_bytes(content)
    scan_with(FAILED_1)
    scan_with(FAILED_1)
    assert len(receiver.take("slack_alert")) == 1
    assert caplog.messages == [
        f"cannot read {memory}: it is corrupt (some problems may be reported again) [notify.memory-unreadable]"
    ]


def test_a_memory_with_control_characters_is_sent_as_printable_text(
    receiver: Receiver, scan_with: ScanWith, memory: Path
) -> None:
    entry = {"text": "\x1b[31mred\nnext", "kind": "run", "at": 1.0}
    sent = {"scan": {"slack_alert": {"RUN\x9b": entry}}}
    memory.write_text(json.dumps({"version": 1, "logged": {}, "sent": sent}))
    scan_with()
    (text,) = receiver.texts("slack_alert")
    assert r"RUN\x9b: was: \x1b[31mred\nnext" in text


def test_a_memory_that_cannot_be_read_or_written(
    receiver: Receiver, scan_with: ScanWith, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    memory.mkdir()
    scan_with(FAILED_1)
    scan_with(FAILED_1)
    assert len(receiver.take("slack_alert")) == 2
    again = "(some problems may be reported again)"
    read = f"cannot read {memory}: it is not a regular file {again} [notify.memory-unreadable]"
    written = f"cannot write {memory}: Is a directory {again} [notify.memory-unwritable]"
    assert caplog.messages == [read, written] * 2
    assert not list(memory.parent.glob("*.tmp"))


def test_a_missing_log_folder(tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    Notifier(receiver.channels("webhook"), tmp_path / "gone").notify(Update((), (FAILED_1,)))
    assert len(receiver.take("webhook")) == 1
    assert [": No such file or directory (" in message for message in caplog.messages] == [True]
    assert not (tmp_path / "gone").exists()


def test_the_files_of_earlier_versions_are_taken_over(
    receiver: Receiver, scan_with: ScanWith, memory: Path, clock: Clock
) -> None:
    """An upgrade neither notifies again nor forgets, and leaves one file."""
    folder = memory.parent

    def old(problem: Problem) -> str:
        entry = {"text": problem.text, "kind": problem.kind, "told": clock() - HOUR}
        return json.dumps({"version": 1, "recipients": {"slack_log": {}, "slack_alert": {problem.key: entry}}})

    stuck = Problem("monitor", "it has been running for more than 24 h", "other")
    disk = Problem("disk of /log", "only 1 % left", "alert")
    (folder / "notified.json").write_text(old(FAILED_1))
    (folder / "notified.alerts.json").write_text(old(disk))
    (folder / "notified.busy.json").write_text(old(stuck))
    (folder / "noted.json").write_text(json.dumps([RUN_2]))
    (folder / "noted.alerts.json").write_text(json.dumps([disk.key]))
    notifier = Notifier(receiver.channels("slack_alert"), folder, clock)

    scan_with(FAILED_1)
    notifier.notify(Update(problems=(disk,)), "alerts")
    problem_log.log_problems(folder, "scan", [TOO_OLD])
    problem_log.log_problems(folder, "alerts", [disk])
    assert receiver.texts("slack_alert") == []
    assert sorted(path.name for path in folder.glob("*.json")) == ["notifications.json"]

    notifier.notify(Update(), "scan itself")
    scan_with()
    resolved = [text.partition("\u2022 ")[2] for text in receiver.texts("slack_alert")]
    assert resolved == [f"monitor: was: {stuck.text}", f"{RUN_1}: was: {FAILED_1.text}"]


def test_an_old_file_that_is_corrupt_does_not_spoil_the_others(
    receiver: Receiver, scan_with: ScanWith, memory: Path
) -> None:
    (memory.parent / "notified.json").write_text("{")
    (memory.parent / "noted.json").write_text(json.dumps([RUN_2]))
    scan_with(FAILED_1)
    scan_with(FAILED_1)
    assert len(receiver.texts("slack_alert")) == 1
    assert json.loads(memory.read_text())["logged"] == {"scan": [RUN_2]}


def test_only_the_topic_of_an_update_is_resolved(receiver: Receiver, memory: Path) -> None:
    notifier = Notifier(receiver.channels("slack_alert"), memory.parent)
    notifier.notify(Update(problems=(NO_FOLDER,)), "alerts")
    notifier.notify(Update(problems=(FAILED_1,)))
    notifier.notify(Update())
    (_, _, resolved) = receiver.texts("slack_alert")
    assert RUN_1 in resolved
    assert NO_FOLDER.key not in resolved


def test_an_impatient_notifier_leaves_it_to_another_process(receiver: Receiver, memory: Path) -> None:
    notifier = Notifier(receiver.channels("slack_alert"), memory.parent)
    with notifications.open_for_update(memory.parent), pytest.raises(BusyError):
        notifier.notify(Update(problems=(FAILED_1,)), wait=False)
    assert receiver.texts("slack_alert") == []


def test_a_patient_notifier_sends_without_the_lock_in_the_end(
    receiver: Receiver, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "WAIT_SECONDS", 0.0)
    with notifications.open_for_update(memory.parent):
        Notifier(receiver.channels("slack_alert"), memory.parent).notify(Update(problems=(FAILED_1,)))
    assert len(receiver.texts("slack_alert")) == 1


def test_a_trial_message_goes_through_every_channel(receiver: Receiver) -> None:
    config = config_with(receiver, "slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")
    receiver.answers("webhook", 404)
    receiver.answers("ping_url", 200)

    results = notify.send_trial(config)

    assert [(result.channel, result.error) for result in results] == [
        ("the Slack log webhook", ""),
        ("the Slack alert webhook", ""),
        ("the JSON webhook", "HTTP 404"),
        ("the ping URL", ""),
    ]
    texts = receiver.texts("slack_log") + receiver.texts("slack_alert")
    assert [text.partition("\n")[0] for text in texts] == [":information_source:  *S3 Upload*: Test message"] * 2
    assert [each.json["event"] for each in receiver.take("webhook")] == ["trial"]
    assert len(receiver.take("ping_url")) == 1


def test_a_webhook_for_both_roles_gets_one_trial_message(receiver: Receiver) -> None:
    (result,) = notify.send_trial(config_with(receiver, "slack_log_webhook"))
    assert result == notify.TrialResult("the Slack log webhook", "")
    assert len(receiver.texts("slack_log")) == 1


def config_with(receiver: Receiver, *keys: str) -> Config:
    entry = {"monitored_directories": ["/data"], "bucket": "lab-runs", "remote_path": "/"}
    return Config.model_validate(
        {"monitor": [entry], **{key: receiver.url(key.removesuffix("_webhook")) for key in keys}}
    )


_texts = st.text(st.characters(), max_size=60)


_kinds: st.SearchStrategy[Kind] = st.sampled_from(["run", "aws", "other", "note"])


_news = st.builds(
    Update,
    st.lists(st.builds(Upload, _texts, _texts), max_size=3).map(tuple),
    st.lists(st.builds(Problem, _texts, _texts, _kinds), max_size=4).map(tuple),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(news=_news, summary=_texts)
def test_any_texts_arrive_and_are_sent_once(news: Update, summary: str, receiver: Receiver, memory: Path) -> None:
    memory.unlink(missing_ok=True)
    channels = receiver.channels("slack_log", "slack_alert", "webhook", "ping")
    Notifier(channels, memory.parent, Clock()).notify(news)
    Notifier(channels, memory.parent, Clock()).ping_end(True, summary)
    texts = receiver.texts("slack_log") + receiver.texts("slack_alert")
    payloads = [each.json for each in receiver.take("webhook")]
    assert len(texts) == len(payloads)
    assert all(line.strip("\t").isprintable() for text in texts for line in text.split("\n"))
    reported = [item for payload in payloads for item in payload["runs"]]
    assert len(reported) == len({each.key for each in news.uploads}) + len({each.key for each in news.problems})
    receiver.take("ping")[0].body.decode()
    Notifier(channels, memory.parent, Clock()).notify(Update((), news.problems))
    assert receiver.received == []
