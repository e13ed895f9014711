"""Run the user's own command after an upload, without a shell; its environment and stdin describe the run."""

from __future__ import annotations

import contextlib
import os
import tempfile
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
PENDING = "pending"  # its status in the log until it has run
DONE = "done"
_FAILED = "failed: "
_POLL_SECONDS = 0.1  # between two checks whether a stop was requested
_TAIL_BYTES = 4096
_SHOWN_CHARS = 300  # shown of the last line that it printed


class Hook(NamedTuple):
    """A command, the program's absolute path first, and how long it may take."""

    command: tuple[str, ...]
    seconds: float = DEFAULT_SECONDS


def is_pending(status: str) -> bool:
    """Return whether the command is due, or due again, by its status in the log."""
    return status == PENDING or has_failed(status)


def has_failed(status: str) -> bool:
    """Return whether the command failed, by the outcome of `run` or its status in the log."""
    return status.startswith(_FAILED)


def run(
    hook: Hook, variables: Mapping[str, str], log_path: Path, guard: Path, environ: Mapping[str, str], stop: StopRequest
) -> str:
    """Run the command until it ends, with the state log as its stdin; return DONE, or `failed: ` and the reason.

    It gets this process's environment without the secrets of s3sync, and `variables`. When its time is up, or a stop is
    requested, it is terminated with its process group. `guard` is a file that is locked while the command runs, so that
    a command which outlives a killed call is not started a second time. Raises StoppedError.
    """
    environment = {**settings.without_s3sync_variables(environ), **variables}
    try:
        with (
            tempfile.TemporaryFile(dir=off_limits.choose_temp_dir(environ)) as output,
            log_path.open("rb") as log,
            _guarded(guard) as descriptor,
        ):
            process = processes.start(
                hook.command, environment, merge_stderr=True, stdin=log, stdout=output, inherited=(descriptor,)
            )
            os.pwrite(descriptor, _signature(process.pid), 0)
            in_time = _ends_in_time(process, hook.seconds, stop)
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
        else f"still running after {human_seconds(hook.seconds)}, so it was terminated"
    )
    return f"{_FAILED}{ended}{f': {tail}' if tail else ''}"


def _ends_in_time(process: Process, seconds: float, stop: StopRequest) -> bool:
    """Wait until the command ends; return False if it had to be terminated."""
    for _ in stop.poll(0.0, seconds):
        with contextlib.suppress(TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return True
    process_tree.terminate_group(process.pid)
    process.wait()
    return False


class _StillRunningError(Exception):
    """The command that a killed call started still runs."""


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[int]:
    """Hold the lock of the guard file, and yield its descriptor; raises _StillRunningError, OSError.

    The command inherits the lock. Its background processes keep the lock as well, but do not count: the file names the
    process of the command.
    """
    files.make_private_folder(path.parent)
    descriptor = files.open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        pid = os.pread(descriptor, 200, 0).partition(b" ")[0].decode("ascii", "replace")
        if not lock.try_lock(descriptor) and (not pid.isdecimal() or _is_alive(descriptor, int(pid))):
            raise _StillRunningError(f"still running from a killed call (process {pid or 'unknown'})")
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_alive(descriptor: int, pid: int) -> bool:
    return os.pread(descriptor, 200, 0) == _signature(pid)


def _signature(pid: int) -> bytes:
    """Return the id and the start time of a process; empty if there is none."""
    try:
        return f"{pid} {psutil.Process(pid).create_time()}\n".encode()
    except psutil.Error:
        return b""


def _tail(output: IO[bytes]) -> str:
    """Return the last line that the command printed."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL_BYTES))
    lines = output.read().decode("utf-8", "replace").split("\n")
    return next((printable(line.strip())[:_SHOWN_CHARS] for line in reversed(lines) if line.strip()), "")


def _describe_exit(returncode: int) -> str:
    return f"exit code {returncode}" if returncode > 0 else f"killed by signal {-returncode}"
