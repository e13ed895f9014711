"""Several runs at once in one scan: a large run delays no small one, and a failure of one does not disturb others."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.helpers.lab import BUCKET, Lab, kill_family, tree
from tests.helpers.s3server import Fault, Request, S3Server
from tests.helpers.thaw_logs import date_back
from tests.helpers.waiting import wait_until

LOOKS = {"scan_looks": 0.1}


@pytest.fixture
def large(tiny_run: Path) -> Path:
    """A run that is uploaded when others come."""
    for number in range(40):
        (tiny_run / f"Data/large{number:02}.cbcl").write_bytes(b"x" * 1000)
    return tiny_run


def copy_of(run: Path, number: int, files: int = 2) -> Path:
    """A run of few files that comes later; its marker comes last."""
    name = run.name.replace("0007", f"{number:04}").replace("DRX7", f"DRX{number % 10}")
    small = run.with_name(name)
    (small / "Data").mkdir(parents=True)
    (small / "RunInfo.xml").write_text((run / "RunInfo.xml").read_text().replace(run.name, name))
    for each in range(files):
        (small / f"Data/small{each}.cbcl").write_bytes(f"small {each}".encode())
    (small / "CopyComplete.txt").write_text("")
    return small


def monitor(lab: Lab, run: Path, **keys: Any) -> Popen[str]:
    """Start a scan that looks for new runs all the time."""
    lab.set_delays(**LOOKS)
    return lab.start("monitor", "--config", lab.config_for(run, **{"max_cores": 2, **keys}), "--json")


def wait_until_completed(lab: Lab, *runs: Path) -> None:
    """Wait until the state logs say so."""
    wait_until(lambda: {run.name for run in runs} <= completed_runs(lab), lambda: completed_runs(lab))


def completed_runs(lab: Lab) -> set[str]:
    completed = set()
    for path in (lab.log_dir / "uploads").glob("*.upload.log.json"):
        with contextlib.suppress(FileNotFoundError):  # it may get another name at this moment
            log = json.loads(path.read_text())
            completed |= {log["run_id"]} if log["completed"] else set()
    return completed


def is_of(run: Path) -> Any:
    def matches(request: Request) -> bool:
        return run.name in request.key and request.method == "PUT"

    return matches


def end(process: Popen[str]) -> tuple[int, dict[str, Any]]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, json.loads(out) if out else {}


@pytest.mark.parametrize("runs_at_once", [2, 4])
def test_a_run_that_completes_meanwhile_is_verified_before_the_large_one_ends(
    lab: Lab, server: S3Server, large: Path, runs_at_once: int
) -> None:
    with server.hold(key_contains="large") as gate:
        process = monitor(lab, large, max_runs_at_once=runs_at_once)
        gate.wait_held()
        small = copy_of(large, 8)
        wait_until_completed(lab, small)
        assert json.loads(lab.log_path(large).read_text())["completed"] is False
        busy = lab.run("monitor", "--config", str(lab.root / "scan.json"), "--json")
        assert (busy.code, busy.json["busy"], busy.err) == (0, True, "")
    code, result = end(process)
    assert code == 0
    uploads = {run["run_id"]: run["upload"]["completed"] for run in result["runs"]}
    assert uploads == {large.name: True, small.name: True}


def test_with_one_run_at_once_the_others_wait(lab: Lab, server: S3Server, large: Path) -> None:
    small = copy_of(large, 8)
    assert end(monitor(lab, large, max_runs_at_once=1))[0] == 0
    order = [small.name in request.key for request in server.requests if request.operation == "PutObject"]
    assert order == sorted(order)


def test_a_run_that_is_still_written_is_streamed_beside_a_large_one(lab: Lab, server: S3Server, large: Path) -> None:
    with server.hold(key_contains="large") as gate:
        process = monitor(lab, large, entry={"stream": True}, settle_minutes=0)
        gate.wait_held()
        small = copy_of(large, 8)
        (small / "CopyComplete.txt").rename(small.parent / "CopyComplete.txt")
        server.wait_for(is_of(small))
        (small.parent / "CopyComplete.txt").rename(small / "CopyComplete.txt")
        wait_until_completed(lab, small)
    assert end(process)[0] == 0
    assert lab.log(large)["completed"] is True


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_two_uploads_that_end_in_the_middle_are_both_resumed(
    lab: Lab, server: S3Server, large: Path, signum: signal.Signals
) -> None:
    other = copy_of(large, 8, files=40)
    with server.hold(after=5, key_contains="large") as gate, server.hold(after=5, key_contains="small") as other_gate:
        process = monitor(lab, large)
        gate.wait_held()
        other_gate.wait_held()
        if signum == signal.SIGKILL:
            kill_family(process)
        else:
            process.send_signal(signum)
    code, _ = end(process)
    assert code == (-signal.SIGKILL if signum == signal.SIGKILL else 143)
    logs = [json.loads(lab.log_path(run).read_text()) for run in (large, other)]
    assert [log["completed"] for log in logs] == [False, False]
    server.wait_disconnected()
    assert end(monitor(lab, large))[0] == 0
    assert [lab.log(run)["completed"] for run in (large, other)] == [True, True]


def test_a_run_that_fails_does_not_disturb_the_other(lab: Lab, server: S3Server, large: Path) -> None:
    small = copy_of(large, 8)
    server.add_fault(Fault(kind="status", status=403, code="AccessDenied", key_contains=small.name, count=None))
    code, result = end(monitor(lab, large))
    assert code == 1
    assert lab.log(large)["completed"] is True
    assert {problem["key"].partition(" ")[0] for problem in result["problems"]} == {small.name}


def test_one_bucket_that_does_not_exist_does_not_disturb_the_other(lab: Lab, server: S3Server, large: Path) -> None:
    folder = large.parent
    entries = [
        {"monitored_directories": [str(folder)], "bucket": bucket, "remote_path": "/"} for bucket in ("nowhere", BUCKET)
    ]
    copy_of(large, 8)
    code, result = end(monitor(lab, large, monitor=entries))
    assert code == 1
    assert [(problem["key"], problem["id"]) for problem in result["problems"]] == [("s3://nowhere", "s3.no-bucket")]
    assert len([run for run in result["runs"] if run.get("upload", {}).get("completed")]) == 2


def test_one_run_goes_to_two_buckets_at_once(lab: Lab, server: S3Server, large: Path) -> None:
    """Two uploads of one id, each with its own log and lock; both wait for S3 at the same time."""
    server.create_bucket("second")
    entries = [
        {"monitored_directories": [str(large.parent)], "bucket": bucket, "remote_path": "/"}
        for bucket in (BUCKET, "second")
    ]
    with server.hold(key_contains="Data/") as gate:
        process = monitor(lab, large, monitor=entries, max_cores=1, max_processes=1)
        gate.wait_held(2)
        logs = (lab.log_dir / "uploads").glob("*.upload.log.json")
        names = {json.loads(path.read_text())["bucket"]: path.name for path in logs}
    assert names[BUCKET] == lab.log_path(large).name, "the first one of the config"
    assert len(names["second"]) > len(names[BUCKET])
    code, result = end(process)
    assert code == 0
    assert [run["upload"]["completed"] for run in result["runs"]] == [True, True]
    assert server.objects(BUCKET).keys() == server.objects("second").keys()
    text = (lab.log_dir / "s3_upload.log").read_text()
    assert f"{large.name} to s3://second/{large.name}/: " in text


def test_two_folders_with_one_name_and_destination_are_refused_beside_others(
    lab: Lab, server: S3Server, large: Path, tmp_path: Path
) -> None:
    small = copy_of(large, 8)
    shutil.copytree(small, tmp_path / "again" / small.name)
    folders = [str(large.parent), str(tmp_path / "again")]
    code, result = end(monitor(lab, large, entry={"monitored_directories": folders}))
    assert code == 1
    assert lab.log(large)["completed"] is True
    assert {problem["id"] for problem in result["problems"]} == {"run.duplicate-name"}


def requested(lab: Lab, run: Path) -> Path:
    """A run whose objects are frozen, and whose thawing has just been requested."""
    archived = copy_of(run, 9)
    where = ("--bucket", BUCKET, "--log_dir", str(lab.log_dir))
    assert lab.upload(archived, "--storage-class", "GLACIER").code == 0
    shutil.move(archived, run.parent.parent / "saved")
    assert lab.run("restore", str(archived), *where, "--tier", "Bulk").code == 1
    return archived


def restorable(lab: Lab, run: Path) -> Path:
    """The same, requested long ago."""
    archived = requested(lab, run)
    date_back(lab)
    return archived


def wait_until_restored(lab: Lab) -> None:
    argv = ("status", "--config", str(lab.root / "scan.json"), "--json")
    wait_until(lambda: not lab.run(*argv).json["restores"])


def test_a_restore_that_is_thawed_meanwhile_comes_back_before_a_large_run_is_uploaded(
    lab: Lab, server: S3Server, large: Path
) -> None:
    archived = requested(lab, large)
    with server.hold(key_contains="large") as gate:
        process = monitor(lab, large, max_bandwidth="500MB/s")
        gate.wait_held()
        server.thaw(BUCKET)
        date_back(lab)
        wait_until_restored(lab)
        assert json.loads(lab.log_path(large).read_text())["completed"] is False
    assert end(process)[0] == 0
    assert lab.log(large)["completed"] is True
    assert tree(archived) == tree(large.parent.parent / "saved")


def test_a_run_that_completes_during_a_restore_is_verified_before_that_ends(
    lab: Lab, server: S3Server, large: Path
) -> None:
    archived = restorable(lab, large)
    later = shutil.move(copy_of(large, 8), lab.root)
    shutil.rmtree(large)
    server.thaw(BUCKET)
    with server.hold(method="GET", operation="GetObject", key_contains="small") as gate:
        process = monitor(lab, archived, max_cores=1, max_processes=1)
        gate.wait_held()
        small = Path(shutil.move(later, archived.parent))
        wait_until_completed(lab, small)
        assert not archived.exists()
    code, result = end(process)
    assert (code, result["problems"]) == (0, [])
    assert archived.is_dir()


def test_a_restore_is_interrupted_with_the_scan(lab: Lab, server: S3Server, large: Path) -> None:
    archived = restorable(lab, large)
    server.thaw(BUCKET)
    with server.hold(method="GET", operation="GetObject", key_contains="small") as gate:
        process = monitor(lab, large)
        gate.wait_held()
        process.send_signal(signal.SIGTERM)
        assert end(process)[0] == 143
    assert not archived.exists()
    assert end(monitor(lab, large))[0] == 0
    assert archived.is_dir()


def test_an_edited_config_is_used_while_a_large_run_is_uploaded(
    lab: Lab, server: S3Server, large: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Path(shutil.move(copy_of(large, 8), elsewhere))
    with server.hold(key_contains="large") as gate:
        process = monitor(lab, large)
        gate.wait_held()
        (lab.root / "scan.json").write_text("{")
        wait_for_log(lab, "cannot be used")
        folders = [str(large.parent), str(elsewhere)]
        lab.config_for(large, {"monitored_directories": folders}, max_cores=1, nice=19)
        wait_until_completed(lab, other)
        assert json.loads(lab.log_path(large).read_text())["completed"] is False
    assert end(process)[0] == 0
    text = (lab.log_dir / "s3_upload.log").read_text()
    assert text.count("cannot be used") == 1
    assert text.count("but not yet for max_cores, nice") == 1


def wait_for_log(lab: Lab, text: str) -> None:
    path = lab.log_dir / "s3_upload.log"
    wait_until(lambda: text in path.read_text(), lambda: (text, path.read_text()))
