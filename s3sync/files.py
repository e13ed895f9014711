"""Create private folders and files, replace files atomically, and read small files of unknown origin.

What root creates in another user's folder belongs to that user, so that a single `sudo` never locks out the owner.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PATH_OF_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY  # its path may change meanwhile; not on macOS
_MAX_JSON_BYTES = 256 * 1024 * 1024  # this program writes no larger file
_TRIAL = b"s3sync" * 100  # more than a lease has; an empty file also fits on a full disk
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)  # as on NFS
_MAX_NAME_CHARS = 30  # taken from the names of file and host in a temporary name: a name has at most 255 bytes


def is_there(path: Path) -> bool:
    """Return whether anything exists at this path. Unlike `Path.exists`, raises OSError if that is unknown."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_own(path: Path) -> bool:
    """Return whether this user owns the file or folder at this path; False if that is unknown."""
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return False


def make_private_folder(folder: Path) -> None:
    """Create a folder, and its missing parents, that only this user can access. Raises OSError."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.is_dir():
            _make_folder(parent)


def make_public_folder(folder: Path) -> None:
    """Create a folder, and its missing parents, that all users can read, regardless of the umask. Raises OSError."""
    for parent in (*reversed(folder.parents), folder):
        if not parent.is_dir():
            _make_folder(parent)
            parent.chmod(0o755)


def first_untraversable_parent(path: Path) -> Path | None:
    """Return the outermost parent folder that other users may not enter; None if they may enter all parents."""
    above = reversed(Path(os.path.realpath(path)).parents)
    return next((folder for folder in above if not _is_open(folder)), None)


def read_limited(path: str | Path, limit: int) -> bytes:
    """Return the content of a small file of unknown origin: at most `limit` bytes, plus one if it has more.

    Follows links, and never blocks on a pipe. Raises OSError, also for anything but a regular file.
    """
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit + 1)


def read_json(path: Path) -> Any:
    """Return the JSON value in a small file of LOG_DIR. Raises OSError, or ValueError if it holds no JSON."""
    try:
        return json.loads(read_limited(path, _MAX_JSON_BYTES))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Replace a small file of LOG_DIR by this JSON value, by default indented for people. Raises OSError."""
    atomic_write(path, json.dumps(value, indent=indent).encode("ascii") + b"\n")


@contextlib.contextmanager
def opened(path: str | Path, flags: int, dir_fd: int | None = None) -> Iterator[int]:
    """Keep a file or folder open during the `with`, and yield its descriptor. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_private(path: Path, flags: int) -> int:
    """Open a file with these flags; if it is missing, create it for this user alone.

    Returns the descriptor, which no child process inherits. Raises OSError.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    if os.geteuid() != 0:
        return os.open(path, flags, 0o600)
    with opened(path.parent, _PATH_OF_FOLDER) as folder:
        descriptor = os.open(path.name, flags, 0o600, dir_fd=folder)
        _inherit_owner(descriptor, path.name, folder)
        return descriptor


def create_private(path: Path, content: bytes) -> None:
    """Create a private file with this content. Raises OSError, also if it exists."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
        stream.write(content)


def atomic_write(
    path: Path, content: bytes | Iterable[bytes], temporary: Path | None = None, *, mode: int = 0o600
) -> None:
    """Replace a file's content: after a crash it has either the old or the new content. Raises OSError.

    A large content may come in pieces. `temporary` is a name in the same folder that nobody else uses; by default it is
    a unique name.
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


def check_writable(path: Path) -> None:
    """Raise OSError if `atomic_write` could not write this file, which stays unchanged."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # raises if the name is too long, unlike the name of the temporary file
    temporary = _temporary(path)
    try:
        write_synced(temporary, _TRIAL)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def trial_file(folder: Path) -> Iterator[int]:
    """Create a private file without a name in a folder, or in the nearest one above that exists, and write to it.

    Yields its descriptor. It is never visible, except for a moment on file systems without such files. Raises OSError
    as a new file would, e.g. without free space or inodes, or if a quota is used up.
    """
    while not os.path.lexists(folder):
        folder = folder.parent
    descriptor = _open_nameless(folder)
    try:
        write_all(descriptor, _TRIAL)
        os.fsync(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a private file, all at once or in pieces, and flush it to the disk. Raises OSError."""
    descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    try:
        for piece in [content] if isinstance(content, bytes) else content:
            write_all(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_synced(descriptor: int, content: bytes) -> None:
    """Write everything to an open file and flush it to the disk. Raises OSError."""
    write_all(descriptor, content)
    os.fsync(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything, even if the kernel accepts only a part at a time. Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; before that, a power cut may lose a new file. Raises OSError."""
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def flush_disks() -> None:
    """Flush everything written so far to the disks, with one call instead of one per file."""
    os.sync()


def _make_folder(folder: Path) -> None:
    """Create a private folder; another process may create it at the same time."""
    if os.geteuid() != 0:
        folder.mkdir(mode=0o700, exist_ok=True)
        return
    with opened(folder.parent, _PATH_OF_FOLDER) as above:
        try:
            os.mkdir(folder.name, 0o700, dir_fd=above)
        except FileExistsError:
            if not folder.is_dir():
                raise
            return
        with opened(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above) as made:
            _inherit_owner(made, folder.name, above)


def _inherit_owner(descriptor: int, name: str, folder: int) -> None:
    """Give a file or folder that root has just created to the owner of its folder.

    That owner could try to obtain one of root's files, with a link or by moving it there. So only a new and empty file
    without a second name is given away, and nothing in a folder that everybody may write to.
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


def _open_nameless(folder: Path) -> int:
    """Open a new file that has no name, or none any more. Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    temporary = _temporary(folder / "trial")
    descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o600)
    temporary.unlink()
    return descriptor


def _temporary(path: Path) -> Path:
    """Return a unique name. The process id alone is not: in containers, several hosts have the same ones."""
    host = socket.gethostname().replace("/", "-")[:_MAX_NAME_CHARS]
    return path.with_name(f".{path.name[:_MAX_NAME_CHARS]}.{host}.{os.getpid()}.{uuid.uuid4().hex[:16]}.tmp")
