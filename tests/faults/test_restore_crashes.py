"""Killed at any moment, a restore shows nothing that is half, and the next call continues with what is verified."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.crashes import wait_for_orphans
from tests.helpers.lab import BUCKET, Lab, kill_family, skip_or_fail, tree
from tests.helpers.s3server import S3Server

MARKER = "CopyComplete.txt"
MOVES = "rename,renameat,renameat2,link,linkat"
KILLED = Path(__file__).parents[1] / "helpers" / "killed.py"
MOST_STEPS = 200
RANDOM_KILLS = 60

Record = Callable[[str, object], None]


def restore_argv(lab: Lab, run: Path) -> tuple[str, ...]:
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


def begin_anew(run: Path, saved: Path, *, is_merged: bool) -> None:
    """Nothing is left of the run but, if the rest is merged into it, one file."""
    shutil.rmtree(run, ignore_errors=True)
    if is_merged:
        (run / "Data").mkdir(parents=True)
        shutil.copy2(saved / "Data" / "3.cbcl", run / "Data")


def shows_nothing_half(run: Path, saved: Path, *, is_merged: bool) -> None:
    """What is under the run's name has the right bytes, and the marker only if nothing is missing."""
    here, all_of_it = tree(run), tree(saved)
    assert here.items() <= all_of_it.items()
    if not is_merged:
        assert here in ({}, all_of_it)
    assert MARKER not in here or here == all_of_it


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def comes_back(lab: Lab, server: S3Server, run: Path, saved: Path) -> None:
    """The next call fetches what is not verified yet, and the run is as it was."""
    ready = {path.name for path in run.parent.glob(".s3sync-restore-*/ready/**/*") if path.is_file()}
    verified = ready | set(tree(run))
    before = len([request for request in server.requests if request.operation == "GetObject"])
    result = lab.run(*restore_argv(lab, run))
    assert result.code == 0, result.out + result.err
    fetched = [request for request in server.requests if request.operation == "GetObject"][before:]
    assert not {request.key.rpartition("/")[2] for request in fetched} & {name.rpartition("/")[2] for name in verified}
    assert tree(run) == tree(saved)
    assert times(run) == times(saved)
    assert list(run.parent.iterdir()) == [run]


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_merged", [False, True])
def test_a_kill_at_every_rename_of_any_process(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, is_merged: bool, record_property: Record
) -> None:
    strace = shutil.which("strace") or skip_or_fail("no strace")
    trace = lab.root / "trace"
    kills = 0
    for number in itertools.count(1):  # of each thread; of a process that downloads, too, which s3sync survives
        begin_anew(tiny_run, saved, is_merged=is_merged)
        inject = f"inject={MOVES}:signal=SIGKILL:when={number}"
        argv = [strace, "-f", "-o", str(trace), "-e", f"trace={MOVES}", "-e", inject]
        argv += [sys.executable, "-m", "s3sync", *restore_argv(lab, tiny_run)]
        ended = subprocess.run(argv, env=lab.env, capture_output=True, check=False, timeout=120)
        wait_for_orphans(lab)
        kills += ended.returncode != 0
        if "killed by SIGKILL" not in trace.read_text():
            break
        shows_nothing_half(tiny_run, saved, is_merged=is_merged)
        comes_back(lab, server, tiny_run, saved)
    assert kills >= 4
    record_property("figures", {"kills": kills})


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_merged", [False, True])
def test_a_kill_before_every_step_to_the_disk(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, is_merged: bool, record_property: Record
) -> None:
    """Each write, rename, link, unlink, chmod and utime of s3sync in the private folder, the run and the log folder."""
    for kills in range(MOST_STEPS):
        begin_anew(tiny_run, saved, is_merged=is_merged)
        argv = [sys.executable, str(KILLED), str(kills), str(lab.root), *restore_argv(lab, tiny_run)]
        ended = subprocess.run(argv, env=lab.env, capture_output=True, text=True, check=False, timeout=120)
        wait_for_orphans(lab)
        shows_nothing_half(tiny_run, saved, is_merged=is_merged)
        comes_back(lab, server, tiny_run, saved)
        if ended.returncode != -signal.SIGKILL:
            assert ended.returncode == 0, ended.stderr
            break
    assert 60 < kills < MOST_STEPS - 1
    record_property("figures", {"kills": kills})


@pytest.mark.sweep
@pytest.mark.timeout(1800)
def test_kills_at_random_moments(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, record_property: Record
) -> None:
    """Of all processes, again and again until the run is there; half of the runs are merged into what is there."""
    chance = random.Random(7)
    start = time.monotonic()
    assert lab.run(*restore_argv(lab, tiny_run)).code == 0
    seconds = time.monotonic() - start
    kills = 0
    while kills < RANDOM_KILLS:
        is_merged = chance.random() < 0.5
        begin_anew(tiny_run, saved, is_merged=is_merged)
        for _ in range(chance.randint(1, 4)):
            process = lab.start(*restore_argv(lab, tiny_run))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.1, seconds))
            if process.poll() is None:
                kill_family(process)
                kills += 1
            process.communicate()
            wait_for_orphans(lab)
            shows_nothing_half(tiny_run, saved, is_merged=is_merged)
        comes_back(lab, server, tiny_run, saved)
    record_property("figures", {"kills": kills})


def test_a_kill_while_it_downloads(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with server.hold(4, method="GET", operation="GetObject") as gate:
        process = lab.start(*restore_argv(lab, tiny_run))
        gate.wait_held()
        shows_nothing_half(tiny_run, saved, is_merged=False)
        kill_family(process)
        process.communicate()
    wait_for_orphans(lab)
    shows_nothing_half(tiny_run, saved, is_merged=False)
    comes_back(lab, server, tiny_run, saved)


def test_an_interruption_keeps_what_is_verified(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    with server.hold(4, method="GET", operation="GetObject") as gate:
        process = lab.start(*restore_argv(lab, tiny_run))
        gate.wait_held()
        process.terminate()
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    assert re.search(r"\d+ of \d+ files verified, and kept", err), err
    shows_nothing_half(tiny_run, saved, is_merged=False)
    comes_back(lab, server, tiny_run, saved)


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="needs a small file system")
def test_a_full_disk_is_reported_and_nothing_is_shown(lab: Lab, saved: Path, tiny_run: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("cannot mount")
    try:
        result = lab.run(*restore_argv(lab, small / tiny_run.name))
        assert (result.code, result.error_ids) == (1, ["restore.no-room"])
        assert not (small / tiny_run.name).exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)
