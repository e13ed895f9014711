"""Find the run folders in the monitored directories, and the problems of these directories.

`monitor`, `status`, `check` and `cleanup` all use this module, so they agree. Only a missing RunInfo.xml means that a
folder is not a run; after any other error it is an unreadable run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import advice_for
from s3sync.inventory import directories, foreign
from s3sync.inventory.candidate import Candidate as Candidate
from s3sync.inventory.candidate import compare
from s3sync.inventory.candidate import resolve_names as resolve_names
from s3sync.inventory.problems import Problem
from s3sync.mounts import mount_of
from s3sync.runs import Run, run_folder
from s3sync.text import printable

_MAX_SUBFOLDERS = 100  # subfolders to search if a directory has no runs


class RunFolder(NamedTuple):
    """A folder with a RunInfo.xml. Candidate has the same fields."""

    path: str
    run_info_mtime: float
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The runs in a monitored directory, and its problems; `notes` are worth knowing, but fail no scan."""

    path: str
    runs: tuple[RunFolder, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    contents: directories.Contents | None = None  # None if the directory cannot be read


class Discovery(NamedTuple):
    """The runs in all monitored directories."""

    candidates: list[Candidate]
    directories: tuple[Directory, ...]

    @property
    def distinct(self) -> list[Candidate]:
        """The candidates without aliases: each folder once per destination."""
        return [candidate for candidate in self.candidates if not candidate.is_alias]

    @property
    def problems(self) -> list[Problem]:
        """The problems of all directories."""
        return [problem for directory in self.directories for problem in directory.problems]

    @property
    def notes(self) -> list[Problem]:
        """The notes on all directories, each once."""
        return list(dict.fromkeys(note for directory in self.directories for note in directory.notes))


def discover(config: Config) -> Discovery:
    """Find every run folder in every monitored directory, for every entry. Only reads; parses no RunInfo.xml."""
    inspected = {path: inspect_directory(str(path), config.log_dir) for path in config.monitored_directories}
    candidates = [
        Candidate(
            run=Run(path=Path(found.path), run_id=os.path.basename(found.path), info=run_folder.RunInfo()),
            entry=entry,
            run_info_mtime=found.run_info_mtime,
            unreadable=found.unreadable,
        )
        for entry in config.monitor
        for directory in entry.monitored_directories
        for found in inspected[directory].runs
    ]
    return Discovery(compare(candidates, config), tuple(inspected.values()))


def inspect_directory(path: str, log_dir: Path) -> Directory:
    """Return the runs in a monitored directory, and its problems. Never raises."""
    found: list[RunFolder] = []
    notes: list[Problem] = []
    try:
        with os.scandir(path) as entries:
            inode = os.stat(path).st_ino
            for entry in entries:
                seen = _inspect_entry(entry)
                if isinstance(seen, RunFolder):
                    found.append(seen)
                elif seen:
                    notes.append(seen)
    except OSError as error:  # the runs that were found before the error are kept
        return Directory(
            path=path, runs=tuple(sorted(found)), problems=(_unreadable(path, error),), notes=tuple(sorted(notes))
        )
    names = [os.path.basename(run.path) for run in found]
    contents = directories.contents_of(names, mount_of(path), inode)
    problems = (*_misplaced(path), *_changed(path, contents, log_dir))
    if not found and not problems:
        notes += _runs_below(path)
    return Directory(
        path=path, runs=tuple(sorted(found)), problems=problems, notes=tuple(sorted(notes)), contents=contents
    )


def why_unmounted(path: str, log_dir: Path) -> str:
    """Return why a monitored directory seems not to be mounted; empty if nothing is odd."""
    problems = inspect_directory(path, log_dir).problems
    return next((problem.text for problem in problems if problem.id == "monitor.directory-not-mounted"), "")


def remember(discovery: Discovery, log_dir: Path) -> None:
    """Remember the contents of each directory, for the next scan. Raises OSError.

    A directory with a problem is left out, since it may not be mounted. Only the scan that holds the lock may call
    this.
    """
    for directory in discovery.directories:
        if directory.contents and not directory.problems:
            directories.remember(log_dir, directory.path, directory.contents)


def _inspect_entry(entry: os.DirEntry[str]) -> RunFolder | Problem | None:
    """Return a run, or a note on a folder that only looks like one; None for anything else."""
    if foreign.is_of_the_system(entry.name):
        return None
    run = _run_in(entry.path)
    if foreign.is_hidden(entry.name):
        text = "has a hidden or reserved name, so it is not recognized as a run (rename it)"
        is_run = run is not None and not run.unreadable
        return Problem(printable(entry.path), text, id="run.hidden-name") if is_run else None
    if run is None and _is_folder(entry):
        return foreign.note_on(entry.path)
    return run


def _run_in(path: str) -> RunFolder | None:
    run_info = os.path.join(path, run_folder.RUN_INFO)
    try:
        return RunFolder(path, os.stat(run_info).st_mtime)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(run_info):
            return RunFolder(path, 0.0, f"{printable(run_info)} is a link to a missing file (restore that file)")
        return None
    except OSError as error:
        return RunFolder(path, 0.0, str(run_folder.unreadable(Path(run_info), error)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _problem(path: str, text: str, *, id: str) -> Problem:  # noqa: A002
    return Problem(f"directory {printable(path)}", text, id=id)


def _unreadable(path: str, error: OSError) -> Problem:
    where = printable(path)
    if isinstance(error, FileNotFoundError) and any(sign in path for sign in "*?["):
        text = f"no such folder: {where} (patterns are not expanded: list each folder in monitored_directories)"
        return _problem(path, text, id="monitor.directory-is-pattern")
    if isinstance(error, FileNotFoundError):
        text = f"no such folder: {where} (mount its file system, or correct monitored_directories)"
        return _problem(path, text, id="monitor.directory-missing")
    if isinstance(error, NotADirectoryError):
        text = f"{where} is not a folder (give the folder that contains the run folders)"
        return _problem(path, text, id="monitor.directory-not-a-folder")
    advice = advice_for(error, "check its permissions and its file system")
    text = f"cannot read {where}: {error.strerror} ({advice})"
    return _problem(path, text, id="monitor.directory-unreadable")


def _misplaced(path: str) -> Iterable[Problem]:
    where = printable(path)
    if _is_run(path):
        text = f"{where} is itself a run folder (give the folder above it)"
        yield _problem(path, text, id="monitor.directory-is-run")
        return
    for parent in Path(path).parents:
        if _is_run(str(parent)):
            text = f"{where} is inside the run folder {printable(str(parent))} (give {printable(str(parent.parent))})"
            yield _problem(path, text, id="monitor.directory-in-run")
            return


def _changed(path: str, now: directories.Contents, log_dir: Path) -> Iterator[Problem]:
    """Report a directory that had runs before, on another file system: the disk may not be mounted."""
    file = directories.memory_file(log_dir, path)
    try:
        before = directories.recall(log_dir, path)
    except OSError as error:
        advice = advice_for(error, "make it readable")
        text = f"cannot read the record of its previous contents: {printable(str(file))}: {error.strerror} ({advice})"
        yield _problem(path, text, id="monitor.directory-memory-unreadable")
        return
    except ValueError:
        before = None  # corrupt: the next scan replaces it
    if doubt := directories.reason_to_doubt(before, now, file):
        yield _problem(path, f"{printable(path)} {doubt}", id="monitor.directory-not-mounted")


def _runs_below(path: str) -> Iterator[Problem]:
    """Return a note that the runs are one level deeper, in a folder of the monitored directory."""
    names = (name for name in foreign.names_in(path) if not foreign.is_of_the_system(name))
    folders = (os.path.join(path, name) for name in names if not foreign.is_hidden(name))
    for folder in islice(filter(os.path.isdir, folders), _MAX_SUBFOLDERS):
        for name in foreign.names_in(folder)[:_MAX_SUBFOLDERS]:
            if _is_run(os.path.join(folder, name)):
                text = f"has no runs, but its folder {printable(folder)} has (give that one in monitored_directories)"
                yield Problem(printable(path), text, id="monitor.directory-too-high")
                return


def _is_run(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(os.path.join(path, run_folder.RUN_INFO)).st_mode)
    except OSError:
        return False
