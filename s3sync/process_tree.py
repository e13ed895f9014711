"""A child process and its own children: what they have read, whether they still move bytes, and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

_GRACE = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # seconds to end after each
_SOCKET = re.compile(r"socket:\[(\d+)\]")


class Movement(NamedTuple):
    """A picture of what a process and its children have moved so far; one that differs from the last is movement.

    The counters of `io_counters` know files, pipes and TLS. What goes out by send(2) they do not know, so
    `unsent` has what each socket still holds: it changes whenever the other side takes some.
    """

    read: int  # bytes
    written: int
    unsent: frozenset[tuple[str, str]]  # inode of the socket, bytes in its queues


def movement_of(pid: int) -> Movement:
    """Of a process and its children; a process that is gone has moved nothing."""
    processes = _tree(pid)
    counters = [_counters(process) for process in processes]
    unsent = frozenset(entry for process in processes for entry in _unsent(process.pid))
    return Movement(sum(read for read, _ in counters), sum(written for _, written in counters), unsent)


class StallWatch:
    """Tells which processes have not moved a byte for too long."""

    def __init__(
        self,
        seconds: float,
        movement: Callable[[int], Movement] = movement_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._movement = movement
        self._clock = clock
        self._last: dict[int, tuple[Movement, float]] = {}  # by process id: what was seen, and since when

    def stalled(self, pids: Iterable[int]) -> list[int]:
        """Those of these processes; to be asked again and again with all that are alive."""
        now = self._clock()
        last, self._last = self._last, {}
        for pid in pids:
            seen = self._movement(pid)
            before = last.get(pid)
            self._last[pid] = before if before and before[0] == seen else (seen, now)
        return [pid for pid, (_, since) in self._last.items() if now - since > self.seconds]


def bytes_read(pid: int) -> int:
    """What a process and its children have read so far, files and libraries alike."""
    return sum(read for read, _ in map(_counters, _tree(pid)))


def end(pid: int, has_ended: Callable[[], bool]) -> None:
    """SIGINT lets the CLI abort its multipart uploads; what does not end gets SIGTERM, then SIGKILL.

    All go to the whole process group of `pid`, since version 2 is a launcher with a child; `has_ended` is
    true as soon as somebody has waited for the process, whose number may then be another's.
    """
    for signum, seconds in _GRACE:
        if has_ended():
            return
        send_signal(pid, signum)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not has_ended():
            time.sleep(0.05)


def end_group(pid: int) -> None:
    """End a child that nobody has waited for yet, and then whatever else is left in its process group.

    A shell that dies at SIGINT leaves its background processes, which ignore it. Until somebody waits for the child,
    its number, and so that of the group, belongs to nobody else.
    """
    end(pid, lambda: _is_waitable(pid))
    for signum, seconds in _GRACE[1:]:
        send_signal(pid, signum)
        deadline = time.monotonic() + seconds
        while members := _others_in_group(pid):
            if time.monotonic() > deadline:
                break
            psutil.wait_procs(members, timeout=0.05)
        else:
            return


def _is_waitable(pid: int) -> bool:
    """Return whether a child has ended; it stays to be waited for."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _others_in_group(group: int) -> list[psutil.Process]:
    """Return the live processes of a group besides its leader."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            is_member = process.pid != group and os.getpgid(process.pid) == group
            if is_member and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def send_signal(pid: int, signum: int) -> None:
    """To the whole process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signum)


def _tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def _counters(process: psutil.Process) -> tuple[int, int]:
    """Bytes read and written, as far as that can be seen: not of a process that has ended, nor on macOS."""
    with contextlib.suppress(psutil.Error, AttributeError):
        counters = process.io_counters()
        return counters.read_chars, counters.write_chars
    return 0, 0


def _unsent(pid: int) -> Iterator[tuple[str, str]]:
    """Inode and queues of each TCP socket of one process, as Linux tells them; nothing elsewhere."""
    own = set(_sockets(pid))
    for table in ("tcp", "tcp6") if own else ():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[9] in own:
                    yield fields[9], fields[4]


def _sockets(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if match := _SOCKET.match(os.readlink(f"/proc/{pid}/fd/{descriptor}")):
                    yield match[1]
