"""A run that lacks files of its own: held, reported, and never half uploaded, streamed to its end, or cleaned up."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3sync.config import load_config
from s3sync.inventory import discovery, statuses
from s3sync.inventory.states import RunStatus
from s3sync.monitor import scan_status
from s3sync.state import lock
from scripts.simulate.copying import MirroredRun
from scripts.simulate_run import make_run, plan_run
from tests.helpers.lab import BUCKET, FakeAws, Lab, tree
from tests.helpers.s3server import S3Server

HOUR = 3600.0
LAST = "Data/Intensities/BaseCalls/L001/C4.1/L001_2.cbcl"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete NovaSeq X run of few files."""
    return make_run(tmp_path / "instrument", "novaseqx", cycles=(2, 1, 1), lanes=1, tiles=1, scale=1e-9)


def judge(lab: Lab, run: Path, after: float = 0, entry: dict[str, Any] | None = None, **keys: Any) -> RunStatus:
    """Return the run as the monitor sees it in this many seconds, if nothing happens until then."""
    config = load_config(Path(lab.config_for(run, entry, **keys)), {})
    (status,) = statuses.run_statuses(config, discovery.discover(config).candidates, now=time.time() + after)
    return status


def without(run: Path, path: str = LAST) -> bytes:
    content = (run / path).read_bytes()
    (run / path).unlink()
    return content


@pytest.fixture
def aws(quick_aws: FakeAws) -> str:
    return quick_aws("")


def test_the_monitor_lets_a_run_settle_and_then_holds_it(lab: Lab, run: Path) -> None:
    without(run)
    assert [judge(lab, run, after).state for after in (0, HOUR / 2, HOUR + 1)] == ["settling", "settling", "incomplete"]
    assert "cycle 1 of read 2" in judge(lab, run).reason or "all of read 2" in judge(lab, run).reason
    assert judge(lab, run, HOUR / 2, quiet_minutes=20).state == "incomplete"
    assert judge(lab, run, HOUR + 1, require_whole_runs=False).state == "new"
    assert judge(lab, run, HOUR + 1, {"exclude_patterns": ["/C4.1/"]}).state == "new"


def test_an_incomplete_run_is_a_problem_that_says_what_to_do_until_it_is_whole(
    lab: Lab, server: S3Server, run: Path, aws: str
) -> None:
    content = without(run)
    keys: dict[str, Any] = {"quiet_minutes": 0, "aws_command": aws}

    held = lab.watch(run, **keys)

    assert held.code == 1
    assert held.err.count("\n") == 1
    assert f"incomplete: lane 1: all of read 2 missing, 1 file; the first is {LAST} (copy the rest; `upload" in held.err
    assert server.objects(BUCKET) == {}
    dry = lab.watch(run, "--dry_run", **keys)
    assert dry.code == 1
    assert " incomplete: lane 1" in dry.out
    assert "incomplete: incomplete" not in dry.out
    page = lab.run("status", "--config", str(lab.root / "scan.json"), "--json").json["runs"]
    assert [row["state"] for row in page] == ["incomplete"]

    (run / LAST).write_bytes(content)
    done = lab.watch(run, **keys)

    assert (done.code, done.err) == (0, "")
    assert len(server.objects(BUCKET)) == len(tree(run))


def test_upload_refuses_an_incomplete_run_and_names_the_way_out(
    lab: Lab, server: S3Server, run: Path, aws: str
) -> None:
    without(run)

    refused = lab.upload(run, "--aws_command", aws)

    assert (refused.code, refused.error_ids) == (1, ["run.incomplete"])
    assert refused.err.count("\n") == 1
    assert f"{run} lane 1: all of read 2 missing, 1 file; the first is {LAST}" in refused.err
    assert "--skip-check" in refused.err
    assert server.objects(BUCKET) == {}
    assert lab.upload(run, "--skip_check", "--aws_command", aws).code == 0
    assert lab.log(run)["completed"] is True


def test_a_completed_run_whose_base_calls_were_deleted_is_still_nothing_to_send(
    lab: Lab, server: S3Server, run: Path, aws: str
) -> None:
    assert lab.upload(run, "--aws_command", aws).code == 0
    without(run)

    again = lab.upload(run, "--aws_command", aws)

    assert again.code == 0, again.err
    assert "nothing to send" in again.out


def test_a_run_without_base_calls_is_uploaded_with_a_warning(lab: Lab, server: S3Server, run: Path, aws: str) -> None:
    for path in run.rglob("*.cbcl"):
        path.unlink()

    done = lab.watch(run, quiet_minutes=0, aws_command=aws)

    assert done.code == 0
    assert (
        "it has no base calls (not copied, or deleted after demultiplexing)"
        in done.err + (lab.log_dir / "s3_upload.log").read_text()
    ), "never silently"
    assert len(server.objects(BUCKET)) == len(tree(run))


def test_a_run_is_streamed_while_it_lacks_files_and_held_when_no_more_come(lab: Lab, run: Path) -> None:
    without(run)
    stream = {"stream": True}
    early, late = judge(lab, run, 0, stream), judge(lab, run, HOUR + 1, stream)
    assert early.state == "streaming"
    assert f"the first is {LAST}" in early.reason
    assert late.state == "incomplete"


def test_a_streamed_run_whose_markers_come_early_is_not_completed(
    lab: Lab, server: S3Server, run: Path, aws: str
) -> None:
    content = without(run)
    keys: dict[str, Any] = {"settle_minutes": 0, "aws_command": aws}

    assert lab.watch(run, entry={"stream": True}, **keys).code == 0

    assert lab.log(run)["completed"] is False
    assert f"{run.name}/CopyComplete.txt" not in server.objects(BUCKET)
    (run / LAST).write_bytes(content)
    os.utime(run / "CopyComplete.txt")
    assert lab.watch(run, entry={"stream": True}, **keys).code == 0
    assert lab.log(run)["completed"] is True


def test_cleanup_keeps_a_run_that_is_whole_nowhere(lab: Lab, server: S3Server, run: Path, aws: str) -> None:
    without(run)
    assert lab.upload(run, "--skip_check", "--aws_command", aws).code == 0

    def verdict(**keys: Any) -> tuple[str, str, str]:
        config = lab.config_for(run, aws_command=aws, **keys)
        argv = ("cleanup", "--config", config, "--older_than", "0h", "--json")
        (row,) = json.loads(lab.run(*argv).out)["runs"]
        return row["verdict"], row["reason_id"], row["reason"]

    *kept, reason = verdict()
    assert kept == ["kept", "cleanup.incomplete"]
    assert "lane 1: all of read 2 missing, 1 file" in reason
    assert verdict(require_whole_runs=False)[0] == "may be deleted"


def aged(run: Path) -> None:
    """Finished five days ago, and not copied since."""
    for path in run.rglob("*"):
        os.utime(path)
    for name in ("RunInfo.xml", "CopyComplete.txt", "RTAComplete.txt"):
        os.utime(run / name, (time.time() - 120 * HOUR,) * 2)


@pytest.mark.parametrize("why", ["S3 is away", "incomplete"])
def test_a_run_that_waits_for_days_does_not_become_too_old(
    lab: Lab, server: S3Server, run: Path, aws: str, why: str
) -> None:
    runs = [run, *(shutil.copytree(run, run.with_name(f"{name}_LH00130_0001_A22CC55LT4")) for name in ("a", "b"))]
    late = shutil.move(runs.pop(), lab.root / "late")  # not seen before it is old
    content = [without(one) for one in runs] if why == "incomplete" else []
    assert (
        lab.watch(run, quiet_minutes=0, max_age=72, aws_command="/bin/false" if why == "S3 is away" else aws).code == 1
    )
    shutil.move(late, run.with_name("b_LH00130_0001_A22CC55LT4"))
    for one in (*runs, run.with_name("b_LH00130_0001_A22CC55LT4")):
        aged(one)
    if content:
        assert lab.watch(run, quiet_minutes=0, max_age=72, aws_command=aws).code == 1, (
            "held and reported, until it is whole"
        )
    for one, body in zip(runs, content, strict=False):
        (one / LAST).write_bytes(body)

    result = lab.watch(run, quiet_minutes=0, max_age=72, aws_command=aws)

    assert result.code == 0
    rows = lab.run("status", "--config", str(lab.root / "scan.json"), "--json").json["runs"]
    states = {row["run_id"]: row["state"] for row in rows}
    assert states == {run.name: "uploaded", runs[1].name: "uploaded", "b_LH00130_0001_A22CC55LT4": "too old"}


def test_a_run_that_waits_for_a_scan_of_days_does_not_become_too_old(
    lab: Lab, server: S3Server, run: Path, aws: str
) -> None:
    keys: dict[str, Any] = {"max_age": 72, "aws_command": aws}
    (lab.log_dir / "locks").mkdir(parents=True)
    with lock.hold(scan_status.lock_path(lab.log_dir), "at work"):
        assert lab.watch(run, **keys).code == 0
    assert server.objects(BUCKET) == {}
    aged(run)
    assert lab.watch(run, quiet_minutes=0, **keys).code == 0
    assert server.objects(BUCKET)


def test_the_age_of_a_finished_run_counts_from_its_end(lab: Lab, run: Path) -> None:
    begun, ended = time.time() - 150 * HOUR, time.time() - 10 * HOUR
    os.utime(run / "RunInfo.xml", (begun, begun))
    for marker in run.glob("*Complete*"):
        os.utime(marker, (ended, ended))
    assert judge(lab, run, max_age=72).state == "new"
    assert judge(lab, run, max_age=9).state == "too old"
    assert (
        "finished 10 h 00 min ago (max_age 9 h; `touch` its RunInfo.xml to upload it)"
        in judge(lab, run, max_age=9).reason
    )
    (run / "RunInfo.xml").touch()
    assert judge(lab, run, max_age=9).state == "new"


def test_the_age_of_a_run_that_is_copied_with_its_times_counts_from_the_copy(
    lab: Lab, run: Path, tmp_path: Path
) -> None:
    ended = time.time() - 100 * HOUR
    for path in run.rglob("*"):
        os.utime(path, (ended, ended))
    copy = shutil.copytree(run, tmp_path / "archive" / run.name)
    assert judge(lab, copy, 2 * HOUR, max_age=72).state == "new"
    assert judge(lab, copy, 73 * HOUR, max_age=72).state == "too old", "it was there for long enough then"


def test_a_run_without_its_last_marker_goes_up_with_a_warning_and_is_not_too_old_then(lab: Lab, run: Path) -> None:
    (run / "CopyComplete.txt").unlink()
    assert judge(lab, run, 23 * HOUR, max_age=5).state == "sequencing"
    late = judge(lab, run, 25 * HOUR, max_age=5)
    assert (late.state, "CopyComplete.txt did not arrive within 24 h 00 min" in late.reason) == ("new", True)
    assert judge(lab, run, 3 * HOUR, marker_wait_hours=2).state == "new"


def test_what_is_too_old_or_does_not_match_is_never_listed(
    lab: Lab, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(_: object) -> None:
        raise AssertionError("listed")

    monkeypatch.setattr("s3sync.runs.local_files.list_files", listed)
    assert judge(lab, run, 99 * HOUR, max_age=72).state == "too old"
    assert judge(lab, run, 0, {"sample_regex": "^nothing$"}).state == "samples do not match"


def test_a_mirrored_run_goes_up_when_all_of_it_is_there_and_not_before(
    lab: Lab, server: S3Server, tmp_path: Path, aws: str
) -> None:
    """As rsync does it: the markers first, with pauses in the root, within a lane, and before InterOp."""
    copy = MirroredRun(
        tmp_path / "instrument", plan_run("novaseqx", cycles=(2, 1, 1), lanes=1, tiles=1), 1e-9, hours_ago=100
    )
    for part in ("", "Data", "Data/Intensities/BaseCalls/L001"):
        copy.copy_until(part)
        held = lab.watch(copy.folder, aws_command=aws, max_age=72, alert_after_hours=1000)
        assert (held.code, held.err, server.objects(BUCKET)) == (0, "", {}), part
        assert judge(lab, copy.folder).state == "settling", part
    assert judge(lab, copy.folder).reason.startswith(
        "CopyComplete.txt exists; files arrived after the completion marker"
    )
    list(copy)

    done = lab.watch(copy.folder, aws_command=aws, max_age=72, alert_after_hours=1000, quiet_minutes=0)

    assert (done.code, done.err) == (0, "")
    assert {key: item.body for key, item in server.objects(BUCKET).items()} == {
        f"{copy.folder.name}/{path}": content for path, content in tree(copy.folder).items()
    }


def no_such_folder(run: Path) -> Path:
    return run / "nowhere"


def a_file(run: Path) -> Path:
    return run / "RunInfo.xml"


def not_a_run(run: Path) -> Path:
    (run / "RunInfo.xml").unlink()
    return run


def not_complete(run: Path) -> Path:
    (run / "RTAComplete.txt").unlink()
    return run


def bad_run_info(run: Path) -> Path:
    (run / "RunInfo.xml").write_text("<RunInfo><Run")
    return run


@pytest.mark.parametrize(
    ("spoil", "error_id"),
    [
        (no_such_folder, "run.not-found"),
        (a_file, "usage.file-as-run"),
        (not_a_run, "run.not-a-run"),
        (not_complete, "run.incomplete"),
        (bad_run_info, "run.invalid-xml"),
    ],
)
def test_anything_but_a_completed_run_is_refused(
    lab: Lab, server: S3Server, small_run: Path, spoil: Callable[[Path], Path], error_id: str
) -> None:
    result = lab.upload(spoil(small_run))

    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result.err
    assert f"[{error_id}]" in result.err
    assert server.requests == []
    assert not lab.log_dir.exists()


def test_skip_check_uploads_any_folder(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(not_a_run(small_run), "--skip_check").code == 0
    assert lab.log(small_run)["completed"] is True
