"""Secrets reach nobody, files of others stay where they are, and no name, sheet or answer has a word to say here."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import botocore
import botocore.session
import botocore.validate
import pytest

from s3sync.aws import argv as aws_argv
from s3sync.aws.client import AwsCli
from s3sync.aws.destination import BucketRef
from s3sync.aws.fork_server import VARIABLE as FORK_SERVER
from s3sync.aws.launcher import Launcher
from s3sync.config import load_config
from s3sync.monitor.notify import Channels, recipients_of
from s3sync.signals import StopRequest
from s3sync.transfer.displays import Display, Lines
from s3sync.transfer.live_board import LiveBoard
from tests.helpers.hooks import Hooks
from tests.helpers.lab import AWS_V1, BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.s3server import S3Server
from tests.helpers.site import Site, began_on

pytestmark = pytest.mark.real_aws

# In front of the real `aws`: what it was given, and what lies around meanwhile, as a line of JSON.
RECORDER = """
import json
def look(top):
    for folder, _, names in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            try:
                if not os.path.islink(path):
                    content = "" if path == folder else open(path, errors="replace").read()
                    yield path, os.stat(path).st_mode & 0o7777, content
            except FileNotFoundError:  # others are at work here
                pass
with open(f"/proc/{os.getppid()}/cmdline") as parent:
    call = {"argv": argv, "parent": parent.read(), "env": dict(os.environ), "around": [*look(LOG_DIR), *look(TMP)]}
with open(CALLS, "a") as calls:
    calls.write(json.dumps(call) + chr(10))
"""


class Call(NamedTuple):
    """A call of `aws`: its argv and environment, the argv of s3sync, and each file and folder of the log folder and
    the folder for temporary files at that moment: path, mode and content."""

    argv: list[str]
    parent: str
    env: dict[str, str]
    around: list[tuple[str, int, str]]


def recorder(lab: Lab) -> str:
    """The code of an `aws` that records its calls in this lab."""
    places = {"CALLS": str(lab.root / "calls"), "LOG_DIR": str(lab.log_dir), "TMP": str(lab.tmp)}
    return "".join(f"{name} = {path!r}\n" for name, path in places.items()) + RECORDER


def calls_in(lab: Lab) -> list[Call]:
    return [Call(**json.loads(line)) for line in (lab.root / "calls").read_text().splitlines()]


def make_aws(folder: Path, code: str) -> str:
    """As the fixture `fake_aws`, for a fixture of a wider scope."""
    folder.mkdir()
    script = folder / "aws"
    head = f"#!{sys.executable}\nimport os, sys\nargv = sys.argv[1:]\nos.environ.pop({FORK_SERVER!r}, None)\n"
    script.write_text(f"{head}{code}\nos.execv({AWS_V1!r}, [{AWS_V1!r}, *argv])\n")
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def site(tmp_path: Path, server: S3Server, aws_of_lab: str) -> Site:
    return Site(tmp_path, server.url, aws_of_lab)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four small files, for --skip_check."""
    run = tmp_path / "instrument" / "RUN"
    (run / "Data").mkdir(parents=True)
    for path in ("RunInfo.xml", "Data/a", "Data/b", "Data/c"):
        (run / path).write_text(f"mine: {path}")
    return run


# Secrets

S3CRET = "s3cr3t"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{S3CRET}IN0ENV",
    "AWS_SECRET_ACCESS_KEY": f"{S3CRET}/secret+key=",
    "AWS_SESSION_TOKEN": f"{S3CRET}/session/token==",
}


class Watched(NamedTuple):
    """A scan with secrets everywhere and the most talkative log, and the one after midnight."""

    site: Site
    results: tuple[Result, ...]
    calls: list[Call]
    received: list[tuple[str, str]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """With a umask that lets everybody read and write; a run that is uploaded, and one that is reported."""
    with S3Server() as server, Hooks() as hooks:
        server.create_bucket(BUCKET)
        site = Site(tmp_path_factory.mktemp("watched"), server.url.replace("//", f"//user:{S3CRET}-pw@"))
        site.run_folder("250101_M01234_0001_AAAAA")
        (site.run_folder("250102_M01234_0002_BBBBB") / "RunInfo.xml").write_text("no XML")
        names = ("slack_log_webhook", "slack_alert_webhook", "webhook", "ping_url")
        urls = {f"S3SYNC_{name.upper()}": f"{hooks.url}/{S3CRET}/{name}" for name in names}
        proxy = {"HTTPS_PROXY": f"http://user:{S3CRET}-proxy@127.0.0.1:9"}
        site.env.update({**CREDENTIALS, **urls, **proxy})
        aws = make_aws(site.root / "fake", recorder(site))
        site.write([site.entry()], log_level="DEBUG", aws_command=aws)
        first = site.scan(umask=0)
        began_on(site.log_dir / "s3_upload.log", "2025-03-01")
        (site.log_dir / "s3_upload.log").chmod(0o644)
        second = site.scan(umask=0)
        yield Watched(site, (first, second), calls_in(site), hooks.new())


@pytest.mark.xdist_group("watched")
def test_the_watched_scans_did_what_they_should(watched: Watched) -> None:
    """Else the tests below show nothing."""
    assert [result.code for result in watched.results] == [1, 1]
    assert watched.site.states() == {"250101_M01234_0001_AAAAA": "uploaded", "250102_M01234_0002_BBBBB": "unreadable"}
    assert {path for path, _ in watched.received} >= {f"/{S3CRET}/ping_url/start", f"/{S3CRET}/slack_alert_webhook"}
    assert {"--version", "cp", "list-objects-v2"} <= {word for call in watched.calls for word in call.argv}
    assert watched.calls[0].env["AWS_SESSION_TOKEN"] == CREDENTIALS["AWS_SESSION_TOKEN"]
    names = {Path(path).name for call in watched.calls for path, _, _ in call.around}
    assert {"aws-config", "monitor.lock", "s3_upload.log"} <= names
    assert any(name.endswith(".journal.jsonl") for name in names)
    assert (watched.site.log_dir / "notifications.json").exists()


@pytest.mark.xdist_group("watched")
def test_no_secret_is_in_the_arguments_of_a_process(watched: Watched) -> None:
    """All users of a machine can list them."""
    for call in watched.calls:
        assert S3CRET not in f"{call.argv} {call.parent}"
        assert "--debug" not in call.argv, "it prints the session token"


@pytest.mark.xdist_group("watched")
def test_urls_of_notifications_are_not_passed_to_children(watched: Watched) -> None:
    for call in watched.calls:
        assert not {name for name in call.env if name.startswith("S3SYNC_")} - {
            "S3SYNC_RECEIPTS_FD",
            "S3SYNC_FILE_LIST",
        }


@pytest.mark.xdist_group("watched")
def test_no_secret_is_logged_or_printed(watched: Watched) -> None:
    """Nor in the journal, the locks, or what the receivers of notifications get: seen while it runs and afterwards."""
    for result in watched.results:
        assert S3CRET not in result.out + result.err
    for call in watched.calls:
        assert not [path for path, _, content in call.around if S3CRET in content]
    for path in watched.site.log_dir.rglob("*"):
        assert S3CRET not in str(path.relative_to(watched.site.root))
        assert path.is_dir() or S3CRET not in path.read_text()
    assert not [body for _, body in watched.received if S3CRET in body]


@pytest.mark.xdist_group("watched")
def test_everything_that_a_scan_writes_is_private(watched: Watched) -> None:
    """With any umask: logs, the rotated one, journal, locks, state files; the temporary folder with its AWS config."""
    during = {(path, mode) for call in watched.calls for path, mode, _ in call.around if path != str(watched.site.tmp)}
    after = {(str(path), stat.S_IMODE(path.stat().st_mode)) for path in watched.site.log_dir.rglob("*")}
    work = f"{watched.site.tmp}/s3sync-work-{os.geteuid()}"
    assert {path.name for path in watched.site.log_dir.glob("s3_upload.log.*")}, "it was rotated"
    assert (work, 0o700) in during
    assert (str(watched.site.log_dir), 0o700) in during
    assert [(path, oct(mode)) for path, mode in sorted(during | after) if mode not in (0o600, 0o700)] == []
    files = {path for path, mode in during | after if mode == 0o600}
    assert not {path for path in files if os.path.isdir(path)}


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_everything_that_an_upload_writes_is_private(
    lab: Lab, server: S3Server, folder: Path, fake_aws: FakeAws, umask: int
) -> None:
    result = lab.upload(folder, "--skip_check", "--aws_command", fake_aws(recorder(lab)), umask=umask)

    assert result.code == 0
    during = {(path, mode) for call in calls_in(lab) for path, mode, _ in call.around if path != str(lab.tmp)}
    after = {(str(path), stat.S_IMODE(path.stat().st_mode)) for path in (lab.log_dir, *lab.log_dir.rglob("*"))}
    private = {path: mode for path, mode in during | after if "/batch-" not in path}
    assert set(private.values()) == {0o600, 0o700}
    assert {mode for path, mode in private.items() if path.endswith((".json", ".jsonl", ".lock", "aws-config"))} == {
        0o600
    }
    assert private[str(lab.log_dir)] == private[f"{lab.tmp}/s3sync-work-{os.geteuid()}"] == 0o700


# It prints all that it knows, fails with each file for a different reason, and has sent nothing.
TALKATIVE = """
said = " ".join(os.environ.get(name, "") for name in sorted(os.environ) if "AWS" in name or "PROXY" in name)
for path in (os.environ["AWS_CONFIG_FILE"], os.path.expanduser("~/.aws/credentials")):
    if os.path.exists(path):
        said += " " + " ".join(open(path).read().split())
if "--version" in argv:
    print("aws-cli/1.46.3", said)
    sys.exit(0)
print("warning:", said, file=sys.stderr)
if "cp" not in argv:
    print("[]")
    sys.exit(0)
at = argv.index("cp")
for folder, _, names in os.walk(argv[at + 1]):
    for path in (os.path.relpath(os.path.join(folder, name), argv[at + 1]) for name in names):
        why = f"An error occurred (AccessDenied) when calling the PutObject operation: {said}"
        print(f"upload failed: x/{path} to {argv[at + 2]}{path} {why}")
print(said)
sys.exit(1)
"""
IN_A_FILE = f"""\
[default]
aws_access_key_id = AKIA{S3CRET}IN0A0FILE
aws_secret_access_key = {S3CRET}/in/a+file
[other]
aws_session_token = {S3CRET}/of/another/profile
"""


@pytest.mark.parametrize("where", ["environment", "credentials file", "config file", "URLs"])
def test_what_aws_prints_of_credentials_is_redacted(lab: Lab, folder: Path, fake_aws: FakeAws, where: str) -> None:
    """In what is printed and in the log, which has the CLI's version and its reason for each file."""
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if where == "environment":
        lab.env.update(CREDENTIALS)
    elif where == "URLs":
        endpoint = lab.env["AWS_ENDPOINT_URL"].replace("//", f"//user:{S3CRET}@")
        lab.env.update(AWS_ENDPOINT_URL=endpoint, HTTPS_PROXY=f"http://{S3CRET}@proxy:3128")
    else:
        (lab.home / ".aws").mkdir()
        (lab.home / ".aws" / where.split()[0]).write_text(IN_A_FILE.replace("[other]", "[profile other]"))
        lab.env = {name: value for name, value in lab.env.items() if name not in keys}

    result = lab.upload(folder, "--skip_check", "--aws_command", fake_aws(TALKATIVE))

    log = lab.log(folder)
    assert (result.code, result.error_ids) == (1, ["s3.access-denied"])
    assert all("[redacted]" in reason for reason in log["failed_reasons"].values())
    assert len(log["failed_reasons"]) == 4
    assert "[redacted]" in log["aws"]
    assert S3CRET not in result.out + result.err
    assert not [path for path in lab.log_dir.rglob("*") if path.is_file() and S3CRET in path.read_text()]


def test_no_secret_is_in_a_repr(tmp_path: Path) -> None:
    """Tracebacks and debuggers show them."""
    entry = {"monitored_directories": ["/data"], "bucket": BUCKET, "remote_path": "/"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"webhook": f"https://{S3CRET}.example.org/", "monitor": [entry]}))
    path.chmod(0o600)
    environ = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"https://{S3CRET}@s3", "AWS_CONFIG_FILE": "/nowhere"}
    config = load_config(path, {"S3SYNC_PING_URL": f"https://{S3CRET}.example.org/ping"})
    channels = Channels(*(f"https://{S3CRET}.example.org/{number}" for number in range(4)))
    assert config.webhook
    assert config.ping_url
    for value in (
        config,
        config.webhook,
        channels,
        recipients_of(channels),
        AwsCli(Launcher("/bin/aws", environ), StopRequest()),
    ):
        assert S3CRET not in f"{value!r} {value} {value!s:.999}"


def test_a_config_with_secrets_must_be_private(site: Site) -> None:
    site.write([site.entry()], slack_log_webhook=f"http://127.0.0.1:1/{S3CRET}")
    site.config.chmod(0o644)

    result = site.scan()

    assert result.code == 78
    assert "chmod 600" in result.err
    assert S3CRET not in result.err
    site.write([site.entry()])
    site.config.chmod(0o644)
    assert site.scan(env={"S3SYNC_SLACK_LOG_WEBHOOK": f"http://127.0.0.1:1/{S3CRET}"}).code == 0


# The files of the run, and no others


def test_no_link_leads_out_of_the_run(lab: Lab, server: S3Server, folder: Path) -> None:
    """To a file, to a folder, through a link that lies inside, through the parent, and by way of the run itself."""
    outside = lab.root / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("theirs")
    (folder / "file").symlink_to(outside / "theirs")
    (folder / "folder").symlink_to(outside)
    (folder / "chain").symlink_to("file")
    (folder / "Data" / "up").symlink_to("../../../outside/theirs")
    (folder / "Data" / "round").symlink_to("../folder/theirs")
    (folder / "sibling").symlink_to(f"../../{outside.name}/theirs")

    result = lab.upload(folder, "--skip_check")

    names = {"file", "folder", "chain", "Data/up", "Data/round", "sibling"}
    log = lab.log(folder)
    assert (result.code, log["completed"]) == (1, False)
    assert set(log["failed_upload_files"]) == {str(folder / name) for name in names}
    assert all("a link out of the run, to " in reason for reason in log["failed_reasons"].values())
    assert {item.body for item in server.objects(BUCKET).values()} == {
        f"mine: {path}".encode() for path in ("RunInfo.xml", "Data/a", "Data/b", "Data/c")
    }


@pytest.mark.parametrize("held", ["RunInfo.xml", "Data/a"])
def test_a_folder_that_becomes_a_link_out_of_the_run_proves_nothing(
    lab: Lab, server: S3Server, folder: Path, held: str
) -> None:
    """Between the listing and the sending, or while its files are sent. The others' files have the same sizes and
    times, and sizes are all that is compared: where a file really lies is what tells."""
    outside = lab.root / "outside"
    outside.mkdir()
    for name in ("a", "b", "c"):
        (outside / name).write_text(f"them: Data/{name}")
        status = (folder / "Data" / name).stat()
        os.utime(outside / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    options = ("--skip_check", "--cores", "1", "--threads", "1", "--verify", "size")
    with server.hold(key_contains=held) as gate, lab.start(*lab.upload_argv(folder, *options)) as process:
        gate.wait_held()
        (folder / "Data").rename(folder.with_name("away"))
        (folder / "Data").symlink_to(outside)
        gate.release()
        out, err = process.communicate(timeout=240)

    log = lab.log(folder)
    assert (process.returncode, log["completed"]) == (1, False), out + err
    assert log["uploaded_files"].keys() == {str(folder / "RunInfo.xml")}
    if held == "RunInfo.xml":
        assert not any((item.body or b"").startswith(b"them") for item in server.objects(BUCKET).values())
    (folder / "Data").unlink()
    folder.with_name("away").rename(folder / "Data")
    assert lab.upload(folder, "--skip_check").code == 0
    assert {key.removeprefix("RUN/"): item.body for key, item in server.objects(BUCKET).items()} == tree(folder)


def test_names_are_never_commands(lab: Lab, server: S3Server, folder: Path) -> None:
    """There is no shell, and every name is where the CLI cannot take it for anything else."""
    hostile = ("$(touch x)", "`touch x`", "; touch x", "| touch x", "&& touch x", "-rf", "--debug", "a'b\"c")
    run = folder.rename(folder.with_name("$(touch x); `touch x`"))
    (run / "--endpoint-url=http:").mkdir()
    for name in hostile:
        (run / name).write_text(name)
        (run / "--endpoint-url=http:" / name).write_text(name)
    before = set(lab.root.rglob("x"))

    result = lab.upload(run, "--skip_check", "--remote_path", "/--debug/$(touch x)/`touch x`", cwd=lab.root)

    assert result.code == 0, result.out + result.err
    prefix = f"--debug/$(touch x)/`touch x`/{run.name}/"
    stored = {key.removeprefix(prefix): item.body for key, item in server.objects(BUCKET).items()}
    assert stored == tree(run)
    assert set(lab.root.rglob("x")) == before
    assert not Path("x").exists()
    for bucket in ("$(touch x)", "--debug", "a;touch x", "`x`"):
        refused = lab.run("upload", "--local_path", str(run), f"--bucket={bucket}", "--log_dir", str(lab.log_dir))
        assert (refused.code, refused.out) == (2, "")


# Control characters

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b31m\r"
# Whatever it says, it says in colour; nothing is in S3, and nothing gets there.
COLOURFUL = f"""
escapes = {ESCAPES!r}
if "--version" in argv:
    print("aws-cli/1.46.3 " + escapes)
elif "list-objects-v2" in argv:
    print("[]")
else:
    at = argv.index("cp") if "cp" in argv else 0
    names = os.listdir(argv[at + 1]) if at else ()
    for name in names:
        print(f"upload failed: x/{{name}} to {{argv[at + 2]}}{{name}} An error occurred (SlowDown): " + escapes)
    print("An error occurred (404): Not Found " + escapes, file=sys.stderr)
    sys.exit(1)
sys.exit(0)
"""


def is_safe(text: str) -> bool:
    return all(character.isprintable() for character in text.replace("\n", ""))


@pytest.fixture
def colourful(site: Site, fake_aws: FakeAws) -> Site:
    """A site where every name, sheet, RunInfo.xml and answer has escape sequences, and line breaks where it can."""
    evil = site.run_folder("250101_M01234_0001_AAAAA", samples="S1")
    evil = evil.rename(evil.with_name(f"evil{ESCAPES}\n2026-01-01 00:00:00,000 INFO [1] forged"))
    for path in [path for path in evil.rglob("*") if path.suffix in (".bcl", ".locs", ".bin", ".filter", ".gz")]:
        path.unlink()
    (evil / f"file{ESCAPES}").write_text("x")
    (evil / f"out{ESCAPES}\nforged").symlink_to("/etc/hostname")
    mismatch = site.run_folder("250102_M01234_0002_BBBBB")
    sheet = f"[Data]\nSample_ID,Sample_Name\nX{ESCAPES.strip()}Y,\x85Z\x1b[0m\n"
    (mismatch / "SampleSheet.csv").write_text(sheet, newline="")
    odd = site.run_folder("250103_M01234_0003_CCCCC", complete=False)
    (odd / "RunInfo.xml").write_text(
        "<RunInfo><Run Id='&#155;31m'><Instrument>&#155;31m&#10;forged</Instrument><Flowcell>&#155;&#8238;</Flowcell>"
        "<Date>&#13;&#155;</Date></Run></RunInfo>"
    )
    broken = site.run_folder("250104_M01234_0004_DDDDD")
    (broken / "RunInfo.xml").write_text("<R>&e\u200d;</R>")
    keys = {"log_level": "DEBUG", "aws_command": fake_aws(COLOURFUL), "require_whole_runs": False}
    site.write([site.entry(sample_regex="^S")], **keys)
    return site


def test_no_control_character_reaches_terminal_log_or_message(colourful: Site) -> None:
    site, config = colourful, ("--config", str(colourful.config))
    evil = next(path for path in site.runs.iterdir() if path.name.startswith("evil"))
    aws = json.loads(site.config.read_text())["aws_command"]
    more = ("--aws_command", aws, "--bucket", BUCKET)
    with Hooks() as hooks:
        for name in ("SLACK_ALERT_WEBHOOK", "WEBHOOK", "PING_URL"):
            site.env[f"S3SYNC_{name}"] = f"{hooks.url}/{name}"
        shown = [
            site.scan(),
            site.run("status", *config),
            site.run("status", *config, *(path.name for path in site.runs.iterdir())),
            site.run("status", *config, f"nobody{ESCAPES}"),
            site.run("monitor", *config, "--dry_run"),
            site.run("verify", str(evil), *more),
            site.run("upload", "--local_path", str(site.runs / "250103_M01234_0003_CCCCC"), *more),
            site.run("upload", "--local_path", str(site.runs / "250104_M01234_0004_DDDDD"), *more),
        ]
        received = hooks.new()

    for result in shown:
        assert is_safe(result.out + result.err), repr(result)
        assert "Traceback" not in result.err
    for line in site.log_text().splitlines():
        assert line.isprintable()
        assert re.match(r"\d{4}-\d\d-\d\d .* \[\d+\] (?!forged)", line), line
    assert any(r"An error occurred (SlowDown): \x1b[31m" in line for line in site.log_text().splitlines())
    assert r"evil\x1b[31m" in shown[1].out
    assert "failed files:" in shown[2].out
    slack = [json.loads(body)["text"] for path, body in received if "SLACK" in path]
    reports = [json.loads(body) for path, body in received if path == "/WEBHOOK"]
    runs = [text for report in reports for run in report["runs"] for text in run.values()]
    pings = [body for path, body in received if path.startswith("/PING")]
    assert len(runs) >= 3
    assert all(is_safe(text.replace("\n\t\t•", "")) for text in (*slack, *runs, *pings))
    assert not any("\nforged" in text for text in (*slack, *runs, *pings))


def test_json_stays_json_regardless_of_the_names(colourful: Site) -> None:
    site, config = colourful, ("--config", str(colourful.config))
    evil = next(path for path in site.runs.iterdir() if path.name.startswith("evil"))
    more = ("--aws_command", json.loads(site.config.read_text())["aws_command"], "--bucket", BUCKET, "--json")
    for argv in (
        ("monitor", *config, "--dry_run", "--json"),
        ("status", *config, "--json"),
        ("status", *config, "--json", evil.name),
        ("verify", str(evil), *more),
        ("upload", "--local_path", str(evil), "--dry_run", "--log_dir", str(site.log_dir), *more),
        ("upload", "--local_path", str(site.runs / "250104_M01234_0004_DDDDD"), *more),
    ):
        result = site.run(*argv)
        assert is_safe(result.out), argv
        assert json.loads(result.out), argv


@pytest.mark.parametrize("open_display", [Lines, lambda stream: LiveBoard(stream).display()])
def test_what_a_display_says_is_one_line(open_display: Callable[[TextIO], Display]) -> None:
    stream = io.StringIO()
    with contextlib.suppress(AttributeError):
        stream.isatty = lambda: False  # type: ignore[method-assign]
    open_display(stream).print(f"warning: a{ESCAPES}\nb")
    assert stream.getvalue() == "warning: a" + r"\x1b[31m\x1b]0;title\x07\x9b31m\r\nb" + "\n"


def test_names_that_the_terminal_cannot_show_are_escaped(site: Site) -> None:
    """They end no command."""
    run = site.run_folder("250101_M01234_0001_AAAAA", complete=False)
    run.rename(run.with_name("ラン"))

    result = site.run("status", "--config", str(site.config), env={"PYTHONIOENCODING": "latin-1"})

    assert (result.code, result.err) == (0, "")
    assert r"\u30e9\u30f3" in result.out


# Regular expressions


def test_a_pathological_regex_holds_a_scan_up_once_and_no_other_run(site: Site, server: S3Server) -> None:
    others = site.root / "other sequencer"
    others.mkdir()
    good = site.run_folder("250109_M01234_0009_GGGGG", samples="S1")
    good = good.rename(others / good.name)
    for number in range(3):
        site.run_folder(f"25010{number}_M01234_0001_AAAAA", samples="a" * 40 + "!")
    site.write(
        [site.entry(sample_regex="(a|aa)+$"), site.entry(sample_regex="^S", monitored_directories=[str(others)])]
    )
    site.set_delays(pattern_searches=0.3)

    result = site.scan()

    assert result.code == 0
    assert result.err.count("takes too long") == 1
    assert result.err.count("took too long with the samplesheet of another run") == 2
    assert {key.split("/")[1] for key in server.objects(BUCKET)} == {good.name}
    assert site.log(good)["completed"] is True
    site.write([site.entry(sample_regex="a" * 1001)])
    assert "at most 1,000 characters" in site.scan().err


# What the user's own settings could change


def test_no_setting_of_the_users_changes_what_is_read(
    lab: Lab, server: S3Server, folder: Path, each_real_aws: str, tmp_path: Path
) -> None:
    """Neither in the environment nor in the AWS config: a pager, prompts, tables, a history of all that was sent."""
    (lab.home / ".aws").mkdir()
    (lab.home / ".aws" / "config").write_text(
        "[default]\noutput = table\ncli_pager = touch pwned\ncli_auto_prompt = on\ncli_timestamp_format = iso8601\n"
        "cli_follow_urlparam = true\ncli_binary_format = raw-in-base64-out\ncolor = on\n"
    )
    theirs = {"AWS_PAGER": "touch pwned", "PAGER": "touch pwned", "AWS_CLI_AUTO_PROMPT": "on"}

    result = lab.upload(
        *(folder, "--skip_check", "--aws_command", each_real_aws, "--readback", "head-object"),
        env={**theirs, "AWS_DEFAULT_OUTPUT": "text", "AWS_CLI_FILE_ENCODING": "ascii"},
        cwd=tmp_path,
    )

    assert result.code == 0, result.out + result.err
    assert {key.removeprefix("RUN/"): item.body for key, item in server.objects(BUCKET).items()} == tree(folder)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.xdist_group("watched")
def test_the_children_have_no_pager_and_no_prompts_and_answer_in_json(watched: Watched) -> None:
    for call in watched.calls:
        pinned = {name: call.env[name] for name in ("AWS_PAGER", "AWS_CLI_AUTO_PROMPT", "AWS_DEFAULT_OUTPUT")}
        assert pinned == {"AWS_PAGER": "", "AWS_CLI_AUTO_PROMPT": "off", "AWS_DEFAULT_OUTPUT": "json"}
        assert "s3api" not in call.argv or "--output=json" in call.argv


# Whose bucket it is

OWNER = "123456789012"  # of the server's buckets


def test_nothing_goes_into_a_bucket_of_another_account(
    lab: Lab, server: S3Server, folder: Path, each_real_aws: str
) -> None:
    options = ("--skip_check", "--aws_command", each_real_aws, "--expected_bucket_owner")

    wrong = lab.upload(folder, *options, "999999999999")

    assert (wrong.code, wrong.out) == (1, "")
    assert "[s3.owner-not-confirmed]" in wrong.err
    assert server.counters["PutObject"] == server.counters["CreateMultipartUpload"] == 0
    assert lab.upload(folder, *options, OWNER).code == 0


@pytest.mark.parametrize("mode", ["head-object", "list-objects-v2"])
def test_the_owner_is_checked_with_everything_that_is_read_back(
    lab: Lab, server: S3Server, folder: Path, mode: str, fake_aws: FakeAws
) -> None:
    """A bucket may be deleted and made anew by somebody else while an upload runs."""
    aws = fake_aws(recorder(lab))
    options = ("--skip_check", "--readback", mode, "--aws_command", aws, "--expected_bucket_owner", OWNER)

    result = lab.upload(folder, *options)

    assert result.code == 0
    asked = [call.argv[call.argv.index("s3api") + 1 :] for call in calls_in(lab) if "s3api" in call.argv]
    assert {options[0] for options in asked} >= {"list-objects-v2", mode}
    assert all(f"--expected-bucket-owner={OWNER}" in options for options in asked)
    verified = lab.run("verify", str(folder), "--bucket", BUCKET, "--expected_bucket_owner", "999999999999")
    assert (verified.code, verified.out) == (1, "")
    assert "[s3.owner-not-confirmed]" in verified.err


# What docs/SECURITY.md tells people to set

GUIDE = (Path(__file__).parents[2] / "docs" / "SECURITY.md").read_text()
# IAM's actions for what the CLI is asked to do; `cp` sends large files in parts, and aborts what it cannot complete.
ACTIONS = {
    "cp": {"s3:PutObject", "s3:AbortMultipartUpload"},
    "head-object": {"s3:GetObject"},
    "head-bucket": {"s3:ListBucket"},
    "list-objects-v2": {"s3:ListBucket"},
    "list-multipart-uploads": {"s3:ListBucketMultipartUploads"},
    "create-multipart-upload": {"s3:PutObject"},
    "abort-multipart-upload": {"s3:AbortMultipartUpload"},
    "get-bucket-encryption": set(),  # s3:GetEncryptionConfiguration, without which a dry run says less
}
ACTIONS_OF_RESTORE = {
    "cp": {"s3:GetObject", "s3:ListBucket"},
    "head-object": {"s3:GetObject"},
    "get-object": {"s3:GetObject"},  # the first byte, with which `cleanup` tries whether a restore would work
    "list-objects-v2": {"s3:ListBucket"},
    "restore-object": {"s3:RestoreObject"},
}
FOR_KMS = {"kms:GenerateDataKey", "kms:Decrypt"}
OF_BUCKETS = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}


def operations_of_restore() -> dict[str, str]:
    """Return what `restore`, and the check of `cleanup`, ask the CLI for, by the function that makes the argv."""
    bucket = BucketRef(BUCKET)
    argvs = {
        "download_folder_argv": aws_argv.download_folder_argv("s3://x/", "x", ()),
        "download_object_argv": aws_argv.download_object_argv("s3://x/k", "x"),
        "part_size_argv": aws_argv.part_size_argv(bucket, "k", 1),
        "read_byte_argv": aws_argv.read_byte_argv(bucket, "k"),
        "list_thawed_argv": aws_argv.list_thawed_argv(bucket, "p", ""),
        "thaw_state_argv": aws_argv.thaw_state_argv(bucket, "k"),
        "thaw_object_argv": aws_argv.thaw_object_argv(bucket, "k", "Bulk", 7),
    }
    return {name: argv[1] for name, argv in argvs.items()}


def operations() -> set[str]:
    """Return what an upload asks the CLI for."""
    bucket = BucketRef(BUCKET)
    argvs = {
        "s3_cp_argv": aws_argv.s3_cp_argv("x", "s3://x/"),
        "head_object_argv": aws_argv.head_object_argv(bucket, "k"),
        "read_object_argv": aws_argv.read_object_argv(bucket, "k"),
        "bucket_encryption_argv": aws_argv.bucket_encryption_argv(bucket),
        "head_bucket_argv": aws_argv.head_bucket_argv(bucket),
        "list_objects_argv": aws_argv.list_objects_argv(bucket, "p", "", 1),
        "list_uploads_argv": aws_argv.list_uploads_argv(bucket, "p"),
        "create_upload_argv": aws_argv.create_upload_argv(bucket, "k"),
        "abort_upload_argv": aws_argv.abort_upload_argv(bucket, "k", "id"),
    }
    makers = {name for name in vars(aws_argv) if name.endswith("_argv")} - {"version_argv"}
    assert argvs.keys() == makers - operations_of_restore().keys(), "a new argv may need a new action in the policy"
    return {argv[1] for argv in argvs.values()}


def test_the_policy_has_exactly_the_actions_that_the_program_needs() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    policy = json.loads(text)
    allowed = {action: s["Resource"] for s in policy["Statement"] for action in s["Action"] if s["Effect"] == "Allow"}
    assert operations() == ACTIONS.keys()
    assert allowed.keys() == set().union(*ACTIONS.values()) | FOR_KMS
    for action, resource in allowed.items():
        assert f"`{action}`" in GUIDE.replace(text, ""), "said what happens without it"
        if action in FOR_KMS:
            assert resource.startswith("arn:aws:kms:")
        else:
            assert resource == ("arn:aws:s3:::BUCKET" if action in OF_BUCKETS else "arn:aws:s3:::BUCKET/PATH/*")


def test_the_page_names_the_actions_that_a_restore_needs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "restore.md").read_text()
    assert set(operations_of_restore().values()) == ACTIONS_OF_RESTORE.keys()
    assert set(re.findall(r"`(s3:\w+)`", page)) == set().union(*ACTIONS_OF_RESTORE.values())


def test_the_commands_for_the_bucket_are_the_clis() -> None:
    """Each names an operation of S3 and gives it what its model asks for."""
    s3 = botocore.session.Session().get_service_model("s3")
    names = {botocore.xform_name(name, "-"): name for name in s3.operation_names}
    commands = [shlex.split(line) for line in GUIDE.splitlines() if line.startswith("    aws ")]
    searches = [command for command in commands if "--query" in command]
    for aws, service, operation, bucket, name, *more in searches:
        assert (aws, service, bucket, name, more[0]) == ("aws", "s3api", "--bucket", "BUCKET", "--query")
        assert operation in names
    commands = [command for command in commands if command not in searches]
    assert (len(searches), len(commands)) == (2, 4)
    for aws, service, operation, bucket, name, option, value in commands:
        assert (aws, service, bucket, name) == ("aws", "s3api", "--bucket", "BUCKET")
        shape = s3.operation_model(names[operation]).input_shape
        members = {f"--{botocore.xform_name(member, '-')}": member for member in shape.members}
        content = json.loads(value)
        given = {"Bucket": "lab-runs", members[option]: value if option == "--policy" else content}
        report = botocore.validate.ParamValidator().validate(given, shape)
        assert not report.has_errors(), report.generate_report()
        assert all(known_members(shape.members[members[option]], content)), "no misspelt names"


def known_members(shape: Any, value: Any) -> Iterator[bool]:
    """Whether each name in a value is one that its shape knows."""
    if isinstance(value, list):
        for item in value:
            yield from known_members(shape.member, item)
    elif isinstance(value, dict) and shape.type_name == "structure":
        for name, inner in value.items():
            yield name in shape.members
            if name in shape.members:
                yield from known_members(shape.members[name], inner)
