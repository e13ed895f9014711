"""Keep downloads in a private folder beside the run folder, and move them into place when they are verified.

The AWS CLI writes to `in`, and verified files are in `ready`. If a call is killed, the next one continues with both.
`ready` becomes the run folder in one step if there is none; otherwise files are added one by one, and replace others
only if the user wants that. Folders are opened one by one and no link is followed, so nothing is written outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s3sync import files
from s3sync.errors import BusyError, StateError, explained
from s3sync.state import lock
from s3sync.text import printable
from s3sync.transfer.restore.request import RestoreRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

PREFIX = ".s3sync-restore-"
_MAX_NAME_BYTES = 100  # kept of the run's name in the name of its private folder
_SAME_NAME = "another key has the same name on this file system (restore to a case-sensitive one)"
_A_FOLDER = "a folder of this name is on disk (move it away)"
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755  # at most
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # EXDEV: AFS, of two folders


class InTheWayError(Exception):
    """Something else is where a file belongs; the text says what."""


class PrivateFolder:
    """The private folder of one run and target. Close it at the end. Its methods raise OSError, or what they say."""

    def __init__(self, request: RestoreRequest) -> None:
        target = request.target
        name = os.fsdecode(os.fsencode(target.name)[:_MAX_NAME_BYTES])
        self.path = target.parent / f"{PREFIX}{request.destination.tag}-{name}"
        self.arrivals = self.path / "in"
        self.ready = self.path / "ready"
        self.target = target
        self.folder_mode = _FOLDER_MODE & ~request.umask | stat.S_IRWXU
        self._file_mode = _FILE_MODE & ~request.umask | stat.S_IRUSR | stat.S_IWUSR
        self._overwrite = request.overwrite
        self._descriptor = -1  # holds the lock of the folder

    def close(self) -> None:
        """Unlock the folder."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def prepare(self) -> None:
        """Create and lock the folder, or one that is there and private to this user. Raises StateError, BusyError."""
        with explained("use", self.path, "restore to a folder where this user can write", id="restore.no-folder"):
            self.path.mkdir(mode=0o700, exist_ok=True)
            status = os.lstat(self.path)
            is_private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            if not stat.S_ISDIR(status.st_mode) or not (is_private or self._has_forced_modes(status)):
                raise StateError(self._explain_foreign(status), id="restore.no-folder")
            if not self._lock():
                raise BusyError(f"another restore writes to {printable(str(self.path))} (wait for it)", id="lock.busy")
            self.ready.mkdir(mode=0o755, exist_ok=True)
            self.arrivals.mkdir(mode=0o755, exist_ok=True)

    def _explain_foreign(self, status: os.stat_result) -> str:
        """Return why the folder cannot be used though it exists. One `sudo` may have left it."""
        where = printable(str(self.path))
        if stat.S_ISDIR(status.st_mode) and status.st_uid != os.geteuid():
            whose, command = "it belongs to another user", ["sudo", "chown", "-R", str(os.geteuid()), str(self.path)]
        elif stat.S_ISDIR(status.st_mode):
            whose, command = "others can use it", ["chmod", "700", str(self.path)]
        else:
            whose, command = "it is not a folder", ["rm", str(self.path)]
        return f"{where} exists, and is not this user's private folder: {whose} (`{printable(shlex.join(command))}`)"

    def _has_forced_modes(self, status: os.stat_result) -> bool:
        """Return whether the file system gives all files the owner or the mode of this folder, as CIFS and vfat do."""
        try:
            with tempfile.TemporaryFile(dir=self.path) as stream:
                made = os.fstat(stream.fileno())
        except OSError:
            return False
        has_same_owner = made.st_uid == status.st_uid
        return has_same_owner and (made.st_uid != os.geteuid() or bool(made.st_mode & 0o077))

    def harvest(self, sizes: dict[str, int]) -> list[str]:
        """Move the files of an earlier call that have their full size to `ready`, and drop the others.

        Return the paths in `ready`, which are not verified yet. `sizes` are the bytes of each object in S3.
        """
        for path in _list_paths(self.arrivals):
            if _size_of(self.arrivals / path) == sizes.get(path, -1) and not os.path.lexists(self.ready / path):
                with contextlib.suppress(OSError):
                    self._move(path)
        shutil.rmtree(self.arrivals, ignore_errors=True)
        self.arrivals.mkdir(mode=0o755, exist_ok=True)
        for path in list(_list_paths(self.ready)):
            if _size_of(self.ready / path) != sizes.get(path, -1):
                self.drop(path)
        return [path for path in _list_paths(self.ready) if path in sizes]

    def accept(self, path: str, mtime_ns: int) -> str:
        """Move a verified file to `ready`, with its modification time (-1: not known) and a safe mode.

        Return why it cannot be moved, empty if it is: the file system may ignore the case of letters.
        """
        if os.path.lexists(self.ready / path) or not os.path.lexists(self.arrivals / path):
            return _SAME_NAME
        self._move(path)
        self.finish(path, mtime_ns)
        return ""

    def finish(self, path: str, mtime_ns: int) -> None:
        """Set time and mode of a file in `ready`."""
        file = self.ready / path
        _change_mode(file, self._file_mode)
        if mtime_ns >= 0:
            os.utime(file, ns=(mtime_ns, mtime_ns))

    def drop(self, path: str) -> None:
        """Remove a file that is not verified."""
        for folder in (self.arrivals, self.ready):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                (folder / path).unlink()

    @property
    def exists(self) -> bool:
        """Return whether the folder exists: an earlier call may have been killed after it had moved everything."""
        return os.path.lexists(self.path)

    def discard(self) -> None:
        """Remove the folder with everything in it, unless another restore uses it."""
        with contextlib.suppress(OSError):
            if self._lock():
                shutil.rmtree(self.path, ignore_errors=True)

    def become_target(self) -> bool:
        """Rename `ready` to the run folder, unless something is there. Return whether that was done."""
        for folder, _, _ in os.walk(self.ready):
            _change_mode(folder, self.folder_mode)
        files.flush_disks()
        try:
            os.rename(self.ready, self.target)  # replaces nothing but an empty folder
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        files.sync_folder(self.target.parent)
        return True

    def add_to_target(self, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Move files of `ready` to the run folder in this order; yield those that cannot be moved, with the reason."""
        files.flush_disks()
        with contextlib.suppress(FileExistsError):
            self.target.mkdir(mode=0o700)
            _change_mode(self.target, self.folder_mode)
        with OpenFolders(self.target, self.folder_mode) as folders:
            for path in paths:
                try:
                    self._add(path, folders.open(os.path.dirname(path)))
                except InTheWayError as error:
                    yield path, str(error)
        files.sync_folder(self.target)

    def _add(self, path: str, folder: int) -> None:
        name, source = os.path.basename(path), self.ready / path
        if self._overwrite:
            if _is_folder(name, folder):
                raise InTheWayError(_A_FOLDER)
            os.rename(source, name, dst_dir_fd=folder)
            return
        try:
            os.link(source, name, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            if not _is_same_file(source, name, folder):
                raise InTheWayError("another file of this name has appeared on disk") from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if _exists(name, folder):
                raise InTheWayError("another file of this name has appeared on disk") from None
            os.rename(source, name, dst_dir_fd=folder)

    def _lock(self) -> bool:
        """Return whether no other restore uses the folder: with another log directory, the lock of the run differs."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, _FOLDER_FLAGS)
        try:
            return lock.try_lock(self._descriptor)
        except OSError:  # some network file systems have no locks
            return True

    def _move(self, path: str) -> None:
        (self.ready / path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.rename(self.arrivals / path, self.ready / path)


class OpenFolders:
    """Folders below the target, opened in their parents without following links, and created if they are missing."""

    def __init__(self, target: Path, mode: int = _FOLDER_MODE) -> None:
        """`mode` is the mode of new folders, regardless of the umask."""
        self._target = target
        self._mode = mode
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._open[""] = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(
                f"cannot use {printable(str(self._target))}: {error.strerror} (give another --local-path)",
                id="restore.no-target",
            ) from error
        return self

    def __exit__(self, *_error: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def open(self, folder: str) -> int:
        """Return the descriptor of a folder. Raises InTheWayError if something else is there."""
        for other in [known for known in self._open if known and not f"{folder}/".startswith(f"{known}/")]:
            os.close(self._open.pop(other))  # a run may have more folders than a process may open files
        if folder not in self._open:
            parent, _, name = folder.rpartition("/")
            above = self.open(parent)
            is_new = True
            try:
                os.mkdir(name, 0o700, dir_fd=above)
            except FileExistsError:
                is_new = False
            try:
                self._open[folder] = os.open(name, _FOLDER_FLAGS, dir_fd=above)
                if is_new:
                    _change_mode(self._open[folder], self._mode)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise InTheWayError(_no_folder(folder)) from None
                raise
        return self._open[folder]


def find_blocked(target: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the files that cannot be placed in the run folder, even by overwriting, each with the obstacle."""
    if not os.path.lexists(target):
        return {}
    folders: dict[str, str] = {"": ""}  # the reason why no file can be in a folder

    def why_blocked(folder: str) -> str:
        if folder not in folders:
            above = why_blocked(folder.rpartition("/")[0])
            folders[folder] = above or (_no_folder(folder) if _is(target / folder, other_than=stat.S_ISDIR) else "")
        return folders[folder]

    found = {}
    for path in paths:
        if why := why_blocked(path.rpartition("/")[0]):
            found[path] = why
        elif _is(target / path, other_than=lambda mode: not stat.S_ISDIR(mode)):
            found[path] = _A_FOLDER
    return found


def _no_folder(folder: str) -> str:
    return f"{printable(folder)} on disk is a file or a link, not a folder (move it away)"


def _is(path: Path, *, other_than: Callable[[int], bool]) -> bool:
    """Return whether something exists there that is not of this kind."""
    try:
        return not other_than(os.lstat(path).st_mode)
    except OSError:
        return False


def size_on_disk(target: Path, path: str) -> int:
    """Return the size of a file in the run folder, in bytes; -1 if there is nothing, -2 if it is something else."""
    try:
        status = os.lstat(target / path)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError:
        return -2
    return status.st_size if stat.S_ISREG(status.st_mode) else -2


def _change_mode(path: str | Path | int, mode: int) -> None:
    """Set the mode. A folder keeps the bit that makes everything in it belong to its group."""
    with contextlib.suppress(PermissionError):  # on a file system without modes
        present = os.stat(path).st_mode
        os.chmod(path, mode | (present & stat.S_ISGID if stat.S_ISDIR(present) else 0))


def _size_of(file: Path) -> int:
    return size_on_disk(file.parent, file.name)


def _list_paths(folder: Path) -> Iterator[str]:
    for top, _, names in os.walk(folder):
        yield from (os.path.relpath(os.path.join(top, name), folder) for name in names)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(name: str, folder: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def _is_same_file(source: Path, name: str, folder: int) -> bool:
    return os.path.samestat(os.lstat(source), os.stat(name, dir_fd=folder, follow_symlinks=False))
