"""Check whether a pattern matches every sample in the samplesheet of a run."""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from s3sync import files
from s3sync.delays import DELAYS
from s3sync.errors import RunError
from s3sync.patterns import Pattern, SlowPatternError
from s3sync.runs.local_files import is_inside
from s3sync.runs.run_folder import unreadable
from s3sync.runs.sheet_parser import Sample, SheetError, read_samples
from s3sync.text import human_bytes, human_seconds, pluralize, printable, summarize

__all__ = ["SampleCheck", "check_samples", "find_sheets", "is_sheet_name"]

MAX_SHEET_BYTES = 16 * 1024 * 1024  # real ones have up to 100 kB

_SHEET_NAME = re.compile(r"sample[-_ ]?sheet.*\.csv\Z", re.IGNORECASE | re.DOTALL)
_TEMPORARY_PREFIXES = (".", "~$")  # begin the names of files that macOS, Excel and editors write beside an open sheet
_MAX_NAMES = 5  # failing samples named in a reason
_MAX_CHARS = 60  # shown of a name or pattern in a reason

Verdict: TypeAlias = Literal["match", "no samplesheet", "ambiguous samplesheet", "unreadable", "samples do not match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCheck:
    """A verdict about the samples of a run, with its reason in one line. The `id` is empty where the verdict is it."""

    verdict: Verdict
    reason: str
    id: str = ""
    samples: tuple[str, ...] = ()  # all of the sheet, by Sample_ID
    failing: tuple[str, ...] = ()
    timed_out: bool = False  # the pattern took too long, and would with other sheets


def check_samples(run_path: Path, pattern: Pattern | None, seconds: float = DELAYS.pattern_searches) -> SampleCheck:
    """Return whether the pattern is found in the Sample_ID or Sample_Name of every sample of the run. Never raises.

    Without a pattern no sheet is needed. All searches together may take `seconds` of CPU time.
    """
    if pattern is None:
        return SampleCheck(verdict="match", reason="no sample_regex is set, so no samplesheet is needed")
    sheet = ""
    try:
        sheets = find_sheets(run_path)
        if not sheets:
            reason = f"no file named like SampleSheet.csv in {printable(str(run_path))}"
            return SampleCheck(verdict="no samplesheet", reason=reason)
        content = b""
        for number, path in enumerate(sheets):
            previous, sheet = content, printable(path.name)
            content = _read_sheet(path)
            if number and content != previous:
                reason = f"{printable(sheets[0].name)} and {sheet} differ: keep one, or make them identical"
                return SampleCheck(verdict="ambiguous samplesheet", reason=reason)
        return _match(sheet, read_samples(content), pattern, seconds)
    except SheetError as error:
        return SampleCheck(verdict="unreadable", reason=f"{sheet}: {error}", id=error.id)
    except RunError as error:
        return SampleCheck(verdict="unreadable", reason=str(error), id=error.id)


def find_sheets(run_path: Path) -> list[Path]:
    """Return the samplesheets in the root of the run, sorted: files, and links to files inside it. Raises RunError."""
    root = os.path.realpath(run_path)
    try:
        names = sorted(name for name in os.listdir(run_path) if is_sheet_name(name))
    except OSError as error:
        raise unreadable(run_path, error) from error
    return [run_path / name for name in names if _is_file_inside(os.path.join(run_path, name), root)]


def is_sheet_name(name: str) -> bool:
    """Return whether a file in the root of a run is a samplesheet by its name."""
    return _SHEET_NAME.search(name) is not None and not name.startswith(_TEMPORARY_PREFIXES)


def _is_file_inside(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    try:
        return is_inside(real, root) and stat.S_ISREG(os.lstat(real).st_mode)
    except OSError:
        return False


def _read_sheet(path: Path) -> bytes:
    try:
        content = files.read_limited(path, MAX_SHEET_BYTES)
    except OSError as error:
        raise SheetError(f"cannot be read: {error.strerror}", id="sheet.unreadable") from error
    if len(content) > MAX_SHEET_BYTES:
        text = f"larger than {human_bytes(MAX_SHEET_BYTES)}: this is not a samplesheet"
        raise SheetError(text, id="sheet.too-large")
    return content


def _match(sheet: str, samples: tuple[Sample, ...], pattern: Pattern, seconds: float) -> SampleCheck:
    ids = tuple(dict.fromkeys(sample.sample_id for sample in samples))
    label = f"{sheet}: sample_regex '{_shorten(pattern.pattern)}'"
    failing: dict[str, None] = {}  # ordered, without duplicates
    deadline = time.process_time() + seconds
    for sample in samples:
        try:
            is_match = any(
                pattern.search(name, max(0.001, deadline - time.process_time()))
                for name in (sample.sample_id, sample.name)
                if name
            )
        except SlowPatternError:
            where = f"over {human_seconds(seconds)}, at {_shorten(sample.sample_id)}"
            reason = f"{label} takes too long ({where}): simplify it"
            return SampleCheck(verdict="samples do not match", reason=reason, samples=ids, timed_out=True)
        if not is_match:
            failing[sample.sample_id] = None
    if failing:
        names = summarize(map(_shorten, failing), _MAX_NAMES)
        reason = f"{label} is not found in {len(failing):,} of {pluralize(len(ids), 'sample')}: {names}"
        return SampleCheck(verdict="samples do not match", reason=reason, samples=ids, failing=tuple(failing))
    return SampleCheck(verdict="match", reason=f"{label} is found in every sample ({len(ids):,})", samples=ids)


def _shorten(name: str) -> str:
    return printable(name if len(name) <= _MAX_CHARS else name[: _MAX_CHARS - 3] + "...")
