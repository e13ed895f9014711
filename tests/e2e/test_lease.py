"""Two hosts never upload one run at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from s3sync.aws.destination import COMPLETION_OBJECT, Destination
from s3sync.errors import EXIT_BUSY
from s3sync.state.lease_files import LeaseFiles
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, Result, kill_family, pause_family, send_to_all, skip_or_fail, tree
from tests.helpers.lease_text import theirs
from tests.helpers.leases import LASTING, take, taken_over
from tests.helpers.s3server import S3Server
from tests.helpers.unprivileged import REPOSITORY

CONTEND = """
import os, sys, threading
from pathlib import Path
from s3sync.state import lease
from s3sync.errors import BusyError
from s3sync.state.lease_files import LeaseFiles
folder, inside, place = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
request = lease.LeaseRequest(name="RUN", busy="busy", lock_domain=place, timing=lease.LeaseTiming(0.02, 500))
won = 0
while won < 15:
    try:
        held = lease.acquire(LeaseFiles(folder), request, lambda why: None)
    except BusyError:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    held.check()
    inside.unlink()
    held.release()
    won += 1
print(won)
"""


def test_processes_take_turns(numbers: LeaseFiles, tmp_path: Path) -> None:
    argv = (sys.executable, "-W", "error", "-c", CONTEND, str(numbers.path(1).parent), str(tmp_path / "inside"))
    hosts = [
        subprocess.Popen((*argv, f"host {number}"), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    assert [host.communicate(timeout=120)[0] for host in hosts] == ["15\n"] * 3
    assert numbers.highest() == 45


def run_lease(lab: Lab, run: Path) -> LeaseFiles:
    return LeaseFiles(lab.log_dir / "leases" / f"{run.name}.{Destination(BUCKET, '').tag}")


def test_what_another_host_uploads_is_left_to_it_and_shown(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run = take(run_lease(lab, tiny_run), "there", LASTING)
    scan = lab.watch(tiny_run)
    monitor = take(LeaseFiles(lab.log_dir / "leases" / "monitor"), "there", LASTING)
    busy_scan = lab.watch(tiny_run, "--json")
    upload = lab.upload(tiny_run)
    status = lab.run("status", "--config", lab.config_for(tiny_run), "--json").json["runs"][0]
    monitor.release()
    run.release()

    by = f"held by process {os.getpid()} on {os.uname().nodename} since "
    assert (scan.code, scan.out, scan.err) == (0, "", "")
    assert (busy_scan.code, busy_scan.json["busy"], busy_scan.err) == (0, True, "")
    assert f"another scan is running: {by}" in (lab.log_dir / "s3_upload.log").read_text()
    assert (upload.code, upload.error_ids) == (EXIT_BUSY, ["lock.busy"])
    assert by in upload.err
    assert status["uploading_now"] is True
    assert status["reason"] == f"being uploaded now on {os.uname().nodename}: 0 verified so far"
    assert server.counters["PutObject"] == 0


def test_an_upload_that_has_lost_its_lock_writes_nothing_more(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    uploads, numbers = lab.log_dir / "uploads", run_lease(lab, tiny_run)
    with server.hold(key_contains="/Data/") as gate:
        process = lab.start(*lab.upload_argv(tiny_run))
        gate.wait_held()
        before = tree(uploads)
        taken_over(numbers)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (EXIT_BUSY, "")
    assert (error_ids(err), "sequencer-2" in err) == (["lock.taken-over"], True), err
    assert "Traceback" not in err
    assert tree(uploads) == before
    assert numbers.read(2) == theirs()
    numbers.replace(2, theirs(released=True), "theirs")
    assert lab.upload(tiny_run).code == 0
    assert lab.log(tiny_run)["completed"] is True


SETTLE = """
mount --make-rprivate / && mount --bind "$BOOT" /proc/sys/kernel/random/boot_id &&
mount --bind "$LOCKS" "$SHARED_LOCKS" && echo "$HOST_NAME" > /proc/sys/kernel/hostname || exit 70
exec "$@"
"""


class Host:
    """A separate machine that shares a folder of logs with others."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        folder = lab.root / name
        (folder / "locks").mkdir(parents=True)
        (folder / "boot_id").write_text(f"{uuid4()}\n")
        shared = lab.log_dir / "locks"
        shared.mkdir(parents=True, exist_ok=True)
        self._env = {
            "BOOT": str(folder / "boot_id"),
            "LOCKS": str(folder / "locks"),
            "SHARED_LOCKS": str(shared),
            "HOST_NAME": name,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start s3sync there; the process is s3sync's own."""
        settled = ("unshare", "--mount", "--uts", "sh", "-c", SETTLE, "sh")
        argv = (*settled, sys.executable, "-W", "error", "-m", "s3sync", *arguments)
        pipe = subprocess.PIPE
        return subprocess.Popen(argv, env={**self.lab.env, **self._env}, text=True, stdout=pipe, stderr=pipe)

    def run(self, *argv: str) -> Result:
        """Run s3sync there to its end."""
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Two hosts."""
    if os.geteuid() != 0:
        skip_or_fail("needs root")
    both = Host(lab, "host-a"), Host(lab, "host-b")
    tried = both[0].run("--version")
    if tried.code == 70 or tried.err.startswith("unshare: "):
        pytest.skip(f"no mounts or names of one's own here: {tried.err.strip()}")
    return both


def puts(server: S3Server) -> list[str]:
    """The keys of what was stored, one for each time."""
    return [request.key for request in server.requests if request.operation == "PutObject" and request.status == 200]


@pytest.mark.real
def test_two_hosts_never_upload_a_run_at_once_and_one_follows_the_other(
    lab: Lab, server: S3Server, tiny_run: Path, hosts: tuple[Host, Host]
) -> None:
    """Then the first one dies in the middle, with all that it started."""
    one, other = hosts
    config = lab.config_for(tiny_run)
    with server.hold(key_contains="/Data/second") as gate:
        first = one.start("monitor", "--config", config)
        gate.wait_held()
        server.wait_for(lambda r: r.operation == "PutObject" and r.status == 200, 2)  # RunInfo.xml, and the other one
        sent = puts(server)
        scan, upload = other.run("monitor", "--config", config), other.run(*lab.upload_argv(tiny_run))
        status = other.run("status", "--config", config, "--json").json["runs"][0]
        assert puts(server) == sent, "the other host has sent nothing"
        kill_family(first)
        first.communicate()
    followed = other.run("monitor", "--config", config)

    assert (scan.code, scan.out, scan.err) == (0, "", "")
    assert (upload.code, upload.error_ids) == (EXIT_BUSY, ["lock.busy"])
    assert f"held by process {first.pid} on host-a since " in upload.err
    assert status["reason"].startswith("being uploaded now on host-a: ")
    assert (followed.code, followed.out, followed.err) == (0, "", "")
    log = (lab.log_dir / "s3_upload.log").read_text()
    assert f"another scan is running: held by process {first.pid} on host-a since " in log
    assert "host-a holds the lease of monitor; checking for 1 min 00 s whether it is alive ..." in log
    assert lab.log(tiny_run)["completed"] is True
    assert sorted(set(puts(server))) == sorted(server.objects(BUCKET))
    assert len(puts(server)) == len(set(puts(server))), "nothing that was stored is sent twice"


@pytest.mark.real
def test_a_paused_host_finds_that_another_one_has_continued(
    lab: Lab, server: S3Server, tiny_run: Path, hosts: tuple[Host, Host]
) -> None:
    one, other = hosts
    argv = lab.upload_argv(tiny_run, "--completion_object")
    with server.hold(key_contains="/Data/") as gate:
        first = one.start(*argv)
        gate.wait_held()
        family = pause_family(first)
    second = other.run(*argv)
    log, stored = tree(lab.log_dir / "uploads"), {key: each.etag for key, each in server.objects(BUCKET).items()}
    last = [key for key in puts(server) if not key.endswith((".cbcl", "RunInfo.xml"))]
    send_to_all(signal.SIGCONT, family)
    out, err = first.communicate(timeout=120)

    assert second.code == 0
    assert "host-a holds " in second.err
    assert (first.returncode, out) == (EXIT_BUSY, "")
    assert (error_ids(err), "host-b" in err) == (["lock.taken-over"], True), err
    assert "Traceback" not in err
    assert tree(lab.log_dir / "uploads") == log
    assert {key: each.etag for key, each in server.objects(BUCKET).items()} == stored
    assert [key.rpartition("/")[2] for key in last] == ["CopyComplete.txt", COMPLETION_OBJECT]
    assert [key for key in puts(server) if not key.endswith((".cbcl", "RunInfo.xml"))] == last, "none of them again"


@pytest.fixture
def numbers(tmp_path: Path) -> LeaseFiles:
    return LeaseFiles(tmp_path / "leases" / "RUN")


HOLD = """
import sys
from pathlib import Path
from s3sync.state import lease
from s3sync.state.lease_files import LeaseFiles
timing = lease.LeaseTiming(0.25, 6)
request = lease.LeaseRequest(name="RUN", busy="busy", lock_domain="there", timing=timing)
held = lease.acquire(LeaseFiles(Path(sys.argv[1])), request, lambda why: None)
print("held", flush=True)
for line in sys.stdin:
    held.check()
    print("still held", flush=True)
"""


@pytest.fixture
def paused(numbers: LeaseFiles) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease and was stopped; each line that it is given then makes it check."""
    argv = (sys.executable, "-W", "error", "-c", HOLD, str(numbers.path(1).parent))
    pipe = subprocess.PIPE
    holder = subprocess.Popen(argv, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    psutil.Process(holder.pid).suspend()
    yield holder
    holder.kill()
    holder.communicate()


def test_a_paused_holder_keeps_a_lease_that_nobody_took(paused: subprocess.Popen[str]) -> None:
    """As after Ctrl-Z: for longer than others would have watched it."""
    threading.Event().wait(2)  # that time passes is the point: 6 looks take 1.5 s
    psutil.Process(paused.pid).resume()
    assert paused.communicate("?\n", timeout=120) == ("still held\n", "")
    assert paused.returncode == 0
