"""The user's own command after an upload: run without a shell, told of the run by its environment and its stdin."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from s3sync import files, process_tree, processes
from s3sync.aws import settings
from s3sync.errors import StateError
from s3sync.processes import Process, TimeoutExpired
from s3sync.runs import off_limits
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.text import human_seconds, printable

DEFAULT_SECONDS = 600.0
PENDING = "pending"  # what the log says of it until it has run
DONE = "done"
_FAILED = "failed: "
_LOOK_SECONDS = 0.1  # between two looks at whether somebody asked for the end
_TAIL_BYTES = 4096
_SHOWN_CHARS = 300  # of its last line


class Hook(NamedTuple):
    """A command, the program's absolute path first, and how long it may take."""

    command: tuple[str, ...]
    seconds: float = DEFAULT_SECONDS


def is_pending(said: str) -> bool:
    """Whether it has still to be run (again), by what the log says."""
    return said == PENDING or has_failed(said)


def has_failed(said: str) -> bool:
    """Whether it did not do what it was to, by what `run` or the log says."""
    return said.startswith(_FAILED)


def run(
    hook: Hook, facts: Mapping[str, str], log_path: Path, guard: Path, environ: Mapping[str, str], stop: StopRequest
) -> str:
    """Run it to its end, with the state log as its stdin; return DONE, or `failed: ` and why.

    It gets our environment without our secrets, and `facts`. When its time is up, or somebody asks for our end, it
    is ended with all of its process group; then this raises InterruptedBySignal. `guard` is a file that says while it
    runs, so that one which outlives a killed call is not run a second time beside itself.
    """
    told = {**settings.without_s3sync_variables(environ), **facts}
    try:
        with (
            tempfile.TemporaryFile(dir=off_limits.choose_temp_dir(environ)) as output,
            log_path.open("rb") as log,
            _guarded(guard) as descriptor,
        ):
            process = processes.start(
                hook.command, told, merge_stderr=True, stdin=log, stdout=output, inherited=(descriptor,)
            )
            os.pwrite(descriptor, _signature(process.pid), 0)
            in_time = _wait(process, hook.seconds, stop)
            tail = _tail(output)
    except _StillRunningError as error:
        return f"{_FAILED}{error}"
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return f"{_FAILED}cannot run {printable(hook.command[0])}: {why}"
    except StateError as error:
        return f"{_FAILED}cannot run {printable(hook.command[0])}: {error}"
    stop.raise_if_requested()
    if in_time and process.returncode == 0:
        return DONE
    ended = (
        _describe_exit(process.returncode)
        if in_time
        else f"not done after {human_seconds(hook.seconds)}, so it was ended"
    )
    return f"{_FAILED}{ended}{f': {tail}' if tail else ''}"


def _wait(process: Process, seconds: float, stop: StopRequest) -> bool:
    """Until it has ended by itself, or was ended; whether it was by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stop.is_requested:
        try:
            process.wait(_LOOK_SECONDS)
        except TimeoutExpired:
            continue
        return True
    process_tree.terminate_group(process.pid)
    process.wait()
    return False


class _StillRunningError(Exception):
    """The command of a call that was killed is at work yet."""


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[int]:
    """Hold the lock of the guard; raises _StillRunningError, OSError.

    The command inherits the lock. Processes that it leaves in the background keep it, too, and do not count: the file
    says which process is the command itself.
    """
    files.make_private_folder(path.parent)
    descriptor = files.open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        pid = os.pread(descriptor, 200, 0).partition(b" ")[0].decode("ascii", "replace")
        if not lock.try_lock(descriptor) and (not pid.isdecimal() or _is_alive(descriptor, int(pid))):
            raise _StillRunningError(f"still running since a call that was killed (process {pid or 'unknown'})")
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_alive(descriptor: int, pid: int) -> bool:
    return os.pread(descriptor, 200, 0) == _signature(pid)


def _signature(pid: int) -> bytes:
    """Return a process's id and when it began; empty if there is none."""
    try:
        return f"{pid} {psutil.Process(pid).create_time()}\n".encode()
    except psutil.Error:
        return b""


def _tail(output: IO[bytes]) -> str:
    """The last line that it printed."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = output.read().decode("utf-8", "replace").split("\n")
    return next((printable(line.strip())[:_SHOWN_CHARS] for line in reversed(lines) if line.strip()), "")


def _describe_exit(returncode: int) -> str:
    return f"exit code {returncode}" if returncode > 0 else f"killed by signal {-returncode}"
