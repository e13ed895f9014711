"""Recognize folders that are not Illumina runs: they belong to file systems, desktops and other vendors."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import time
from typing import NamedTuple

from s3sync.inventory.problems import Problem
from s3sync.runs import run_folder
from s3sync.text import printable

_RUN_INFO = run_folder.RUN_INFO
_MAX_NAMES = 1000  # names to read from one folder
_SETTLED_SECONDS = 3600  # a folder that has changed more recently may be a run that is still being copied

# Folders that file systems, file servers, desktops and backup programs create; in lower case.
_OF_THE_SYSTEM = frozenset(
    (
        "lost+found",
        "@eadir",  # Synology
        "@tmp",
        "@sharebin",
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@recyclebin",
        "~snapshot",  # NetApp, to Windows
        "$recycle.bin",
        "$extend",
        "recycler",
        "recycled",
        "recycle bin",
        "system volume information",
        "config.msi",
        "msocache",
        "network trash folder",  # Apple
        "temporary items",
        "thevolumesettingsfolder",
        "thefindbycontentfolder",
        "__macosx",
        "desktop db",
        "desktop df",
    )
)
_NUMBERED = re.compile(r"@GMT-[0-9.-]+|found\.[0-9]{3}", re.IGNORECASE)  # Samba's shadow copies, chkdsk
_RESERVED = (".", "@", "#", "$", "~")  # Unix hides names that start so, NAS and Windows reserve them for themselves


class Vendor(NamedTuple):
    """A vendor, and patterns (in lower case) for names of files and folders that only its runs have."""

    name: str
    patterns: tuple[str, ...]


VENDORS = (
    Vendor("an Element AVITI", ("runmanifest.json", "runuploaded.json", "runparameters.json", "aviti*.json")),
    Vendor("an Oxford Nanopore", ("final_summary_*.txt", "sequencing_summary_*.txt", "fast5_pass", "pod5*", "*.pod5")),
    Vendor("a PacBio", ("*.subreadset.xml", "*.consensusreadset.xml", "*.subreads.bam", "*.hifi_reads*.bam")),
    Vendor("a PacBio", ("[0-9]_[a-h][0-9][0-9]",)),
    Vendor("an MGI or Complete Genomics", ("bioinfo.csv", "sequencestat.txt", "barcodestat.txt")),
    Vendor("an Ion Torrent", ("explog.txt", "explog_final.txt", "acq_[0-9]*.dat", "ion_params*.json")),
    Vendor("an Ultima Genomics", ("*_libraryinfo.xml", "uploadcompleted.json")),
)
_ILLUMINA = ("rtacomplete.txt", "rtacomplete.xml", "copycomplete.txt", "sequencecomplete.txt")
_MGI_LANE = re.compile(r"L0[1-4]")  # MGI has a folder for each lane


def is_of_the_system(name: str) -> bool:
    """Return whether file systems, desktops or backup programs create folders with this name."""
    return name.lower() in _OF_THE_SYSTEM or _NUMBERED.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Return whether a folder with this name is hidden or reserved: trash, a snapshot, or an unfinished copy."""
    return name.startswith(_RESERVED)


def names_in(folder: str) -> list[str]:
    """Return up to 1,000 names in a folder, sorted; none if it is not a folder or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, _MAX_NAMES))
    except OSError:
        return []


def note_on(folder: str, now: float | None = None) -> Problem | None:
    """Return a note on a folder without RunInfo.xml that looks like a run; None if it does not.

    `now` is in seconds since the epoch.
    """
    names = names_in(folder)
    lanes = [name for name in names if _MGI_LANE.fullmatch(name)]
    in_lanes = [name for lane in lanes for name in names_in(os.path.join(folder, lane))]
    key = printable(folder)
    if vendor := _vendor_of([*names, *in_lanes]):
        advice = "`s3sync upload --skip-check` uploads any folder"
        text = f"looks like {vendor} run: only Illumina runs are uploaded automatically ({advice})"
        return Problem(key, text, id="run.other-vendor")
    if misspelt := next((name for name in names if name.lower() == _RUN_INFO.lower() and name != _RUN_INFO), ""):
        text = f"has {printable(misspelt)} instead of {_RUN_INFO}, so it is not recognized as a run (rename that file)"
        return Problem(key, text, id="run.run-info-misspelt")
    if any(name.lower() in _ILLUMINA for name in names) and _is_settled(folder, now):
        text = f"looks like an Illumina run without {_RUN_INFO}, so it is not recognized (copy that file again)"
        return Problem(key, text, id="run.run-info-missing")
    return None


def _vendor_of(names: list[str]) -> str:
    lower = [name.lower() for name in names]
    return next((v.name for v in VENDORS if any(fnmatch.filter(lower, pattern) for pattern in v.patterns)), "")


def _is_settled(folder: str, now: float | None) -> bool:
    try:
        changed = os.stat(folder).st_mtime
    except OSError:
        return False
    return (time.time() if now is None else now) - changed > _SETTLED_SECONDS
