"""A run folder on disk: what RunInfo.xml and RunParameters.xml say of it, and the files in it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync import own_files
from s3sync.errors import RunError
from s3sync.text import printable

RUN_INFO = "RunInfo.xml"
ANALYSES = "Analysis"  # the folder of a run in which each analysis has one, named by its number
_MAX_XML_BYTES = 16 * 1024 * 1024  # real ones have up to 160 kB
_HEAD_BYTES = 8 * 1024
_ANALYSIS = re.compile(rf"{ANALYSES}/[0-9]{{1,9}}")


class RunInfo(NamedTuple):
    """What RunInfo.xml says; an element that is missing there is an empty string or tuple."""

    run_id: str
    instrument: str
    flowcell: str
    date: str
    cycles: tuple[int, ...]  # of each read in order, index reads included


class RunParameters(NamedTuple):
    """What RunParameters.xml says that people want to see; empty where it does not."""

    experiment: str = ""
    side: str = ""  # of the instrument: A or B
    flowcell_type: str = ""
    recipe: str = ""
    software: str = ""  # version of the control software


class Run(NamedTuple):
    """A folder that holds RunInfo.xml. `path` is absolute, `run_id` the folder's own name.

    Or an analysis in such a folder, `within` which it lies: its `run_id` is `RUN/Analysis/1`, `info` that of the run.
    The run itself is `split` then: the analyses are no part of it.
    """

    path: Path
    run_id: str
    info: RunInfo
    split: bool = False
    within: Path | None = None

    @property
    def root(self) -> Path:
        """The run folder: its own, or that in which the analysis lies."""
        return self.within or self.path


class LocalFile(NamedTuple):
    """A file as one stat saw it. `path` is relative to the run folder, with `/`."""

    path: str
    size: int  # bytes
    mtime_ns: int


class Identity(NamedTuple):
    """What tells a file, or a link, from every other one and from itself after a change: no tool sets a ctime back."""

    device: int
    inode: int
    mode: int
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From a stat that followed no link."""
        moments = status.st_mtime_ns, status.st_ctime_ns
        return cls(status.st_dev, status.st_ino, status.st_mode, status.st_size, *moments)

    @property
    def is_link(self) -> bool:
        """Whether it leads to what has the bytes."""
        return stat.S_ISLNK(self.mode)


class Unsendable(NamedTuple):
    """Something in the run folder that cannot be uploaded, and why."""

    path: str
    reason: str


class Skipped(NamedTuple):
    """Something in the run folder that has no bytes of its own, so that none are lost without it."""

    path: str
    reason: str


class Listing(NamedTuple):
    """Everything in a run folder but its folders, each sorted by path. `ctimes_ns` go with the files."""

    files: tuple[LocalFile, ...]
    unsendable: tuple[Unsendable, ...]
    skipped: tuple[Skipped, ...] = ()
    ctimes_ns: tuple[int, ...] = ()


def open_run(folder: str | Path, *, need_run_info: bool = True) -> Run:
    """The run in a folder; raises RunError if it is none.

    Without `need_run_info` any folder will do, and what RunInfo.xml does not say stays empty.
    """
    path = Path(os.path.abspath(folder))  # not resolve(): the folder keeps the name the user gave it
    where = printable(str(path))
    if not _is_folder(path):
        raise RunError(f"no such folder: {where} (check its path)")
    if not path.name:
        raise RunError(f"{where} is no run folder")
    if not _is_utf8(path.name):
        raise RunError(f"the folder's name is not UTF-8, so S3 cannot hold it: {where} (rename it)")
    try:
        info = read_run_info(path / RUN_INFO)
    except RunError:
        if need_run_info:
            raise
        info = RunInfo("", "", "", "", ())
    return Run(path, path.name, info)


def _is_folder(path: Path) -> bool:
    """Raises RunError where that cannot be known."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL, which no path has
        return False
    except OSError as error:
        raise RunError(f"cannot read {printable(str(path))}: {error.strerror}") from error


def read_run_info(path: Path) -> RunInfo:
    """Parse a RunInfo.xml of any version; raises RunError."""
    run = parse_xml(path).find("Run")
    if run is None:
        raise RunError(f"{printable(str(path))} has no <Run> element: is it an Illumina run?")
    reads = run.iterfind("Reads/Read")
    cycles = tuple(int(n) for n in (read.get("NumCycles", "") for read in reads) if n.isdecimal() and len(n) < 10)
    return RunInfo(
        run_id=run.get("Id", ""),
        instrument=_text(run, "Instrument"),
        flowcell=_text(run, "Flowcell"),
        date=_text(run, "Date"),
        cycles=cycles,
    )


def read_instrument(path: Path) -> str:
    """The instrument's id alone, by the start of a RunInfo.xml, as the list of tiles below is long; raises RunError."""
    start = read_whole(path, _HEAD_BYTES)
    with contextlib.suppress(ET.ParseError, ValueError, LookupError):  # what is wrong the whole file says
        for _, element in ET.iterparse(io.BytesIO(start), ["end"]) if b"<!ENTITY" not in start else ():
            if element.tag == "Instrument" and (name := (element.text or "").strip()):
                return name
    return read_run_info(path).instrument


def read_run_parameters(folder: Path) -> RunParameters:
    """Parse the run's RunParameters.xml (runParameters.xml on older instruments) as far as it can be read."""
    root = run_parameters_xml(folder)
    if root is None:
        return RunParameters()

    def first(*names: str) -> str:
        texts = ((root.findtext(f".//{name}") or "").strip() for name in names)
        return next((text for text in texts if text), "")

    return RunParameters(
        experiment=first("ExperimentName"),
        side=first("Side"),
        flowcell_type=first("FlowCellType", "FlowCellMode", "FlowcellMode", "FlowCellName"),
        recipe=first("RecipeName"),
        software=first("SystemSuiteVersion", "ApplicationVersion", "MCSVersion"),
    )


def list_files(run: Run) -> Listing:
    """Every file of the run as it is now, and everything in it that cannot be sent; of a split run no analyses.

    A link to a file inside the run is that file. Links out of the run, names that are not UTF-8 and what
    may not be read are unsendable; pipes and the like, links to nothing and to folders of the run are
    skipped. All are told apart by name: nothing is left out without a word.
    """
    files: list[_Found] = []
    unsendable: list[Unsendable] = []
    skipped: list[Skipped] = []
    for found in _walk(run):
        if isinstance(found, _Found):
            files.append(found)
        elif isinstance(found, Skipped):
            skipped.append(found)
        else:
            unsendable.append(found)
    files.sort()
    ctimes_ns = tuple(found.ctime_ns for found in files)
    return Listing(tuple(f.file for f in files), tuple(sorted(unsendable)), tuple(sorted(skipped)), ctimes_ns)


def stat_again(run: Run, path: str) -> LocalFile | None:
    """The file as it is now, or None if it is gone or no file of the run any more."""
    absolute = os.path.join(run.path, path)
    try:
        status = os.stat(absolute)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not is_inside(os.path.realpath(absolute), os.path.realpath(run.root)):
        return None
    return LocalFile(path, status.st_size, status.st_mtime_ns)


def identity(run: Run, path: str) -> Identity | None:
    """Of a file of the run as it is now, of a link itself; None if it is gone."""
    try:
        return Identity.of(os.lstat(os.path.join(run.path, path)))
    except OSError:
        return None


def numbers_of(folder: Path) -> tuple[int, ...]:
    """Device and inode of a folder, and the device of the directory that holds it; empty if they cannot be seen."""
    try:
        here, above = os.stat(folder), os.stat(folder.parent)
    except OSError:
        return ()
    return here.st_dev, here.st_ino, above.st_dev


def stat_all(run: Run, paths: Iterable[str]) -> dict[str, LocalFile | None]:
    """What `stat_again` says of each path, for many files of few folders: each folder is looked at only once."""
    root = os.path.realpath(run.root)
    ours: dict[str, bool] = {"": True}
    found: dict[str, LocalFile | None] = {}
    for path in paths:
        folder = os.path.dirname(path)
        if folder not in ours:
            ours[folder] = is_inside(os.path.realpath(os.path.join(run.path, folder)), root)
        found[path] = _lstat_again(run, path) if ours[folder] else None
    return found


def _lstat_again(run: Run, path: str) -> LocalFile | None:
    """As `stat_again`, of a file whose folder is one of the run."""
    try:
        status = os.lstat(os.path.join(run.path, path))
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return stat_again(run, path)
    return LocalFile(path, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def is_inside(real: str, root: str) -> bool:
    """Whether a real path lies in the folder with the real path `root`."""
    return real.startswith(root.rstrip("/") + "/")


def last_change(listing: Listing, now: float | None = None) -> float:
    """When a file was changed last, by mtime and ctime, seconds since the epoch; 0 if there are none.

    By ctime, since a run that is copied right now may have the mtimes of long ago. Mtimes after `now` do not count: the
    clock of the instrument was wrong.
    """
    limit = (time.time() if now is None else now) * 1e9
    pairs = zip(listing.files, listing.ctimes_ns, strict=True)
    return max((max(c, f.mtime_ns if f.mtime_ns <= limit else 0) for f, c in pairs), default=0) / 1e9


def has_changed_since(run: Run, moment: float) -> bool:
    """Whether a file of the run was changed after that moment (seconds since the epoch); looks no further than it
    has to. By mtime and by ctime: a run that is copied right now may have the mtimes of long ago. Raises RunError
    if the run is gone.
    """
    moment_ns = moment * 1e9
    return any(isinstance(f, _Found) and max(f.file.mtime_ns, f.ctime_ns) > moment_ns for f in _walk(run))


def is_analysis(path: str) -> bool:
    """Whether a path in a run folder, such as `Analysis/2`, is that of an analysis."""
    return _ANALYSIS.fullmatch(path) is not None


def is_of_an_analysis(path: str) -> bool:
    """Whether a path in a run folder is that of a file of an analysis."""
    return is_analysis("/".join(path.split("/")[:2]))


class _Found(NamedTuple):
    file: LocalFile
    ctime_ns: int


def _walk(run: Run) -> Iterator[_Found | Unsendable | Skipped]:
    run_path, root = str(run.path), os.path.realpath(run.root)
    folders = [("", False)]
    while folders:
        folder, is_ours = folders.pop()
        try:
            with os.scandir(os.path.join(run_path, folder)) as scan:
                entries = list(scan)
            ours = own_files.find_own_names(entries)
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not (run.split and is_analysis(path)):
                        folders.append((path, is_ours or entry.name in ours))
                elif is_ours or entry.name in ours:
                    yield Skipped(path, own_files.REASON)
                elif found := _look_at(entry, path, root):
                    yield found
        except FileNotFoundError as error:
            if not folder:
                raise RunError(f"the run is gone: {printable(run_path)}") from error
            continue  # went away since its parent was read
        except OSError as error:
            unread = Unsendable(f"{folder}/", f"folder cannot be read: {error.strerror}")
            yield Skipped(f"{folder}/", own_files.REASON) if is_ours else unread


def _look_at(entry: os.DirEntry[str], path: str, root: str) -> _Found | Unsendable | Skipped | None:
    """One entry that is no folder; None if it went away meanwhile."""
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(entry.path)
            if real != root and not is_inside(real, root):
                return Unsendable(path, f"a link out of the run, to {printable(real)}")
            status = os.lstat(real)
            if not stat.S_ISREG(status.st_mode):
                return Skipped(path, "a link to something that is no file")
    except FileNotFoundError:
        return Skipped(path, "a link to nothing") if entry.is_symlink() else None
    except OSError as error:
        return Unsendable(path, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, f"no file but a {_kind(status.st_mode)}")
    if not _is_utf8(path):
        return Unsendable(path, "name is not UTF-8, which S3 cannot hold")
    if not os.access(entry.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return Unsendable(path, "cannot be read: Permission denied")
    return _Found(LocalFile(path, status.st_size, status.st_mtime_ns), status.st_ctime_ns)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block device"))
    return next((name for test, name in kinds if test(mode)), "character device")


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def run_parameters_xml(folder: Path) -> ET.Element | None:
    """RunParameters.xml (runParameters.xml on older instruments), None if it cannot be read."""
    roots = (optional_xml(folder / name) for name in ("RunParameters.xml", "runParameters.xml"))
    return next((root for root in roots if root is not None), None)


def optional_xml(path: Path) -> ET.Element | None:
    """The root of a small XML file; None if it is not there or cannot be read."""
    try:
        return parse_xml(path)
    except RunError:
        return None


def read_whole(path: Path, limit: int) -> bytes:
    """The bytes of a small file, one more than `limit` if it has more; never waits for a pipe in its place.

    Raises FileNotFoundError, RunError.
    """
    where = printable(str(path))
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise RunError(f"{where} is no file")
            return stream.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {where}: {error.strerror}") from error


def parse_xml(path: Path) -> ET.Element:
    """The root of a small XML file; raises RunError."""
    where = printable(str(path))
    try:
        content = read_whole(path, _MAX_XML_BYTES)
    except FileNotFoundError:
        folder = printable(str(path.parent))
        raise RunError(f"no {path.name} in {folder}: not a run folder (give the run's own folder)") from None
    if len(content) > _MAX_XML_BYTES or b"<!ENTITY" in content:
        raise RunError(f"{where} is not what an instrument writes: too large, or with entities")
    try:
        return ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise RunError(f"{where} is no valid XML: {printable(str(error))}") from error


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()
