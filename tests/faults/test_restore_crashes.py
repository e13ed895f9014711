"""Killed at any moment, a restore shows nothing that is half, and the next call goes on with what is proven."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.crashes import wait_for_orphans
from tests.helpers.lab import BUCKET, Lab, kill_family, skip_or_fail, tree
from tests.helpers.s3server import S3Server

MARKER = "CopyComplete.txt"
MOVES = "rename,renameat,renameat2,link,linkat"
TIMES = "chmod,fchmodat,utimensat"  # after each file that is moved; no process that downloads calls them


def words(lab: Lab, run: Path) -> tuple[str, ...]:
    return (
        *("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir)),
        *("--aws_command", lab.aws),
    )


@pytest.fixture
def saved(lab: Lab, tiny_run: Path) -> Path:
    """A run of ten files that is in S3, and was moved away."""
    for number in range(6):
        (tiny_run / "Data" / f"{number}.cbcl").write_bytes(bytes([number]) * 1000)
    assert lab.upload(tiny_run).code == 0
    kept = tiny_run.parent.parent / "saved"
    shutil.move(tiny_run, kept)
    return kept


def shows_nothing_half(run: Path, saved: Path, *, is_merged: bool) -> None:
    """What is under the run's name has the right bytes, and the marker only if nothing is missing."""
    here, all_of_it = tree(run), tree(saved)
    assert here.items() <= all_of_it.items()
    if not is_merged:
        assert here in ({}, all_of_it)
    assert MARKER not in here or here == all_of_it


def comes_back(lab: Lab, server: S3Server, run: Path, saved: Path) -> None:
    """The next call fetches what is not proven yet, and the run is as it was."""
    ready = {path.name for path in run.parent.glob(".s3sync-restore-*/ready/**/*") if path.is_file()}
    proven = ready | set(tree(run))
    before = len([request for request in server.requests if request.operation == "GetObject"])
    result = lab.run(*words(lab, run))
    assert result.code == 0, result.out + result.err
    fetched = [request for request in server.requests if request.operation == "GetObject"][before:]
    assert not {request.key.rpartition("/")[2] for request in fetched} & {name.rpartition("/")[2] for name in proven}
    assert tree(run) == tree(saved)
    assert {p.stat().st_mtime_ns for p in run.rglob("*.cbcl")} == {p.stat().st_mtime_ns for p in saved.rglob("*.cbcl")}
    assert list(run.parent.iterdir()) == [run]


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("calls", "is_merged", "least"), [(MOVES, False, 4), (MOVES, True, 8), (TIMES, False, 8)])
def test_a_kill_at_every_rename(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, calls: str, is_merged: bool, least: int
) -> None:
    strace = shutil.which("strace") or skip_or_fail("no strace")
    trace = lab.root / "trace"
    kills = 0
    for number in itertools.count(1):  # of each thread; of a process that downloads, too, which s3sync survives
        shutil.rmtree(tiny_run, ignore_errors=True)
        if is_merged:
            (tiny_run / "Data").mkdir(parents=True)
            shutil.copy2(saved / "Data" / "3.cbcl", tiny_run / "Data")
        inject = f"inject={calls}:signal=SIGKILL:when={number}"
        argv = [strace, "-f", "-o", str(trace), "-e", f"trace={calls}", "-e", inject]
        argv += [sys.executable, "-m", "s3sync", *words(lab, tiny_run)]
        ended = subprocess.run(argv, env=lab.env, capture_output=True, check=False, timeout=120)
        wait_for_orphans(lab)
        kills += ended.returncode != 0
        if "killed by SIGKILL" not in trace.read_text():
            break
        shows_nothing_half(tiny_run, saved, is_merged=is_merged)
        comes_back(lab, server, tiny_run, saved)
    assert kills >= least


@pytest.mark.sweep
@pytest.mark.timeout(1800)
def test_a_kill_at_random_moments(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    chance = random.Random(7)
    start = time.monotonic()
    assert lab.run(*words(lab, tiny_run)).code == 0
    seconds = time.monotonic() - start
    kills = 0
    while kills < 60:
        shutil.rmtree(tiny_run, ignore_errors=True)
        process = lab.start(*words(lab, tiny_run))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.1, seconds))
        if process.returncode is None:
            kill_family(process)
            kills += 1
        process.communicate()
        wait_for_orphans(lab)
        shows_nothing_half(tiny_run, saved, is_merged=False)
        comes_back(lab, server, tiny_run, saved)


def test_a_kill_while_it_downloads(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with server.hold(4, method="GET", operation="GetObject") as gate:
        process = lab.start(*words(lab, tiny_run))
        gate.wait_held()
        shows_nothing_half(tiny_run, saved, is_merged=False)
        kill_family(process)
        process.communicate()
    wait_for_orphans(lab)
    shows_nothing_half(tiny_run, saved, is_merged=False)
    comes_back(lab, server, tiny_run, saved)


def test_an_interruption_keeps_what_is_proven(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with server.hold(4, method="GET", operation="GetObject") as gate:
        process = lab.start(*words(lab, tiny_run))
        gate.wait_held()
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 143
    shows_nothing_half(tiny_run, saved, is_merged=False)
    comes_back(lab, server, tiny_run, saved)


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="needs a small file system")
def test_a_full_disk_is_said_and_nothing_is_shown(lab: Lab, saved: Path, tiny_run: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("cannot mount")
    try:
        result = lab.run(*words(lab, small / tiny_run.name))
        assert (result.code, result.error_ids) == (1, ["restore.no-room"])
        assert not (small / tiny_run.name).exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
