"""Manifest.tsv of an analysis or a run: the CRC-32 that the instrument took of each file, to find copies gone wrong.

A line for each file, without a header: its path in the analysis, a tab, eight hex digits. It does not list itself,
nor CopyComplete.txt. What is read may be anything. That of a run may look different: nobody has described it, so what
is not understood there is a warning and never a stop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from s3sync.errors import RunError
from s3sync.runs import run_folder
from s3sync.runs.run_folder import Listing, Run, Unsendable
from s3sync.text import printable

MANIFEST = "Manifest.tsv"
_MAX_BYTES = 64 * 1024 * 1024  # a real one of 645 files has 60 kB
_LINE = re.compile(r"([^\t]+)\t([0-9A-Fa-f]{8})")
_CRC32 = re.compile(r"[0-9A-Fa-f]{8}")
_MISSING = f"{MANIFEST} names it, but it is not on this disk: the copy from the instrument is not whole; copy it again"

Checksums: TypeAlias = Mapping[str, int]  # CRC-32 by path in the analysis; empty: there is no manifest


class Named(NamedTuple):
    """What the manifest of a run names: the CRC-32 of each path, None where the checksum is of an unknown kind."""

    paths: Mapping[str, int | None]
    warning: str = ""  # what was not understood


def read_of_run(run: Run) -> Named:
    """The manifest in the root of a run; of an analysis, and where there is none, nothing. Never raises."""
    if run.within:
        return Named({})
    try:
        content = run_folder.read_whole(run.path / MANIFEST, _MAX_BYTES)
    except FileNotFoundError:
        return Named({})
    except RunError as error:
        return Named({}, f"{error}: it was not compared")
    if len(content) > _MAX_BYTES:
        return Named({}, f"{MANIFEST} is larger than {_MAX_BYTES:,} bytes: it was not compared")
    return parse_of_run(content, run.run_id)


def parse_of_run(content: bytes, run_id: str) -> Named:
    """The lines of the manifest of a run: path, tab, checksum."""
    found: dict[str, int | None] = {}
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
        fields = line.split("\t")
        path = fields[0].strip().replace("\\", "/").removeprefix("./").removeprefix(f"{run_id}/")
        if not line.strip() or path in (MANIFEST, "CopyComplete.txt"):
            continue
        if len(fields) < 2 or not {"", ".", ".."}.isdisjoint(path.split("/")):
            return Named({}, f"line {number} of {MANIFEST} is no path, tab and checksum: it was not compared")
        if number == 1 and path.isalpha():
            continue  # the name of a column
        checksum = fields[1].strip()
        found[path] = int(checksum, 16) if _CRC32.fullmatch(checksum) else None
    if None in found.values():
        known = dict.fromkeys(found)
        return Named(known, f"{MANIFEST} has checksums of an unknown kind: only the names in it were compared")
    return Named(found)


def read(unit: Run) -> Checksums:
    """What the manifest of an analysis says, or that of a run; where there is none, nothing. Raises RunError for that
    of an analysis that cannot be understood."""
    if not unit.within:
        return {path: crc32 for path, crc32 in read_of_run(unit).paths.items() if crc32 is not None}
    path = unit.path / MANIFEST
    try:
        content = run_folder.read_whole(path, _MAX_BYTES)
    except FileNotFoundError:
        return {}
    if len(content) > _MAX_BYTES:
        raise RunError(f"{printable(str(path))} is not what an instrument writes: larger than {_MAX_BYTES:,} bytes")
    try:
        return parse(content)
    except ValueError as error:
        raise RunError(f"cannot understand {printable(str(path))}: {error} (copy it again, or remove it)") from error


def parse(content: bytes) -> dict[str, int]:
    """The lines of a manifest; raises ValueError, which names the first that is none."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None
    found: dict[str, int] = {}
    for number, line in enumerate((line.removesuffix("\r") for line in lines), start=1):
        if not line:
            continue
        path, crc32 = _parse_line(line, number)
        if found.setdefault(path, crc32) != crc32:
            raise ValueError(f"line {number} has another CRC-32 of {printable(path)} than a line before")
    if not found:
        raise ValueError("it names no file")
    return found


def _parse_line(line: str, number: int) -> tuple[str, int]:
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError(f"line {number} is no path, tab and 8 hex digits")
    if not {"", ".", ".."}.isdisjoint(match[1].split("/")):
        raise ValueError(f"line {number} names what is no file of the analysis: {printable(match[1])}")
    return match[1], int(match[2], 16)


def damage(crc32: int, expected: int) -> str:
    """Why a file with this CRC-32 is not to be uploaded; empty if it is the expected one."""
    if crc32 == expected:
        return ""
    return (
        f"CRC-32 is {crc32:08x} on this disk, {MANIFEST} says {expected:08x}:"
        " the copy from the instrument is damaged; copy it again"
    )


def list_files(unit: Run) -> tuple[Listing, Checksums]:
    """As `runfolder.list_files`, and the manifest; what that names and is not there cannot be sent. Raises RunError."""
    listing = run_folder.list_files(unit)
    expected = read(unit)  # after it: a manifest that is listed has been read
    if not unit.within:
        return listing, expected  # that a run lacks files is found when its completeness is checked
    missing = expected.keys() - {file.path for file in listing.files} - {item.path for item in listing.unsendable}
    if missing:
        lost = (Unsendable(path, _MISSING) for path in missing)
        listing = listing._replace(unsendable=tuple(sorted((*listing.unsendable, *lost))))
    return listing, expected
