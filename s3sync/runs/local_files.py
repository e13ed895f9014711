"""List the files of a run as they are on disk, and restat them later."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s3sync import own_files
from s3sync.errors import RunError
from s3sync.runs.run_folder import ANALYSIS_FOLDER, Run, is_utf8
from s3sync.text import printable

_ANALYSIS = re.compile(rf"{ANALYSIS_FOLDER}/[0-9]{{1,9}}")
_SPECIAL_FILES = ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block device"))


@dataclass(frozen=True, slots=True, order=True)
class LocalFile:
    """A file as one stat saw it. `path` is relative to the run folder, with `/`."""

    path: str
    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """One version of a file or link: it differs after every change, because no tool can set a ctime back."""

    device: int
    inode: int
    mode: int
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Return the identity from a stat that followed no link."""
        return cls(
            device=status.st_dev,
            inode=status.st_ino,
            mode=status.st_mode,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )

    @property
    def is_link(self) -> bool:
        """Return whether this is a symbolic link."""
        return stat.S_ISLNK(self.mode)


class RejectedEntry(NamedTuple):
    """An entry of the run folder that cannot be uploaded, and why. The path of a folder ends with `/`."""

    path: str
    reason: str


class SkippedEntry(NamedTuple):
    """An entry of the run folder that is not uploaded because it holds no data of the run, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All entries of a run folder, sorted by path. `ctimes_ns` has one value for each file.

    `folders` are the paths of all folders with their modification times in ns; that of the run itself is empty.
    """

    files: tuple[LocalFile, ...]
    rejected: tuple[RejectedEntry, ...]
    skipped: tuple[SkippedEntry, ...] = ()
    ctimes_ns: tuple[int, ...] = ()
    folders: tuple[tuple[str, int], ...] = field(default=(), compare=False)


class _FoundFile(NamedTuple):
    file: LocalFile
    ctime_ns: int


class _FoundFolder(NamedTuple):
    path: str
    mtime_ns: int


def list_files(run: Run, known: Iterable[LocalFile] = ()) -> Listing:
    """Return every file of the run as it is now, and every entry that cannot be uploaded.

    A run that `excludes_analyses` has none of their files. A link to a file inside the run counts as that file. Links
    out of the run, names that are not UTF-8 and unreadable files are rejected; special files, dangling links and
    links to folders of the run are skipped. Each of them is listed with its reason. A file that is as in `known`, an
    earlier listing, is the same object, so that both take the memory of one. Raises RunError if the run is gone.
    """
    same = {file.path: file for file in known}
    files: list[_FoundFile] = []
    rejected: list[RejectedEntry] = []
    skipped: list[SkippedEntry] = []
    folders: list[_FoundFolder] = []
    for entry in _walk(run):
        if isinstance(entry, _FoundFile):
            before = same.get(entry.file.path)
            files.append(_FoundFile(before, entry.ctime_ns) if before and before == entry.file else entry)
        elif isinstance(entry, _FoundFolder):
            folders.append(entry)
        elif isinstance(entry, SkippedEntry):
            skipped.append(entry)
        else:
            rejected.append(entry)
    files.sort(key=lambda found: found.file.path)
    ctimes_ns = tuple(found.ctime_ns for found in files)
    return Listing(
        files=tuple(found.file for found in files),
        rejected=tuple(sorted(rejected)),
        skipped=tuple(sorted(skipped)),
        ctimes_ns=ctimes_ns,
        folders=tuple(sorted(folders)),
    )


def restat(run: Run, path: str) -> LocalFile | None:
    """Return the file as it is now; None if it is gone or no longer a file of the run."""
    absolute = os.path.join(run.path, path)
    try:
        status = os.stat(absolute)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not is_inside(os.path.realpath(absolute), os.path.realpath(run.root)):
        return None
    return LocalFile(path, status.st_size, status.st_mtime_ns)


def restat_all(run: Run, paths: Iterable[str]) -> dict[str, LocalFile | None]:
    """Return what `restat` returns for each path, but resolve each folder only once."""
    root = os.path.realpath(run.root)
    is_in_run: dict[str, bool] = {"": True}
    found: dict[str, LocalFile | None] = {}
    for path in paths:
        folder = os.path.dirname(path)
        if folder not in is_in_run:
            is_in_run[folder] = is_inside(os.path.realpath(os.path.join(run.path, folder)), root)
        found[path] = _restat_in_known_folder(run, path) if is_in_run[folder] else None
    return found


def _restat_in_known_folder(run: Run, path: str) -> LocalFile | None:
    try:
        status = os.lstat(os.path.join(run.path, path))
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return restat(run, path)
    return LocalFile(path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def read_identity(run: Run, path: str) -> FileIdentity | None:
    """Return the identity of a file of the run, or of the link itself; None if it does not exist."""
    try:
        return FileIdentity.of(os.lstat(os.path.join(run.path, path)))
    except OSError:
        return None


def read_folder_numbers(folder: Path) -> tuple[int, ...]:
    """Return device and inode of a folder, and the device of its parent; empty if they cannot be read."""
    try:
        here, above = os.stat(folder), os.stat(folder.parent)
    except OSError:
        return ()
    return here.st_dev, here.st_ino, above.st_dev


def is_inside(real_path: str, root: str) -> bool:
    """Return whether a real path lies in the folder with the real path `root`."""
    return real_path.startswith(root.rstrip("/") + "/")


def is_analysis(path: str) -> bool:
    """Return whether a path in a run folder, such as `Analysis/2`, is an analysis."""
    return _ANALYSIS.fullmatch(path) is not None


def is_inside_analysis(path: str) -> bool:
    """Return whether a path in a run folder is a file of an analysis."""
    return is_analysis("/".join(path.split("/")[:2]))


def last_change(listing: Listing, now: float | None = None) -> float:
    """Return when a file was last changed, in seconds since the epoch; 0 without files.

    The ctime counts as well as the mtime, because a run that is being copied may have old mtimes. An mtime after `now`
    does not count: the instrument's clock was wrong.
    """
    limit_ns = (time.time() if now is None else now) * 1e9
    pairs = zip(listing.files, listing.ctimes_ns, strict=True)
    return max((max(c, f.mtime_ns if f.mtime_ns <= limit_ns else 0) for f, c in pairs), default=0) / 1e9


def has_changed_since(run: Run, timestamp: float) -> bool:
    """Return whether a file of the run was changed after `timestamp` (seconds since the epoch).

    Both mtime and ctime count. Stops at the first such file. Raises RunError if the run is gone.
    """
    since_ns = timestamp * 1e9
    return any(isinstance(e, _FoundFile) and max(e.file.mtime_ns, e.ctime_ns) > since_ns for e in _walk(run))


def _walk(run: Run) -> Iterator[_FoundFile | _FoundFolder | RejectedEntry | SkippedEntry]:
    root = os.path.realpath(run.root)
    folders = [("", False)]  # each with whether this program made it
    while folders:
        folder, is_own = folders.pop()
        try:
            found_folder, entries = _scan(run, folder)
            yield from () if is_own else (found_folder,)
            find_own_names = own_files.find_own_names(entries)
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                is_own_entry = is_own or entry.name in find_own_names
                if entry.is_dir(follow_symlinks=False):
                    if not (run.excludes_analyses and is_analysis(path)):
                        folders.append((path, is_own_entry))
                elif is_own_entry:
                    yield SkippedEntry(path, own_files.REASON)
                elif found := _classify_entry(entry, path, root):
                    yield found
        except FileNotFoundError as error:
            if not folder:
                raise RunError(
                    f"the run is gone: {printable(str(run.path))} (check its path)", id="run.gone"
                ) from error
            continue  # removed since its parent was read
        except OSError as error:
            unread = RejectedEntry(f"{folder}/", f"folder cannot be read: {error.strerror}")
            yield SkippedEntry(f"{folder}/", own_files.REASON) if is_own else unread


def _scan(run: Run, folder: str) -> tuple[_FoundFolder, list[os.DirEntry[str]]]:
    path = os.path.join(run.path, folder)
    mtime_ns = os.stat(path).st_mtime_ns
    with os.scandir(path) as scan:
        return _FoundFolder(folder, mtime_ns), list(scan)


def _classify_entry(entry: os.DirEntry[str], path: str, root: str) -> _FoundFile | RejectedEntry | SkippedEntry | None:
    """Classify an entry that is not a folder; return None if it was removed meanwhile."""
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(entry.path)
            if real != root and not is_inside(real, root):
                return RejectedEntry(path, f"a link out of the run, to {printable(real)}")
            status = os.lstat(real)
            if not stat.S_ISREG(status.st_mode):
                return SkippedEntry(path, "a link to something that is not a file")
    except FileNotFoundError:
        return SkippedEntry(path, "a dangling link") if entry.is_symlink() else None
    except OSError as error:
        return RejectedEntry(path, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _SPECIAL_FILES if test(status.st_mode)), "character device")
        return SkippedEntry(path, f"not a file but a {kind}")
    if not is_utf8(path):
        return RejectedEntry(path, "the name is not UTF-8, which S3 requires")
    if not os.access(entry.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return RejectedEntry(path, "cannot be read: Permission denied")
    return _FoundFile(LocalFile(path, status.st_size, status.st_mtime_ns), status.st_ctime_ns)
