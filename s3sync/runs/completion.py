"""Whether an instrument has finished a run and copied it: by the marker that it writes last.

Which instruments write which marker: Illumina's support pages on data output; see docs/CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from s3sync.errors import RunError
from s3sync.runs.run_folder import Run, run_parameters_xml
from s3sync.text import human_seconds, printable

QUIET_SECONDS = 3600  # an unknown instrument's run must not have changed for so long

_SHOWN_CHARS = 100  # of an instrument's id, which the file may spell as it likes
_COPY_COMPLETE = re.compile(r"copycomplete\.txt", re.IGNORECASE)
_RTA_COMPLETE = re.compile(r"rtacomplete\.(txt|xml)", re.IGNORECASE)


class Completion(NamedTuple):
    """Whether the instrument has finished and copied the run, and how that is known or what is waited for.

    `settling`: nothing but a quiet time is waited for. `awaits_last`: base calling is done, and only CopyComplete.txt,
    which may never come, is waited for.
    """

    complete: bool
    reason: str
    settling: bool = False
    awaits_last: bool = False


class Family(NamedTuple):
    """Instruments that finish alike: by the pattern of their ids, whether CopyComplete.txt comes last.

    `since` names the RunParameters.xml element that holds the control software's version where only
    version 4 and later write CopyComplete.txt. `analysis`: they may go on and analyse the run that they have copied.
    `software` is found in what RunParameters.xml calls the instrument or its control software, lower case without
    spaces: that identifies instruments whose ids follow no pattern, such as pre-production ones.
    """

    name: str
    instrument_id: re.Pattern[str]
    copy_complete: bool
    since: str = ""
    analysis: bool = False
    software: re.Pattern[str] = re.compile(r"(?!)")


FAMILIES = (
    Family(
        "HiSeq",
        re.compile(r"(HWI-)?(D|SN|7001|J|K|E|ST-E)\d+[A-Z]?"),
        copy_complete=False,
        software=re.compile(r"hiseq"),
    ),
    Family(
        "MiSeq",
        re.compile(r"M\d+"),
        copy_complete=True,
        since="MCSVersion",
        software=re.compile(r"miseq(?!i100)"),
    ),
    Family(
        "MiSeq i100",
        re.compile(r"SH\d+"),
        copy_complete=True,
        analysis=True,
        software=re.compile(r"miseqi100"),
    ),
    Family("MiniSeq", re.compile(r"MN\d+"), copy_complete=True, software=re.compile(r"miniseq")),
    Family("iSeq 100", re.compile(r"FS\d+"), copy_complete=True, software=re.compile(r"(?<!m)iseq(?!i)")),
    Family(
        "NextSeq 500/550",
        re.compile(r"N([BS]|DX)\d+"),
        copy_complete=True,
        since="ApplicationVersion",
        software=re.compile(r"nextseq(?!1000|2000)"),
    ),
    Family(
        "NextSeq 1000/2000",
        re.compile(r"V[HL]\d+"),
        copy_complete=True,
        analysis=True,
        software=re.compile(r"nextseq(1000|2000)"),
    ),
    Family("NovaSeq 6000", re.compile(r"A\d+"), copy_complete=True, software=re.compile(r"novaseq(?!x)")),
    Family(
        "NovaSeq X",
        re.compile(r"LH\d+"),
        copy_complete=True,
        analysis=True,
        software=re.compile(r"novaseqx"),
    ),
)
_SUFFIX = re.compile(r"[_-](RUO|DX|IVD)", re.IGNORECASE)  # the mode that an instrument with two of them runs in
_NAMES_OF_THE_INSTRUMENT = ("InstrumentType", "ApplicationName", "Application")  # elements of RunParameters.xml


def family_of(instrument: str) -> Family | None:
    """The family that an instrument id belongs to, if it is a known one; `NDX550123_RUO` is of that of NDX550123."""
    match = _SUFFIX.search(instrument)
    bare = instrument[: match.start()] if match and match.end() == len(instrument) else instrument
    return next((f for f in FAMILIES if f.instrument_id.fullmatch(bare)), None)


def family_of_run(folder: Path, instrument: str) -> Family | None:
    """The family that made the run: by the id of its instrument or, if that is unknown, by RunParameters.xml."""
    if family := family_of(instrument):
        return family
    root = run_parameters_xml(folder)
    if root is None:
        return None
    texts = ["".join((root.findtext(f".//{name}") or "").lower().split()) for name in _NAMES_OF_THE_INSTRUMENT]
    return next((f for text in texts for f in FAMILIES if f.software.search(text)), None)


def with_family(instrument: str) -> str:
    """`NovaSeq X LH00130`, printable; the id alone where its family is not known."""
    family = family_of(instrument)
    return printable(f"{family.name} {instrument}" if family else instrument)


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
    family = family_of_run(run.path, run.info.instrument)
    writes_copy_complete = _writes_copy_complete(run, family)
    instrument = printable(run.info.instrument[:_SHOWN_CHARS])
    what = f"{family.name} {instrument}" if family else f"instrument {instrument or 'unknown'}"
    if writes_copy_complete:
        reason = f"waits for CopyComplete.txt, which {what} writes last"
        return Completion(complete=False, reason=reason, awaits_last=basecalled is not None)
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


def finished_at(run: Run) -> float | None:
    """When the instrument finished the run, in seconds since the epoch: the newest of its completion markers.

    None if there is none, or the folder cannot be read. Of mtime and ctime the earlier counts: copying tools may set
    the mtime to any moment, and the ctime is later wherever a marker was touched, renamed or given to somebody else.
    """
    return max((min(status.st_mtime, status.st_ctime) for status in _markers(run.path)), default=None)


def arrived_at(run: Run) -> float | None:
    """When the newest completion marker came to this disk, in seconds since the epoch; None if there is none."""
    return max((status.st_ctime for status in _markers(run.path)), default=None)


def _markers(folder: Path) -> list[os.stat_result]:
    """The completion markers in a run folder; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            markers = [e for e in entries if _COPY_COMPLETE.fullmatch(e.name) or _RTA_COMPLETE.fullmatch(e.name)]
            return [marker.stat() for marker in markers]
    except OSError:
        return []


def _writes_copy_complete(run: Run, family: Family | None) -> bool | None:
    """Whether this run's instrument writes CopyComplete.txt; None if that cannot be known."""
    if family is None or not family.since:
        return family.copy_complete if family else None
    version = _control_software_version(run.path, family.since)
    return None if version is None else version >= 4


def _control_software_version(folder: Path, element: str) -> int | None:
    """The major version in RunParameters.xml."""
    root = run_parameters_xml(folder)
    found = root.findtext(f".//{element}") if root is not None else None
    major = (found or "").strip().split(".")[0]
    return int(major) if major.isdecimal() and len(major) < 10 else None


def _root_names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise RunError(f"cannot read {printable(str(folder))}: {error.strerror}") from error


def _first_match(pattern: re.Pattern[str], names: list[str]) -> str | None:
    return next((name for name in names if pattern.fullmatch(name)), None)
