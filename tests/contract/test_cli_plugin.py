"""The plugin in both generations of the CLI: S3 gets the same requests, and whatever goes wrong is the CLI's own."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.plugin import CliPlugin
from s3sync.aws.settings import CliSettings, child_environment, write_config
from tests.helpers.boto import client
from tests.helpers.certificates import self_signed
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import AWS_V2, BUCKET, FakeAws, Lab, tree
from tests.helpers.promise import is_verified
from tests.helpers.radosgw import Gateway
from tests.helpers.s3server import MIB, Fault, S3Server

pytestmark = [pytest.mark.real_aws, pytest.mark.any_client]

# What differs between two requests for the same file; the CLI names features in its user agent, in any order.
VARYING = ("x-amz-date", "authorization", "amz-sdk-invocation-id", "user-agent", "expect", "host")


@dataclass
class Copy:
    """What `aws s3 cp` did."""

    code: int
    errors: str
    events: list[dict[str, Any]]

    @property
    def hello(self) -> dict[str, Any]:
        assert self.events[0]["event"] == "hello"
        return self.events[0]

    def sent(self, *, fast: bool) -> list[str]:
        return [event["key"] for event in self.events if event["event"] == "put" and event["fast"] == fast]


@dataclass
class Cli:
    """A CLI of one generation, its config, and a folder to upload. One thread sends the files, in any order."""

    aws: str
    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of s3sync, for its plugin

    @property
    def folder(self) -> Path:
        return self.root / "folder"

    def write(self, name: str, content: bytes = b"content") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def configure(self, text: str) -> None:
        path = self.root / "config"
        path.write_text(text)
        self.environ["AWS_CONFIG_FILE"] = str(path)

    def start(
        self, url: str, *options: str, plugin: bool = True, bucket: str = BUCKET
    ) -> tuple[subprocess.Popen[str], int]:
        """Start it; return the read end of the pipe for receipts, too."""
        user = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.root),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **self.environ,
        }
        work = Path(tempfile.mkdtemp(dir=self.root))
        carried = write_config(user, CliSettings(1), work / "aws-config")
        child = child_environment(user, work / "aws-config", carried)
        if plugin:
            child = CliPlugin(work).prepare(child, "aws-cli/2.0" if self.aws == AWS_V2 else "aws-cli/1.0")
        reader, writer = os.pipe()
        argv = [self.aws, f"--endpoint-url={url}", "s3", "cp", f"{self.folder}/", f"s3://{bucket}/RUN/", "--recursive"]
        process = subprocess.Popen(
            [*argv, "--no-progress", *options],
            env={**child, **self.variables, "S3SYNC_RECEIPTS_FD": str(writer)},
            pass_fds=[writer],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writer)
        return process, reader

    def copy(self, url: str, *options: str, plugin: bool = True, bucket: str = BUCKET) -> Copy:
        process, reader = self.start(url, *options, plugin=plugin, bucket=bucket)
        return finish(process, reader)


def finish(process: subprocess.Popen[str], reader: int) -> Copy:
    """Wait for the end of a process."""
    with process, os.fdopen(reader, encoding="ascii") as stream:
        events = [json.loads(line) for line in stream]
        _, errors = process.communicate(timeout=120)
    return Copy(process.returncode, errors, events)


@pytest.fixture
def cli(each_real_aws: str, tmp_path: Path) -> Cli:
    """Each generation of the CLI in turn."""
    return Cli(each_real_aws, tmp_path)


@contextmanager
def tls_server(folder: Path) -> Iterator[tuple[S3Server, Path]]:
    """An S3 server over TLS, and the certificate that its clients have to trust."""
    certificate = folder / "certificate.pem"
    certificate.write_bytes(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with S3Server(ssl_context=context) as server:
        server.create_bucket(BUCKET)
        yield server, certificate


def stored(server: S3Server) -> dict[str, bytes | None]:
    return {key.removeprefix("RUN/"): each.body for key, each in server.objects(BUCKET).items()}


def requests_by_path(headers: list[dict[str, str]]) -> dict[str, Mapping[str, str]]:
    """The headers of each request, without those that vary."""
    return {each[":path"]: {n: v for n, v in each.items() if n not in VARYING} for each in headers}


OPTIONS = {
    "http": (False, (), {}),
    "tls": (True, (), {}),
    "KMS": (False, ("--sse=aws:kms", "--sse-kms-key-id=arn:aws:kms:us-east-1:1:key/2"), {}),
    "storage over tls": (True, ("--storage-class=STANDARD_IA", "--sse=AES256", "--acl=bucket-owner-full-control"), {}),
    "metadata": (False, ("--metadata=lab=one", "--cache-control=no-cache"), {}),
    "token over tls": (True, (), {"AWS_SESSION_TOKEN": "session/token=="}),
    "few checksums": (False, (), {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}),
    "few checksums over tls": (True, (), {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}),
}


@pytest.mark.parametrize(("tls", "options", "environ"), OPTIONS.values(), ids=OPTIONS)
def test_s3_gets_the_same_requests(
    cli: Cli, tls: bool, options: tuple[str, ...], environ: dict[str, str], tmp_path: Path, server: S3Server
) -> None:
    for name in ("0", "RunInfo.xml", "a.txt", "no_extension", "e+m p&t=y~%"):
        cli.write(name, name.encode())
    cli.write("e+m p&t=y~%", b"")
    cli.environ |= environ
    with tls_server(tmp_path) as (secure, certificate):
        used = secure if tls else server
        cli.environ["AWS_CA_BUNDLE"] = str(certificate)
        with used.recording_headers() as without:
            assert cli.copy(used.url, *options, plugin=False).code == 0
        with used.recording_headers() as together:
            result = cli.copy(used.url, *options)
        assert (result.code, result.errors) == (0, "")
        assert (result.hello["fast"], result.hello["reason"]) == (True, "")
        assert len(result.sent(fast=True)) == 4
        assert requests_by_path(together) == requests_by_path(without)
        assert sum("expect" in each for each in together) == 1, "the template is the CLI's own request"
        assert stored(used) == tree(cli.folder)


def test_receipts_are_what_s3_has(cli: Cli, server: S3Server) -> None:
    for name, size in (("0", 10), ("1", 0), ("2", 8 * MIB - 1), ("3", 8 * MIB), ("4", 17 * MIB)):
        cli.write(name, os.urandom(size))
    result = cli.copy(server.url)
    assert result.code == 0
    assert result.hello["version"].startswith("aws-cli/")
    objects = {key: (each.size, each.etag) for key, each in server.objects(BUCKET).items()}
    puts = {e["key"]: (e["size"], e["etag"]) for e in result.events if e["event"] == "put"}
    parts = [(e["key"], e["size"]) for e in result.events if e["event"] == "part"]
    whole = {
        e["key"]: (sum(size for key, size in parts if key == e["key"]), e["etag"])
        for e in result.events
        if e["event"] == "object"
    }
    assert puts | whole == objects
    assert len(result.sent(fast=True)) == 2
    assert sorted(parts) == [("RUN/3", 8 * MIB), ("RUN/4", MIB), ("RUN/4", 8 * MIB), ("RUN/4", 8 * MIB)]


@pytest.mark.parametrize(("size", "limit"), [(MIB + 1, ""), (1, "s3 =\n  max_bandwidth = 100MB/s\n")])
def test_no_receipt_is_lost_at_the_end(cli: Cli, server: S3Server, size: int, limit: str) -> None:
    """Also of files that s3transfer sends: they are not small, or it limits the bandwidth."""
    cli.configure(f"[default]\n{limit}")
    for number in range(9):
        cli.write(str(number), b"x" * size)
    result = cli.copy(server.url)
    assert result.hello["fast"]
    assert sorted(result.sent(fast=True) + result.sent(fast=False)) == [f"RUN/{number}" for number in range(9)]


@pytest.mark.parametrize("sse", ["aws:kms", "AES256"])
def test_receipts_say_whether_an_etag_is_not_an_md5(cli: Cli, server: S3Server, sse: str) -> None:
    for name, size in (("0", 10), ("1", 10), ("2", 10), ("3", 8 * MIB)):
        cli.write(name, os.urandom(size))
    result = cli.copy(server.url, f"--sse={sse}")
    stored_events = [e for e in result.events if e["event"] in ("put", "object")]
    assert [e.get("opaque", False) for e in stored_events] == [sse == "aws:kms"] * 4
    assert result.sent(fast=True)


def test_any_name_and_content(cli: Cli, server: S3Server) -> None:
    cli.write("!")
    for number, name in enumerate(HOSTILE_NAMES):
        cli.write(f"Data/{name}", b"x" * number)
    result = cli.copy(server.url)
    assert (result.code, result.errors) == (0, "")
    assert stored(server) == tree(cli.folder)
    assert len(result.sent(fast=True)) == len(HOSTILE_NAMES)


@pytest.mark.parametrize("fast", [True, False])
def test_files_of_a_list_are_sent_as_those_of_a_folder(cli: Cli, server: S3Server, fast: bool) -> None:
    """Also large ones, and those that the fast path does not send; what the list does not name is not sent."""
    if not fast:
        cli.configure("[default]\ncli_history = enabled\n")
    run = cli.root / "run"
    content = {"!": b"", **{f"Data/{name}": b"x" * 9 for name in HOSTILE_NAMES}, "large": os.urandom(8 * MIB + 1)}
    for name in (*content, "other"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content.get(name, b""))
    (run / "link").symlink_to("large")
    cli.folder.mkdir()
    parts = (f"{cli.folder}/", f"{run}/", *content, "link", "gone")
    (cli.root / "list").write_bytes(b"".join(os.fsencode(part) + b"\0" for part in parts))
    cli.variables["S3SYNC_FILE_LIST"] = str(cli.root / "list")
    result = cli.copy(server.url)
    assert (result.code, result.hello["lists"], result.hello["fast"]) == (2, True, fast)
    assert result.errors.count("File does not exist") == result.errors.count("\n") == 1
    assert stored(server) == {**content, "link": content["large"]}


FAULTS = {
    "busy": Fault("status", status=503, code="SlowDown"),
    "reset": Fault("reset"),
    "lost reply": Fault("lost_reply"),
    "bad digest": Fault("status", status=400, code="BadDigest"),
    "redirect": Fault("status", status=307, code="TemporaryRedirect"),
    "expired token": Fault("status", status=400, code="ExpiredToken"),
    "hang": Fault("hang"),
    "moved": Fault("status", status=301, code="PermanentRedirect"),
}


@pytest.mark.parametrize("first", [0, 4])
def test_failures_of_the_fast_path_are_left_to_the_cli(cli: Cli, server: S3Server, first: int) -> None:
    """Four at once: if eight requests in a row failed, whatever the order, the CLI would go on alone."""
    for name in "0123456789":
        cli.write(name, name.encode())
    failing = "2468"
    for name, fault in zip(failing, list(FAULTS.values())[first : first + 4], strict=True):
        server.add_fault(replace(fault, key_contains=f"RUN/{name}"))
    result = cli.copy(server.url, "--cli-read-timeout=5")  # longer than a busy machine needs to answer
    assert (result.code, result.errors) == (0, "")
    assert stored(server) == tree(cli.folder)
    slow = {key.removeprefix("RUN/") for key in result.sent(fast=False)}
    assert slow >= set(failing)
    assert len(slow) <= len(failing) + 1, "one may be the template"
    assert len(slow) + len(result.sent(fast=True)) == 10


def test_what_fails_for_good_fails_with_the_message_of_the_cli(cli: Cli, server: S3Server) -> None:
    for name in "012":
        cli.write(name)
    server.add_fault(Fault("status", status=403, code="AccessDenied", key_contains="RUN/1", count=None))
    result = cli.copy(server.url)
    assert result.code == 1
    assert "An error occurred (AccessDenied) when calling the PutObject operation" in result.errors
    assert {*result.sent(fast=False), *result.sent(fast=True)} == {"RUN/0", "RUN/2"}


def test_a_server_that_refuses_copies_gets_no_more_of_them(cli: Cli, server: S3Server) -> None:
    """Each file costs one more request then; after a few, the CLI continues alone."""
    names = [f"{number:02}" for number in range(12)]
    for name in names:
        cli.write(name, name.encode())
    for name in names:
        server.add_fault(Fault("status", key_contains=f"RUN/{name}"))
    result = cli.copy(server.url)
    slow = [event["reason"] for event in result.events if event["event"] == "slow"]
    assert len(slow) == 1
    assert "8 requests in a row failed" in slow[0]
    assert (result.code, len(result.sent(fast=False))) == (0, len(names))


def test_an_untrusted_certificate_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli.write("0")
    cli.environ["AWS_MAX_ATTEMPTS"] = "1"
    with tls_server(tmp_path) as (server, _):
        result = cli.copy(server.url)
        assert result.code == 1
        assert "SSL validation failed" in result.errors
        assert not server.requests


def test_a_bundle_of_the_config_is_trusted(cli: Cli, tmp_path: Path) -> None:
    for name in "012":
        cli.write(name)
    with tls_server(tmp_path) as (server, certificate):
        cli.configure(f"[default]\nca_bundle = {certificate}\n")
        result = cli.copy(server.url)
    assert (result.code, len(result.sent(fast=True))) == (0, 2)


def test_credentials_are_requested_before_each_request(cli: Cli, server: S3Server, tmp_path: Path) -> None:
    """The first ones are about to expire, so the CLI gets others before each use; the third can be kept."""
    give = tmp_path / "give.py"
    give.write_text(
        "import datetime, json, pathlib\n"
        f"log = pathlib.Path({str(tmp_path / 'log')!r})\n"
        "number = len(log.read_text()) if log.exists() else 0\n"
        "log.write_text('x' * (number + 1))\n"
        "minutes = 5 if number < 3 else 600\n"
        "end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{number}', 'SecretAccessKey': f'secret-{number}',\n"
        "                  'SessionToken': f'token-{number}', 'Expiration': end.isoformat()}))\n"
    )
    cli.configure(f"[profile lab]\ncredential_process = /usr/bin/python3 {give}\n")
    cli.environ |= {"AWS_PROFILE": "lab", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    for name in "01234567":
        cli.write(name)
    with server.recording_headers() as headers:
        result = cli.copy(server.url)
    assert (result.code, result.errors) == (0, "")
    keys = [each["authorization"].partition("Credential=")[2].partition("/")[0] for each in headers]
    assert keys[-1] == "KEY3"
    assert len(set(keys)) > 1
    assert [each["x-amz-security-token"][-1] for each in headers] == [key[-1] for key in keys]
    assert result.sent(fast=True)


def test_an_interrupt_ends_it(cli: Cli, server: S3Server) -> None:
    names = [f"{number:03}" for number in range(1000)]
    server.latency = 0.02  # for all of them that is longer than a signal takes to be noticed
    for name in names:
        cli.write(name, name.encode())
    with server.hold(15) as gate:  # all others, so that the signal need not be faster than them
        process, reader = cli.start(server.url)
        gate.wait_held()
        process.send_signal(signal.SIGINT)
        gate.release()
        result = finish(process, reader)
    assert result.code == 1
    assert result.sent(fast=True)
    assert len(stored(server)) < len(names)


def test_a_cli_that_does_not_find_the_plugin_is_started_again_without_it(
    lab: Lab, server: S3Server, small_run: Path, fake_aws: FakeAws
) -> None:
    aws = fake_aws("os.environ.pop('PYTHONPATH', None)")
    result = lab.upload(small_run, "--aws_command", aws)
    assert result.code == 0, result.err
    is_verified(lab, small_run, server)


def test_small_files_in_a_bucket_that_kms_encrypts_from_now_on_are_verified_without_further_requests(
    lab: Lab, server: S3Server, small_run: Path
) -> None:
    with server.hold(key_contains="Data/") as gate:
        process = lab.start(*lab.upload_argv(small_run))
        gate.wait_held()
        server.wait_for(lambda request: request.key.endswith("RunInfo.xml"))
        server.encrypt_by_default(BUCKET, "aws:kms")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    log = lab.log(small_run)
    assert {log["verified_by"], *log["verified_by_exceptions"].values()} == {"etag", "checksum"}
    assert server.counters["HeadObject"] == 0
    is_verified(lab, small_run, server)


@pytest.mark.parametrize("client", ["auto", "default"])
def test_the_plugin_is_loaded_unless_that_is_switched_off(
    lab: Lab, server: S3Server, small_run: Path, client: str
) -> None:
    with server.recording_headers() as headers:
        result = lab.upload(small_run, "--transfer_client", client)
    assert result.code == 0, result.err
    puts = ["expect" in each for each in headers if "x-amz-sdk-checksum-algorithm" in each]
    assert len(puts) >= len(tree(small_run))
    assert all(puts) == (client == "default")
    is_verified(lab, small_run, server)


@pytest.mark.parametrize("breaks", [False, True])
def test_processes_take_a_list_once_one_has_said_that_it_can(
    lab: Lab, server: S3Server, small_run: Path, fake_aws: FakeAws, breaks: bool
) -> None:
    """If a process then does not take it after all, what it should have listed is sent again."""
    forgetting = "os.environ.pop('S3SYNC_FILE_LIST', None)" if breaks else "pass"
    code = f"""
if "cp" in argv:
    with open({str(lab.home / "ways")!r}, "a") as stream:
        stream.write("list " if "S3SYNC_FILE_LIST" in os.environ else "links ")
    {forgetting}
"""
    result = lab.upload(small_run, "--aws_command", fake_aws(code))
    assert result.code == 0, result.err
    first, *others = (lab.home / "ways").read_text().split()
    assert first == "links"
    assert others[-1] == ("links" if breaks else "list")
    assert "list" in others
    is_verified(lab, small_run, server)


def test_why_the_fast_path_is_not_used_is_reported_once(lab: Lab, server: S3Server, small_run: Path) -> None:
    (lab.home / ".aws").mkdir()
    (lab.home / ".aws/config").write_text("[default]\ncli_history = enabled\n")
    result = lab.upload(small_run)
    assert result.code == 0, result.err
    assert result.err.count("in its own, slower way: the AWS CLI records its requests (cli_history)") == 1
    is_verified(lab, small_run, server)


def test_nothing_is_reported_of_a_fast_path_that_is_used(lab: Lab, server: S3Server, small_run: Path) -> None:
    result = lab.upload(small_run)
    assert (result.code, "slower way" in result.err) == (0, False)
    is_verified(lab, small_run, server)


@pytest.mark.real
@pytest.mark.xdist_group("real servers")
def test_a_server_that_checks_signatures_takes_them(cli: Cli, ceph: Gateway) -> None:
    bucket = f"lab-{uuid.uuid4().hex[:8]}"
    s3 = client(*ceph)
    s3.create_bucket(Bucket=bucket)
    cli.environ |= {"AWS_ACCESS_KEY_ID": ceph.access_key, "AWS_SECRET_ACCESS_KEY": ceph.secret_key}
    for number, name in enumerate(HOSTILE_NAMES):
        cli.write(f"Data/{name}", b"x" * number)
    cli.write("large", os.urandom(8 * MIB - 1))
    result = cli.copy(ceph.url, bucket=bucket)
    assert (result.code, result.errors) == (0, "")
    assert len(result.sent(fast=True)) == len(HOSTILE_NAMES)
    for name, content in tree(cli.folder).items():
        assert s3.get_object(Bucket=bucket, Key=f"RUN/{name}")["Body"].read() == content
    cli.environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
    refused = cli.copy(ceph.url, bucket=bucket)
    assert (refused.code, [event["event"] for event in refused.events]) == (1, ["hello"])
