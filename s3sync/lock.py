"""The lock of a run and destination: the kernel's `flock`, and nothing else, says whether it is held.

The children inherit the open file, so an `aws` that outlives a killed parent keeps the lock until it
has ended. What is written in the file is for people only; a stale file locks nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from s3sync.errors import BusyError, StateError
from s3sync.files import make_private_folder
from s3sync.text import now_iso, printable


@contextlib.contextmanager
def held(path: Path, busy: str) -> Iterator[int]:
    """Hold the lock file `path` while inside; gives its descriptor, to be passed to children.

    Raises BusyError, which says `busy` and by whom, if somebody else holds it; StateError if it cannot be locked.
    """
    try:
        make_private_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateError(
            f"cannot lock {printable(str(path))}: {error.strerror} (give a writable folder with --log_dir)"
        ) from error
    try:
        if not _try_lock_explained(descriptor, path):
            raise BusyError(f"{busy}: {_holder(descriptor)} (wait for it, or end it)")
        _sign(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path, locks: Path = Path("/proc/locks")) -> bool:
    """Whether somebody holds the lock now, without touching it; False where that cannot be seen (not Linux)."""
    try:
        status = path.stat()
        held = (line.split() for line in locks.read_text().splitlines())
    except OSError:
        return False
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any("FLOCK" in words and inode in words for words in held)


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file or folder without waiting; says whether that worked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
