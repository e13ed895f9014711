"""Private folders and files, and writes that a crash cannot tear."""

from __future__ import annotations

import os
import socket
import stat
import uuid
from pathlib import Path

_SHOWN = 30  # characters of a file's and a host's name in that of a temporary file: names have at most 255 bytes


def is_there(path: Path) -> bool:
    """Whether there is something, whatever it is; raises OSError where that cannot be known, as `exists` does not."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user alone; raises OSError."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.is_dir():
            parent.mkdir(mode=0o700, exist_ok=True)


def make_public_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for all to read, whatever the umask; raises OSError."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.is_dir():
            parent.mkdir(mode=0o700)
            parent.chmod(0o755)


def closed_above(path: Path) -> Path | None:
    """The outermost folder on the way to a file that other users may not pass; None if they may pass all."""
    above = reversed(Path(os.path.realpath(path)).parents)
    return next((folder for folder in above if not _is_open(folder)), None)


def replace(path: Path, content: bytes, temporary: Path | None = None, *, mode: int = 0o600) -> None:
    """Give a file new content: afterwards, and after any crash, it has the old or the new. Raises OSError.

    `temporary` is a name in the same folder that nobody else writes under; without one, a name is used only once.
    """
    temporary = temporary or _temporary(path)
    try:
        write_synced(temporary, content)
        if mode != 0o600:
            temporary.chmod(mode)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def try_replace(path: Path) -> None:
    """Find out whether `replace` can write there; what is there stays as it is. Raises OSError."""
    temporary = _temporary(path)
    write_synced(temporary, b"")
    temporary.unlink()


def write_synced(path: Path, content: bytes) -> None:
    """Write a private file and bring it to the disk; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_synced(descriptor: int, content: bytes) -> None:
    """Write all of it to an open file and bring it to the disk; raises OSError."""
    write_all(descriptor, content)
    os.fsync(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything, however often the kernel takes only a part; raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _is_open(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IXOTH)
    except OSError:
        return False


def _temporary(path: Path) -> Path:
    """A name that no other process has: in containers, processes of several hosts have the same id."""
    host = socket.gethostname().replace("/", "-")[:_SHOWN]
    return path.with_name(f".{path.name[:_SHOWN]}.{host}.{os.getpid()}.{uuid.uuid4().hex[:16]}.tmp")


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new file may be lost in a power cut before. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
