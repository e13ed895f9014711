"""Lock a run and destination: a `flock` on this host, and a lease between hosts.

Child processes inherit the open file, so an `aws` that survives a killed parent keeps the lock on this host until it
ends. The text in the file is for people only: a file that is left over locks nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s3sync.errors import BusyError, StateError, advice_for
from s3sync.files import make_private_folder, open_private, trial_file
from s3sync.signals import StopRequest
from s3sync.state import lease, lease_files
from s3sync.state.lease import DEFAULT_TIMING, LeaseRequest, LeaseTiming
from s3sync.state.lease_files import LeaseFiles
from s3sync.text import now_iso, printable

SUFFIX = ".lock"
_POLL_SECONDS = 1.0
_REMOTE_SECONDS = 600.0  # within which a lease was renewed that is shown as held; long, because clocks differ
_LOCAL_SECONDS = 60.0  # the same for a holder on this host


class HeldLock(NamedTuple):
    """A held lock. Call `check` right before a write that needs it: it raises LeaseLostError if it is lost."""

    descriptor: int  # to be passed to child processes
    check: Callable[[], None]


@contextlib.contextmanager
def hold(
    path: Path,
    busy: str,
    *,
    stop: StopRequest | None = None,
    show: Callable[[str], None] = lambda _line: None,
    wait_for_dead_holder: bool = True,
    timing: LeaseTiming = DEFAULT_TIMING,
) -> Iterator[HeldLock]:
    """Hold the lock file `path`, and its lease in `leases` beside its folder.

    Raises BusyError, with the text `busy` and the holder, if the lock is held; StateError if it cannot be locked. By
    default a holder on another host that may be dead is watched for a minute: `show` gets a line about that, and `stop`
    ends it. If the lock is lost to another host, `stop` is requested.
    """
    request = LeaseRequest(
        name=path.name.removesuffix(SUFFIX),
        busy=busy,
        timing=timing,
        pause=stop.pause if stop else time.sleep,
        show=show,
        wait_for_dead_holder=wait_for_dead_holder,
    )
    with _hold(path, request, stop) as held:
        yield held


@contextlib.contextmanager
def wait_for(
    path: Path, busy: str, stop: StopRequest, give_up: Callable[[], bool], *, timing: LeaseTiming = DEFAULT_TIMING
) -> Iterator[HeldLock | None]:
    """Hold a lock like `hold`, but wait until it is free; yield None if `give_up`, called each second, returns True.

    Raises StateError, and StoppedError as soon as `stop` is requested.
    """

    def pause(seconds: float) -> None:
        if give_up():
            raise _GaveUpError
        stop.pause(seconds)

    request = LeaseRequest(name=path.name.removesuffix(SUFFIX), busy=busy, timing=timing, pause=pause)
    with contextlib.ExitStack() as until_released:
        yield _enter_when_free(until_released, path, request, stop)


def _enter_when_free(
    until_released: contextlib.ExitStack, path: Path, request: LeaseRequest, stop: StopRequest
) -> HeldLock | None:
    try:
        while True:
            try:
                return until_released.enter_context(_hold(path, request, stop))
            except BusyError:
                request.pause(_POLL_SECONDS)
    except _GaveUpError:
        return None


class _GaveUpError(Exception):
    """Ends all waiting of `wait_for`, also that for a holder that may be dead."""


def lease_folder(path: Path) -> Path:
    """Return the folder of a lock's lease."""
    return path.parent.parent / "leases" / path.name.removesuffix(SUFFIX)


def is_held(path: Path, locks: Path = Path("/proc/locks")) -> bool:
    """Return whether a process of this host probably holds the lock, for display only. Does not touch the lock.

    The kernel lists its locks. On btrfs and overlayfs it lists another device than `stat`, and it does not list
    processes of other containers: there the lease decides.
    """
    return _is_listed(path, locks) or lease_files.is_held_here(lease_folder(path), _LOCAL_SECONDS)


def _is_listed(path: Path, locks: Path) -> bool:
    try:
        status = path.stat()
        lines = [line.split() for line in locks.read_text().splitlines()]
    except OSError:
        return False
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any("FLOCK" in fields and inode in fields for fields in lines)


def remote_holder(path: Path) -> str:
    """Return the other host that probably holds the lock, for display only; empty if there is none."""
    holder = lease_files.find_remote_holder(lease_folder(path), _REMOTE_SECONDS)
    return holder.host if holder else ""


def current_holder(path: Path) -> str | None:
    """Return who probably holds the lock, for display only: empty for this host, another host's name, or None."""
    return "" if is_held(path) else remote_holder(path) or None


def find_obstacle(path: Path) -> StateError | None:
    """Return the error that `hold` would raise now for a lock that is free; None if it would succeed. Leaves no trace.

    The result is about this user, who may have another quota than the user of the scans.
    """
    try:
        if os.path.lexists(path):
            os.close(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        for folder in (path.parent, lease_folder(path)):
            with trial_file(folder) as descriptor:
                _lock_here(descriptor, path, "")
    except OSError as error:
        return _cannot_lock(path, error)
    except StateError as error:
        return error
    return None


def try_lock(descriptor: int) -> bool:
    """Take the exclusive `flock` of an open file or folder without waiting. Return whether that worked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _hold(path: Path, request: LeaseRequest, stop: StopRequest | None) -> Iterator[HeldLock]:
    try:
        make_private_folder(path.parent)
        descriptor = open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise _cannot_lock(path, error) from error
    try:
        _lock_here(descriptor, path, request.busy)
        request = replace(request, lock_domain=lease_files.find_lock_domain(descriptor))
        on_lost = stop.request_for_lost_lease if stop else lambda _error: None
        try:
            held_lease = lease.acquire(LeaseFiles(lease_folder(path)), request, on_lost)
        except OSError as error:
            raise _cannot_lock(path, error) from error
        try:
            _write_holder(descriptor)  # now that nobody else has it: `monitor` reads when that was
            yield HeldLock(descriptor, held_lease.check)
        finally:
            held_lease.release()
    finally:
        os.close(descriptor)


def _lock_here(descriptor: int, path: Path, busy: str) -> None:
    """Take the `flock`. Raises BusyError if another process of this host has it, StateError if it is not supported."""
    try:
        is_locked = try_lock(descriptor)
    except OSError as error:  # some network file systems have no locks
        where = printable(str(path))
        raise StateError(
            f"cannot lock {where}: {error.strerror} (put --log-dir on a local disk)", id="lock.not-supported"
        ) from error
    if not is_locked:
        raise BusyError(f"{busy}: {_read_holder(descriptor)}", id="lock.busy")


def _cannot_lock(path: Path, error: OSError) -> StateError:
    where = printable(str(path))
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "make room" if is_full else advice_for(error, "give a writable folder with --log-dir")
    return StateError(f"cannot lock {where}: {error.strerror} ({advice})", id="lock.cannot-lock")


def _write_holder(descriptor: int) -> None:
    """Write who holds the lock. A full disk must not prevent an upload, so a failure does not matter."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now_iso()}\n".encode(), 0)


def _read_holder(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        text = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        if text:
            return f"held by {printable(text)}, or by an aws process it started (wait, or end it)"
    return "held by another process (wait, or end it)"
