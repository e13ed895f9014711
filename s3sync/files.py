"""Private folders and files, and writes that a crash cannot tear.

What root makes in another user's folder belongs to that user, so that one `sudo` never locks the folder's owner out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import uuid
from collections.abc import Iterator
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
            _make_folder(parent)


def make_public_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for all to read, whatever the umask; raises OSError."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.is_dir():
            _make_folder(parent)
            parent.chmod(0o755)


def closed_above(path: Path) -> Path | None:
    """The outermost folder on the way to a file that other users may not pass; None if they may pass all."""
    above = reversed(Path(os.path.realpath(path)).parents)
    return next((folder for folder in above if not _is_open(folder)), None)


def open_private(path: Path, flags: int) -> int:
    """Open a file with these flags, made for this user alone if it is not there. Returns the descriptor, which no child
    inherits; raises OSError.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    if os.geteuid() != 0:
        return os.open(path, flags, 0o600)
    with _opened_folder(path.parent) as folder:
        descriptor = os.open(path.name, flags, 0o600, dir_fd=folder)
        _inherit_owner(descriptor, path.name, folder)
        return descriptor


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
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # its name may be too long, which that of the temporary file never is
    temporary = _temporary(path)
    write_synced(temporary, b"")
    temporary.unlink()


def write_synced(path: Path, content: bytes) -> None:
    """Write a private file and bring it to the disk; raises OSError."""
    descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
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


def _make_folder(folder: Path) -> None:
    """Make a private folder; somebody else may make it at the same moment."""
    if os.geteuid() != 0:
        folder.mkdir(mode=0o700, exist_ok=True)
        return
    with _opened_folder(folder.parent) as above:
        try:
            os.mkdir(folder.name, 0o700, dir_fd=above)
        except FileExistsError:
            if not folder.is_dir():
                raise
            return
        made = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            _inherit_owner(made, folder.name, above)
        finally:
            os.close(made)


@contextlib.contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    """The folder itself, wherever its path leads meanwhile; raises OSError."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _inherit_owner(descriptor: int, name: str, folder: int) -> None:
    """Give what root has just made in a folder to the owner of that folder.

    The owner may try to get a file of root's this way, by a link or by moving it there: so only what is new, empty,
    and known by no other name is given away. Where anybody may write, the folder's owner means nothing.
    """
    made, owner = os.fstat(descriptor), os.fstat(folder)
    if made.st_uid != 0 or owner.st_uid == 0 or owner.st_mode & stat.S_IWOTH:
        return
    if stat.S_ISDIR(made.st_mode):
        is_new = not os.listdir(descriptor)
    else:
        is_new = stat.S_ISREG(made.st_mode) and made.st_size == 0 and made.st_nlink == 1
    with contextlib.suppress(OSError):  # a user namespace or a file server without that owner
        if is_new and os.path.samestat(made, os.stat(name, dir_fd=folder, follow_symlinks=False)):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


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
