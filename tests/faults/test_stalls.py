"""A child that moves no bytes is ended and its files are sent again; a slow one is left alone; no parts stay in S3."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from s3sync.process_tree import IoSnapshot, StallDetector, take_io_snapshot
from s3sync.signals import StopRequest
from scripts.simulate_run import make_run
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, IMPATIENT, FakeAws, Lab, is_running, kill_family
from tests.helpers.promise import is_pending, is_verified, next_scan_completes
from tests.helpers.s3server import Fault, S3Server

pytestmark = pytest.mark.real_aws

MIB = 1024 * 1024
SECONDS = 6  # of stillness that count as a stall here; loading the CLI's libraries moves bytes all the time
STALL = ("--stall_minutes", str(SECONDS / 60))
MOVED = f"aws moved no bytes for {SECONDS}.0 s, so it was terminated"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run of few files, one of which goes up in two parts."""
    folder = make_run(tmp_path / "instrument", "miseq", cycles=(1,), tiles=1, scale=0.00001)
    for unneeded in ("Thumbnail_Images", "Recipe", "Config", "Logs"):
        shutil.rmtree(folder / unneeded, ignore_errors=True)
    (folder / "big.bcl").write_bytes(os.urandom(9 * MIB))
    return folder


# The watch


def moved(read: int) -> IoSnapshot:
    return IoSnapshot(read, 0, frozenset())


class Clockwork:
    """A clock and counters that move only when a test moves them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.read = {1: 0, 2: 0}

    def watch(self, seconds: float) -> StallDetector:
        return StallDetector(seconds, lambda pid: moved(self.read[pid]), lambda: self.now)


def test_a_process_that_moves_no_bytes_for_too_long_is_reported() -> None:
    clock = Clockwork()
    watch = clock.watch(10)
    assert watch.stalled([1, 2]) == []
    clock.now, clock.read[2] = 10, 5
    assert watch.stalled([1, 2]) == []
    clock.now = 10.1
    assert watch.stalled([1, 2]) == [1]
    clock.now = 20
    assert watch.stalled([1, 2]) == [1]
    clock.now = 20.1
    assert watch.stalled([1, 2]) == [1, 2]


def test_a_process_id_that_is_used_again_starts_from_zero() -> None:
    clock = Clockwork()
    watch = clock.watch(10)
    watch.stalled([1])
    clock.now = 9
    watch.stalled([])  # it has ended
    clock.now = 11
    assert watch.stalled([1]) == []


@contextlib.contextmanager
def child(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that obeys lines on its stdin, and says `ok` after each."""
    loop = f"import sys, socket, os\n{code}\nprint('ok', flush=True)\nfor line in sys.stdin:\n    exec(line)\n"
    argv = [sys.executable, "-c", loop + "    print('ok', flush=True)\n"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ok\n"
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ok\n"


def test_reading_a_file_counts_as_movement_and_waiting_does_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    with child("") as process:
        before = take_io_snapshot(process.pid)
        assert take_io_snapshot(process.pid) == before
        tell(process, f"open({str(tmp_path / 'file')!r}, 'rb', buffering=0).read()")
        assert take_io_snapshot(process.pid).read >= before.read + 1000


def test_what_a_socket_still_holds_is_movement_when_the_other_side_takes_some() -> None:
    """send(2) of plain http is in no counter of the process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = f"s = socket.create_connection(('127.0.0.1', {listener.getsockname()[1]}))\ns.setblocking(False)"
        with child(code) as process:
            accepted, _ = listener.accept()
            with accepted:
                tell(process, "import contextlib")
                fill = "exec('with contextlib.suppress(BlockingIOError):\\n    while True: s.send(bytes(1 << 16))')"
                tell(process, fill)
                pictures = iter(lambda: take_io_snapshot(process.pid), None)
                before = next(earlier for earlier, later in itertools.pairwise(pictures) if earlier == later)
                assert before.unsent, "now the kernels of both sides are full"
                while take_io_snapshot(process.pid) == before:
                    assert accepted.recv(MIB)


def test_a_process_that_is_gone_has_not_moved() -> None:
    with child("") as process:
        pid = process.pid
    assert take_io_snapshot(pid) == IoSnapshot(0, 0, frozenset())


# The program


def test_files_of_a_stalled_child_are_sent_by_another(lab: Lab, server: S3Server, run: Path) -> None:
    """S3 takes a part, and does not answer this once."""
    lab.set_delays(signal_grace=IMPATIENT)
    server.add_fault(Fault("hang", operation="UploadPart", count=1))

    result = lab.upload(run, *STALL, env={"AWS_MAX_ATTEMPTS": "1"})

    assert result.code == 0, result.out + result.err
    assert "retrying 1 file" in result.err
    is_verified(lab, run, server)
    assert server.uploads(BUCKET) == [], "the stalled one's parts are gone"


def test_a_server_that_never_answers_ends_it(lab: Lab, server: S3Server, run: Path, each_aws: str) -> None:
    lab.set_delays(signal_grace=IMPATIENT)
    server.add_fault(Fault("hang", key_contains="big.bcl", method=None, operation="UploadPart", count=None))

    result = lab.upload(run, *STALL, "--aws_command", each_aws)

    is_pending(lab, run, result, MOVED, "big.bcl")
    assert server.uploads(BUCKET) == []
    assert lab.log(run)["parts_since"] == ""
    server.clear_faults()
    next_scan_completes(lab, run, server)


def test_a_stalled_child_that_ignores_signals_is_killed_with_its_children(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    lab.set_delays(signal_grace=IMPATIENT)
    pids = lab.root / "pids"
    stubborn = f"""
if 'cp' in argv and not os.path.exists({str(pids)!r}):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child:
        open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}}')
    while True:
        signal.pause()"""

    result = lab.upload(run, *STALL, "--aws_command", quick_aws(stubborn))

    assert result.code == 0, result.out + result.err
    assert not any(is_running(int(pid)) for pid in pids.read_text().split())
    is_verified(lab, run, server)


def test_an_aws_that_says_0_when_it_is_ended_proves_nothing(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    code = "if 'cp' in argv:\n    signal.signal(signal.SIGINT, lambda *_: os._exit(0))\n    signal.pause()"

    result = lab.upload(run, *STALL, "--cores", "1", "--aws_command", quick_aws(code))

    assert (result.code, result.error_ids) == (1, ["s3.no-response"])
    assert lab.log(run)["completed"] is False
    assert lab.log(run)["uploaded_files"] == {}


def test_after_enough_stalls_nothing_more_is_launched(
    lab: Lab, server: S3Server, small_run: Path, quick_aws: FakeAws
) -> None:
    """Each costs the time of a stall: a dead S3 must not cost that for every batch and pass."""
    count = lab.root / "count"
    code = f"if 'cp' in argv:\n    open({str(count)!r}, 'a').write('x')\n    signal.pause()"

    result = lab.upload(small_run, *STALL, "--cores", "1", "--aws_command", quick_aws(code))

    assert (result.code, result.out) == (1, "")
    assert (result.error_ids, "s3://lab-runs/" in result.err) == (["s3.no-response"], True), result.err
    assert len(count.read_text()) == 3
    assert lab.log(small_run)["completed"] is False


def test_a_slow_one_is_left_alone(lab: Lab, server: S3Server, run: Path) -> None:
    """It needs several times as long as a stall would take, and a byte moves now and then."""
    server.add_fault(Fault("slow", operation="UploadPart", rate=350_000, count=None))

    result = lab.upload(run, *STALL, "--json")

    assert result.code == 0, result.out + result.err
    assert result.json["aws_processes"] <= 8
    assert "again" not in result.err
    assert result.json["seconds"] > 2 * SECONDS, "or nothing is shown"
    is_verified(lab, run, server)


def test_files_that_fail_one_after_the_other_end_their_batch(
    lab: Lab, server: S3Server, small_run: Path, quick_aws: FakeAws
) -> None:
    """Each may have cost minutes of timeouts, and a batch may have a thousand."""
    lines = "print(f'upload failed: x to s3://lab-runs/{name}/f{n} Read timeout on endpoint URL', flush=True)"
    code = f"""
if 'cp' in argv:
    name, n = {small_run.name!r}, 0
    while n < 20:
        {lines}
        n += 1
    signal.pause()"""

    result = lab.upload(small_run, "--cores", "1", "--aws_command", quick_aws(code))

    assert result.code == 1
    assert result.error_ids == ["s3.all-files-rejected"], "as it can be reached when it is asked"
    assert lab.log(small_run)["completed"] is False


def test_all_files_get_the_reason_of_the_last_failure(lab: Lab, server: S3Server, small_run: Path) -> None:
    """S3 answers, and takes nothing."""
    server.add_fault(Fault("status", status=503, code="SlowDown", count=None))

    result = lab.upload(small_run, "--cores", "1", env={"AWS_MAX_ATTEMPTS": "1"})

    assert result.code == 1
    assert (result.error_ids, "s3://lab-runs/" in result.err) == (["s3.all-files-rejected"], True), result.err
    log = lab.log(small_run)
    assert log["completed"] is False
    reasons = set(log["failed_reasons"].values())
    assert all("SlowDown" in reason for reason in reasons), reasons


# What a killed one leaves


def begin_upload(server: S3Server, lab: Lab, key: str, when: datetime) -> str:
    """A multipart upload that somebody began and left."""
    argv = [str(Path(sys.executable).with_name("aws")), "s3api", "create-multipart-upload"]
    argv += ["--bucket", BUCKET, "--key", key, "--query", "UploadId", "--output", "text"]
    upload_id = subprocess.run(argv, env=lab.env, capture_output=True, text=True, check=True).stdout.strip()
    for upload in server._store.buckets[BUCKET].uploads.values():
        if upload.upload_id == upload_id:
            upload.initiated = when.timestamp()
    return upload_id


def kill_in_mid_part(lab: Lab, server: S3Server, run: Path) -> None:
    """As by the out-of-memory killer or a power cut: the program and its children at once."""
    with server.hold(operation="UploadPart") as gate:
        process = lab.start(*lab.upload_argv(run))
        gate.wait_held(1)
        kill_family(process)
        process.communicate()


def test_the_next_call_aborts_what_a_killed_one_left_and_nothing_else(lab: Lab, server: S3Server, run: Path) -> None:
    kill_in_mid_part(lab, server, run)
    (left,) = server.uploads(BUCKET)
    assert left.key == f"{run.name}/big.bcl"
    assert lab.log(run)["parts_since"]
    now = datetime.now(timezone.utc)
    foreign = {
        begin_upload(server, lab, f"{run.name}/other.bcl", now),  # no file of this run
        begin_upload(server, lab, f"{run.name}-2/big.bcl", now),
        begin_upload(server, lab, f"{run.name}/big.bcl", now - timedelta(days=1)),  # older than that call
    }

    result = lab.upload(run)

    assert result.code == 0, result.out + result.err
    assert "1 multipart upload of an interrupted call aborted" in result.err
    assert {upload.upload_id for upload in server.uploads(BUCKET)} == foreign
    assert lab.log(run)["parts_since"] == ""
    is_verified(lab, run, server)


def test_parts_of_a_call_before_the_last_are_not_forgotten(lab: Lab, server: S3Server, run: Path) -> None:
    kill_in_mid_part(lab, server, run)
    since = lab.log(run)["parts_since"]
    denied = Fault("status", method=None, operation="ListMultipartUploads", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)
    (run / "out").symlink_to("/etc/hostname")  # so that it is not completed

    result = lab.upload(run)

    assert result.code == 1
    assert "warning: parts may be left in S3: access denied" in result.err
    assert "a lifecycle rule of the bucket removes them" in result.err
    assert lab.log(run)["parts_since"] == since
    server.clear_faults()
    (run / "out").unlink()
    assert lab.upload(run).code == 0
    assert server.uploads(BUCKET) == []


def test_a_clean_end_leaves_nothing_to_do(lab: Lab, server: S3Server, run: Path) -> None:
    assert lab.upload(run).code == 0
    assert server.counters["ListMultipartUploads"] == 0
    assert lab.log(run)["parts_since"] == ""


def test_a_signal_leaves_no_parts_even_if_the_child_must_be_killed(lab: Lab, server: S3Server, run: Path) -> None:
    """S3 does not answer the part, so that the CLI waits for it instead of aborting."""
    lab.set_delays(signal_grace=IMPATIENT)
    server.add_fault(Fault("hang", operation="UploadPart", count=None))
    process = lab.start(*lab.upload_argv(run))
    server.wait_for("UploadPart", 1)

    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)

    assert process.returncode == 128 + signal.SIGTERM
    assert (error_ids(err), "SIGTERM" in err) == (["run.interrupted"], True), err
    assert server.uploads(BUCKET) == []
    assert lab.log(run)["parts_since"] == ""
    server.clear_faults()
    assert lab.upload(run).code == 0


def test_cleaning_does_not_delay_a_stop(tmp_path: Path, quick_aws: FakeAws) -> None:
    """Somebody may be waiting: each question has its time."""
    from s3sync.aws.client import AwsCli
    from s3sync.aws.launcher import Launcher

    stop = StopRequest()
    aws = AwsCli(Launcher(quick_aws("signal.pause()"), dict(os.environ)), stop)
    stop.request(signal.SIGTERM)

    ended = aws.run_despite_stop(("s3api", "list-multipart-uploads"), timeout=0.5)

    assert ended.returncode == -signal.SIGKILL
