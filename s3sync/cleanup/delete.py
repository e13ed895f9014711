"""Files of a run off the disk: the only module that deletes what is not this program's own.

It deletes what it is given, file by file, and only what is still the very file that was verified. Every folder is
opened without following links, and names are taken relative to the open folder: whatever is put in a folder's place
meanwhile, nothing outside the run can be reached. What it was not given stays, and so do the folders that hold it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from s3sync.errors import RunError
from s3sync.runs import LocalFile, local_files, run_folder
from s3sync.text import printable
from s3sync.transfer import batches

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC  # not on macOS

_CHANGED = "changed since it was verified"
_GONE = "gone before it could be deleted"
_CAME = "came after the run was verified"


@dataclass(slots=True)
class Removal:
    """What came of it. `left` maps what should have gone, or should not be there, to the reason why it stays."""

    deleted: int = 0
    size: int = 0  # bytes
    left: dict[str, str] = field(default_factory=dict)  # by path in the run; folders end in a slash
    gone: bool = False  # the run folder itself


def remove(
    folder: Path,
    identity: tuple[int, int],
    files: Mapping[str, local_files.FileIdentity],
    known: Collection[str],
    check_stop: Callable[[], None],
    removal: Removal,
) -> None:
    """Delete these files of a run folder, then the folders that are empty; `removal` is kept up to date meanwhile.

    `identity` are device and inode of the run folder, `known` the paths that stay and are meant to. `check_stop` may
    raise between two files. Metadata go after the data, then the completion markers, then RunInfo.xml: while
    anything is left that should not be, the run can be recognised. Raises RunError, before anything is deleted, if it
    is another folder now or could not go itself.
    """
    with contextlib.ExitStack() as closing:
        try:
            parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            closing.callback(os.close, parent)
            root = os.open(folder.name, _FOLDER, dir_fd=parent)
            closing.callback(os.close, root)
        except OSError as error:
            raise RunError(f"cannot open {printable(str(folder))}: {error.strerror}") from error
        status = os.fstat(root)
        if (status.st_dev, status.st_ino) != identity:
            raise RunError(f"{printable(str(folder))} is another folder than the one that was verified")
        if not known:
            _require_writable(folder.parent)
        tree = _Tree(root, status.st_dev, removal, check_stop)
        _remove_in_order(tree, files, known)
        if not removal.left and not known:
            _remove_root(parent, folder.name, removal)


def _require_writable(directory: Path) -> None:
    """That the run folder can go in the end; raises RunError."""
    effective = os.access in os.supports_effective_ids
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=effective):
        where = printable(str(directory))
        raise RunError(f"nothing is deleted: the run folder could not go, {where} may not be written (chmod it)")


def _remove_in_order(tree: _Tree, files: Mapping[str, local_files.FileIdentity], known: Collection[str]) -> None:
    links = [path for path in sorted(files) if files[path].is_link]
    others = [path for path in sorted(files) if not files[path].is_link]
    phases = batches.split_by_phase(LocalFile(path, files[path].size, files[path].mtime_ns) for path in others)
    removal = tree.removal
    tree.delete_files(files, links)  # without what they lead to nobody could tell that they were files
    tree.delete_files(files, [file.path for file in phases.data])
    folders, rest = tree.look(known)
    late = {file.path for file in (*phases.metadata, *phases.markers)}
    strangers = [path for path in rest if path not in late and path not in known and path not in removal.left]
    removal.left.update(dict.fromkeys(strangers, _CAME))
    if removal.left:
        return
    tree.delete_files(files, [file.path for file in phases.metadata if file.path != run_folder.RUN_INFO])
    if not removal.left:
        tree.delete_files(files, [file.path for file in phases.markers])
    tree.delete_folders(folders)
    if not removal.left and run_folder.RUN_INFO in files:
        tree.delete_files(files, [run_folder.RUN_INFO])


def _remove_root(parent: int, name: str, removal: Removal) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        removal.left["./"] = f"the run folder cannot be deleted: {error.strerror}"
    else:
        removal.gone = True


class _Tree:
    """The open run folder. Folders in it are opened from there, name by name."""

    def __init__(self, root: int, device: int, removal: Removal, check_stop: Callable[[], None]) -> None:
        self.removal = removal
        self._root = root
        self._device = device
        self._check_stop = check_stop
        self._ctimes: dict[tuple[int, int], int] = {}  # of files that had another name, which was deleted here

    def delete_files(self, files: Mapping[str, local_files.FileIdentity], paths: Sequence[str]) -> None:
        """In this order, some in a row that are in one folder by one opening of it."""
        for folder, names in groupby(paths, os.path.dirname):
            together = list(names)
            try:
                with self._opened(folder) as descriptor:
                    for path in together:
                        self._check_stop()
                        self._delete(descriptor, path, files[path])
            except OSError as error:  # of the opening
                why = f"its folder cannot be opened: {error.strerror}"
                self.removal.left.update({path: why for path in together if path not in self.removal.left})

    def _delete(self, descriptor: int, path: str, identity: local_files.FileIdentity) -> None:
        try:
            why = self._delete_if_same(descriptor, os.path.basename(path), identity)
        except FileNotFoundError:
            why = _GONE
        except OSError as error:
            why = f"cannot be deleted: {error.strerror}"
        if why:
            self.removal.left[path] = why
        else:
            self.removal.deleted += 1
            self.removal.size += identity.size

    def _delete_if_same(self, descriptor: int, name: str, identity: local_files.FileIdentity) -> str:
        """Why it was not deleted; empty if it was. Raises OSError."""
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        inode = (identity.device, identity.inode)
        if local_files.FileIdentity.of(status) != replace(
            identity, ctime_ns=self._ctimes.get(inode, identity.ctime_ns)
        ):
            return _CHANGED
        if status.st_nlink == 1:
            os.unlink(name, dir_fd=descriptor)
            return ""
        with _looking_at(name, descriptor) as same:  # it has another name, whose ctime this changes
            if local_files.FileIdentity.of(os.fstat(same)) != local_files.FileIdentity.of(status):
                return _CHANGED
            os.unlink(name, dir_fd=descriptor)
            self._ctimes[inode] = os.fstat(same).st_ctime_ns
        return ""

    def look(self, known: Collection[str]) -> tuple[list[str], list[str]]:
        """Every folder that can be read, and everything else that is there."""
        folders: list[str] = []
        others: list[str] = []
        waiting = [""]
        while waiting:
            self._check_stop()
            folder = waiting.pop()
            try:
                with self._opened(folder) as descriptor, os.scandir(descriptor) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        (waiting if entry.is_dir(follow_symlinks=False) else others).append(path)
            except OSError as error:
                if f"{folder}/" not in known:
                    self.removal.left[f"{folder}/"] = f"folder cannot be read: {error.strerror}"
            else:
                folders.append(folder)
        return folders[1:], others

    def delete_folders(self, folders: Iterable[str]) -> None:
        """Those that are empty, the deepest first; the others stay."""
        for folder in sorted(folders, key=lambda path: (-path.count("/"), path)):
            self._check_stop()
            try:
                with self._opened(os.path.dirname(folder)) as descriptor:
                    if self._is_empty(folder):
                        os.rmdir(os.path.basename(folder), dir_fd=descriptor)
            except OSError as error:
                self.removal.left[f"{folder}/"] = f"folder cannot be deleted: {error.strerror}"

    def _is_empty(self, folder: str) -> bool:
        with self._opened(folder) as descriptor, os.scandir(descriptor) as entries:
            return next(entries, None) is None

    @contextlib.contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """The folder's descriptor while inside; raises OSError if a part of its path is no folder of the run."""
        descriptor = os.dup(self._root)
        try:
            for name in filter(None, folder.split("/")):
                inner = os.open(name, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
                if os.fstat(descriptor).st_dev != self._device:
                    raise OSError(0, "another file system is mounted there")
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _looking_at(name: str, descriptor: int) -> Iterator[int]:
    same = os.open(name, _LOOK, dir_fd=descriptor)
    try:
        yield same
    finally:
        os.close(same)


def identity_of(folder: Path) -> tuple[int, int]:
    """Device and inode of a run folder; raises RunError if it is a link or no folder."""
    where = printable(str(folder))
    try:
        status = os.lstat(folder)
    except OSError as error:
        raise RunError(f"cannot open {where}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RunError(f"{where} is a link, or no folder")
    return status.st_dev, status.st_ino
