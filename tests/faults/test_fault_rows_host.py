"""What goes wrong on this machine: rows 21 to 40 of the project's list of 40 faults, each named after its row.

Whatever happens, the run is completed with every byte verified, or it is pending: the exit code is not 0, the
log is valid and says so, the file is named with the reason, and the next scan completes it when the fault is
gone. Rows 1 to 20, what goes wrong with S3 and the CLI, are in test_fault_rows_s3.py; row 31, kill -9 at any
moment, is in test_crashes.py.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from s3sync.aws.destination import Destination
from tests.helpers.boto import client
from tests.helpers.crashes import orphans_of, wait_for_orphans
from tests.helpers.errors import error_ids
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import (
    BUCKET,
    IMPATIENT,
    FakeAws,
    Lab,
    Result,
    kill_all,
    kill_family,
    send_to_all,
    skip_or_fail,
    tree,
)
from tests.helpers.promise import is_pending, is_verified, next_scan_completes
from tests.helpers.radosgw import Gateway
from tests.helpers.s3server import S3Server
from tests.helpers.site import Site
from tests.helpers.unprivileged import without_override

pytestmark = pytest.mark.real_aws


@pytest.fixture
def site(tmp_path: Path, server: S3Server, aws_of_lab: str) -> Site:
    return Site(tmp_path, server.url, aws_of_lab)


def run_under(
    before: Sequence[str], lab: Lab, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 240
) -> Result:
    """s3sync as another program starts it."""
    argv = (*before, sys.executable, "-W", "error", "-m", "s3sync", *arguments)
    ended = subprocess.run(
        argv, env={**lab.env, **(env or {})}, capture_output=True, text=True, timeout=timeout, check=False
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


def said(result: Result) -> list[str]:
    """The lines that are not the display's."""
    return [line for line in result.err.splitlines() if line.startswith("s3sync: ")]


# Row 21: `aws` is missing, or cannot be run.


@pytest.mark.parametrize(
    ("content", "mode", "error_id", "fact"),
    [
        (None, 0, "aws.no-such-command", "--aws-command"),
        ("#!/bin/sh\n", 0o644, "aws.no-such-command", "--aws-command"),
        ("#!/no/such/sh\n", 0o755, "aws.cannot-start", "/no/such/sh"),
        ("no program\n", 0o755, "aws.cannot-start", "Exec format error"),
        ("#!/bin/sh\nexit 3\n", 0o755, "aws.unusable", "code 3"),
    ],
    ids=["missing", "no x bit", "no interpreter", "wrong format", "not aws"],
)
def test_row_21_aws_missing(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path, content: str | None, mode: int, error_id: str, fact: str
) -> None:
    aws = tmp_path / "aws"
    if content is not None:
        aws.write_text(content)
        aws.chmod(mode)

    result = lab.upload(tiny_run, "--aws_command", str(aws))

    (line,) = said(result)
    assert (error_ids(line), str(aws) in line, fact in line) == ([error_id], True, True), line
    is_pending(lab, tiny_run, result, f"[{error_id}]")
    assert server.requests == []


def test_row_21_an_aws_that_is_there_again(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    missing = lab.watch(tiny_run, aws_command="/no/such/aws")

    (line,) = said(missing)
    assert "/no/such/aws" in line
    is_pending(lab, tiny_run, missing, "[aws.no-such-command]")
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


# Rows 22 to 24: files that change while they are uploaded. The CLI has sent bytes that are not the file's any
# more, and says that all is well; or it finds less than it promised.


def test_row_22_file_grows_during_upload(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    small, large = tiny_run / "Data" / "grows", tiny_run / "Data" / "grows.cbcl"
    small.write_bytes(b"x" * 1000)
    large.write_bytes(os.urandom(20_000_000))
    with server.hold(key_contains="/grows") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--cores", "2", "--aws_command", each_real_aws))
        gate.wait_held(4)  # the small one, and the three parts of the large one
        for path in (small, large):
            with path.open("ab") as stream:
                stream.write(b"more")
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert "retrying 2 files" in err
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize(
    ("command", "why"),
    [("cp", "changed while it was uploaded"), ("list-objects-v2", "the run keeps changing")],
    ids=["while it is sent", "when all of the run was just verified"],
)
def test_row_22_file_grows_at_every_try(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, command: str, why: str
) -> None:
    growing = tiny_run / "Data" / "growing"
    aws = quick_aws(f"if {command!r} in argv:\n    open({str(growing)!r}, 'ab').write(b'more')")
    growing.write_bytes(b"some")

    result = lab.upload(tiny_run, "--aws_command", aws)

    is_pending(lab, tiny_run, result, why, "Data/growing")
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


def rewrite(path: Path) -> None:
    """In place, with as many bytes."""
    with path.open("r+b") as stream:
        stream.write(b"other bytes")


def replace(path: Path) -> None:
    """By another file of the same size."""
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.rename(path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


def test_row_23_file_shrinks_or_is_rewritten(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    changes = {"rewritten": rewrite, "replaced": replace, "truncated": truncate}
    for name in changes:
        (tiny_run / "Data" / f"is {name}").write_bytes(os.urandom(100_000))
    with server.hold(key_contains="/is ") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--cores", "2", "--aws_command", each_real_aws))
        gate.wait_held(3)
        for name, change in changes.items():
            change(tiny_run / "Data" / f"is {name}")
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert "retrying 3 files" in err
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize("change", [rewrite, replace])
def test_row_23_file_is_rewritten_between_two_parts(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str, change: Callable[[Path], None]
) -> None:
    """S3 is given an object of the right size with the old first part and the new others."""
    large = tiny_run / "Data" / "large.cbcl"
    large.write_bytes(os.urandom(20_000_000))
    with server.hold(operation="UploadPart") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--threads", "1", "--aws_command", each_real_aws))
        gate.wait_held()
        change(large)
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert "retrying 1 file" in err
    assert server.counters["CompleteMultipartUpload"] == 2, "the CLI saw nothing wrong"
    is_verified(lab, tiny_run, server)


def test_row_23_file_is_truncated_between_two_parts(
    lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str
) -> None:
    """The CLI has promised more bytes than there are, and both sides wait for them."""
    large = tiny_run / "Data" / "large.cbcl"
    large.write_bytes(os.urandom(20_000_000))
    lab.set_delays(signal_grace=IMPATIENT)
    with server.hold(operation="UploadPart") as gate:
        options = ("--threads", "1", "--stall_minutes", "0.1", "--aws_command", each_real_aws)
        process = lab.start(*lab.upload_argv(tiny_run, *options))
        gate.wait_held()
        os.truncate(large, 9_000_000)
        gate.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    assert "retrying 1 file" in err
    assert server.uploads(BUCKET) == []
    is_verified(lab, tiny_run, server)


def test_row_24_file_vanishes(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    """One between two of its parts, one before the CLI comes to it."""
    large, small = tiny_run / "Data" / "large.cbcl", tiny_run / "Data" / "small"
    large.write_bytes(os.urandom(20_000_000))
    small.write_text("gone")
    with server.hold(operation="UploadPart") as gate:
        options = ("--cores", "1", "--threads", "1", "--aws_command", each_real_aws)
        process = lab.start(*lab.upload_argv(tiny_run, *options))
        gate.wait_held()
        large.unlink()
        small.unlink()
        gate.release()
        out, err = process.communicate(timeout=240)

    result = Result(process.returncode, out, err)
    is_pending(lab, tiny_run, result, "gone from the disk", "Data/large.cbcl", "Data/small")
    assert server.uploads(BUCKET) == []
    next_scan_completes(lab, tiny_run, server)


# Row 25: files that this user may not read.


def test_row_25_unreadable_file(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    """From the start, as a folder with what is in it, and only when the CLI comes to it."""
    file, folder, late = (tiny_run / "Data" / name for name in ("file", "folder", "late"))
    folder.mkdir()
    for path in (file, folder / "file", late):
        path.write_text("secret")
    file.chmod(0)
    folder.chmod(0)
    aws = quick_aws(f"if 'cp' in argv:\n    os.chmod({str(late)!r}, 0)")

    result = run_under(without_override(), lab, *lab.upload_argv(tiny_run, "--aws_command", aws))

    is_pending(lab, tiny_run, result, "cannot be read", "Data/file", "Data/late")
    reasons = lab.log(tiny_run)["failed_reasons"]
    assert reasons[f"{folder}/"] == "folder cannot be read: Permission denied"
    assert b"secret" not in [stored.body for stored in server.objects(BUCKET).values()]
    file.chmod(0o600)
    late.chmod(0o600)
    folder.chmod(0o700)
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


# Row 26: a file that came after the folder was listed.


def test_row_26_new_file_after_the_listing(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    with server.hold(key_contains="/Data/") as data, server.hold(key_contains="/CopyComplete.txt") as marker:
        process = lab.start(*lab.upload_argv(tiny_run, "--aws_command", each_real_aws))
        data.wait_held()
        (tiny_run / "Data" / "late").write_text("late")
        data.release()
        marker.wait_held()
        assert f"{tiny_run.name}/Data/late" in server.objects(BUCKET), "before the markers"
        (tiny_run / "later").mkdir()
        (tiny_run / "later" / "still").write_text("later still")
        marker.release()
        out, err = process.communicate(timeout=240)

    assert process.returncode == 0, out + err
    is_verified(lab, tiny_run, server)


# Row 27: what is no file.


def test_row_27_special_file(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tiny_run / "Data" / "pipe")
    monkeypatch.chdir(tiny_run)  # the path of a socket is limited to some 100 bytes
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind("Data/socket")

    result = lab.upload(tiny_run, "--aws_command", quick_aws(""))

    assert result.code == 0, result.out + result.err
    reasons = {"pipe": "not a file but a named pipe", "socket": "not a file but a socket"}
    for name, reason in reasons.items():
        assert f"warning: left out: Data/{name}: {reason}" in result.err
    assert lab.log(tiny_run)["skipped"] == {str(tiny_run / "Data" / name): why for name, why in reasons.items()}
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [("RunInfo.xml", "unreadable", "it is not a regular file"), ("SampleSheet.csv", "no samplesheet", "")],
)
def test_row_27_special_file_in_the_place_of_one_that_is_read(site: Site, name: str, state: str, reason: str) -> None:
    """Opening a pipe would wait for ever."""
    run = site.run_folder("250101_M01234_0001_AAAAA")
    (run / name).unlink()
    os.mkfifo(run / name)
    site.write([site.entry(sample_regex="^C")])

    result = site.scan()

    assert f"{state}: " in result.err
    assert reason in result.err
    assert site.states() == {run.name: state}


def test_row_27_special_file_takes_the_place_of_a_file_meanwhile(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    sudden = tiny_run / "Data" / "sudden"
    sudden.write_text("a file")
    with server.hold(key_contains="/RunInfo.xml") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--cores", "1", "--aws_command", quick_aws("")))
        gate.wait_held()
        sudden.unlink()
        os.mkfifo(sudden)
        gate.release()
        out, err = process.communicate(timeout=240)

    is_pending(lab, tiny_run, Result(process.returncode, out, err), "gone from the disk", "Data/sudden")
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


# Row 28: links out of the run, and links in circles.


def test_row_28_symlink_out_of_the_run_or_loop(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path, quick_aws: FakeAws
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    data = tiny_run / "Data"
    out = {"file": str(outside / "secret"), "folder": str(outside), "above": "../..", "late": str(outside / "secret")}
    around = {"loop": "loop", "tick": "tock", "tock": "tick", "up": "..", "here": ".", "nowhere": "no such file"}
    for name, target in {**out, **around}.items():
        (data / name).symlink_to(target)
    (data / "late").unlink()
    (data / "late").write_text("a file")
    (data / "inside").symlink_to("../RunInfo.xml")
    late = str(data / "late")
    aws = quick_aws(f"if 'cp' in argv:\n    os.unlink({late!r})\n    os.symlink({str(outside / 'secret')!r}, {late!r})")

    result = lab.upload(tiny_run, "--aws_command", aws)

    is_pending(lab, tiny_run, result, "a link out of the run, to ", *(f"Data/{name}" for name in set(out) - {"late"}))
    log = lab.log(tiny_run)
    assert str(data / "late") in log["failed_upload_files"]
    assert log["skipped"].keys() == {str(data / name) for name in around}
    for name in around:
        assert f"left out: Data/{name}: a link to " in result.err or "more that are not files" in result.err
    in_data = {key.rpartition("/")[2] for key in server.objects(BUCKET) if key.count("/") == 2}
    assert "inside" in in_data
    assert not in_data & ({*out, *around} - {"late"}), "links are not followed"
    for name in out:
        (data / name).unlink()
    server.delete(BUCKET, f"{tiny_run.name}/Data/late")  # the CLI had come to it when it was no file any more
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


# Row 29: hostile names.


def test_row_29_hostile_names_arrive_exactly(lab: Lab, server: S3Server, small_run: Path, each_real_aws: str) -> None:
    folder = small_run / "[dir] *" / "-- .."
    folder.mkdir(parents=True)
    for name in HOSTILE_NAMES:
        (folder / name).write_text(name)

    result = lab.upload(small_run, "--aws_command", each_real_aws)

    assert result.code == 0, result.out
    is_verified(lab, small_run, server)
    assert lab.log(small_run)["uploaded_files"][str(folder / "new\nline")] == hashlib.md5(b"new\nline").hexdigest()
    assert "\x1b" not in result.out + result.err + lab.log_path(small_run).read_text()


@pytest.mark.parametrize("name", [b"bad\xff", b"half a pair \xed\xa0\x80"], ids=["byte", "surrogate"])
def test_row_29_hostile_names_that_are_not_utf8(
    lab: Lab, server: S3Server, small_run: Path, quick_aws: FakeAws, name: bytes
) -> None:
    bad = Path(os.fsdecode(bytes(small_run) + b"/Data/" + name))
    bad.write_text("x")

    result = lab.upload(small_run, "--aws_command", quick_aws(""))

    shown = "Data/" + name.decode("utf-8", "backslashreplace")
    is_pending(lab, small_run, result, "the name is not UTF-8, which S3 requires", shown)
    assert f"{shown}: " in result.out
    bad.rename(bad.with_name("good"))
    next_scan_completes(lab, small_run, server, aws_command=quick_aws(""))


# Row 30: a huge run.

# The most memory of a program and its children, by a process of its own: to the kernel a child begins as large as
# its parent, and the tests are large.
MEASURED = """
import pathlib, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
pathlib.Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


@pytest.mark.parametrize("files", [2500, pytest.param(100_000, marks=[pytest.mark.sweep, pytest.mark.timeout(1200)])])
def test_row_30_huge_run(
    lab: Lab, server: S3Server, small_run: Path, tmp_path: Path, quick_aws: FakeAws, files: int
) -> None:
    for number in range(files):
        path = small_run / "Data" / f"tile_{number // 1000:03}" / f"cluster_{number}"
        if number % 1000 == 0:
            path.parent.mkdir()
        path.write_text(path.name)
    sizes = tmp_path / "sizes of argv"
    aws = quick_aws(f"open({str(sizes)!r}, 'a').write(f'{{sum(len(word) + 1 for word in sys.argv)}}\\n')")

    before = (sys.executable, "-c", MEASURED, str(tmp_path / "kB"))
    result = run_under(before, lab, *lab.upload_argv(small_run, "--aws_command", aws), timeout=1100)

    assert result.code == 0, result.out + result.err
    is_verified(lab, small_run, server)
    lengths = [int(length) for length in sizes.read_text().split()]
    assert len(lengths) > 5
    assert max(lengths) < 4096, "no process is given the names of files"
    assert int((tmp_path / "kB").read_text()) < 100_000 + 3 * files


# Row 32: kill -9 leaves an `aws` behind, and the next scan comes.


def has_open(process: psutil.Process, path: Path) -> bool:
    """Return whether a process lives and has a file open."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return str(path) in {file.path for file in process.open_files()}
    return False


def test_row_32_orphaned_aws_then_the_next_scan(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    with server.hold(key_contains="/Data/") as gate:
        process = lab.start(*lab.upload_argv(tiny_run, "--cores", "1", "--aws_command", each_real_aws))
        gate.wait_held(2)  # all that there is
        process.kill()
        process.communicate()
        (lock,) = (lab.log_dir / "locks").iterdir()
        orphans = orphans_of(lab)
        commands = [orphan for orphan in orphans if has_open(orphan, lock)]
        assert commands
        _, alive = psutil.wait_procs([orphan for orphan in orphans if orphan not in commands], timeout=120)
        assert alive == [], "what starts the commands ends by itself"
        log, sent = lab.log_path(tiny_run).read_bytes(), server.counters["PutObject"]

        busy = lab.upload(tiny_run)
        scan = lab.watch(tiny_run)

        assert (busy.code, busy.out, busy.error_ids) == (75, "", ["lock.busy"])
        assert (scan.code, scan.out, scan.err) == (0, "", "")
        assert lab.log_path(tiny_run).read_bytes() == log
        assert server.counters["PutObject"] == sent
    wait_for_orphans(lab)
    next_scan_completes(lab, tiny_run, server)
    keys = [r.key for r in server.requests if r.operation == "PutObject" and r.status == 200]
    assert len(keys) == len(set(keys)), "nothing that was stored is sent twice"


# Rows 33 and 34: signals that ask for the end.


def is_ended_in_order(lab: Lab, server: S3Server, run: Path, aws: str, signum: signal.Signals) -> None:
    """In the middle of a multipart upload, by a signal."""
    (run / "Data" / "large.cbcl").write_bytes(os.urandom(20_000_000))
    with server.hold(operation="UploadPart", after=1) as gate:
        process = lab.start(*lab.upload_argv(run, "--cores", "2", "--aws_command", aws))
        gate.wait_held()
        assert len(server.uploads(BUCKET)) == 1
        process.send_signal(signum)
        gate.release()  # the CLI waits for the parts in flight before it aborts
        out, err = process.communicate(timeout=240)
        assert orphans_of(lab) == []

    assert (process.returncode, out) == (128 + signum, "")
    assert server.uploads(BUCKET) == [], "no parts are left"
    assert (error_ids(err), signum.name in err) == (["run.interrupted"], True), err
    assert re.search(
        r"files verified(, \d+ more sent and not compared yet)?; the same command continues from there", err
    )
    assert "Traceback" not in err
    log = lab.log(run)
    assert (log["completed"], log["failed_upload_files"]) == (False, [])
    assert log["total_local_files"] == len(tree(run))
    assert list(lab.tmp.iterdir()) == []


def test_row_33_sigterm(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    is_ended_in_order(lab, server, tiny_run, each_real_aws, signal.SIGTERM)
    next_scan_completes(lab, tiny_run, server)


def test_row_34_sighup(lab: Lab, server: S3Server, tiny_run: Path, each_real_aws: str) -> None:
    is_ended_in_order(lab, server, tiny_run, each_real_aws, signal.SIGHUP)


LONG_GRACE = (120, 120, 120)  # however busy this machine is, a child comes to its end by itself


def recording_aws(quick_aws: FakeAws, record: Path, deaf_to: str = "") -> str:
    """One whose `s3 cp` writes down each signal that it gets, and some time later its end."""
    return quick_aws(f"""
def note(signum, frame):
    name = signal.Signals(signum).name
    print(name, file=record, flush=True)
    if name != {deaf_to!r}:
        time.sleep(0.5)
        print("the end", file=record, flush=True)
        os._exit(1)

if "cp" in argv:
    import time
    record = open({str(record)!r}, "a")
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.signal(signum, note) is signal.SIG_IGN:
            print("ignores", signum, file=record, flush=True)
""")


def signals_to_a_child(
    lab: Lab, server: S3Server, run: Path, aws: str, *signals: signal.Signals, before: Callable[[], object] = bool
) -> list[str]:
    """Return what a child of `recording_aws` notes while it is sending; the last of the signals ends the program."""
    with server.hold() as gate:
        process = lab.start(*lab.upload_argv(run, "--cores", "1", "--aws_command", aws), preexec_fn=before)
        gate.wait_held()
        for signum in signals:
            process.send_signal(signum)
        out, err = process.communicate(timeout=240)
        noted = (lab.root / "record").read_text().splitlines()
    assert (process.returncode, out) == (128 + signals[-1], ""), err
    assert lab.log(run)["completed"] is False
    return noted


def test_row_33_sigterm_is_sigint_for_the_children(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    """Which lets the CLI abort its multipart uploads; and they are waited for."""
    lab.set_delays(signal_grace=LONG_GRACE, signal_grace_without_parts=120)
    aws = recording_aws(quick_aws, lab.root / "record")

    assert signals_to_a_child(lab, server, tiny_run, aws, signal.SIGTERM) == ["SIGINT", "the end"]
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


def test_row_34_sigint_ignored_from_the_start(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    """As in a background job of a shell script; the children would inherit it."""
    lab.set_delays(signal_grace=LONG_GRACE, signal_grace_without_parts=120)
    aws = recording_aws(quick_aws, lab.root / "record")

    noted = signals_to_a_child(
        *(lab, server, tiny_run, aws, signal.SIGINT, signal.SIGHUP),
        before=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )

    assert noted == ["SIGINT", "the end"]
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


def test_row_34_sigint_ignored_by_a_child(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    lab.set_delays(signal_grace=[1, 120, 120])
    aws = recording_aws(quick_aws, lab.root / "record", deaf_to="SIGINT")

    assert signals_to_a_child(lab, server, tiny_run, aws, signal.SIGTERM) == ["SIGINT", "SIGTERM", "the end"]
    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))


@pytest.mark.real
@pytest.mark.xdist_group("real servers")
@pytest.mark.parametrize("end", ["SIGTERM", "stall", "SIGKILL"])  # all signals are one to the children
def test_row_33_no_parts_are_left_in_a_real_server(
    tmp_path: Path, tiny_run: Path, ceph: Gateway, end: str, each_real_aws: str
) -> None:
    """After a signal or a stall at once, after SIGKILL by the next call."""
    bucket = f"parts-{uuid.uuid4().hex}"
    s3 = client(*ceph)
    s3.create_bucket(Bucket=bucket)
    (tiny_run / "Data" / "large.cbcl").write_bytes(os.urandom(40_000_000))
    lab = Lab(tmp_path, ceph.url, "")
    lab.env |= {"AWS_ACCESS_KEY_ID": ceph.access_key, "AWS_SECRET_ACCESS_KEY": ceph.secret_key}
    argv = lab.upload_argv(tiny_run, "--stall_minutes", "0.1", "--aws_command", each_real_aws, bucket=bucket)
    lab.set_delays(signal_grace=IMPATIENT if end == "stall" else (10, 5, 5))
    process = lab.start(*argv, "--cores", "1", "--threads", "2", "--max_bandwidth", "8MB/s")
    assert has_parts(s3, bucket), "within two minutes"
    children = psutil.Process(process.pid).children(recursive=True)

    if end == "stall":
        send_to_all(signal.SIGSTOP, children)  # they move no bytes, and take no gentle hint either
    elif end == "SIGKILL":
        kill_family(process)
    else:
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=240)

    left = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    if end == "stall":
        assert (process.returncode, left) == (0, []), err  # another one has sent it
        assert "trying" in err
    elif end == "SIGKILL":
        assert len(left) == 1, "nobody was there to abort it"
    else:
        assert (process.returncode, out, left) == (128 + signal.SIGTERM, "", []), err
    assert lab.run(*argv).code == 0
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert lab.log(tiny_run)["completed"] is True


def has_parts(s3: Any, bucket: str, seconds: float = 120) -> bool:
    """Whether a multipart upload has a part, now or soon."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            if s3.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]).get("Parts"):
                return True
        time.sleep(0.1)
    return False


# Row 35: two scans at once.


def test_row_35_two_scans_at_once(site: Site, server: S3Server) -> None:
    run = site.run_folder("250101_M01234_0001_AAAAA")
    with server.hold(after=5) as gate:
        first = site.start("monitor", "--config", str(site.config))
        gate.wait_held(1)
        with site.start("monitor", "--config", str(site.config)) as second:
            assert second.communicate(timeout=240) == ("", "")
        assert second.returncode == 0
        assert site.states() == {run.name: "partial"}
        shown = site.run("status", "--config", str(site.config), "--json").json["runs"][0]
        assert shown["uploading_now"] is True
        assert "being uploaded now" in shown["reason"]
        assert site.upload(run, "--remote_path", "/runs").code == 75
        gate.release()
        assert first.communicate(timeout=240) == ("", "")
    assert first.returncode == 0
    (line,) = (line for line in site.log_text().splitlines() if f"[{second.pid}]" in line)
    assert "another scan is running" in line
    assert site.states() == {run.name: "uploaded"}
    assert server.counters["PutObject"] == len(tree(run))


# Row 36: a lock file that nobody holds, with the number of a process that lives.


def test_row_36_stale_lock_file(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    locks = lab.log_dir / "locks"
    locks.mkdir(parents=True)
    names = {f"{tiny_run.name}.{Destination(BUCKET, '').tag}.lock", "monitor.lock"}
    for name in names:
        (locks / name).write_text(f"process {os.getpid()} on {socket.gethostname()}, alive and well\n")

    next_scan_completes(lab, tiny_run, server, aws_command=quick_aws(""))

    assert {path.name for path in locks.iterdir()} == names, "these are the locks"


# Row 37: the disk of the logs is full.


def in_private_mounts(
    lab: Lab, prepare: str, *argv: str, after: str = ":", env: Mapping[str, str] | None = None
) -> Result:
    """s3sync where these shell commands have mounted something over $LOG_DIR that nobody else sees.

    Skips the test where this is not permitted.
    """
    unshare = shutil.which("unshare")
    if not unshare:
        pytest.skip("no unshare")
    user = ("--map-root-user",) if os.geteuid() else ()
    script = f'{prepare} || exit 70\n"$@"\ncode=$?\n{after}\nexit $code'
    before = (unshare, "--mount", *user, "sh", "-c", script, "sh")
    result = run_under(before, lab, *argv, env={"LOG_DIR": str(lab.log_dir), **(env or {})})
    if result.err.startswith(("unshare: ", "mount: ")):
        pytest.skip(f"mounts are not permitted here: {result.err.strip()}")
    return result


ON_64K = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$LOG_DIR" && cp -a "$BEFORE/." "$LOG_DIR"'
FILLED = '! dd if=/dev/zero of="$LOG_DIR/filler" count=1000 2>/dev/null'
FILLING = """
folder = os.environ.get("LOG_DIR")
if folder and "cp" in argv and not os.path.exists(folder + "/filler"):
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    with open(folder + "/filler", "wb") as filler:
        filler.write(bytes(free - 40_960))
"""
COPIED = 'rm -f "$LOG_DIR/filler"; cp -a "$LOG_DIR/." "$AFTER"'


def on_a_full_disk(lab: Lab, prepare: str, *argv: str) -> Result:
    """s3sync with its logs on a disk of 64 kB; afterwards they are on a disk with space again."""
    before, after = lab.root / "before", lab.root / "after"
    lab.log_dir.rename(before)
    for folder in (lab.log_dir, after):
        folder.mkdir(mode=0o700)
    result = in_private_mounts(lab, prepare, *argv, after=COPIED, env={"BEFORE": str(before), "AFTER": str(after)})
    lab.log_dir.rmdir()
    after.rename(lab.log_dir)
    return result


def test_row_37_log_disk_gets_full_during_an_upload(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    """There is space for the journal, not for the log that has its lines, too: somebody else has filled the disk."""
    aws = quick_aws(FILLING)
    assert lab.upload(tiny_run, "--aws_command", aws).code == 0
    old = lab.log(tiny_run)
    for number in range(200):
        (tiny_run / "Data" / f"new {number:03}").write_text("new")

    result = on_a_full_disk(lab, ON_64K.replace("64k", "512k"), *lab.upload_argv(tiny_run, "--aws_command", aws))

    assert error_ids(said(result)[0]) == ["state.log-unwritable"]
    is_pending(lab, tiny_run, result, "No space left on device", journal=True)
    assert lab.log(tiny_run)["uploaded_files"] == old["uploaded_files"]
    next_scan_completes(lab, tiny_run, server, aws_command=aws)
    assert server.counters["PutObject"] == len(tree(tiny_run)), "nothing is sent twice"


@pytest.mark.parametrize("command", ["upload", "monitor"])
def test_row_37_log_disk_is_full_from_the_start(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, command: str
) -> None:
    aws = quick_aws("")
    (tiny_run / "Data" / "out").symlink_to("/etc/hostname")
    assert lab.watch(tiny_run, aws_command=aws).code == 1
    (tiny_run / "Data" / "out").unlink()
    old, requests = lab.log_path(tiny_run).read_bytes(), len(server.requests)
    argv = {"upload": lab.upload_argv(tiny_run), "monitor": ("monitor", "--config", str(lab.root / "scan.json"))}

    result = on_a_full_disk(lab, f"{ON_64K} && {FILLED}", *argv[command])

    is_pending(lab, tiny_run, result, "No space left on device")
    assert len(said(result)) == result.err.count("\n") == 1
    assert lab.log_path(tiny_run).read_bytes() == old
    assert len(server.requests) == requests, "said before any upload"
    next_scan_completes(lab, tiny_run, server, aws_command=aws)


def test_row_37_log_disk_takes_no_more_of_a_file(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    """The log would be larger than this process may write, which needs no separate disk."""
    aws = quick_aws("")
    (tiny_run / "Data" / "out").symlink_to("/etc/hostname")
    assert lab.watch(tiny_run, aws_command=aws).code == 1
    (tiny_run / "Data" / "out").unlink()
    old = lab.log_path(tiny_run).read_bytes()

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    result = lab.upload(tiny_run, "--aws_command", aws, preexec_fn=small_files)

    is_pending(lab, tiny_run, result, "[state.log-unwritable]")
    assert len(said(result)) == 1
    assert lab.log_path(tiny_run).read_bytes() == old
    assert [path.name for path in lab.log_path(tiny_run).parent.iterdir()] == [lab.log_path(tiny_run).name]
    next_scan_completes(lab, tiny_run, server, aws_command=aws)


# Row 38: the disk says at an fsync that bytes were lost, or that they have no place.


@pytest.mark.real
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_row_38_fsync_fails(
    lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path, quick_aws: FakeAws, error: str
) -> None:
    """Each fsync of a call fails in turn."""
    strace = shutil.which("strace") or skip_or_fail("no strace")
    argv = lab.upload_argv(tiny_run, "--aws_command", quick_aws(""))
    assert lab.run(*argv).code == 0
    old = lab.log_path(tiny_run).read_bytes()
    lab.log_dir.rename(tmp_path / "before")
    new = tiny_run / "Data" / "new"
    new.write_text("new")
    for number in range(1, 100):
        shutil.copytree(tmp_path / "before", lab.log_dir)
        server.delete(BUCKET, f"{tiny_run.name}/Data/new")
        trace = tmp_path / "trace"
        inject = ("-e", "trace=fsync", "-e", f"inject=fsync:error={error}:when={number}")

        result = run_under((strace, "-o", str(trace), *inject), lab, *argv)

        if "INJECTED" not in trace.read_text():
            assert result.code == 0
            break
        assert result.code == 1, number
        assert [os.strerror(getattr(errno, error)) in line for line in said(result)] == [True]
        log = lab.log(tiny_run)
        assert (
            lab.log_path(tiny_run).read_bytes() == old
            or log["completed"] is False
            or f"{tiny_run.name}/Data/new" in server.objects(BUCKET)
        )
        again = lab.run(*argv)
        assert again.code == 0, again.out + again.err
        is_verified(lab, tiny_run, server)
        print(number, result, log["completed"])
        shutil.rmtree(lab.log_dir)
    assert number > 5


# Row 39: a log or journal that is not what was written.


@pytest.mark.parametrize("content", ["", "{", '{"run_id": 1}', "[]", "\0" * 100, '{"completed": true}'])
def test_row_39_corrupt_or_empty_log(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, content: str
) -> None:
    for path, body in tree(tiny_run).items():
        server.put(BUCKET, f"{tiny_run.name}/{path}", body)
    server.delete(BUCKET, f"{tiny_run.name}/RunInfo.xml")
    log = lab.log_path(tiny_run)
    log.parent.mkdir(parents=True)
    log.write_text(content)

    result = lab.upload(tiny_run, "--json", "--aws_command", quick_aws(""))

    assert result.code == 0
    assert "warning: the state log was corrupt" in result.err
    assert result.json["sent_files"] == 1
    is_verified(lab, tiny_run, server)
    (aside,) = (p for p in log.parent.iterdir() if p != log)
    assert aside.read_text() == content
    assert ".corrupt-" in aside.name


@pytest.mark.parametrize("content", ['{"completed": true}', '{"run_id": 1, "run_path": "/r", "completed": true}'])
def test_row_39_a_log_that_says_nothing_but_completed(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, content: str
) -> None:
    """The monitor does not consider it done, either."""
    log = lab.log_path(tiny_run)
    log.parent.mkdir(parents=True)
    log.write_text(content)

    result = lab.watch(tiny_run, aws_command=quick_aws(""))

    assert result.code == 0
    assert "the state log was corrupt" in result.err
    is_verified(lab, tiny_run, server)


@pytest.mark.parametrize("cut", [100, 1000, -10, -2])
def test_row_39_truncated_log(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, cut: int) -> None:
    """The log of a completed run: the monitor does not consider it done."""
    aws = quick_aws("")
    assert lab.watch(tiny_run, aws_command=aws).code == 0
    log = lab.log_path(tiny_run)
    content = log.read_bytes()[:cut]
    log.write_bytes(content)
    server.delete(BUCKET, f"{tiny_run.name}/RunInfo.xml")

    result = lab.watch(tiny_run, aws_command=aws)

    assert result.code == 0
    assert "the state log was corrupt" in result.err
    is_verified(lab, tiny_run, server)
    (aside,) = (p for p in log.parent.iterdir() if p != log)
    assert aside.read_bytes() == content


def test_row_39_corrupt_journal(lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path, quick_aws: FakeAws) -> None:
    """A killed upload left it with all files but the marker; S3 decides in any case."""
    argv = lab.upload_argv(tiny_run, "--json", "--aws_command", quick_aws(""))
    with server.hold(key_contains="/CopyComplete.txt") as gate:
        process = lab.start(*argv)
        gate.wait_held()
        process.kill()
        process.communicate()
        kill_all(orphans_of(lab))
    wait_for_orphans(lab)
    (left,) = (lab.log_dir / "uploads").glob("*.jsonl")
    journal = left.read_bytes()
    stored = server.objects(BUCKET)
    assert journal.count(b"\n") > len(stored)
    half = len(journal) // 2
    lab.log_dir.rename(tmp_path / "before")
    damages = {
        "empty": b"",
        "cut in a line": journal[: half - 5],
        "a hole": journal[:half] + b"\0" * 50 + journal[half + 50 :],
        "the end is zeros": journal[:half] + b"\0" * (len(journal) - half),
        "garbage": os.urandom(5000),
        "another's": journal.replace(BUCKET.encode(), b"another"),
    }
    for name, damaged in damages.items():
        for key in server.objects(BUCKET):
            if key.endswith("/CopyComplete.txt"):
                server.delete(BUCKET, key)
        server.delete(BUCKET, f"{tiny_run.name}/RunInfo.xml")
        shutil.copytree(tmp_path / "before", lab.log_dir)
        left.write_bytes(damaged)

        result = lab.run(*argv)

        assert (result.code, result.json["sent_files"]) == (0, 2), name
        is_verified(lab, tiny_run, server)
        shutil.rmtree(lab.log_dir)


# Row 40: the folder of the logs is read-only.

READ_ONLY = 'mount --bind "$LOG_DIR" "$LOG_DIR" && mount -o remount,bind,ro "$LOG_DIR"'


@pytest.mark.parametrize("command", ["upload", "monitor"])
@pytest.mark.parametrize("before", ["nothing", "a log"])
def test_row_40_log_dir_read_only(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws, command: str, before: str
) -> None:
    aws = quick_aws("")
    assert lab.watch(tiny_run, "--dry_run", aws_command=aws).code == 0
    lab.log_dir.mkdir()
    if before == "a log":
        assert lab.watch(tiny_run, aws_command=aws).code == 0
        (tiny_run / "Data" / "new").write_text("new")
    files, requests = tree(lab.log_dir), len(server.requests)
    argv = {"upload": lab.upload_argv(tiny_run), "monitor": ("monitor", "--config", str(lab.root / "scan.json"))}

    result = in_private_mounts(lab, READ_ONLY, *argv[command])

    assert (result.code, result.out) == (1, "")
    assert [("Read-only file system" in line, "log_dir" in line) for line in said(result)] == [(True, True)]
    assert result.err.count("\n") == 1
    assert len(server.requests) == requests, "said before any upload"
    assert tree(lab.log_dir) == files


def test_row_40_log_dir_that_cannot_be_one(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    lab.log_dir.write_text("a file where the folder should be")

    result = lab.upload(tiny_run)

    assert (result.code, result.out) == (1, "")
    assert ["--log-dir" in line for line in said(result)] == [True]
    assert server.requests == []
