"""`cleanup`: which runs may be deleted here, and that nothing else ever is."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from s3sync.aws.destination import Destination
from tests.helpers.analyses import make_analysis, make_run
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, Result, skip_or_fail, tree
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.unprivileged import without_override

SECOND = "second-bucket"
Record = Callable[[str, object], None]


def as_if_uploaded(lab: Lab, server: S3Server, run: Path, bucket: str = BUCKET, **keys: Any) -> Path:
    """The run in S3, and its log, as an upload long ago left them; `keys` are more of the log. Gives the log's path."""
    files = tree(run)
    for path, content in files.items():
        server.put(bucket, f"{run.name}/{path}", content)
    proofs = {
        "bytes": sum(map(len, files.values())),
        "total_uploaded_files": len(files),
        "uploaded_files": {str(run / path): hashlib.md5(content).hexdigest() for path, content in files.items()},
        "local_files": {path: [len(files[path]), (run / path).stat().st_mtime_ns] for path in files},
    }
    return write_log(lab, run, bucket, **{**proofs, **keys})


def write_log(lab: Lab, run: Path, bucket: str = BUCKET, **keys: Any) -> Path:
    log = {
        "run_id": run.name,
        "run_path": str(run),
        "completed": True,
        "total_local_files": keys.get("total_uploaded_files", 0),
        "total_uploaded_files": 0,
        "total_failed_upload": 0,
        "version": 1,
        "bucket": bucket,
        "remote_path": "/",
        "bytes": 0,
        "finished": "2026-01-02T03:04:05+00:00",
        "failed_upload_files": [],
        "uploaded_files": {},
        **keys,
    }
    path = lab.log_path(run)
    if path.exists() and json.loads(path.read_text())["bucket"] != bucket:
        path = path.with_name(f"{run.name}.{tag(bucket)}.upload.log.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(log))
    return path


@pytest.fixture
def stored(lab: Lab, server: S3Server, tiny_run: Path) -> Path:
    as_if_uploaded(lab, server, tiny_run)
    return tiny_run


def cleanup(lab: Lab, run: Path, *argv: str, entry: Mapping[str, Any] | None = None, **options: Any) -> Result:
    return lab.run("cleanup", "--config", lab.config_for(run, entry), *argv, **options)


def record_of(lab: Lab, run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((lab.log_dir / "cleanups" / f"{run.name}.cleanup.json").read_text())
    return loaded


def monitor(*entries: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Keys of a config with these entries for the folder that the run lies in."""
    usual = {"monitored_directories": [str(run.parent)], "bucket": BUCKET, "remote_path": "/"}
    return {"monitor": [{**usual, **entry} for entry in entries]}


def sibling(run: Path, number: int) -> Path:
    """Another small run beside this one."""
    other = run.with_name(run.name.replace("_0007_", f"_{number:04}_"))
    other.mkdir()
    for path, content in {"RunInfo.xml": (run / "RunInfo.xml").read_bytes(), "CopyComplete.txt": b""}.items():
        (other / path).write_bytes(content)
    return other


def verdicts(result: Result) -> dict[str, tuple[str, str]]:
    return {run["run_id"]: (run["verdict"], run["reason"]) for run in result.json["runs"]}


def reason_ids(result: Result) -> dict[str, str]:
    """Why each run is kept."""
    return {run["run_id"]: run["reason_id"] for run in result.json["runs"] if run["verdict"] == "kept"}


# What goes, and what is said


def test_a_run_that_is_identical_in_s3_is_listed_and_then_deleted(lab: Lab, server: S3Server, stored: Path) -> None:
    (stored / "Empty" / "in it").mkdir(parents=True)
    server.put(BUCKET, f"{stored.name}/s3sync.complete.json", b"{}")
    server.put(BUCKET, f"{stored.name}/Analysis/1/s3sync.complete.json", b"{}")
    before, log = tree(stored), lab.log_path(stored).read_bytes()

    listed = cleanup(lab, stored)

    assert listed.code == 0, listed.err
    assert tree(stored) == before
    assert not (lab.log_dir / "cleanups").exists()
    assert "may be deleted: identical in s3://lab-runs/" in listed.out
    assert listed.out.endswith("1 run, 4 files, 222 B can be deleted (with --delete)\n")
    assert listed.err.startswith("verifying every byte of 1 run, 4 files, 222 B (of 1 run)\n")

    deleted = cleanup(lab, stored, "--delete", "--yes", "--json")

    assert deleted.code == 0, deleted.err
    assert verdicts(deleted) == {stored.name: ("deleted", "")}
    assert list(stored.parent.iterdir()) == []
    record = record_of(lab, stored)
    assert record["finished"] >= record["begun"] > record["targets"][0]["completed"]
    assert {path: file[0] for path, file in record["files"].items()} == {p: len(c) for p, c in before.items()}
    assert {path: file[2] for path, file in record["files"].items()} == {
        path: [server.objects(BUCKET)[f"{stored.name}/{path}"].etag] for path in before
    }
    assert {p.stat().st_mode & 0o777 for p in (lab.log_dir / "cleanups").iterdir()} == {0o600}
    assert lab.log_path(stored).read_bytes() == log
    main_log = (lab.log_dir / "s3_upload.log").read_text()
    assert re.search(r"INFO .* deleting .*: 4 files, 222 B, identical in s3://", main_log)
    assert main_log.endswith(": 4 files deleted\n")
    assert server.counters["PutObject"] == server.counters["DeleteObject"] == 0


def test_a_run_is_deleted_with_its_analyses_but_kept_while_one_is_being_written(
    lab: Lab, server: S3Server, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "instrument")
    make_analysis(run)
    for _ in range(2):  # the analyses after their run
        assert lab.watch(run).code == 0
    second = make_analysis(run, 2, complete=False)

    kept = cleanup(lab, run, "--older_than", "0h", "--json")

    assert kept.code == 0, kept.err
    waits = "waits for Data/Secondary_Analysis_Complete.txt, or until nothing changed for 1 h 00 min"
    assert verdicts(kept)[run.name] == (
        "kept",
        f"analysing at s3://{BUCKET}/{run.name}/Analysis/2/: {waits}",
    )
    shutil.rmtree(second)
    files = len(tree(run))

    deleted = cleanup(lab, run, "--older_than", "0h", "--delete", "--yes", "--json")

    assert (deleted.code, verdicts(deleted)) == (0, {run.name: ("deleted", "")}), deleted.err
    assert list(run.parent.iterdir()) == []
    record = record_of(lab, run)
    assert len(record["files"]) == files
    assert "Analysis/1/Data/BCLConvert/fastq/a.fastq.gz" in record["files"]
    assert len(record["targets"]) == 1, "the whole folder at its destination"


def test_what_is_not_in_s3_stays_with_its_folders_and_all_links_are_only_links(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    outside = lab.root / "outside"
    outside.write_text("not of the run")
    data = tiny_run / "Data"
    (data / "[a] *?\\\n\x1b[2Jé").write_text("hostile")
    os.link(data / "first.cbcl", data / "also first")
    (data / "link to first").symlink_to("first.cbcl")
    (tiny_run / "Deep" / "er").mkdir(parents=True)
    (tiny_run / "Deep" / "er" / "some.cbcl").write_text("some")
    as_if_uploaded(lab, server, tiny_run)
    (tiny_run / "Logs").mkdir()
    (tiny_run / "Logs" / "excluded.tmp").symlink_to(outside)
    (tiny_run / "Logs" / "second.tmp").write_text("excluded")
    os.mkfifo(tiny_run / "pipe")
    (tiny_run / "dangling").symlink_to("nothing")
    (tiny_run / "to a folder").symlink_to("Deep")

    result = cleanup(lab, tiny_run, "--delete", "--yes", entry={"exclude_patterns": [r"\.tmp$"]})

    assert result.code == 0, result.out
    left = {str(path.relative_to(tiny_run)) for path in tiny_run.rglob("*")}
    assert left == {"Logs", "Logs/excluded.tmp", "Logs/second.tmp", "pipe", "dangling", "to a folder"}
    assert outside.read_text() == "not of the run"
    assert "5 files not in S3 are kept, with their folders: Logs/excluded.tmp, Logs/second.tmp" in " ".join(
        result.out.split()
    )
    assert record_of(lab, tiny_run)["finished"]
    assert lab.run("monitor", "--config", lab.config_for(tiny_run), "--json").json["runs"] == []


def test_runs_that_cannot_be_deleted_are_not_even_verified(lab: Lab, server: S3Server, stored: Path) -> None:
    young, future, odd, new, partial, mixed, linked = (sibling(stored, number) for number in range(11, 18))
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    write_log(lab, young, finished=now)
    write_log(lab, future, finished="2999-01-01T00:00:00+00:00")
    write_log(lab, odd, finished="yesterday")
    write_log(lab, partial, completed=False, failed_upload_files=[])
    write_log(lab, linked)
    shutil.rmtree(linked)
    linked.symlink_to(shutil.copytree(stored, lab.root / "elsewhere" / linked.name))
    (lab.root / "elsewhere" / "only").mkdir()
    shutil.move(mixed, lab.root / "elsewhere" / "only" / mixed.name)
    write_log(lab, lab.root / "elsewhere" / "only" / mixed.name)
    shutil.rmtree(stored)
    only = str(lab.root / "elsewhere" / "only")
    entries = monitor(
        {}, {"monitored_directories": [only]}, {"monitored_directories": [only], "bucket": SECOND}, run=stored
    )

    result = cleanup_with(lab, stored, entries, "--delete", "--yes", "--json")

    assert result.code == 0, "nothing of it was asked for"
    reasons = {name: reason for name, (verdict, reason) in verdicts(result).items() if verdict == "kept"}
    assert len(reasons) == len(result.json["runs"]) == 7
    assert reason_ids(result) == {
        young.name: "cleanup.too-young",
        future.name: "cleanup.completed-in-the-future",
        odd.name: "cleanup.age-unknown",
        **dict.fromkeys((new.name, partial.name, mixed.name), "cleanup.not-uploaded"),
        linked.name: "cleanup.link",
    }
    assert reasons[new.name].startswith("new at s3://lab-runs/")
    assert reasons[partial.name].startswith("partial at s3://lab-runs/")
    assert reasons[mixed.name].startswith(f"new at s3://{SECOND}/")
    assert str(lab.root / "elsewhere" / linked.name) in reasons[linked.name]
    assert server.requests == []
    assert not (lab.log_dir / "cleanups").exists()

    named = cleanup_with(lab, stored, entries, young.name, "no such run", "--delete", "--yes")
    assert named.code == 1
    assert named.err.endswith("s3sync: no run no such run in the monitored directories [run.unknown]\n")


def cleanup_with(lab: Lab, run: Path, keys: dict[str, Any], *argv: str, **options: Any) -> Result:
    return lab.run("cleanup", "--config", lab.config_for(run, **keys), *argv, **options)


def test_any_difference_from_s3_keeps_the_run(lab: Lab, server: S3Server, stored: Path) -> None:
    other, missing, extra, by_size, analysis = runs = [sibling(stored, number) for number in range(21, 26)]
    for run in runs:
        as_if_uploaded(lab, server, run)
    server.put(BUCKET, f"{other.name}/RunInfo.xml", b"x" * 175)
    server.delete(BUCKET, f"{missing.name}/CopyComplete.txt")
    server.put(BUCKET, f"{extra.name}/Data/more.cbcl", b"x")
    opaque = server.put(BUCKET, f"{by_size.name}/RunInfo.xml", (by_size / "RunInfo.xml").read_bytes())
    opaque.etag, opaque.headers = "0" * 32, {"x-amz-server-side-encryption": "aws:kms"}
    (analysis / "Analysis" / "1").mkdir(parents=True)
    (analysis / "Analysis" / "1" / "x.fastq.gz").write_text("reads")
    before = tree(stored.parent)

    result = cleanup(lab, stored, *(run.name for run in runs), "--delete", "--yes", "--json")

    assert result.code == 1
    assert tree(stored.parent) == before
    assert reason_ids(result) == {
        **dict.fromkeys((other.name, missing.name, analysis.name), "cleanup.differs"),
        extra.name: "cleanup.only-in-s3",
        by_size.name: "cleanup.size-only",
    }
    reasons = {name: reason for name, (_, reason) in verdicts(result).items()}
    assert "RunInfo.xml: S3 has other bytes: ETag" in reasons[other.name]
    assert "CopyComplete.txt: not in S3" in reasons[missing.name]
    assert f"1 file only in s3://{BUCKET}/{extra.name}/: Data/more.cbcl: not on the disk" in reasons[extra.name]
    assert reasons[by_size.name].startswith("1 file ")
    assert "; all of it in Analysis/: the instrument's own analysis" in reasons[analysis.name]
    assert not (lab.log_dir / "cleanups").exists()


def test_a_bucket_that_may_not_be_listed_keeps_the_run(lab: Lab, server: S3Server, stored: Path) -> None:
    denied = Fault("status", method=None, operation="ListObjectsV2", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)

    result = cleanup(lab, stored, "--delete", "--yes", "--json", entry={"exclude_patterns": ["Data|CopyComplete"]})

    assert (result.code, reason_ids(result)) == (1, {stored.name: "cleanup.not-listed"})
    assert len(tree(stored)) == 4


def test_a_bucket_that_is_not_there_keeps_all_runs_and_is_asked_once(lab: Lab, server: S3Server, stored: Path) -> None:
    other = sibling(stored, 31)
    for run in (stored, other):
        write_log(lab, run, "no-such-bucket")

    result = cleanup(lab, stored, "--delete", "--yes", "--json", entry={"bucket": "no-such-bucket"})

    assert result.code == 1
    assert reason_ids(result) == {stored.name: "s3.no-bucket", other.name: "s3.no-bucket"}
    assert all("s3://no-such-bucket" in why for _, why in verdicts(result).values())
    assert len(server.requests) == 1
    assert len(tree(stored)) == 4


def test_every_destination_must_have_it(lab: Lab, server: S3Server, stored: Path) -> None:
    server.create_bucket(SECOND)
    as_if_uploaded(lab, server, stored, SECOND)
    server.delete(SECOND, f"{stored.name}/Data/first.cbcl")
    entries = monitor({}, {"bucket": SECOND}, run=stored)

    kept = cleanup_with(lab, stored, entries, "--delete", "--yes", "--json")
    assert kept.code == 1
    assert f"not identical with s3://{SECOND}/" in verdicts(kept)[stored.name][1]
    assert len(tree(stored)) == 4

    entries = monitor({"exclude_patterns": ["second"]}, {"bucket": SECOND, "exclude_patterns": ["first"]}, run=stored)
    deleted = cleanup_with(lab, stored, entries, "--delete", "--yes", "--json")
    assert (deleted.code, verdicts(deleted)[stored.name][0]) == (0, "deleted"), "each file is in one of the two"
    etags = {path: [bool(etag) for etag in file[2]] for path, file in record_of(lab, stored)["files"].items()}
    assert (etags["Data/first.cbcl"], etags["Data/second.cbcl"]) == ([True, False], [False, True])
    assert not stored.exists()


def tag(bucket: str) -> str:
    return Destination(bucket, "").tag


def test_a_run_in_use_is_kept(lab: Lab, server: S3Server, stored: Path) -> None:
    locks = lab.log_dir / "locks"
    locks.mkdir(parents=True)
    with (locks / f"{stored.name}.{tag(BUCKET)}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        result = cleanup(lab, stored, "--delete", "--yes", "--json")

    assert (result.code, verdicts(result)[stored.name][0]) == (1, "busy")
    assert "is in use: held by another process" in verdicts(result)[stored.name][1]
    assert server.requests == []
    assert len(tree(stored)) == 4


def test_a_folder_with_files_of_others_is_kept(lab: Lab, server: S3Server, stored: Path) -> None:
    inner = sibling(stored, 41)
    within = Path(shutil.move(inner, stored / "Data" / inner.name))
    entries = monitor({}, {"monitored_directories": [str(within.parent)], "bucket": SECOND}, run=stored)

    result = cleanup_with(lab, stored, entries, stored.name, "--delete", "--yes", "--json")

    assert (result.code, reason_ids(result)) == (1, {stored.name: "cleanup.protected-path"})
    assert server.requests == []


# Asking


def test_without_a_terminal_and_without_yes_it_is_wrong_usage(lab: Lab, server: S3Server, stored: Path) -> None:
    result = cleanup(lab, stored, "--delete", stdin=subprocess.DEVNULL)
    idle = cleanup(lab, stored, "--yes")
    odd = cleanup(lab, stored, "--older_than", "a month")

    assert (result.code, idle.code, odd.code) == (2, 2, 2)
    assert result.error_ids + idle.error_ids == ["cleanup.no-terminal", "usage.requires-other"]
    assert ("--yes" in result.err, "--delete" in idle.err) == (True, True)
    assert (odd.error_ids, "'a month'" in odd.err, "30d" in odd.err) == (["usage.invalid-value"], True, True)
    assert server.requests == []
    assert len(tree(stored)) == 4


@pytest.mark.parametrize("answer", ["yes", "delete"])
def test_on_a_terminal_only_the_typed_answer_deletes(lab: Lab, server: S3Server, stored: Path, answer: str) -> None:
    run = stored.rename(stored.with_name("ok\x1b[2J\u202e 0 files\nType `no`"))
    for path, content in tree(run).items():
        server.put(BUCKET, f"{run.name}/{path}", content)
    write_log(lab, run)

    code, shown = on_terminal(lab, ("cleanup", "--config", lab.config_for(run), "--delete"), "to continue: ", answer)

    assert "  'ok\\x1b[2J\\u202e 0 files\\nType `no`'" in shown
    assert "\x1b[2J" not in shown
    assert "is then DELETED HERE, without another question" in shown
    assert (code, run.exists()) == ((1, True) if answer == "yes" else (0, False))
    if answer == "yes":
        assert error_ids(shown.replace("\r", "")) == ["cleanup.not-confirmed"]
        assert server.requests == []


def on_terminal(lab: Lab, argv: tuple[str, ...], question: str, answer: str) -> tuple[int, str]:
    """The exit code and the screen of the program on a terminal where this question is answered like this."""
    master, slave = pty.openpty()
    process = lab.start(*argv, env={"TERM": "dumb"}, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown, answered = b"", False
    while select.select([master], [], [], 60)[0]:
        try:
            shown += os.read(master, 4096)
        except OSError as error:  # it has ended
            if error.errno != errno.EIO:
                raise
            break
        if not answered and question.encode() in shown:
            os.write(master, f"{answer}\n".encode())
            answered = True
    os.close(master)
    return process.wait(timeout=120), shown.decode()


# What happens in the middle


@pytest.fixture
def strace() -> str:
    found = shutil.which("strace")
    if not found:
        skip_or_fail("no strace")
    return found


def traced(lab: Lab, strace: str, folder: Path, inject: str, *arguments: str) -> subprocess.Popen[str]:
    """The program under strace: this happens when it deletes names in this folder."""
    argv = (strace, "-qq", "-P", str(folder), "-e", "trace=unlinkat", "-e", f"inject=unlinkat:{inject}")
    program = (sys.executable, "-W", "error", "-m", "s3sync", "cleanup", *arguments)
    pipe = subprocess.PIPE
    return subprocess.Popen((*argv, *program), env=lab.env, text=True, stdout=pipe, stderr=pipe)


def stopped(process: subprocess.Popen[str]) -> psutil.Process:
    """The traced program, once it is stopped."""
    assert process.stderr
    for line in process.stderr:
        if "--- stopped by SIGSTOP" in line:
            return psutil.Process(process.pid).children()[0]
    pytest.fail("it was never stopped")


@pytest.mark.real
def test_what_changes_between_verification_and_deletion_stays(
    lab: Lab, server: S3Server, stored: Path, strace: str
) -> None:
    for path in ("Data/third.cbcl", "Deep/inner.cbcl", "Gone/gone.cbcl"):
        (stored / path).parent.mkdir(exist_ok=True)
        (stored / path).write_text(path)
    (stored / "link").symlink_to("Data/third.cbcl")
    as_if_uploaded(lab, server, stored)
    outside = Path(shutil.copytree(stored / "Deep", lab.root / "outside"))
    options = ("--config", lab.config_for(stored), "--delete", "--yes", "--json")

    with traced(lab, strace, stored / "Data", "signal=STOP:when=1", *options) as process:
        program = stopped(process)
        assert not (stored / "link").is_symlink(), "links go first: afterwards this one would lead to nothing"
        second = stored / "Data" / "second.cbcl"
        times = second.stat()
        second.write_bytes(second.read_bytes().upper())
        os.utime(second, ns=(times.st_atime_ns, times.st_mtime_ns))
        (stored / "Data" / "new.cbcl").write_text("came late")
        (stored / "Deep").rename(stored.parent / "moved")
        (stored / "Deep").symlink_to(outside)
        (stored / "Gone" / "gone.cbcl").unlink()
        program.resume()
        out, _ = process.communicate(timeout=120)

    result = Result(process.returncode, out, "")
    assert result.code == 1
    run = result.json["runs"][0]
    assert (run["verdict"], run["files"]) == ("partly deleted", 3)
    assert run["left"] == {
        "Data/second.cbcl": "changed since it was verified",
        "Deep/inner.cbcl": "its folder cannot be opened: Not a directory",
        "Gone/gone.cbcl": "gone before it could be deleted",
        "Data/new.cbcl": "appeared after the run was verified",
        "Deep": "appeared after the run was verified",
    }
    assert (outside / "inner.cbcl").exists()
    assert set(tree(stored)) == {
        "Data/second.cbcl",
        "Data/new.cbcl",
        "RunInfo.xml",
        "CopyComplete.txt",
    }
    record = record_of(lab, stored)
    assert (record["finished"], record["deleted_files"]) == ("", 5)


@pytest.mark.real
def test_a_kill_in_the_middle_costs_nothing_and_the_next_call_continues(
    lab: Lab, server: S3Server, stored: Path, strace: str
) -> None:
    """Neither the monitor nor the other destination, which was never to get it, treats the rest as a run."""
    (stored / "link").symlink_to("Data/first.cbcl")
    old = time.time() - 400 * 3600
    for name in ("RunInfo.xml", "CopyComplete.txt"):  # its age counts from its end
        os.utime(stored / name, (old, old))
    as_if_uploaded(lab, server, stored)
    keys = {"max_age": 72, **monitor({}, {"bucket": SECOND}, run=stored)}
    config = lab.config_for(stored, **keys)
    options = ("--config", config, "--delete", "--yes", "--json")

    with traced(lab, strace, stored, "signal=KILL:when=3", *options) as process:  # after the link and CopyComplete.txt
        process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert set(tree(stored)) == {"RunInfo.xml"}
    first = record_of(lab, stored)
    assert (first["finished"], len(first["files"])) == ("", 5)
    assert lab.run("monitor", "--config", config).code == 0
    assert server.counters["PutObject"] == 0

    server.delete(BUCKET, f"{stored.name}/Data/first.cbcl")
    lost = lab.run("cleanup", *options)
    assert (lost.code, verdicts(lost)[stored.name][0]) == (1, "kept")
    assert "CHANGED OR GONE" in verdicts(lost)[stored.name][1]
    assert set(tree(stored)) == {"RunInfo.xml"}

    server.put(BUCKET, f"{stored.name}/Data/first.cbcl", b"the first file of data\n")
    again = lab.run("cleanup", *options)
    assert (again.code, verdicts(again)[stored.name][0]) == (0, "deleted")
    assert not stored.exists()
    last = record_of(lab, stored)
    assert (last["files"], last["begun"], last["deleted_files"]) == (first["files"], first["begun"], 5)
    assert last["finished"]
    assert len(last["went_on"]) == 1


def test_interrupted_cleanup_of_a_run_with_a_control_character_in_its_name_continues(
    lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    """The record has the name as on the disk: the printable form would name another folder."""
    run = tiny_run.rename(tiny_run.with_name(tiny_run.name + "\x1b[1m"))
    as_if_uploaded(lab, server, run)
    assert cleanup(lab, run, "--delete", "--yes").code == 0
    run.mkdir()
    path = lab.log_dir / "cleanups" / f"{run.name}.cleanup.json"
    record = json.loads(path.read_text())
    assert (record["run_id"], record["run_path"]) == (run.name, str(run))
    record.update(finished="", device=run.stat().st_dev, inode=run.stat().st_ino)  # as if killed before the last step
    path.write_text(json.dumps(record))

    result = cleanup(lab, run, "--delete", "--yes")

    assert (result.code, result.out) == (
        0,
        f"{str(run).replace(chr(27), chr(92) + 'x1b')}: removed empty folders of an interrupted cleanup\n",
    )
    assert not run.exists()
    assert json.loads(path.read_text())["finished"]


@pytest.mark.real
def test_a_folder_that_a_kill_left_empty_is_finished_by_the_next_call(
    lab: Lab, server: S3Server, stored: Path, strace: str
) -> None:
    options = ("--config", lab.config_for(stored), "--delete", "--yes")
    with traced(lab, strace, stored.parent, "signal=KILL:when=1", *options) as process:
        process.communicate(timeout=120)
    assert list(stored.iterdir()) == []
    stored.with_name(stored.name + "-other").mkdir()

    result = lab.run("cleanup", *options, stored.name)

    assert result.code == 0, result.err
    assert result.out == f"{stored}: removed empty folders of an interrupted cleanup\n"
    assert [path.name for path in stored.parent.iterdir()] == [stored.name + "-other"]
    assert record_of(lab, stored)["finished"]


@pytest.mark.real
def test_a_signal_ends_it_between_two_files(lab: Lab, server: S3Server, tiny_run: Path, strace: str) -> None:
    for number in range(500):
        (tiny_run / "Data" / f"{number:03}.filter").touch()
    as_if_uploaded(lab, server, tiny_run)
    options = ("--config", lab.config_for(tiny_run), "--delete", "--yes")

    with traced(lab, strace, tiny_run / "Data", "signal=STOP:when=1", *options) as process:
        program = stopped(process)
        program.send_signal(signal.SIGTERM)
        program.resume()
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (143, "")
    assert error_ids(err) == ["run.interrupted"]
    deleted = re.search(r"s3sync: .*SIGTERM: (\d+) of 504 files of .* deleted", err)
    assert deleted
    assert len(tree(tiny_run)) == 504 - int(deleted[1]) >= 2
    assert (tiny_run / "RunInfo.xml").exists()


@pytest.mark.parametrize("place", ["Data", ".."])
def test_files_that_may_not_be_deleted_are_named(lab: Lab, server: S3Server, stored: Path, place: str) -> None:
    (stored / place).chmod(0o555)
    before = tree(stored)
    program = (*without_override(), sys.executable, "-m", "s3sync", "cleanup", "--config", lab.config_for(stored))

    ended = subprocess.run(
        (*program, "--delete", "--yes"), env=lab.env, capture_output=True, text=True, timeout=120, check=False
    )

    (stored / place).chmod(0o755)
    assert ended.returncode == 1
    assert tree(stored) == before
    text = " ".join(ended.stdout.split())
    if place == "Data":
        assert "NOT all deleted, 2 problems: Data/first.cbcl: cannot be deleted: Permission denied, and 1 more" in text
        assert record_of(lab, stored)["left"].keys() == {"Data/first.cbcl", "Data/second.cbcl"}
    else:
        assert f"nothing is deleted: {stored.parent} is not writable" in text


def test_without_a_record_nothing_is_deleted(lab: Lab, server: S3Server, stored: Path) -> None:
    (lab.log_dir / "cleanups").write_text("in the way")
    blocked = cleanup(lab, stored, "--delete", "--yes", "--json")
    (lab.log_dir / "cleanups").unlink()
    (lab.log_dir / "cleanups").mkdir()
    (lab.log_dir / "cleanups" / f"{stored.name}.cleanup.json").write_text('{"version": 1')
    corrupt = cleanup(lab, stored, "--delete", "--yes", "--json")

    assert (blocked.code, corrupt.code) == (1, 1)
    assert blocked.json["error_id"] == "state.log-dir-unwritable"
    assert str(lab.log_dir / "cleanups") in blocked.json["error"]
    assert reason_ids(corrupt) == {stored.name: "cleanup.record-unreadable"}
    assert len(tree(stored)) == 4


@pytest.mark.parametrize(
    ("mount", "reason_id", "fact"),
    [
        ("-t tmpfs none {run}/mnt", "cleanup.mount-point", "{run}/mnt"),
        ("--bind {run.parent} {other}", "cleanup.not-uploaded", "new at s3://"),
    ],
)
def test_what_is_mounted_in_the_run_or_mounted_twice_keeps_it(
    lab: Lab, server: S3Server, stored: Path, mount: str, reason_id: str, fact: str
) -> None:
    unshare = shutil.which("unshare") or skip_or_fail("no unshare")
    other = lab.root / "the same by another name"
    other.mkdir()
    (stored / "mnt").mkdir()
    entries = monitor({}, {"monitored_directories": [str(other)], "bucket": SECOND}, run=stored)
    program = (sys.executable, "-m", "s3sync", "cleanup", "--config", lab.config_for(stored, **entries))
    mount_argv = [word.format(run=stored, other=other) for word in mount.split()]
    script = f'mount {shlex.join(mount_argv)} || exit 77; exec "$@"'

    ended = subprocess.run(
        (unshare, "--mount", "sh", "-c", script, "sh", *program, stored.name, "--delete", "--yes", "--json"),
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    if not ended.stdout:
        pytest.skip(f"may not mount here: {ended.stderr}")
    assert ended.returncode == 1
    result = Result(ended.returncode, ended.stdout, "")
    assert reason_ids(result)[stored.name] == reason_id
    assert fact.format(run=stored) in verdicts(result)[stored.name][1]
    assert len(tree(stored)) == 4
    assert server.requests == []


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("call", ["unlinkat", "rename", "fsync"])
def test_after_a_kill_at_any_step_the_next_call_ends_it(
    tmp_path: Path, server: S3Server, tiny_run: Path, strace: str, call: str, record_property: Record
) -> None:
    """The remaining files are unchanged; the monitor sends nothing; deleted files are in the record."""
    kills = 0
    for number in itertools.count(1):
        lab = Lab(make_folder(tmp_path / str(number)), server.url)
        run = Path(shutil.copytree(tiny_run, lab.root / "instrument" / tiny_run.name))
        (run / "Data" / "link").symlink_to("first.cbcl")
        os.link(run / "Data" / "second.cbcl", run / "InterOp.bin")
        as_if_uploaded(lab, server, run)
        before = tree(run)
        arguments = ("cleanup", "--config", lab.config_for(run), "--delete", "--yes")
        argv = (strace, "-qq", "-o", os.devnull, "-e", f"inject={call}:signal=KILL:when={number}")
        program = (*argv, sys.executable, "-m", "s3sync", *arguments)
        ended = subprocess.run(program, env=lab.env, capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode == 0:
            break
        kills += 1
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        left = tree(run) if run.exists() else {}
        assert left.items() <= before.items()
        if left.keys() != before.keys():
            assert record_of(lab, run)["files"].keys() == before.keys()
        assert lab.run("monitor", "--config", lab.config_for(run)).code == 0
        again = lab.run(*arguments, run.name)
        gone = record_of(lab, run)["finished"]
        assert again.code == 0 or ("no run" in again.err and gone), again.out + again.err
        assert not run.exists()
    assert server.counters["PutObject"] == 0
    record_property("figures", {"kills": kills})


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder
