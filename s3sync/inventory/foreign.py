"""Folders in a monitored directory that are no Illumina runs: file systems', desktops' and other vendors'."""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
import time
from typing import NamedTuple

from s3sync.runs import run_folder

_MOST_NAMES = 1000  # of a folder that is looked into
_SETTLED_SECONDS = 3600  # a folder that changed since may be a run that is being copied

# What file systems, file servers, desktops and backup programs put into a folder; in lower case.
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
        "found.000",
        "config.msi",
        "msocache",
        "network trash folder",  # Apple
        "temporary items",
        "thevolumesettingsfolder",
        "__macosx",
        "desktop db",
        "desktop df",
    )
)
_SNAPSHOT = re.compile(r"@GMT-[0-9.-]+", re.IGNORECASE)  # Samba's shadow copies


class Vendor(NamedTuple):
    """Whose runs have a file, or a folder, with a name like one of these patterns (in lower case)."""

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
_MGI_LANE = re.compile(r"L0[1-4]")  # MGI's files lie in a folder for each lane


def is_of_the_system(name: str) -> bool:
    """Whether a folder with this name is none that a person, or an instrument, put there."""
    return name.lower() in _OF_THE_SYSTEM or _SNAPSHOT.fullmatch(name) is not None


def is_hidden(name: str) -> bool:
    """Whether tools put such a folder aside: trash, snapshots, metadata, what is being copied."""
    return name.startswith(".")


def names_in(folder: str) -> list[str]:
    """The first names in a folder, sorted; none if it is no folder, or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, _MOST_NAMES))
    except OSError:
        return []


def what_is(folder: str, now: float | None = None) -> str:
    """What a folder without RunInfo.xml seems to be, as the end of a sentence about it; empty if nothing special."""
    names = names_in(folder)
    lanes = [name for name in names if _MGI_LANE.fullmatch(name)]
    inside = [name for lane in lanes for name in names_in(os.path.join(folder, lane))]
    if vendor := _vendor_of([*names, *inside]):
        return (
            f"looks like {vendor} run: it is left alone, since only Illumina runs are recognized"
            " (`s3sync upload --skip_check` uploads any folder)"
        )
    other = next(
        (name for name in names if name.lower() == run_folder.RUN_INFO.lower() and name != run_folder.RUN_INFO), ""
    )
    if other:
        return f"has {other}, which is not {run_folder.RUN_INFO}, so it is not taken for a run (rename that file)"
    if any(name.lower() in _ILLUMINA for name in names) and _is_settled(folder, now):
        reason = f"looks like an Illumina run without {run_folder.RUN_INFO}"
        return f"{reason}, so it is not taken for one (copy that file again)"
    return ""


def _vendor_of(names: list[str]) -> str:
    lower = [name.lower() for name in names]
    return next((v.name for v in VENDORS if any(fnmatch.filter(lower, pattern) for pattern in v.patterns)), "")


def _is_settled(folder: str, now: float | None) -> bool:
    try:
        changed = os.stat(folder).st_mtime
    except OSError:
        return False
    return (time.time() if now is None else now) - changed > _SETTLED_SECONDS
