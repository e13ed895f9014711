"""The run folders in the monitored directories, and what about these directories is not as it should be.

`monitor`, `status`, `check` and all others look by this one module, so that each says the same. Only a missing
RunInfo.xml means that a folder is no run: where the answer is another error, the run is there and cannot be read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config, MonitorEntry
from s3sync.inventory import directories, foreign
from s3sync.inventory.mounts import mount_of
from s3sync.runs import Run, run_folder
from s3sync.text import printable

_NO_INFO = run_folder.RunInfo("", "", "", "", ())
_MOST_BELOW = 100  # folders that are looked into where a directory has no runs


class Candidate(NamedTuple):
    """A folder with a RunInfo.xml in a monitored directory. `began` is that file's mtime, seconds since the epoch;
    `unreadable` says why it, or the folder, cannot be read; `others` are further folders of its name with its
    destination, `inside` is what would put objects among its own: both see `rivals`."""

    run: Run
    entry: MonitorEntry
    began: float
    unreadable: str = ""
    others: tuple[Path, ...] = ()
    inside: str = ""


class Trouble(NamedTuple):
    """What is wrong with a monitored directory, or what a person may want to know of it."""

    key: str
    text: str


class Found(NamedTuple):
    """A run folder; see Candidate."""

    path: str
    began: float
    unreadable: str = ""


class Directory(NamedTuple):
    """What is in a monitored directory. `notes` are no mistakes: `key` and `text` make a sentence."""

    path: str
    found: tuple[Found, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    notes: tuple[Trouble, ...] = ()
    contents: directories.Contents | None = None  # None if it cannot be read

    @property
    def name(self) -> str:
        """As a problem of it is called."""
        return f"directory {printable(self.path)}"


class Discovery(NamedTuple):
    """What is in all monitored directories."""

    candidates: list[Candidate]
    directories: tuple[Directory, ...]

    @property
    def troubles(self) -> list[Trouble]:
        """What is wrong with directories."""
        return [trouble for directory in self.directories for trouble in directory.troubles]

    @property
    def notes(self) -> list[Trouble]:
        """What a person may want to know of them, each once."""
        return list(dict.fromkeys(note for directory in self.directories for note in directory.notes))


def look(config: Config) -> Discovery:
    """Every run in every monitored directory, for every entry; RunInfo.xml is not parsed yet. Reads only."""
    wanted = dict.fromkeys(str(d) for entry in config.monitor for d in entry.monitored_directories)
    looked_at = {path: look_into(path, config.log_dir) for path in wanted}
    candidates = [
        Candidate(Run(Path(found.path), os.path.basename(found.path), _NO_INFO), entry, found.began, found.unreadable)
        for entry in config.monitor
        for directory in entry.monitored_directories
        for found in looked_at[str(directory)].found
    ]
    return Discovery(candidates, tuple(looked_at.values()))


def look_into(path: str, log_dir: Path) -> Directory:
    """What is in one directory, and what is wrong with it."""
    directory = Directory(path)
    found: list[Found] = []
    others: list[str] = []
    notes: list[Trouble] = []
    try:
        with os.scandir(path) as entries:
            inode = os.stat(path).st_ino
            for entry in entries:
                _sort(entry, found, others, notes)
    except OSError as error:
        directory = directory._replace(troubles=(Trouble(directory.name, _why_unreadable(path, error)),))
    else:
        now = directories.contents([os.path.basename(each.path) for each in found], mount_of(path), inode)
        troubles = (*_misplaced(directory), *_not_what_it_was(directory, now, log_dir))
        directory = directory._replace(contents=now, troubles=troubles)
        if not found and not troubles:
            notes += _too_high(path, others)
    found.sort()
    return directory._replace(found=tuple(found), notes=tuple(sorted(notes)))


def remember(discovery: Discovery, log_dir: Path) -> None:
    """Remember what is in each directory, unless it does not seem to be what it was; raises OSError.

    Only for the scan that holds the lock.
    """
    for directory in discovery.directories:
        if directory.contents and not directory.troubles:
            directories.remember(log_dir, directory.path, directory.contents)


def _sort(entry: os.DirEntry[str], found: list[Found], others: list[str], notes: list[Trouble]) -> None:
    """A subfolder to where it belongs."""
    if foreign.is_of_the_system(entry.name):
        return
    run = _run_of(entry.path)
    if foreign.is_hidden(entry.name):
        if run and not run.unreadable:
            text = "has a hidden name, so it is not taken for a run (rename it)"
            notes.append(Trouble(printable(entry.path), text))
    elif run:
        found.append(run)
    elif _is_folder(entry):
        others.append(entry.path)
        if text := foreign.what_is(entry.path):
            notes.append(Trouble(printable(entry.path), text))


def _run_of(path: str) -> Found | None:
    """None if the folder is no run."""
    run_info = os.path.join(path, run_folder.RUN_INFO)
    try:
        return Found(path, os.stat(run_info).st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(run_info):
            return Found(path, 0.0, f"{printable(run_info)} is a link to nothing (restore it)")
        return None
    except OSError as error:
        return Found(path, 0.0, f"cannot read {printable(run_info)}: {error.strerror}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _why_unreadable(path: str, error: OSError) -> str:
    where = printable(path)
    if isinstance(error, FileNotFoundError) and any(sign in path for sign in "*?["):
        return f"no such folder: {where} (patterns are not expanded: name each folder)"
    if isinstance(error, NotADirectoryError):
        return f"{where} is not a folder (give the folder that has the run folders)"
    return f"cannot read {where}: {error.strerror} (mount it, or mend the config)"


def _misplaced(directory: Directory) -> Iterable[Trouble]:
    """That it is a run folder, or lies in one."""
    where = printable(directory.path)
    if _is_run(directory.path):
        yield Trouble(directory.name, f"{where} is itself a run folder (give the folder above it)")
        return
    for parent in Path(directory.path).parents:
        if _is_run(str(parent)):
            above = printable(str(parent.parent))
            yield Trouble(directory.name, f"{where} lies in the run folder {printable(str(parent))} (give {above})")
            return


def _not_what_it_was(directory: Directory, now: directories.Contents, log_dir: Path) -> Iterable[Trouble]:
    """That it had runs, and its file system is another one."""
    file = directories.place(log_dir, directory.path)
    try:
        before = directories.recall(log_dir, directory.path)
    except OSError as error:
        yield Trouble(directory.name, f"cannot read what is known of it: {printable(str(file))}: {error.strerror}")
        return
    except ValueError:
        before = None  # corrupt: the next scan writes it anew
    if why := directories.why_not_the_same(before, now, file):
        yield Trouble(directory.name, f"{printable(directory.path)} {why}")


def _too_high(path: str, others: list[str]) -> Iterable[Trouble]:
    """A hint, where the runs lie one folder deeper."""
    for folder in sorted(others)[:_MOST_BELOW]:
        for name in foreign.names_in(folder)[:_MOST_BELOW]:
            if _is_run(os.path.join(folder, name)):
                text = f"has no runs, but {printable(folder)} in it has (give that folder in monitored_directories)"
                yield Trouble(printable(path), text)
                return


def _is_run(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(os.path.join(path, run_folder.RUN_INFO)).st_mode)
    except OSError:
        return False
