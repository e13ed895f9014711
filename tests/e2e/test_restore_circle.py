"""The way to S3 and back: uploaded, verified, deleted by `cleanup`, and restored, a run is what it was."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.simulate_run import INSTRUMENTS, make_run
from tests.helpers import analyses
from tests.helpers.analyses import make_analysis
from tests.helpers.hostile_names import HOSTILE_NAMES
from tests.helpers.lab import BUCKET, Lab
from tests.helpers.s3server import MIB, S3Server

RUNS = 4  # of each instrument
OLD = 1_500_000_000_123_456_789  # ns since 1970


def times(folder: Path) -> dict[str, int]:
    """When each file and folder was modified, the run folder itself included."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def is_identical(run: Path, saved: Path) -> None:
    """Names, bytes, empty folders and times are the same, and modes are safe."""
    same = subprocess.run(["diff", "-r", str(saved), str(run)], capture_output=True, text=True, check=False)
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    assert times(run) == times(saved)
    for path in (run, *run.rglob("*")):
        mode = path.lstat().st_mode
        assert mode & 0o7022 == 0
        assert mode & 0o600 == 0o600
        assert stat.S_ISDIR(mode) or mode & 0o111 == 0
    assert [name for name in os.listdir(run.parent) if name.startswith(".s3sync")] == []


def make_odd(run: Path, number: int) -> None:
    """Add some of the things that instruments, people and tools leave in a run."""
    if number == 1:
        for name in HOSTILE_NAMES:
            (run / "Data" / name).write_bytes(name.encode())
        (run / "-p [x]*" / "new\nline").mkdir(parents=True)
        (run / "-p [x]*" / "new\nline" / "?").write_text("deep")
    if number == 2:
        (run / "Logs" / "empty" / "inner").mkdir(parents=True, exist_ok=True)
        (run / "RunInfo.xml").chmod(0o400)
        (run / "Data" / "world.txt").write_text("all may write")
        (run / "Data" / "world.txt").chmod(0o777)
        for path in [*run.rglob("*"), run]:
            os.utime(path, ns=(OLD, OLD))
    if number == 3:
        (run / "Data" / "big.cbcl").write_bytes(os.urandom(MIB) * 17)
        (run / "Data" / "empty.cbcl").touch()


def make_runs(parent: Path, instrument: str) -> Iterator[Path]:
    for number in range(RUNS):
        run = make_run(parent, instrument, seed=number + 1, cycles=(2, 1, 2), tiles=1 + number % 2, scale=0.0001)
        make_odd(run, number)
        if instrument == "novaseqx" and number in (1, 3):
            make_analysis(run, 1)
            make_analysis(run, 2)
        yield run


@pytest.mark.parametrize("instrument", sorted(INSTRUMENTS))
def test_runs_come_back_as_they_were(lab: Lab, server: S3Server, tmp_path: Path, instrument: str) -> None:
    """Uploaded by the monitor, deleted by `cleanup`, and restored with the commands that it prints."""
    runs = list(make_runs(tmp_path / "instrument", instrument))
    for run in runs:
        shutil.copytree(run, tmp_path / "saved" / run.name, symlinks=True)
    config = lab.config_for(runs[0], entry={"completion_object": instrument in ("novaseqx", "miseq")}, quiet_minutes=0)
    for _ in range(2 if instrument == "novaseqx" else 1):  # analyses come after their runs
        scan = lab.run("monitor", "--config", config)
        assert scan.code == 0, scan.out + scan.err
    cleaned = lab.run("cleanup", "--config", config, "--older-than", "0h", "--delete", "--yes", "--json")
    assert cleaned.code == 0, cleaned.out + cleaned.err
    assert not any(run.exists() for run in runs), cleaned.out
    commands = {row["run_id"]: shlex.split(row["restore"]) for row in cleaned.json["runs"]}
    for run in runs:
        argv = commands[run.name]
        result = lab.run(*argv[argv.index("restore") :])
        assert result.code == 0, result.out + result.err
        is_identical(run, tmp_path / "saved" / run.name)
    sent = server.counters["PutObject"] + server.counters["UploadPart"]
    again = lab.run("monitor", "--config", config, "--json")
    assert again.code == 0, again.out + again.err
    assert server.counters["PutObject"] + server.counters["UploadPart"] == sent, "nothing is uploaded again"
    assert lab.run("verify", str(runs[-1]), "--bucket", BUCKET).code == 0


@pytest.fixture
def elsewhere(lab: Lab, server: S3Server, tmp_path: Path) -> Path:
    """A run with an analysis that another machine has uploaded: nothing of it is on this one."""
    run = analyses.make_run(tmp_path / "instrument")
    make_analysis(run)
    for folder in (run, run / "Analysis" / "1"):
        assert lab.upload(folder).code == 0
    shutil.move(run, tmp_path / "saved")
    shutil.move(lab.log_dir, tmp_path / "log of the other machine")
    return run


def restore(lab: Lab, run: Path, *argv: str) -> None:
    result = lab.run("restore", str(run), "--bucket", BUCKET, *argv)
    assert result.code == 0, result.out + result.err


def uploads(server: S3Server) -> int:
    return sum(request.method in ("PUT", "POST") for request in server.requests)


def test_what_is_restored_on_another_machine_is_uploaded_for_its_monitor(
    lab: Lab, server: S3Server, elsewhere: Path
) -> None:
    """The restore leaves the state logs that an upload would have left, of the run and of its analysis."""
    before = uploads(server)
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir))
    config = lab.config_for(elsewhere)
    status = lab.run("status", "--config", config, "--json").json["runs"]
    assert [(row["run_id"], row["state"]) for row in status] == [
        (elsewhere.name, "uploaded"),
        (f"{elsewhere.name}/Analysis/1", "uploaded"),
    ]
    listings = server.counters["ListObjectsV2"]
    assert lab.run("monitor", "--config", config).code == 0
    assert (uploads(server), server.counters["ListObjectsV2"]) == (before, listings), "S3 is not even asked"
    assert lab.upload(elsewhere).code == 0
    (elsewhere / "InterOp").mkdir()
    (elsewhere / "InterOp" / "new.bin").write_text("later")
    assert lab.run("monitor", "--config", config).code == 0
    assert uploads(server) == before + 1, "what comes later is uploaded"
    assert lab.run("cleanup", "--config", config, "--older-than", "0h", "--delete", "--yes").code == 0
    assert not elsewhere.exists()


def test_the_config_of_another_machine_is_enough(lab: Lab, server: S3Server, elsewhere: Path) -> None:
    """It has no state log of the run, but one destination."""
    before = uploads(server)
    config = lab.config_for(elsewhere)
    unknown = lab.run("restore", elsewhere.name, "--config", config)
    assert (unknown.code, unknown.error_ids) == (2, ["usage.no-state-log"])
    result = lab.run("restore", elsewhere.name, "--config", config, "--local-path", str(elsewhere.parent))
    assert result.code == 0, result.out + result.err
    assert lab.run("monitor", "--config", config).code == 0
    status = lab.run("status", "--config", config, "--json").json["runs"]
    assert [row["state"] for row in status] == ["uploaded", "uploaded"]
    assert uploads(server) == before


def test_a_log_that_is_there_is_not_replaced(lab: Lab, elsewhere: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "log of the other machine", lab.log_dir)
    before = {path.name: path.read_bytes() for path in (lab.log_dir / "uploads").iterdir()}
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir))
    assert {path.name: path.read_bytes() for path in (lab.log_dir / "uploads").iterdir()} == before


def test_what_is_only_on_disk_is_not_called_uploaded(
    lab: Lab, server: S3Server, elsewhere: Path, tmp_path: Path
) -> None:
    """A restore adds to a folder with an analysis, and with a file of the run, that were never uploaded."""
    make_analysis(tmp_path / "saved", 2)
    shutil.copytree(tmp_path / "saved" / "Analysis" / "2", elsewhere / "Analysis" / "2")
    (elsewhere / "Data").mkdir()
    (elsewhere / "Data" / "only here.txt").write_text("never sent")
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir))
    config = lab.config_for(elsewhere, quiet_minutes=0)
    status = lab.run("status", "--config", config, "--json").json["runs"]
    assert [row["run_id"] for row in status if row["state"] == "uploaded"] == []
    for _ in range(2):  # analyses come after their runs
        assert lab.run("monitor", "--config", config).code == 0
    sent = {key.removeprefix(f"{elsewhere.name}/") for key in server.objects(BUCKET)}
    on_disk = {str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*") if path.is_file()}
    assert sent >= on_disk


def test_what_changes_on_disk_during_a_restore_is_not_called_verified(
    lab: Lab, server: S3Server, elsewhere: Path, tmp_path: Path
) -> None:
    """The file was there before, and identical when it was compared."""
    elsewhere.mkdir(exist_ok=True)
    shutil.copy2(tmp_path / "saved" / "RunInfo.xml", elsewhere)
    with server.hold(method="GET", operation="GetObject") as gate:
        process = lab.start("restore", str(elsewhere), "--bucket", BUCKET, "--log_dir", str(lab.log_dir))
        gate.wait_held()
        edited = (elsewhere / "RunInfo.xml").read_bytes() + b"<!-- corrected -->"
        (elsewhere / "RunInfo.xml").write_bytes(edited)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert lab.watch(elsewhere, quiet_minutes=0).code == 0
    assert server.objects(BUCKET)[f"{elsewhere.name}/RunInfo.xml"].body == edited


def test_a_part_of_a_run_leaves_no_log(lab: Lab, elsewhere: Path) -> None:
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir), "--only", "metadata")
    assert not (lab.log_dir / "uploads").exists()


def test_a_monitor_with_another_log_directory_compares_and_sends_nothing(
    lab: Lab, server: S3Server, elsewhere: Path, tmp_path: Path
) -> None:
    before = uploads(server)
    restore(lab, elsewhere, "--log_dir", str(tmp_path / "log of the user"))
    for _ in range(2):
        assert lab.watch(elsewhere, quiet_minutes=0).code == 0
    assert uploads(server) == before


def test_objects_that_nothing_can_prove_again_are_not_uploaded_again(
    lab: Lab, server: S3Server, elsewhere: Path
) -> None:
    """Another tool may have sent them by KMS and without checksums."""
    for stored in server.objects(BUCKET).values():
        stored.headers["x-amz-server-side-encryption"] = "aws:kms"
        stored.etag, stored.checksums = stored.etag[::-1], {}
    before = uploads(server)
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir), "--verify", "size")
    for _ in range(2):
        assert lab.watch(elsewhere, quiet_minutes=0).code == 0
    assert uploads(server) == before


def test_a_restored_run_is_not_changed_after_its_completion(lab: Lab, server: S3Server, elsewhere: Path) -> None:
    """The times that reveal a change are those that the log names."""
    shutil.copytree(lab.root / "log of the other machine", lab.log_dir)
    restore(lab, elsewhere, "--log_dir", str(lab.log_dir))
    before = uploads(server)
    scan = lab.watch(elsewhere)
    assert (scan.code, scan.out) == (0, "")
    status = lab.run("status", "--config", lab.config_for(elsewhere), "--json").json["runs"]
    assert [row["state"] for row in status] == ["uploaded", "uploaded"]
    assert all("new or changed" not in row["reason"] for row in status)
    assert uploads(server) == before
