"""Check by its completion marker whether an instrument has finished a run and copied it.

Which instruments write which marker is from Illumina's support pages on data output; see docs/CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3sync.runs.run_folder import Run, parse_run_parameters, unreadable
from s3sync.text import human_seconds, printable

QUIET_SECONDS = 3600  # how long the run of an unknown instrument must stay unchanged

_MAX_ID_CHARS = 100  # shown of an instrument's id in messages, because the file may contain anything
_COPY_COMPLETE = re.compile(r"copycomplete\.txt", re.IGNORECASE)
_RTA_COMPLETE = re.compile(r"rtacomplete\.(txt|xml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Whether the instrument has finished and copied the run, and why, or what it waits for."""

    is_complete: bool
    reason: str
    is_settling: bool = False  # waits only for the run to stay unchanged
    awaits_copy_complete: bool = False  # base calling is done, but CopyComplete.txt is missing, which may never come


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentFamily:
    """Instruments that finish a run in the same way."""

    name: str
    id_pattern: re.Pattern[str]
    writes_copy_complete: bool  # writes CopyComplete.txt as the last file of a run
    version_element: str = ""  # in RunParameters.xml, if only control software 4 and later writes CopyComplete.txt
    makes_analyses: bool = False  # after it has copied a run
    # In the name of the instrument or its control software in RunParameters.xml, in lower case without spaces. It
    # identifies instruments whose ids follow no pattern, such as pre-production ones.
    software_pattern: re.Pattern[str] = re.compile(r"(?!)")


FAMILIES = (
    InstrumentFamily(
        name="HiSeq",
        id_pattern=re.compile(r"(HWI-)?(D|SN|7001|J|K|E|ST-E)\d+[A-Z]?"),
        writes_copy_complete=False,
        software_pattern=re.compile(r"hiseq"),
    ),
    InstrumentFamily(
        name="MiSeq",
        id_pattern=re.compile(r"M\d+"),
        writes_copy_complete=True,
        version_element="MCSVersion",
        software_pattern=re.compile(r"miseq(?!i100)"),
    ),
    InstrumentFamily(
        name="MiSeq i100",
        id_pattern=re.compile(r"SH\d+"),
        writes_copy_complete=True,
        makes_analyses=True,
        software_pattern=re.compile(r"miseqi100"),
    ),
    InstrumentFamily(
        name="MiniSeq",
        id_pattern=re.compile(r"MN\d+"),
        writes_copy_complete=True,
        software_pattern=re.compile(r"miniseq"),
    ),
    InstrumentFamily(
        name="iSeq 100",
        id_pattern=re.compile(r"FS\d+"),
        writes_copy_complete=True,
        software_pattern=re.compile(r"(?<!m)iseq(?!i)"),
    ),
    InstrumentFamily(
        name="NextSeq 500/550",
        id_pattern=re.compile(r"N([BS]|DX)\d+"),
        writes_copy_complete=True,
        version_element="ApplicationVersion",
        software_pattern=re.compile(r"nextseq(?!1000|2000)"),
    ),
    InstrumentFamily(
        name="NextSeq 1000/2000",
        id_pattern=re.compile(r"V[HL]\d+"),
        writes_copy_complete=True,
        makes_analyses=True,
        software_pattern=re.compile(r"nextseq(1000|2000)"),
    ),
    InstrumentFamily(
        name="NovaSeq 6000",
        id_pattern=re.compile(r"A\d+"),
        writes_copy_complete=True,
        software_pattern=re.compile(r"novaseq(?!x)"),
    ),
    InstrumentFamily(
        name="NovaSeq X",
        id_pattern=re.compile(r"LH\d+"),
        writes_copy_complete=True,
        makes_analyses=True,
        software_pattern=re.compile(r"novaseqx"),
    ),
)
_MODE_SUFFIX = re.compile(r"[_-](RUO|DX|IVD)", re.IGNORECASE)  # the mode of an instrument that has several
_NAME_ELEMENTS = ("InstrumentType", "ApplicationName", "Application")  # elements of RunParameters.xml


def find_family(instrument: str) -> InstrumentFamily | None:
    """Return the family of an instrument id; None if it is unknown. `NDX550123_RUO` counts as NDX550123."""
    suffix = _MODE_SUFFIX.search(instrument)
    bare_id = instrument[: suffix.start()] if suffix and suffix.end() == len(instrument) else instrument
    return next((family for family in FAMILIES if family.id_pattern.fullmatch(bare_id)), None)


def find_family_of_run(folder: Path, instrument: str) -> InstrumentFamily | None:
    """Return the family of the run's instrument, by its id or, if that is unknown, by RunParameters.xml."""
    if family := find_family(instrument):
        return family
    root = parse_run_parameters(folder)
    if root is None:
        return None
    texts = ["".join((root.findtext(f".//{name}") or "").lower().split()) for name in _NAME_ELEMENTS]
    return next((family for text in texts for family in FAMILIES if family.software_pattern.search(text)), None)


def instrument_label(instrument: str) -> str:
    """Return `NovaSeq X LH00130`, printable; only the id if its family is unknown."""
    family = find_family(instrument)
    return printable(f"{family.name} {instrument}" if family else instrument)


def check_completion(
    run: Run, newest_change: Callable[[], float], quiet_seconds: float = QUIET_SECONDS, now: float | None = None
) -> Completion:
    """Return whether the run is complete, by the marker that its instrument writes last. Raises RunError.

    `newest_change` returns the latest change in the folder (seconds since the epoch). It is called only for unknown
    instruments, whose RTAComplete may precede the end of the copy.
    """
    names = _root_names(run.path)
    if copy_complete := _first_match(_COPY_COMPLETE, names):
        return Completion(is_complete=True, reason=f"{copy_complete} exists")
    rta_complete = _first_match(_RTA_COMPLETE, names)
    family = find_family_of_run(run.path, run.info.instrument)
    writes_copy_complete = _writes_copy_complete(run, family)
    instrument = printable(run.info.instrument[:_MAX_ID_CHARS])
    label = f"{family.name} {instrument}" if family else f"instrument {instrument or 'unknown'}"
    if writes_copy_complete:
        reason = f"waits for CopyComplete.txt, which {label} writes last"
        return Completion(is_complete=False, reason=reason, awaits_copy_complete=rta_complete is not None)
    if not rta_complete:
        return Completion(is_complete=False, reason=f"waits for RTAComplete ({label})")
    if writes_copy_complete is False:
        return Completion(is_complete=True, reason=f"{rta_complete} exists")
    quiet = max(0.0, (time.time() if now is None else now) - newest_change())
    if quiet < quiet_seconds:
        remaining = human_seconds(quiet_seconds - quiet)
        reason = f"{label}: {rta_complete} exists; must stay unchanged for {remaining} more"
        return Completion(is_complete=False, reason=reason, is_settling=True)
    reason = f"{rta_complete} exists and nothing changed for {human_seconds(quiet)}"
    return Completion(is_complete=True, reason=reason)


def finished_at(run: Run) -> float | None:
    """Return when the newest completion marker was written, in seconds since the epoch: the instrument had finished
    then.

    None without a marker, or if the folder cannot be read. The earlier of mtime and ctime counts: copy tools may set
    any mtime, and touching, renaming or chown updates the ctime.
    """
    return max((min(status.st_mtime, status.st_ctime) for status in _stat_markers(run.path)), default=None)


def arrived_at(run: Run) -> float | None:
    """Return when the newest completion marker came to this disk, in seconds since the epoch; None without a marker."""
    return max((status.st_ctime for status in _stat_markers(run.path)), default=None)


def _stat_markers(folder: Path) -> list[os.stat_result]:
    """Stat the completion markers in a run folder; return none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            markers = [e for e in entries if _COPY_COMPLETE.fullmatch(e.name) or _RTA_COMPLETE.fullmatch(e.name)]
            return [marker.stat() for marker in markers]
    except OSError:
        return []


def _writes_copy_complete(run: Run, family: InstrumentFamily | None) -> bool | None:
    """Return whether the instrument of the run writes CopyComplete.txt; None if that cannot be known."""
    if family is None or not family.version_element:
        return family.writes_copy_complete if family else None
    version = _control_software_version(run.path, family.version_element)
    return None if version is None else version >= 4


def _control_software_version(folder: Path, element: str) -> int | None:
    """Return the major version in RunParameters.xml; None if there is none."""
    root = parse_run_parameters(folder)
    found = root.findtext(f".//{element}") if root is not None else None
    major = (found or "").strip().split(".")[0]
    return int(major) if major.isdecimal() and len(major) < 10 else None


def _root_names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error


def _first_match(pattern: re.Pattern[str], names: list[str]) -> str | None:
    return next((name for name in names if pattern.fullmatch(name)), None)
