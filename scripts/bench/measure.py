"""Run processes side by side, and measure seconds, CPU-seconds and memory of them and their children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

SAMPLE_SECONDS = 0.5  # at most between two looks at the memory: each costs some milliseconds of CPU time
_FIRST_LOOK = 0.05  # seconds after the start; then ever less often, so that short processes are seen, too


class Command(NamedTuple):
    """A process to start: its arguments, and its whole environment."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]


class Usage(NamedTuple):
    """What processes cost together.

    `cpu_seconds` are those of all descendants that were waited for; `peak_bytes` is the largest sum of their
    proportional set sizes (PSS; RSS where the system has no PSS) that was seen.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    returncodes: tuple[int, ...]


class Ended(NamedTuple):
    """The exit code of a process, and the CPU-seconds of it and its descendants."""

    returncode: int
    cpu_seconds: float


def run_together(
    commands: Sequence[Command], output: Path, ignored: Sequence[int] = (), sample_seconds: float = SAMPLE_SECONDS
) -> Usage:
    """Start all commands at once and wait for the last; what they print goes into `output`.

    `ignored` are ids of other children of this process, whose memory does not count.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with output.open("wb") as log, _sampled(ignored, sample_seconds) as sums:
        started = time.monotonic()
        try:
            for argv, environ in commands:
                streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                processes.append(subprocess.Popen(argv, env=environ, **streams))  # type: ignore[call-overload]
            ended = [wait_for(process) for process in processes]
            seconds = time.monotonic() - started
        finally:
            end_all(processes)
    return Usage(
        seconds=seconds,
        cpu_seconds=sum(one.cpu_seconds for one in ended),
        peak_bytes=max(sums),
        returncodes=tuple(one.returncode for one in ended),
    )


def wait_for(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for a process's end as `wait4` does, which alone tells what it and its descendants cost."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait again
    return Ended(process.returncode, usage.ru_utime + usage.ru_stime)


def end_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that are still there: an error or Ctrl-C came in between."""
    left = [process for process in processes if process.returncode is None]
    for process in left:
        process.terminate()
    for process in left:
        process.wait()


@contextlib.contextmanager
def _sampled(ignored: Sequence[int], seconds: float) -> Iterator[list[int]]:
    """Sample the memory during the `with`; the yielded list gets a sum of bytes each time, and starts with 0."""
    sums, done = [0], threading.Event()

    def look() -> None:
        pause = min(_FIRST_LOOK, seconds)
        while not done.wait(pause):
            pause = min(pause * 1.5, seconds)
            children = psutil.Process().children(recursive=True)
            sums.append(sum(_bytes_of(child) for child in children if child.pid not in ignored))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield sums
    finally:
        done.set()
        thread.join()


def _bytes_of(process: psutil.Process) -> int:
    """Return the memory of a process in bytes; 0 if it has ended."""
    with contextlib.suppress(psutil.Error, OSError):
        memory = process.memory_full_info()
        return int(getattr(memory, "pss", memory.rss))
    return 0
