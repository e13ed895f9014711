"""Read the CRC-32s that an instrument lists in Manifest.tsv, to find copies that went wrong.

The file has one line per file and no header: its path in the analysis, a tab, and eight hex digits. It lists neither
itself nor CopyComplete.txt. An external file may contain anything. The Manifest.tsv of a run is undocumented, so there,
unlike in an analysis, an unknown format is a warning and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from s3sync import files
from s3sync.errors import Notice, RunError
from s3sync.runs import local_files
from s3sync.runs.local_files import Listing, LocalFile, RejectedEntry
from s3sync.runs.run_folder import Run, unreadable
from s3sync.text import printable

MANIFEST_TSV = "Manifest.tsv"
_MAX_BYTES = 64 * 1024 * 1024  # a real one of 645 files has 60 kB
_LINE = re.compile(r"([^\t]+)\t([0-9A-Fa-f]{8})")
_CRC32 = re.compile(r"[0-9A-Fa-f]{8}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_TITLE = re.compile(r"[^./]+")  # the title of a column: files have a folder or a suffix
_MISSING = f"{MANIFEST_TSV} lists it, but it is missing: the copy from the instrument is incomplete; copy it again"

Checksums: TypeAlias = Mapping[str, int]  # CRC-32 by path in the analysis; empty without a manifest


class RunManifest(NamedTuple):
    """The CRC-32 of each path in the manifest of a run, None for checksums of an unknown kind."""

    checksums: Mapping[str, int | None]
    warnings: tuple[Notice, ...] = ()  # warnings about lines that were not understood


def read_run_manifest(run: Run) -> RunManifest:
    """Return the manifest in the root of a run; an empty one for an analysis, and without a manifest. Never raises."""
    if run.parent_run:
        return RunManifest({})
    path = run.path / MANIFEST_TSV
    try:
        content = files.read_limited(path, _MAX_BYTES)
    except FileNotFoundError:
        return RunManifest({})
    except OSError as error:
        return _not_compared(f"cannot read {printable(str(path))}: {error.strerror}")
    if len(content) > _MAX_BYTES:
        return _not_compared(f"{MANIFEST_TSV} is larger than {_MAX_BYTES:,} bytes")
    return parse_run_manifest(content, run.run_id)


def _not_compared(why: str) -> RunManifest:
    return RunManifest({}, (Notice(f"{why}: it was not compared", id="run.manifest-not-compared"),))


def parse_run_manifest(content: bytes, run_id: str) -> RunManifest:
    """Parse the manifest of a run: lines of path, tab and checksum."""
    checksums: dict[str, int | None] = {}
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").splitlines(), start=1):
        fields = line.split("\t")
        path = fields[0].strip().replace("\\", "/").removeprefix("./").removeprefix(f"{run_id}/")
        if not line.strip() or line.startswith("#") or path in (MANIFEST_TSV, "CopyComplete.txt"):
            continue
        if len(fields) < 2 or _leaves_folder(path):
            return _not_compared(f"line {number} of {MANIFEST_TSV} must be a path, a tab and a checksum")
        checksum = fields[1].strip()
        if not checksums and _TITLE.fullmatch(path) and not _HEX.fullmatch(checksum):
            continue  # the titles of the columns
        checksums[path] = int(checksum, 16) if _CRC32.fullmatch(checksum) else None
    if None in checksums.values():
        warning = f"{MANIFEST_TSV} has checksums of an unknown kind: only its file names were compared"
        return RunManifest(dict.fromkeys(checksums), (Notice(warning, id="run.unknown-checksums"),))
    return RunManifest(checksums)


def read_checksums(run: Run) -> Checksums:
    """Return the CRC-32s in the manifest of an analysis or a run; none without a manifest.

    Raises RunError if that of an analysis cannot be read or understood.
    """
    if not run.parent_run:
        return {path: crc32 for path, crc32 in read_run_manifest(run).checksums.items() if crc32 is not None}
    path = run.path / MANIFEST_TSV
    where = printable(str(path))
    try:
        content = files.read_limited(path, _MAX_BYTES)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) > _MAX_BYTES:
        raise RunError(
            f"{where} was not written by an instrument: it is larger than {_MAX_BYTES:,} bytes (copy it again)",
            id="run.strange-manifest",
        )
    try:
        return parse_checksums(content)
    except ValueError as error:
        raise RunError(
            f"cannot understand {where}: {error} (copy it again, or remove it)", id="run.strange-manifest"
        ) from error


def parse_checksums(content: bytes) -> dict[str, int]:
    """Parse the manifest of an analysis. Raises ValueError, which names the first wrong line."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    checksums: dict[str, int] = {}
    for number, line in enumerate((line.removesuffix("\r") for line in lines), start=1):
        if not line:
            continue
        path, crc32 = _parse_line(line, number)
        if checksums.setdefault(path, crc32) != crc32:
            raise ValueError(f"line {number} has a different CRC-32 for {printable(path)} than an earlier line")
    if not checksums:
        raise ValueError("it lists no file")
    return checksums


def _parse_line(line: str, number: int) -> tuple[str, int]:
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError(f"line {number} must be a path, a tab and 8 hex digits")
    if _leaves_folder(match[1]):
        raise ValueError(f"line {number} has a path that is not in the analysis: {printable(match[1])}")
    return match[1], int(match[2], 16)


def _leaves_folder(path: str) -> bool:
    return not {"", ".", ".."}.isdisjoint(path.split("/"))


def mismatch_reason(crc32: int, expected: int) -> str:
    """Return why a file with this CRC-32 must not be uploaded; empty if it is the expected one."""
    if crc32 == expected:
        return ""
    return (
        f"CRC-32 is {crc32:08x} on this disk, {MANIFEST_TSV} says {expected:08x}:"
        " the copy from the instrument is damaged; copy the file again"
    )


def list_files_and_checksums(run: Run, known: Iterable[LocalFile] = ()) -> tuple[Listing, Checksums]:
    """Return the files of a run or analysis, and the CRC-32s in its manifest. Raises RunError.

    `known` is as for `list_files`. Files that the manifest of an analysis lists and that are missing are rejected
    entries of the listing. Those of a run are found when its completion is checked.
    """
    listing = local_files.list_files(run, known)
    expected = read_checksums(run)  # read after the listing, so that a listed manifest was complete
    if not run.parent_run:
        return listing, expected
    missing = expected.keys() - {file.path for file in listing.files} - {entry.path for entry in listing.rejected}
    if missing:
        rejected = (*listing.rejected, *(RejectedEntry(path, _MISSING) for path in missing))
        listing = replace(listing, rejected=tuple(sorted(rejected)))
    return listing, expected
