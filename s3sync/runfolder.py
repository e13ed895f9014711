"""A run folder on disk: what RunInfo.xml says of it, whether its copy is complete, and the files in it.

Which instruments write which marker: Illumina's support pages on data output; see docs/CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import stat
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync.errors import RunError
from s3sync.text import human_seconds, printable

RUN_INFO = "RunInfo.xml"
QUIET_SECONDS = 3600  # an unknown instrument's run must not have changed for so long
_MAX_XML_BYTES = 16 * 1024 * 1024  # real ones have up to 160 kB

_COPY_COMPLETE = re.compile(r"copycomplete\.txt", re.IGNORECASE)
_RTA_COMPLETE = re.compile(r"rtacomplete\.(txt|xml)", re.IGNORECASE)


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
    """A folder that holds RunInfo.xml. `path` is absolute, `run_id` the folder's own name."""

    path: Path
    run_id: str
    info: RunInfo


class LocalFile(NamedTuple):
    """A file as one stat saw it. `path` is relative to the run folder, with `/`."""

    path: str
    size: int  # bytes
    mtime_ns: int


class Unsendable(NamedTuple):
    """Something in the run folder that cannot be uploaded, and why."""

    path: str
    reason: str


class Listing(NamedTuple):
    """Everything in a run folder but its folders, each sorted by path."""

    files: tuple[LocalFile, ...]
    unsendable: tuple[Unsendable, ...]


class Completion(NamedTuple):
    """Whether the instrument has finished and copied the run, and how that is known or what is waited for.

    `settling`: nothing but a quiet time is waited for.
    """

    complete: bool
    reason: str
    settling: bool = False


class Family(NamedTuple):
    """Instruments that finish alike: by the pattern of their ids, whether CopyComplete.txt comes last.

    `since` names the RunParameters.xml element that holds the control software's version where only
    version 4 and later write CopyComplete.txt.
    """

    name: str
    instrument_id: re.Pattern[str]
    copy_complete: bool
    since: str = ""


FAMILIES = (
    Family("HiSeq", re.compile(r"(HWI-)?(D|SN|7001|J|K|E|ST-E)\d+[A-Z]?"), copy_complete=False),
    Family("MiSeq", re.compile(r"M\d+"), copy_complete=True, since="MCSVersion"),
    Family("MiSeq i100", re.compile(r"SH\d+"), copy_complete=True),
    Family("MiniSeq", re.compile(r"MN\d+"), copy_complete=True),
    Family("iSeq 100", re.compile(r"FS\d+"), copy_complete=True),
    Family("NextSeq 500/550", re.compile(r"N[BS]\d+"), copy_complete=True, since="ApplicationVersion"),
    Family("NextSeq 1000/2000", re.compile(r"V[HL]\d+"), copy_complete=True),
    Family("NovaSeq 6000", re.compile(r"A\d+"), copy_complete=True),
    Family("NovaSeq X", re.compile(r"LH\d+"), copy_complete=True),
)


def family_of(instrument: str) -> Family | None:
    """The family that an instrument id belongs to, if it is a known one."""
    return next((f for f in FAMILIES if f.instrument_id.fullmatch(instrument)), None)


def open_run(folder: str | Path, *, need_run_info: bool = True) -> Run:
    """The run in a folder; raises RunError if it is none.

    Without `need_run_info` any folder will do, and what RunInfo.xml does not say stays empty.
    """
    path = Path(os.path.abspath(folder))  # not resolve(): the folder keeps the name the user gave it
    where = printable(str(path))
    if not os.path.isdir(path):
        raise RunError(f"no such folder: {where} (check --local_path)")
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


def read_run_info(path: Path) -> RunInfo:
    """Parse a RunInfo.xml of any version; raises RunError."""
    run = _parse_xml(path).find("Run")
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


def read_run_parameters(folder: Path) -> RunParameters:
    """Parse the run's RunParameters.xml (runParameters.xml on older instruments) as far as it can be read."""
    root = _run_parameters(folder)
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


def judge_completion(
    run: Run, newest_change: Callable[[], float], quiet_seconds: float = QUIET_SECONDS, now: float | None = None
) -> Completion:
    """Whether the run is complete, by the marker its instrument writes last.

    `newest_change` gives the latest mtime in the folder (seconds since the epoch); it is asked only for
    unknown instruments, whose RTAComplete may come before the end of the copy.
    """
    names = _root_names(run.path)
    if copied := _first_match(_COPY_COMPLETE, names):
        return Completion(complete=True, reason=f"{copied} is there")
    basecalled = _first_match(_RTA_COMPLETE, names)
    writes_copy_complete = _writes_copy_complete(run)
    family = family_of(run.info.instrument)
    what = f"{family.name} {run.info.instrument}" if family else f"instrument {run.info.instrument or 'unknown'}"
    if writes_copy_complete:
        return Completion(complete=False, reason=f"waits for CopyComplete.txt, which {what} writes last")
    if not basecalled:
        return Completion(complete=False, reason=f"waits for RTAComplete ({what})")
    if writes_copy_complete is False:
        return Completion(complete=True, reason=f"{basecalled} is there")
    quiet = max(0.0, (time.time() if now is None else now) - newest_change())
    if quiet < quiet_seconds:
        rest = human_seconds(quiet_seconds - quiet)
        reason = f"{what}: {basecalled} is there; must stay unchanged for {rest} more"
        return Completion(complete=False, reason=reason, settling=True)
    return Completion(complete=True, reason=f"{basecalled} is there and nothing changed for {human_seconds(quiet)}")


def list_files(run: Run) -> Listing:
    """Every file of the run as it is now, and everything in it that cannot be sent.

    A link to a file inside the run is that file; other links, special files, names that are not UTF-8
    and what may not be read are told apart by name: nothing is left out without a word.
    """
    files: list[LocalFile] = []
    unsendable: list[Unsendable] = []
    root = os.path.realpath(run.path)
    for found in _walk(str(run.path), root):
        if isinstance(found, LocalFile):
            files.append(found)
        else:
            unsendable.append(found)
    return Listing(tuple(sorted(files)), tuple(sorted(unsendable)))


def stat_again(run: Run, path: str) -> LocalFile | None:
    """The file as it is now, or None if it is gone or no file of the run any more."""
    absolute = os.path.join(run.path, path)
    try:
        status = os.stat(absolute)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode) or not is_inside(os.path.realpath(absolute), os.path.realpath(run.path)):
        return None
    return LocalFile(path, status.st_size, status.st_mtime_ns)


def is_inside(real: str, root: str) -> bool:
    """Whether a real path lies in the folder with the real path `root`."""
    return real.startswith(root.rstrip("/") + "/")


def newest_change(listing: Listing) -> float:
    """The latest mtime of the files, seconds since the epoch; 0 if there are none."""
    return max((file.mtime_ns for file in listing.files), default=0) / 1e9


def _walk(run_path: str, root: str) -> Iterator[LocalFile | Unsendable]:
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(run_path, folder)) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                    elif found := _look_at(entry, path, root):
                        yield found
        except FileNotFoundError as error:
            if not folder:
                raise RunError(f"the run is gone: {printable(run_path)}") from error
            continue  # went away since its parent was read
        except OSError as error:
            yield Unsendable(f"{folder}/", f"folder cannot be read: {error.strerror}")


def _look_at(entry: os.DirEntry[str], path: str, root: str) -> LocalFile | Unsendable | None:
    """One entry that is no folder; None if it went away meanwhile."""
    try:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            real = os.path.realpath(entry.path)
            if not is_inside(real, root):
                return Unsendable(path, f"a link out of the run, to {printable(real)}")
            status = os.lstat(real)
            if not stat.S_ISREG(status.st_mode):
                return Unsendable(path, "a link to something that is no file")
    except FileNotFoundError:
        return Unsendable(path, "a link to nothing") if entry.is_symlink() else None
    except OSError as error:
        return Unsendable(path, f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Unsendable(path, f"no file but a {_kind(status.st_mode)}")
    if not _is_utf8(path):
        return Unsendable(path, "name is not UTF-8, which S3 cannot hold")
    if not os.access(entry.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return Unsendable(path, "cannot be read: Permission denied")
    return LocalFile(path, status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISBLK, "block device"))
    return next((name for test, name in kinds if test(mode)), "character device")


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _writes_copy_complete(run: Run) -> bool | None:
    """Whether this run's instrument writes CopyComplete.txt; None if that cannot be known."""
    family = family_of(run.info.instrument)
    if family is None or not family.since:
        return family.copy_complete if family else None
    version = _control_software_version(run.path, family.since)
    return None if version is None else version >= 4


def _control_software_version(folder: Path, element: str) -> int | None:
    """The major version in RunParameters.xml."""
    root = _run_parameters(folder)
    found = root.findtext(f".//{element}") if root is not None else None
    major = (found or "").strip().split(".")[0]
    return int(major) if major.isdecimal() and len(major) < 10 else None


def _run_parameters(folder: Path) -> ET.Element | None:
    for name in ("RunParameters.xml", "runParameters.xml"):
        try:
            return _parse_xml(folder / name)
        except RunError:
            continue
    return None


def _parse_xml(path: Path) -> ET.Element:
    where = printable(str(path))
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise RunError(f"{where} is no file")
            content = stream.read(_MAX_XML_BYTES + 1)
    except FileNotFoundError:
        raise RunError(f"no {path.name} in {printable(str(path.parent))}: not a run folder") from None
    except OSError as error:
        raise RunError(f"cannot read {where}: {error.strerror}") from error
    if len(content) > _MAX_XML_BYTES or b"<!ENTITY" in content:
        raise RunError(f"{where} is not what an instrument writes: too large, or with entities")
    try:
        return ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise RunError(f"{where} is no valid XML: {error}") from error


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _root_names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise RunError(f"cannot read {printable(str(folder))}: {error.strerror}") from error


def _first_match(pattern: re.Pattern[str], names: list[str]) -> str | None:
    return next((name for name in names if pattern.fullmatch(name)), None)
