"""The lock of a run and destination: the kernel's `flock` says whether it is held on this host, a lease whether it is
on another one.

The children inherit the open file, so an `aws` that outlives a killed parent keeps the lock on its host until it
has ended. What is written in the file is for people only; a stale file locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync.delays import DELAYS
from s3sync.errors import BusyError, StateError
from s3sync.files import make_private_folder, open_private
from s3sync.signals import StopRequest
from s3sync.state import lease, lease_files
from s3sync.state.lease import Pace, Wish
from s3sync.state.lease_files import Numbers
from s3sync.text import now_iso, printable

SUFFIX = ".lock"
_SHOWN_SECONDS = 600.0  # a lease that was renewed since is shown as held; generous, since clocks differ
_HERE_SECONDS = 60.0  # the same on the host whose clock it was renewed by


class Held(NamedTuple):
    """A lock that is held. `check` raises LeaseLostError if another host has it by now: to be asked right before what
    only the holder may do.
    """

    descriptor: int  # to be passed to children
    check: Callable[[], None]


@contextlib.contextmanager
def held(
    path: Path,
    busy: str,
    *,
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _line: None,
    patient: bool = True,
    pace: Pace = lease.PACE,
) -> Iterator[Held]:
    """Hold the lock file `path`, and its lease in `leases` beside its folder, while inside.

    Raises BusyError, which says `busy` and by whom, if somebody else holds it; StateError if it cannot be locked. A
    holder on another host that may be dead is watched for a minute, unless `patient` is False; `say` gets a line about
    that, and `stop` ends it. When the lock is lost to another host, `stop` is asked for the end.
    """
    pause = _pause_of(stop) if stop else time.sleep
    with _held(path, Wish(path.name.removesuffix(SUFFIX), busy, "", pace, pause, say, patient), stop) as lock:
        yield lock


@contextlib.contextmanager
def wait_for(
    path: Path, busy: str, stop: StopRequest, give_up: Callable[[], bool], *, pace: Pace = lease.PACE
) -> Iterator[Held | None]:
    """The same, but wait until it is free; gives None if `give_up`, asked about once a second, says so before.

    Raises StateError, and InterruptedBySignal as soon as `stop` is asked for the end.
    """
    pause = _pause_of(stop)

    def pause_or_give_up(seconds: float) -> None:
        if give_up():
            raise _GaveUpError
        pause(seconds)

    wish = Wish(path.name.removesuffix(SUFFIX), busy, "", pace, pause_or_give_up)
    with contextlib.ExitStack() as inside:
        lock = None
        with contextlib.suppress(_GaveUpError):
            while lock is None:
                try:
                    lock = inside.enter_context(_held(path, wish, stop))
                except BusyError:
                    pause_or_give_up(DELAYS.lock_polls)
        yield lock


class _GaveUpError(Exception):
    """Nobody sees it: it ends the waiting."""


def leases(path: Path) -> Path:
    """The folder of a lock's lease."""
    return path.parent.parent / "leases" / path.name.removesuffix(SUFFIX)


def is_held(path: Path, locks: Path = Path("/proc/locks")) -> bool:
    """Whether a process of this host holds the lock now, without touching it; to be shown, and nothing more.

    The kernel's list knows. On btrfs and overlayfs it has another device than `stat`, and it has no processes of other
    containers: there the lease says it.
    """
    return _is_listed(path, locks) or lease_files.is_held_here(leases(path), _HERE_SECONDS)


def _is_listed(path: Path, locks: Path) -> bool:
    try:
        status = path.stat()
        held = (line.split() for line in locks.read_text().splitlines())
    except OSError:
        return False
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any("FLOCK" in words and inode in words for words in held)


def holder_elsewhere(path: Path) -> str:
    """The host that holds the lock, if that is another one; to be shown, since it goes by the clocks of both. Reads
    only.
    """
    holder = lease_files.holder_elsewhere(leases(path), _SHOWN_SECONDS)
    return holder.host if holder else ""


def held_where(path: Path) -> str | None:
    """Where somebody holds the lock, to be shown: empty for this host, the other's name, None if nobody seems to."""
    return "" if is_held(path) else holder_elsewhere(path) or None


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file or folder without waiting; says whether that worked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _held(path: Path, wish: Wish, stop: StopRequest | None) -> Iterator[Held]:
    try:
        make_private_folder(path.parent)
        descriptor = open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise _unlockable(path, error) from error
    try:
        if not _try_lock_explained(descriptor, path):
            raise BusyError(f"{wish.busy}: {_holder(descriptor)} (wait for it, or end it)")
        try:
            wish = wish._replace(place=lease_files.place_of(descriptor))
            ours = lease.take(Numbers(leases(path)), wish, stop.request_for_lost_lease if stop else lambda _why: None)
        except OSError as error:
            raise _unlockable(path, error) from error
        try:
            _sign(descriptor)  # now that nobody else has it: `monitor` looks at when that was
            yield Held(descriptor, ours.check)
        finally:
            ours.release()
    finally:
        os.close(descriptor)


def _pause_of(stop: StopRequest) -> Callable[[float], None]:
    def pause(seconds: float) -> None:
        stop.wait(seconds)
        stop.raise_if_requested()

    return pause


def _unlockable(path: Path, error: OSError) -> StateError:
    where = printable(str(path))
    advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give a writable folder with --log_dir"
    return StateError(f"cannot lock {where}: {error.strerror} ({advice})")


def _try_lock_explained(descriptor: int, path: Path) -> bool:
    try:
        return try_lock(descriptor)
    except OSError as error:  # some network file systems know no locks
        where = printable(str(path))
        raise StateError(f"cannot lock {where}: {error.strerror} (put --log_dir on a local disk)") from error


def _sign(descriptor: int) -> None:
    """Who holds it; a full disk must not keep an upload from running, so failing is no matter."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now_iso()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        text = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        if text:
            return f"by {printable(text)}, or an aws process it left"
    return "by another process"
