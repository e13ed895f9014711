"""After any interruption, the next call continues: nothing verified is sent again, nothing unverified is forgotten."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from scripts.simulate_run import make_run
from tests.helpers.crashes import orphans_of
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, kill_all, tree
from tests.helpers.s3server import S3Server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of 700 files: metadata, one batch or two of data, markers."""
    return make_run(tmp_path / "instrument", "novaseq6000", cycles=(12, 4, 4, 12), tiles=12, scale=0.00001)


def keys_of(run: Path) -> set[str]:
    return {f"{run.name}/{path}" for path in tree(run)}


@pytest.mark.real_aws  # which sends several files at once
def test_kill_9_in_mid_upload_costs_only_what_was_in_flight(lab: Lab, server: S3Server, run: Path) -> None:
    files = tree(run)
    with server.hold(after=300) as gate:
        process = lab.start(*lab.upload_argv(run, "--cores", "2", "--threads", "4"))
        gate.wait_held(4)  # as many as a process has threads; the other process may be done already
        process.kill()
        process.communicate()
        stuck = orphans_of(lab)
        assert stuck, "the children live on"
        busy = lab.upload(run)
        assert (busy.code, busy.out, busy.error_ids) == (75, "", ["lock.busy"])
        assert lab.log(run)["completed"] is False
        kill_all(stuck)
    stored_before = set(server.objects(BUCKET))
    assert 300 <= len(stored_before) < len(files)

    result = lab.upload(run, "--json")

    assert result.code == 0
    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {f"{run.name}/{p}": c for p, c in files.items()}
    again = [r.key for r in server.requests if r.operation == "PutObject" and r.status == 200]
    assert len(again) == len(set(again)), "nothing that was stored is sent twice"
    assert result.json["sent_files"] == len(files) - len(stored_before)
    log = lab.log(run)
    assert log["completed"] is True
    assert log["total_uploaded_files"] == len(files)
    assert list(lab.tmp.iterdir()) == [], "the killed one's temporary folder is removed, too"
    assert len(list((lab.log_dir / "uploads").iterdir())) == 1


def test_ctrl_c_ends_the_children_and_saves_the_state(
    lab: Lab, server: S3Server, small_run: Path, each_real_aws: str
) -> None:
    run = small_run
    with server.hold(key_contains="/Data/") as gate:
        process = lab.start(*lab.upload_argv(run, "--cores", "2", "--aws_command", each_real_aws))
        gate.wait_held(2)
        process.send_signal(signal.SIGINT)
        gate.release()  # the CLI waits for what is in flight
        out, err = process.communicate(timeout=120)
        assert orphans_of(lab) == []

    assert (process.returncode, out) == (130, "")
    assert (error_ids(err), "SIGINT" in err) == (["run.interrupted"], True), err
    assert re.search(
        r"files verified(, \d+ more sent and not compared yet)?; the same command continues from there", err
    )
    assert "Traceback" not in err
    log = lab.log(run)
    assert log["completed"] is False
    assert log["total_local_files"] == len(tree(run))
    assert log["failed_upload_files"] == []
    assert list(lab.tmp.iterdir()) == []
    assert lab.upload(run).code == 0


def test_ctrl_c_does_not_wait_for_requests_that_leave_nothing_in_s3(
    lab: Lab, server: S3Server, small_run: Path, each_real_aws: str
) -> None:
    lab.set_delays(signal_grace=[3600, 60, 5], signal_grace_without_parts=0)
    with server.hold(key_contains="/Data/") as gate:
        process = lab.start(*lab.upload_argv(small_run, "--aws_command", each_real_aws))
        gate.wait_held(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)  # S3 does not answer any more
        assert orphans_of(lab) == []
    assert (process.returncode, out) == (130, "")
    assert error_ids(err.splitlines()[-1]) == ["run.interrupted"], err
    assert lab.upload(small_run).code == 0


def test_a_signal_before_anything_is_sent(lab: Lab, server: S3Server, small_run: Path) -> None:
    """The first question to S3 ends without an answer: that is no failure of S3."""
    with server.hold(method="GET") as gate:
        process = lab.start(*lab.upload_argv(small_run))
        gate.wait_held(1)
        process.send_signal(signal.SIGTERM)
        gate.release()
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (143, "")
    last = err.splitlines()[-1]
    assert (error_ids(last), "SIGTERM: 0 of " in last) == (["run.interrupted"], True), err


def predecessors_log(run: Path, paths: dict[str, str], *, completed: bool) -> dict[str, Any]:
    return {
        "run_id": run.name,
        "run_path": str(run),
        "completed": completed,
        "total_local_files": len(tree(run)),
        "total_uploaded_files": len(paths),
        "total_failed_upload": 0,
        "failed_upload_files": [],
        "uploaded_files": {str(run / path): etag for path, etag in paths.items()},
    }


def write_log(lab: Lab, run: Path, log: dict[str, Any]) -> None:
    path = lab.log_path(run)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(log, indent=4))


def test_a_completed_log_of_the_predecessor_is_honoured(lab: Lab, server: S3Server, small_run: Path) -> None:
    write_log(lab, small_run, predecessors_log(small_run, dict.fromkeys(tree(small_run), "abc"), completed=True))

    result = lab.upload(small_run)

    assert result.code == 0
    assert result.out.startswith("nothing to send")
    assert server.requests == []


def test_an_unfinished_log_of_the_predecessor_is_resumed(lab: Lab, server: S3Server, small_run: Path) -> None:
    """It claims two files: one is in S3, the other is not, which only S3 can tell."""
    server.put(BUCKET, f"{small_run.name}/RunInfo.xml", (small_run / "RunInfo.xml").read_bytes())
    there = server.objects(BUCKET)[f"{small_run.name}/RunInfo.xml"].etag
    claimed = {"RunInfo.xml": there, "RTAComplete.txt": "d41d8cd98f00b204e9800998ecf8427e"}
    write_log(lab, small_run, predecessors_log(small_run, claimed, completed=False))

    result = lab.upload(small_run, "--json")

    assert result.code == 0
    assert result.json["sent_files"] == len(tree(small_run)) - 1
    assert set(server.objects(BUCKET)) == keys_of(small_run)
    assert lab.log(small_run)["uploaded_files"].keys() == {str(small_run / path) for path in tree(small_run)}


def test_an_object_that_s3_lost_is_sent_again_on_resume(lab: Lab, server: S3Server, small_run: Path) -> None:
    (small_run / "out").symlink_to("/etc/hostname")
    assert lab.upload(small_run).code == 1
    server.delete(BUCKET, f"{small_run.name}/RunInfo.xml")
    (small_run / "out").unlink()

    result = lab.upload(small_run)

    assert result.code == 0
    assert "1 file in the log is missing or different in S3, and uploaded again" in result.err
    assert set(server.objects(BUCKET)) == keys_of(small_run)
