"""A restore whose disk, network or processes fail says so once, shows nothing, and continues with the same command."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, kill_family, pause_family, send_to_all, skip_or_fail, tree
from tests.helpers.s3server import MIB, Fault, Gate, S3Server
from tests.helpers.thaw_logs import date_back

SPARE = 64 * MIB  # that a restore leaves free


@pytest.fixture
def saved(lab: Lab, tiny_run: Path) -> Path:
    """A run of four files of 1 MiB beside the small ones, that is in S3 and was moved away."""
    for number in range(4):
        (tiny_run / "Data" / f"{number}.cbcl").write_bytes(bytes([number]) * MIB)
    assert lab.upload(tiny_run).code == 0
    return tiny_run.rename(lab.root / "saved")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system, with room for the run and little else."""
    folder = tmp_path / "disk"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={SPARE + 6 * MIB}", "none", str(folder)]
    if subprocess.run(argv, check=False, capture_output=True).returncode:
        skip_or_fail("mounts are not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def restore_argv(lab: Lab, run: Path, *more: str) -> tuple[str, ...]:
    return ("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), "--cores", "1", *more)


def held(server: S3Server, after: int = 2) -> Gate:
    """Hold all downloads but the first ones."""
    return server.hold(after, method="GET", operation="GetObject")


def fetched(server: S3Server) -> int:
    return sum(request.operation == "GetObject" and request.status < 300 for request in server.requests)


def failed(result: Result, run: Path, error: str) -> None:
    """One message of this id, and nothing under the run's name."""
    assert (result.code, result.error_ids) == (1, [error]), result.out + result.err
    assert "Traceback" not in result.err
    assert not run.exists()


def goes_on(lab: Lab, server: S3Server, run: Path, saved: Path, done: int) -> None:
    """The same command fetches what is not there yet, and no more."""
    before = fetched(server)
    result = lab.run(*restore_argv(lab, run))
    assert result.code == 0, result.out + result.err
    assert tree(run) == tree(saved)
    assert fetched(server) - before <= len(tree(saved)) - done


def ended(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=120)
    return Result(process.returncode, out, err)


def test_a_disk_that_gets_full_while_it_downloads(lab: Lab, server: S3Server, saved: Path, disk: Path) -> None:
    """It is not the disk of the logs either."""
    run = disk / saved_name(server)
    with held(server) as gate:
        process = lab.start(*restore_argv(lab, run))
        gate.wait_held()
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "filler").write_bytes(bytes(free - 40_960))
    failed(ended(process), run, "restore.disk-full")
    (disk / "filler").unlink()
    goes_on(lab, server, run, saved, done=2)


def saved_name(server: S3Server) -> str:
    return next(iter(server.objects(BUCKET))).partition("/")[0]


def test_missing_room_is_reported_before_anything_is_fetched(
    lab: Lab, server: S3Server, saved: Path, disk: Path
) -> None:
    run = disk / saved_name(server)
    (disk / "filler").write_bytes(bytes(3 * MIB))
    failed(lab.run(*restore_argv(lab, run)), run, "restore.no-room")
    assert fetched(server) == 0
    (disk / "filler").unlink()
    goes_on(lab, server, run, saved, done=0)


def test_a_disk_that_becomes_read_only(lab: Lab, server: S3Server, saved: Path, disk: Path) -> None:
    run = disk / saved_name(server)
    with held(server) as gate:
        process = lab.start(*restore_argv(lab, run))
        gate.wait_held()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    result = ended(process)
    assert result.code == 1
    assert len(result.error_ids) == 1, result.err
    assert not run.exists()
    failed(lab.run(*restore_argv(lab, run)), run, "restore.cannot-write")
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    goes_on(lab, server, run, saved, done=0)


def test_a_quota_that_is_exceeded(lab: Lab, server: S3Server, saved: Path, tiny_run: Path, quick_aws: FakeAws) -> None:
    code = (
        "import builtins, errno\nreal = builtins.open\n"
        "def limited(path, *mode, **more):\n"
        "    if mode == ('wb',) and '2.cbcl' in str(path):\n"
        "        raise OSError(errno.EDQUOT, 'Disk quota exceeded')\n"
        "    return real(path, *mode, **more)\n"
        "builtins.open = limited"
    )
    failed(lab.run(*restore_argv(lab, tiny_run, "--aws_command", quick_aws(code))), tiny_run, "restore.disk-full")
    goes_on(lab, server, tiny_run, saved, done=len(tree(saved)) - 1)


def test_a_network_that_is_lost(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    server.add_fault(Fault("reset", method="GET", operation="GetObject", skip=3, count=None))
    result = lab.run(*restore_argv(lab, tiny_run))
    failed(result, tiny_run, "s3.unreachable")
    server.clear_faults()
    goes_on(lab, server, tiny_run, saved, done=3)


def test_a_server_that_disappears_in_between(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with held(server, 3) as gate:
        process = lab.start(*restore_argv(lab, tiny_run))
        gate.wait_held()
        server.stop()
    result = ended(process)
    assert (result.code, result.error_ids) == (1, ["s3.unreachable"]), result.out + result.err
    assert not tiny_run.exists()
    server.start()
    goes_on(lab, server, tiny_run, saved, done=3)


def test_a_process_that_stalls_is_ended_and_its_files_come_with_another(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path
) -> None:
    server.add_fault(Fault("hang", method="GET", operation="GetObject", key_contains="1.cbcl"))
    result = lab.run(*restore_argv(lab, tiny_run, "--stall_minutes", "0.02"))
    assert result.code == 0, result.out + result.err
    assert tree(tiny_run) == tree(saved)


def test_the_priority_is_that_of_all_processes(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with held(server, 0) as gate:
        process = lab.start(*restore_argv(lab, tiny_run, "--nice", "7"))
        gate.wait_held()
        family = pause_family(process)
        assert {member.nice() for member in family} == {7}
        send_to_all(signal.SIGCONT, family)
    assert ended(process).code == 0


def test_each_process_has_its_share_of_the_bandwidth(
    lab: Lab, saved: Path, tiny_run: Path, quick_aws: FakeAws, tmp_path: Path
) -> None:
    seen = tmp_path / "configs"
    code = f"if 'cp' in argv:\n    open({str(seen)!r}, 'a').write(open(os.environ['AWS_CONFIG_FILE']).read())"
    aws = quick_aws(code)
    result = lab.run(*restore_argv(lab, tiny_run, "--max_bandwidth", "3MB/s", "--aws_command", aws))
    assert result.code == 0, result.err
    limits = {line.strip() for line in seen.read_text().splitlines() if "max_bandwidth" in line}
    assert limits == {"max_bandwidth = 2929KB/s"}, "one process has all of it"


def test_a_killed_wait_continues_with_what_is_thawed(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    """Thawing is requested once, and each object is fetched once, however often the waiting restore is killed."""
    for stored in server.objects(BUCKET).values():
        stored.headers["x-amz-storage-class"] = "GLACIER"
    wait = restore_argv(lab, tiny_run, "--tier", "Bulk", "--wait")
    keys = sorted(server.objects(BUCKET))
    for thawed in (0, 2, 4):
        if thawed:
            server.thaw(BUCKET, *keys[:thawed])
        process = lab.start(*wait)
        if thawed:
            server.wait_for(lambda request: request.operation == "GetObject" and request.status == 200, thawed)
        else:
            server.wait_for("RestoreObject", len(keys))
        kill_family(process)
        process.communicate()
        assert not (tiny_run / "CopyComplete.txt").exists()
    server.thaw(BUCKET)
    result = lab.run(*wait)
    assert result.code == 0, result.out + result.err
    assert tree(tiny_run) == tree(saved)
    assert server.counters["RestoreObject"] <= len(keys) + 1


def test_a_disk_that_is_not_mounted_any_more_does_not_fill_the_one_below(
    lab: Lab, server: S3Server, tiny_run: Path, disk: Path
) -> None:
    """The folder is still there, but empty; nothing is written into it until the disk is back."""
    assert lab.upload(tiny_run, "--storage-class", "GLACIER").code == 0
    saved = tiny_run.rename(lab.root / "saved")
    argv = restore_argv(lab, Path(tiny_run.name), "--local-path", str(disk))
    assert lab.run(*argv, "--tier", "Bulk").code == 1
    date_back(lab)
    server.thaw(BUCKET)
    subprocess.run(["umount", str(disk)], check=True)
    try:
        by_hand = lab.run(*argv)
        scan = lab.watch(tiny_run, "--json")
        written = os.listdir(disk)
    finally:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)
    assert (by_hand.code, by_hand.error_ids, written) == (1, ["restore.other-mount"], [])
    assert "restore.other-mount" in [problem["id"] for problem in scan.json["problems"]]
    result = lab.run(*argv)
    assert result.code == 0, result.err
    assert tree(disk / tiny_run.name) == tree(saved)
