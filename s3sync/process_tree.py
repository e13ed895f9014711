"""Watch a child process and its descendants: measure their I/O, detect stalls, and terminate them."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from s3sync.delays import DELAYS

_GRACE = tuple(zip((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), DELAYS.signal_grace, strict=True))
_POLL_SECONDS = 0.05
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class IoSnapshot:
    """The bytes that a process and its descendants have read and written. Two snapshots that differ show progress.

    The kernel's counters cover files, pipes and TLS, but not data sent by send(2). So `unsent` has the bytes that each
    socket still holds: that number changes when the other side accepts some.
    """

    read: int  # bytes
    written: int  # bytes
    unsent: frozenset[tuple[str, str]]  # inode of a socket, bytes in its queues


def take_io_snapshot(pid: int) -> IoSnapshot:
    """Return the counters of a process and its descendants; zeros if it is gone."""
    processes = _list_tree(pid)
    counters = [_read_counters(process) for process in processes]
    unsent = frozenset(entry for process in processes for entry in _list_send_queues(process.pid))
    return IoSnapshot(sum(read for read, _ in counters), sum(written for _, written in counters), unsent)


class StallDetector:
    """Find the processes that have not moved a byte for `seconds`."""

    def __init__(
        self,
        seconds: float,
        take_snapshot: Callable[[int], IoSnapshot] = take_io_snapshot,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._take_snapshot = take_snapshot
        self._clock = clock
        self._last: dict[int, tuple[IoSnapshot, float]] = {}  # by process id: the last snapshot, and since when

    def stalled(self, pids: Iterable[int]) -> list[int]:
        """Return which of these processes are stalled. Call this regularly with all that are alive."""
        now = self._clock()
        last, self._last = self._last, {}
        for pid in pids:
            snapshot = self._take_snapshot(pid)
            before = last.get(pid)
            self._last[pid] = before if before and before[0] == snapshot else (snapshot, now)
        return [pid for pid, (_, since) in self._last.items() if now - since > self.seconds]


def count_bytes_read(pid: int) -> int:
    """Return the bytes that a process and its descendants have read so far, libraries included."""
    return sum(read for read, _ in map(_read_counters, _list_tree(pid)))


def terminate(pid: int, has_ended: Callable[[], bool], first_grace: float = math.inf) -> None:
    """Send SIGINT to a process group, later SIGTERM and SIGKILL, until the process has ended.

    SIGINT comes first because it lets the AWS CLI abort its multipart uploads, once its requests have ended. SIGTERM
    follows after `first_grace` seconds at the latest. The whole group gets them, because version 2 of the CLI is a
    launcher with a child. `has_ended()` must return True once the process has been waited for: its id may then belong
    to another process.
    """
    for signum, seconds in _GRACE:
        if has_ended():
            return
        send_signal(pid, signum)
        deadline = time.monotonic() + (min(seconds, first_grace) if signum == signal.SIGINT else seconds)
        while time.monotonic() < deadline and not has_ended():
            time.sleep(_POLL_SECONDS)


def terminate_group(pid: int) -> None:
    """Terminate a child process that was not waited for yet, and then the rest of its process group.

    A shell that dies from SIGINT leaves its background processes, which ignore that signal. Until the child is waited
    for, no other process can get its id, which is also the id of the group.
    """
    terminate(pid, lambda: _is_waitable(pid))
    for signum, seconds in _GRACE[1:]:
        send_signal(pid, signum)
        deadline = time.monotonic() + seconds
        while members := _list_other_members(pid):
            if time.monotonic() > deadline:
                break
            psutil.wait_procs(members, timeout=_POLL_SECONDS)
        else:
            return


def send_signal(pid: int, signum: int) -> None:
    """Send a signal to the process group of `pid`; do nothing if it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signum)


def _is_waitable(pid: int) -> bool:
    """Return whether a child has ended, without waiting for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _list_other_members(group: int) -> list[psutil.Process]:
    """Return the live processes of a group, without its leader."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            is_member = process.pid != group and os.getpgid(process.pid) == group
            if is_member and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _list_tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _read_counters(process: psutil.Process) -> tuple[int, int]:
    """Return the bytes read and written; zeros for a process that has ended, and on macOS."""
    with contextlib.suppress(psutil.Error, AttributeError):
        counters = process.io_counters()
        return counters.read_chars, counters.write_chars
    return 0, 0


def _list_send_queues(pid: int) -> Iterator[tuple[str, str]]:
    """Yield the inode and the queues of each TCP socket of a process on Linux; nothing elsewhere."""
    own = set(_list_sockets(pid))
    for table in ("tcp", "tcp6") if own else ():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in own:
                    yield fields[9], fields[4]


def _list_sockets(pid: int) -> Iterator[str]:
    """Yield the inodes of a process's sockets."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if match := _SOCKET.match(os.readlink(f"/proc/{pid}/fd/{descriptor}")):
                    yield match[1]
