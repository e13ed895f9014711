"""What only a separate process can show: locks of others, signals, file modes, the main log, CPU affinity."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s3sync import files
from s3sync.errors import EXIT_BUSY, BusyError
from s3sync.state import lock
from tests.helpers.errors import raises_error
from tests.helpers.unprivileged import REPOSITORY, run_python, run_unprivileged

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.skipif(AFFINITY < 2, reason="one processor is the least there is")
def test_usable_cores_respect_the_affinity(tmp_path: Path) -> None:
    one = min(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {%d}); from s3sync.resources import usable_cores; print(usable_cores())"
    assert run_python(code % one) == "1\n"


HOLD = """
import sys
from pathlib import Path
from s3sync.state import lock
with lock.hold(Path(sys.argv[1]), "RUN to s3://lab-runs/RUN/"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "locks" / "RUN.lock"


def start_holder(path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until its stdin ends."""
    argv = (sys.executable, "-c", HOLD, str(path))
    holder = subprocess.Popen(argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def is_free(path: Path) -> bool:
    with path.open() as stream:
        return lock.try_lock(stream.fileno())


def test_busy_error_names_the_holder(lock_path: Path) -> None:
    with start_holder(lock_path) as holder:
        with (
            raises_error(BusyError, "lock.busy") as caught,
            lock.hold(lock_path, "RUN to s3://lab-runs/RUN/ is already being uploaded"),
        ):
            pass
        holder.communicate()
    said = str(caught.value)
    assert said.startswith("RUN to s3://lab-runs/RUN/ is already being uploaded: ")
    assert f"by process {holder.pid} on {os.uname().nodename} since 2" in said
    assert caught.value.exit_code == EXIT_BUSY
    assert is_free(lock_path)


def test_a_killed_holder_leaves_no_lock(lock_path: Path) -> None:
    with start_holder(lock_path) as holder:
        holder.kill()
    assert f"process {holder.pid} " in lock_path.read_text()
    with lock.hold(lock_path, "RUN"):
        assert f"process {os.getpid()} " in lock_path.read_text()


def test_a_child_keeps_the_lock_that_it_inherited(lock_path: Path) -> None:
    """Like an `aws` whose parent was killed."""
    with lock.hold(lock_path, "RUN") as held:
        child = subprocess.Popen(
            ("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=(held.descriptor,)
        )
    with child:
        assert not is_free(lock_path)
        with raises_error(BusyError, "lock.busy", "an aws process"), lock.hold(lock_path, "RUN"):
            pass
        child.communicate()
    assert is_free(lock_path)


def test_a_child_that_did_not_inherit_it_keeps_nothing(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN"):
        child = subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    with child:
        assert is_free(lock_path)
        child.communicate()


REPLACE = """
import resource, sys
from pathlib import Path
from s3sync import files
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.atomic_write(Path(sys.argv[1]), b"n" * 1500)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("obstacle", "error"),
    [("full", "File too large"), ("read-only", "Permission denied"), ("folder", "Is a directory")],
)
def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path: Path, obstacle: str, error: str) -> None:
    path = tmp_path / "log.json"
    inner = path / "inner" if obstacle == "folder" else path
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("old")
    tmp_path.chmod(0o500 if obstacle == "read-only" else 0o700)
    try:
        assert run_unprivileged(REPLACE, path, obstacle) == f"{error}\n"
    finally:
        tmp_path.chmod(0o700)
    assert inner.read_text() == "old"
    assert os.listdir(tmp_path) == ["log.json"]


def test_write_all_writes_all_to_a_pipe_that_takes_little(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    with (tmp_path / "out").open("wb") as out, subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=out) as child:
        assert child.stdin is not None
        files.write_all(child.stdin.fileno(), content)
    assert (tmp_path / "out").read_bytes() == content


LOGGED = """
import logging, sys
from pathlib import Path
from s3sync import logs
logs.configure(Path(sys.argv[1]), "INFO")
logging.warning("%s", sys.argv[2])
try:
    raise ValueError(sys.argv[2])
except ValueError:
    logging.exception("failed")
logs.LogStream(logging.getLogger()).write(f"warning: {sys.argv[2]}")
"""


def test_a_message_is_one_line_without_control_characters_in_the_main_log(tmp_path: Path) -> None:
    """Names of files and runs can add neither lines nor colours there."""
    run_python(LOGGED, tmp_path, "a\n2026-01-01 INFO forged\r\x1b[31mred\x9b")
    lines = (tmp_path / "s3_upload.log").read_text().split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line.partition("] ")[2] for line in lines if " WARNING [" in line] == [
        r"a\n2026-01-01 INFO forged\r\x1b[31mred\x9b"
    ] * 2
    assert any(line.startswith("Traceback") for line in lines)


SIGNALLED = """
import os, signal, sys, threading
from s3sync.signals import SIGNALS, StopRequest, stop_on_signals
ignored = signal.Signals[sys.argv[1]] if sys.argv[1] else None
if ignored:
    signal.signal(ignored, signal.SIG_IGN)
before = [signal.getsignal(s) for s in SIGNALS]
stop, threads = StopRequest(), []
stop.on_request(lambda: threads.append(threading.current_thread().name))
with stop_on_signals(stop):
    for name in sys.argv[2:]:
        os.kill(os.getpid(), signal.Signals[name])
    assert stop.wait(120)
    assert signal.SIG_IGN not in map(signal.getsignal, SIGNALS)
assert [signal.getsignal(s) for s in SIGNALS] == before
assert signal.set_wakeup_fd(-1) == -1
assert [t.name for t in threading.enumerate()] == ["MainThread"]
print(signal.Signals(stop.signum).name, threads)
"""


@pytest.mark.parametrize(
    ("ignored", "sent", "heard"),
    [
        ("", ["SIGINT"], "SIGINT"),
        ("", ["SIGTERM"], "SIGTERM"),
        ("", ["SIGHUP"], "SIGHUP"),
        ("", ["SIGTERM", "SIGINT", "SIGHUP"], "SIGTERM"),
        ("SIGINT", ["SIGINT", "SIGINT", "SIGTERM"], "SIGTERM"),
        ("SIGHUP", ["SIGHUP", "SIGINT"], "SIGINT"),
    ],
)
def test_signals_request_the_end_unless_they_were_ignored(ignored: str, sent: list[str], heard: str) -> None:
    assert run_python(SIGNALLED, ignored, *sent) == f"{heard} ['signals']\n"


CHILD = """
import signal, subprocess, sys
from s3sync.signals import StopRequest, stop_on_signals
signal.signal(signal.SIGINT, signal.SIG_IGN)
code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
with stop_on_signals(StopRequest()):
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_children_can_be_interrupted_where_the_program_ignores_sigint() -> None:
    assert run_python(CHILD) == "True\n"
