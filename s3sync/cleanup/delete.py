"""Delete the files of a run: the only module that deletes files of other programs.

It deletes the files that it is given, one by one, if they are still the files that were verified. It opens every folder
without following links, and names files relative to the open folder: nothing outside the run can be reached, even if a
folder is replaced meanwhile. All other files are kept, with their folders.
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
from s3sync.files import opened
from s3sync.runs import LocalFile, local_files, run_folder
from s3sync.text import printable
from s3sync.transfer import batches

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW  # not on macOS

_CHANGED = "changed since it was verified"
_GONE = "gone before it could be deleted"
_NEW = "appeared after the run was verified"


@dataclass(slots=True)
class DeletionResult:
    """The result of a deletion so far."""

    deleted: int = 0  # files
    size: int = 0  # their bytes
    not_deleted: dict[str, str] = field(default_factory=dict)  # reasons by path in the run; folders end in a slash
    is_gone: bool = False  # whether the run folder itself was deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRequest:
    """The files of a run to delete."""

    folder: Path  # the run folder
    identity: tuple[int, int]  # its device and inode
    files: Mapping[str, local_files.FileIdentity]  # by path in the run, as they were verified
    kept: Collection[str] = ()  # paths in the run that stay


def delete_run(request: DeletionRequest, check_stop: Callable[[], None], result: DeletionResult) -> None:
    """Delete the files of a run, then the empty folders, and keep `result` up to date.

    `check_stop` is called before each file, and may raise. Raises RunError, before anything is deleted, if the folder
    is not the one that was verified, or could not be deleted at the end.
    """
    folder = request.folder
    with contextlib.ExitStack() as closing:
        try:
            parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            closing.callback(os.close, parent)
            root = os.open(folder.name, _FOLDER, dir_fd=parent)
            closing.callback(os.close, root)
        except OSError as error:
            text = f"cannot open {printable(str(folder))}: {error.strerror} (make it accessible)"
            raise RunError(text, id="cleanup.cannot-open") from error
        status = os.fstat(root)
        if (status.st_dev, status.st_ino) != request.identity:
            text = f"{printable(str(folder))} is not the folder that was verified (run the command again)"
            raise RunError(text, id="cleanup.other-folder")
        if not request.kept:
            _require_writable(folder.parent)
        opened = _OpenRunFolder(root, status.st_dev, result, check_stop)
        _delete_in_order(opened, request)
        if not result.not_deleted and not request.kept:
            _delete_root(parent, folder.name, result)


def _require_writable(directory: Path) -> None:
    """Raise RunError if the run folder could not be deleted at the end."""
    effective = os.access in os.supports_effective_ids
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=effective):
        where = printable(str(directory))
        text = f"nothing is deleted: {where} is not writable, so the run folder could not be deleted (make it writable)"
        raise RunError(text, id="cleanup.directory-not-writable")


# The order of deletion. As long as files are left that should be deleted, the run can be recognized and compared: the
# metadata come after the data, then the completion markers, and last RunInfo.xml, which makes the folder a run. Links
# come first, since they would dangle without their targets.
_BEFORE_CHECK = ("links", "data")
_AFTER_CHECK = ("metadata", "markers")
_AT_THE_END = "run info"


def _delete_in_order(folder: _OpenRunFolder, request: DeletionRequest) -> None:
    steps = _by_step(request.files)
    result = folder.result
    for step in _BEFORE_CHECK:
        folder.delete_files(request.files, steps[step])
    folders, others = folder.list_contents(request.kept)
    expected = {*steps["metadata"], *steps["markers"], *steps[_AT_THE_END], *request.kept, *result.not_deleted}
    result.not_deleted.update(dict.fromkeys((path for path in others if path not in expected), _NEW))
    if result.not_deleted:
        return
    for step in _AFTER_CHECK:
        if not result.not_deleted:
            folder.delete_files(request.files, steps[step])
    folder.delete_folders(folders)
    if not result.not_deleted:
        folder.delete_files(request.files, steps[_AT_THE_END])


def _by_step(files: Mapping[str, local_files.FileIdentity]) -> dict[str, list[str]]:
    """Return the paths to delete in each step, in order."""
    local = [
        LocalFile(path, files[path].size, files[path].mtime_ns) for path in sorted(files) if not files[path].is_link
    ]
    order = batches.split_by_phase(local)
    metadata = [file.path for file in order.metadata]
    return {
        "links": [path for path in sorted(files) if files[path].is_link],
        "data": [file.path for file in order.data],
        "metadata": [path for path in metadata if path != run_folder.RUN_INFO],
        "markers": [file.path for file in order.markers],
        _AT_THE_END: [path for path in metadata if path == run_folder.RUN_INFO],
    }


def _delete_root(parent: int, name: str, result: DeletionResult) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        result.not_deleted["./"] = f"the run folder cannot be deleted: {error.strerror}"
    else:
        result.is_gone = True


class _OpenRunFolder:
    """The open run folder. Folders in it are opened from there, name by name."""

    def __init__(self, root: int, device: int, result: DeletionResult, check_stop: Callable[[], None]) -> None:
        self.result = result
        self._root = root
        self._device = device
        self._check_stop = check_stop
        self._ctimes: dict[tuple[int, int], int] = {}  # the ctimes of files after one of their hard links was deleted

    def delete_files(self, files: Mapping[str, local_files.FileIdentity], paths: Sequence[str]) -> None:
        """Delete files in order, opening a folder once for consecutive files in it."""
        for folder, names in groupby(paths, os.path.dirname):
            in_folder = list(names)
            try:
                with self._opened(folder) as descriptor:
                    for path in in_folder:
                        self._check_stop()
                        self._delete(descriptor, path, files[path])
            except OSError as error:  # from opening the folder
                why = f"its folder cannot be opened: {error.strerror}"
                self.result.not_deleted.update({path: why for path in in_folder if path not in self.result.not_deleted})

    def _delete(self, descriptor: int, path: str, identity: local_files.FileIdentity) -> None:
        try:
            why = self._delete_if_same(descriptor, os.path.basename(path), identity)
        except FileNotFoundError:
            why = _GONE
        except OSError as error:
            why = f"cannot be deleted: {error.strerror}"
        if why:
            self.result.not_deleted[path] = why
        else:
            self.result.deleted += 1
            self.result.size += identity.size

    def _delete_if_same(self, descriptor: int, name: str, identity: local_files.FileIdentity) -> str:
        """Delete a file if it has not changed, and return why it was not deleted; empty if it was. Raises OSError."""
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        inode = (identity.device, identity.inode)
        if local_files.FileIdentity.of(status) != replace(
            identity, ctime_ns=self._ctimes.get(inode, identity.ctime_ns)
        ):
            return _CHANGED
        if status.st_nlink == 1:
            os.unlink(name, dir_fd=descriptor)
            return ""
        with opened(name, _PATH_ONLY, dir_fd=descriptor) as same:  # it has another hard link, and its ctime changes now
            if local_files.FileIdentity.of(os.fstat(same)) != local_files.FileIdentity.of(status):
                return _CHANGED
            os.unlink(name, dir_fd=descriptor)
            self._ctimes[inode] = os.fstat(same).st_ctime_ns
        return ""

    def list_contents(self, kept: Collection[str]) -> tuple[list[str], list[str]]:
        """Return all folders that can be read, and all paths that are no folders."""
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
                if f"{folder}/" not in kept:
                    self.result.not_deleted[f"{folder}/"] = f"folder cannot be read: {error.strerror}"
            else:
                folders.append(folder)
        return folders[1:], others

    def delete_folders(self, folders: Iterable[str]) -> None:
        """Delete the empty folders, deepest first."""
        for folder in sorted(folders, key=lambda path: (-path.count("/"), path)):
            self._check_stop()
            try:
                with self._opened(os.path.dirname(folder)) as descriptor:
                    if self._is_empty(folder):
                        os.rmdir(os.path.basename(folder), dir_fd=descriptor)
            except OSError as error:
                self.result.not_deleted[f"{folder}/"] = f"folder cannot be deleted: {error.strerror}"

    def _is_empty(self, folder: str) -> bool:
        with self._opened(folder) as descriptor, os.scandir(descriptor) as entries:
            return next(entries, None) is None

    @contextlib.contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """Yield the descriptor of a folder. Raises OSError if part of its path is a link or another file system."""
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


def identity_of(folder: Path) -> tuple[int, int]:
    """Return device and inode of a run folder. Raises RunError if it is a link or not a folder."""
    where = printable(str(folder))
    try:
        status = os.lstat(folder)
    except OSError as error:
        text = f"cannot open {where}: {error.strerror} (make it accessible)"
        raise RunError(text, id="cleanup.cannot-open") from error
    if not stat.S_ISDIR(status.st_mode):
        raise RunError(f"{where} is a link or not a folder (give the run folder itself)", id="cleanup.not-a-folder")
    return status.st_dev, status.st_ino
