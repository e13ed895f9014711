"""Runs that go up while the sequencer still writes them: scans of the real program over a run that grows."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s3sync.runs.local_files import Listing, LocalFile
from s3sync.transfer import selection
from s3sync.transfer.selection import UploadSelection
from tests.helpers.lab import BUCKET, Lab, Result, kill_family, tree
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.terminal import on_terminal

SHEET = "[Data]\nSample_ID,Sample_Name\n{name},{name}\n"
HOUR = 3600


@pytest.fixture
def growing(tiny_run: Path) -> Path:
    """A run that is not complete: two files of data, and what is rewritten until the end."""
    (tiny_run / "CopyComplete.txt").unlink()
    for path in ("InterOp/TileMetricsOut.bin", "Logs/first.log", "RTARead1Complete.txt", "Data/s.filter.txt"):
        (tiny_run / path).parent.mkdir(exist_ok=True)
        (tiny_run / path).write_text(f"{path} so far\n")
    return tiny_run


Scan = Callable[..., Result]


@pytest.fixture
def scan(lab: Lab, growing: Path) -> Scan:
    """A scan for which a file has settled as soon as it is written; keys of the entry by name, others in `keys`."""

    def run(*argv: str, keys: dict[str, Any] | None = None, **entry: Any) -> Result:
        settings = {"settle_minutes": 0, "max_cores": 1, **(keys or {})}
        return lab.watch(growing, *argv, entry={"stream": True, **entry}, **settings)

    return run


def keys_of(server: S3Server, run: Path) -> set[str]:
    """Paths in the run that S3 has."""
    return {key.removeprefix(f"{run.name}/") for key in server.objects(BUCKET)}


def sent(server: S3Server) -> list[str]:
    """Names of the files sent so far, in order."""
    return [os.path.basename(request.key) for request in server.requests if request.operation == "PutObject"]


def finish(run: Path) -> None:
    (run / "RTAComplete.txt").write_text("")
    (run / "CopyComplete.txt").write_text("")


def s3_is_the_disk(server: S3Server, run: Path) -> bool:
    return {key: stored.body for key, stored in server.objects(BUCKET).items()} == {
        f"{run.name}/{path}": content for path, content in tree(run).items()
    }


def status(lab: Lab, run: Path) -> dict[str, Any]:
    (row,) = lab.run("status", run.name, "--config", str(lab.root / "scan.json"), "--json").json["runs"]
    assert isinstance(row, dict)
    return row


def test_settled_data_goes_up_while_the_run_is_written_and_the_rest_at_its_end_with_the_markers_last(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    done = scan()
    assert (done.code, done.err) == (0, "")
    assert keys_of(server, growing) == {"Data/first.cbcl", "Data/second.cbcl"}
    log = lab.log(growing)
    assert (log["completed"], log["total_uploaded_files"], log["total_local_files"]) == (False, 2, 7)
    assert status(lab, growing)["state"] == "streaming"
    assert "2 files verified so far; waits for CopyComplete.txt" in status(lab, growing)["reason"]

    (growing / "Data/third.cbcl").write_bytes(b"the third\n")
    assert scan().code == 0
    assert sorted(sent(server)) == ["first.cbcl", "second.cbcl", "third.cbcl"]

    finish(growing)
    assert scan().code == 0
    log = lab.log(growing)
    assert (log["completed"], log["total_uploaded_files"], log["total_local_files"]) == (True, 10, 10)
    assert s3_is_the_disk(server, growing)
    assert len(sent(server)) == len(set(sent(server))) == 10
    assert set(sent(server)[-2:]) == {"RTAComplete.txt", "CopyComplete.txt"}
    assert scan().code == 0
    assert len(sent(server)) == 10


def test_a_file_that_has_not_settled_waits_and_costs_no_process(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan(keys={"settle_minutes": 10}).code == 0
    assert server.requests == []
    assert not lab.log_path(growing).exists()
    os.utime(growing / "Data/second.cbcl", (time.time() + HOUR,) * 2)
    assert scan().code == 0
    assert keys_of(server, growing) == {"Data/first.cbcl"}


def test_without_stream_nothing_of_an_incomplete_run_goes_up(server: S3Server, growing: Path, scan: Scan) -> None:
    assert scan(stream=False).code == 0
    assert server.requests == []


@pytest.mark.parametrize("when", ["while it is written", "at its end"])
@pytest.mark.parametrize("change", ["of another size", "of the same size and mtime"])
def test_a_file_that_changes_after_it_went_up_is_sent_again(
    lab: Lab, server: S3Server, growing: Path, scan: Scan, change: str, when: str
) -> None:
    assert scan().code == 0
    file = growing / "Data/first.cbcl"
    before, content = file.stat(), file.read_bytes()
    file.write_bytes(content + b"more" if change == "of another size" else content.upper())
    if change == "of the same size and mtime":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    if when == "at its end":
        finish(growing)
    assert scan().code == 0
    assert server.objects(BUCKET)[f"{growing.name}/Data/first.cbcl"].body == file.read_bytes()
    assert (sent(server).count("first.cbcl"), sent(server).count("second.cbcl")) == (2, 1)
    assert lab.log(growing)["completed"] is (when == "at its end")


def test_a_file_that_was_only_touched_is_read_again_but_not_sent_again(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan().code == 0
    (growing / "Data/first.cbcl").chmod(0o600)
    assert scan().code == 0
    assert sorted(sent(server)) == ["first.cbcl", "second.cbcl"]
    assert lab.log(growing)["total_uploaded_files"] == 2


def test_a_file_that_was_touched_and_settles_later_is_not_sent_again_either(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan().code == 0
    os.utime(growing / "Data/first.cbcl", (time.time() + HOUR,) * 2)
    (growing / "Data/third.cbcl").write_bytes(b"the third\n")
    assert scan().code == 0
    (growing / "Data/fourth.cbcl").write_bytes(b"the fourth\n")
    assert scan().code == 0
    os.utime(growing / "Data/first.cbcl")
    assert scan().code == 0
    assert sorted(sent(server)) == ["first.cbcl", "fourth.cbcl", "second.cbcl", "third.cbcl"]
    assert lab.log(growing)["total_uploaded_files"] == 4


def test_what_changed_is_not_called_uploaded_until_it_is_sent_again(lab: Lab, growing: Path, scan: Scan) -> None:
    assert scan().code == 0
    (growing / "Data/third.cbcl").write_bytes(b"the third\n")
    (growing / "Data/first.cbcl").write_bytes(b"and still written")
    os.utime(growing / "Data/first.cbcl", (time.time() + HOUR,) * 2)
    assert scan().code == 0
    assert {Path(path).name for path in lab.log(growing)["uploaded_files"]} == {"second.cbcl", "third.cbcl"}


def test_an_object_that_was_deleted_meanwhile_is_sent_again_at_the_end(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan().code == 0
    server.delete(BUCKET, f"{growing.name}/Data/first.cbcl")
    finish(growing)
    assert scan().code == 0
    assert s3_is_the_disk(server, growing)
    assert lab.log(growing)["completed"] is True


def test_a_file_that_changes_while_it_goes_up_is_not_a_failure_and_waits(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    config = lab.config_for(growing, {"stream": True}, settle_minutes=0, max_cores=1)
    with server.hold() as gate, lab.start("monitor", "--config", config) as process:
        gate.wait_held()
        (growing / "Data/second.cbcl").write_bytes(b"longer than it was before, and not done yet")
        gate.release()
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    log = lab.log(growing)
    assert (log["total_failed_upload"], log["total_uploaded_files"]) == (0, 1)
    assert scan().code == 0
    assert lab.log(growing)["total_uploaded_files"] == 2


def test_a_run_that_is_completed_while_it_streams_does_not_wait_for_the_next_scan(
    lab: Lab, server: S3Server, growing: Path
) -> None:
    config = lab.config_for(growing, {"stream": True}, settle_minutes=0, max_cores=1)
    with server.hold() as gate, lab.start("monitor", "--config", config) as process:
        gate.wait_held()
        finish(growing)
        gate.release()
        process.communicate(timeout=120)
    assert lab.log(growing)["completed"] is True
    assert s3_is_the_disk(server, growing)


def test_a_scan_that_is_killed_while_it_streams_costs_at_most_what_was_in_flight(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    config = lab.config_for(growing, {"stream": True}, settle_minutes=0, max_cores=1, max_threads=1)
    with server.hold(1) as gate, lab.start("monitor", "--config", config) as process:
        gate.wait_held()
        kill_family(process)
        gate.release()
        process.communicate(timeout=120)
    assert scan().code == 0
    assert set(sent(server)) == {"first.cbcl", "second.cbcl"}
    assert len(sent(server)) <= 3
    assert lab.log(growing)["total_uploaded_files"] == 2


def test_a_file_that_fails_is_reported_and_tried_again_by_the_next_scan(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    server.add_fault(Fault(kind="status", key_contains="first", status=400, code="EntityTooLarge", count=None))
    failed = scan()
    assert failed.code == 1
    assert "Data/first.cbcl" in failed.err
    server.clear_faults()
    assert scan().code == 0
    assert lab.log(growing)["total_uploaded_files"] == 2


def test_a_run_without_a_samplesheet_waits_for_it(lab: Lab, server: S3Server, growing: Path, scan: Scan) -> None:
    assert scan(sample_regex="^CEN").code == 0
    assert server.requests == []
    row = status(lab, growing)
    assert (row["state"], row["reason_id"]) == ("sequencing", "run.not-streamed-yet")
    assert "SampleSheet.csv" in row["reason"]
    (growing / "SampleSheet.csv").write_text(SHEET.format(name="CEN-1"))
    assert scan(sample_regex="^CEN").code == 0
    assert keys_of(server, growing) == {"Data/first.cbcl", "Data/second.cbcl"}


def test_a_run_that_is_excluded_later_is_reported_once_and_its_objects_are_listed_not_deleted(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    (growing / "SampleSheet.csv").write_text(SHEET.format(name="CEN-1"))
    assert scan(sample_regex="^CEN").code == 0
    (growing / "SampleSheet.csv").write_text(SHEET.format(name="OTHER-1"))
    (growing / "Data/third.cbcl").write_bytes(b"the third\n")
    result = scan(sample_regex="^CEN")
    assert "samples do not match" in result.err
    assert "2 files are already in S3" in result.err
    finish(growing)
    again = scan(sample_regex="^CEN")
    assert (result.code, again.code, again.err) == (0, 0, "")
    assert keys_of(server, growing) == {"Data/first.cbcl", "Data/second.cbcl"}
    listed = status(lab, growing)
    assert listed["in_s3"] == [f"{growing.name}/Data/first.cbcl", f"{growing.name}/Data/second.cbcl"]
    shown = lab.run("status", growing.name, "--config", str(lab.root / "scan.json")).out
    assert f"{growing.name}/Data/second.cbcl" in shown


def test_an_abandoned_run_is_reported_once_and_continues_when_it_is_written_again(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan().code == 0
    result, again = (scan(keys={"abandoned_hours": 1e-6}) for _ in range(2))
    assert "abandoned" in result.err
    assert "nothing changed for 1e-06 h" in result.err
    assert "2 files are already in S3" in result.err
    assert (result.code, again.code, again.err) == (0, 0, "")
    (growing / "Data/third.cbcl").write_bytes(b"it goes on\n")
    assert scan().code == 0
    assert "Data/third.cbcl" in keys_of(server, growing)


def test_a_run_that_is_copied_with_its_old_mtimes_is_not_abandoned(server: S3Server, growing: Path, scan: Scan) -> None:
    for path in growing.rglob("*"):
        os.utime(path, (time.time() - 25 * HOUR,) * 2)
    done = scan()
    assert (done.code, done.err) == (0, "")
    assert keys_of(server, growing) == {"Data/first.cbcl", "Data/second.cbcl"}


def test_a_run_that_is_too_old_is_not_begun(server: S3Server, growing: Path, scan: Scan) -> None:
    os.utime(growing / "RunInfo.xml", (time.time() - 73 * HOUR,) * 2)
    assert scan(keys={"max_age": 72}).code == 0
    assert server.requests == []


def test_a_dry_run_says_what_would_be_streamed_and_writes_nothing(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    shown = scan("--dry_run", "--json").json
    (run,) = shown["runs"]
    assert (run["state"], run["upload"]["would_send_files"]) == ("streaming", 2)
    assert not lab.log_path(growing).exists()
    assert keys_of(server, growing) == set()


def test_what_a_scan_streamed_is_reported_to_people_and_to_programs(growing: Path, scan: Scan) -> None:
    (run,) = scan("--json").json["runs"]
    assert (run["upload"]["streaming"], run["upload"]["completed"], run["upload"]["sent_files"]) == (True, False, 2)
    finish(growing)
    (run,) = scan("--json").json["runs"]
    assert (run["upload"]["streaming"], run["upload"]["completed"]) == (False, True)


def test_on_a_terminal_a_scan_says_how_far_it_is(lab: Lab, growing: Path) -> None:
    config = lab.config_for(growing, {"stream": True}, settle_minutes=0)
    lines = on_terminal([sys.executable, "-m", "s3sync", "monitor", "--config", config], lab.env, both=True)
    assert any(f"streamed so far: {growing.name}" in line for line in lines)
    assert any("2 of 7 verified in S3 by ETag" in line for line in lines)
    assert not any("NOT completed" in line for line in lines)


def test_excludes_apply_while_the_run_is_written(server: S3Server, growing: Path, scan: Scan) -> None:
    assert scan(exclude_patterns=["second"]).code == 0
    assert keys_of(server, growing) == {"Data/first.cbcl"}


def test_where_the_log_is_lost_what_went_up_is_found_and_not_sent_again(
    lab: Lab, server: S3Server, growing: Path, scan: Scan
) -> None:
    assert scan().code == 0
    shutil.rmtree(lab.log_dir)
    (growing / "Data/third.cbcl").write_bytes(b"the third\n")
    assert scan().code == 0
    assert sorted(sent(server)) == ["first.cbcl", "second.cbcl", "third.cbcl"]


def scope_and_listing(*paths: str, mtime: int = 5, ctime: int = 5) -> tuple[UploadSelection, Listing]:
    files = tuple(LocalFile(path, 10, mtime) for path in sorted(paths))
    return UploadSelection(files=files, rejected=(), excluded=0, warnings=()), Listing(
        files=files, rejected=(), skipped=(), ctimes_ns=(ctime,) * len(files)
    )


@pytest.mark.parametrize(
    "path",
    [
        *("RunInfo.xml", "RunParameters.xml", "SampleSheet.csv", "RTAComplete.txt", "CopyComplete.txt", "odd.bin"),
        *("InterOp/QMetricsOut.bin", "InterOp/C1.1/x.bin", "Logs/a.zip", "RTALogs/b", "InstrumentAnalyticsLogs/c.zip"),
        *("Config/d.cfg", "Recipe/e.bin", "Analysis/1/Data/f.bam", "Data/Intensities/RTAConfiguration.xml"),
        *("Data/Intensities/BaseCalls/L001/g.LOG", "Data/RTAComplete.txt"),
        *("Data/L001/.L001_1.cbcl.9fXq2T", "Data/.nfs0000000000a1", "Data/.~tmp~/L001_1.cbcl"),
    ],
)
def test_what_is_rewritten_until_the_end_waits(path: str) -> None:
    scope, listing = scope_and_listing(path)
    assert selection.select_settled(scope, listing, 5).waiting == scope.files


@pytest.mark.parametrize(
    "path",
    [
        *("Data/Intensities/BaseCalls/L001/C1.1/L001_1.cbcl", "Data/Intensities/BaseCalls/L001/s_1_1101.bcl.gz"),
        *("Data/Intensities/s.locs", "Data/Intensities/L001/s_1_1101.filter", "Thumbnail_Images/L001/C1.1/a.jpg"),
    ],
)
def test_the_bulk_of_a_run_does_not(path: str) -> None:
    scope, listing = scope_and_listing(path)
    assert selection.select_settled(scope, listing, 5).files == scope.files
    assert selection.select_settled(scope, listing, 4).waiting == scope.files


@pytest.mark.parametrize("times", [{"mtime": 9}, {"ctime": 9}])
def test_a_file_has_settled_only_if_neither_its_mtime_nor_its_ctime_is_new(times: dict[str, int]) -> None:
    scope, listing = scope_and_listing("Data/a.cbcl", **times)
    assert selection.select_settled(scope, listing, 8).waiting == scope.files
    assert selection.select_settled(scope, listing, 9).files == scope.files


def test_the_log_of_a_run_that_is_still_written_says_since_when_its_files_are_unchanged(
    lab: Lab, growing: Path, scan: Scan
) -> None:
    before = time.time_ns()
    assert scan().code == 0
    assert before < json.loads(lab.log_path(growing).read_bytes())["still_since"] < time.time_ns()
    finish(growing)
    assert scan().code == 0
    assert lab.log(growing)["still_since"] == 0
