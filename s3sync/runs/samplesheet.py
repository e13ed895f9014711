"""The samples that a run's samplesheet names, and whether a regex hits all of them.

Sheets come from instruments, from a LIMS and out of Excel: version 1 (`[Data]`, or nothing but the table),
version 2 (`[BCLConvert_Data]`, `[Cloud_Data]`), any encoding and separator. What cannot be read without
guessing is refused with the line's number, for a sample that was overlooked could send a run to the wrong place.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import multiprocessing
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, TypeVar

from s3sync.errors import RunError
from s3sync.runs.local_files import is_inside
from s3sync.text import human_bytes, human_seconds, pluralize, printable

MATCH_SECONDS = 5.0  # of CPU, for all samples of a sheet
MAX_SHEET_BYTES = 16 * 1024 * 1024  # real ones have up to 100 kB
MAX_ROWS = 200_000  # of data
MAX_LINE = 100_000  # characters
MAX_NAME = 1_000  # characters
MAX_REMARKS = 50  # lines between [Data] and the headers

_SHEET_NAME = re.compile(r"sample[-_ ]?sheet.*\.csv\Z", re.IGNORECASE | re.DOTALL)
_BESIDES_A_SHEET = (".", "~$")  # names of what macOS, Excel and editors write beside a file that is opened, begin so
_SECTION = re.compile(r'[\s"]*\[([^\]",;\t]*)[\]",;\s]*')
_FILLER = re.compile(r'[\s,;"]*')
_SEPARATORS = (",", ";", "\t")
_NO_TABLE = "no section [Data] or [..._Data] with a column Sample_ID"

T = TypeVar("T")
Verdict = Literal["match", "no samplesheet", "ambiguous samplesheet", "unreadable", "samples do not match"]


class SheetError(ValueError):
    """Why these bytes are no samplesheet, in one line; it does not know the name of the file."""


class Sample(NamedTuple):
    """A sample as the sheet spells it: `0012` stays `0012`. `name` is Sample_Name, empty if none is given."""

    sample_id: str
    name: str


class SampleCheck(NamedTuple):
    """A verdict with its reason in one line; the samples of the sheet and the failing ones, by Sample_ID.

    `timed_out`: the regex took too long, and would with other sheets.
    """

    verdict: Verdict
    reason: str
    samples: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    timed_out: bool = False


class _Line(NamedTuple):
    section: int  # the number of the line with its [Name]; 0 if there is none above
    number: int
    text: str


class _Table(NamedTuple):
    """Where a data section has its samples: the separator and two columns."""

    separator: str
    sample_id: int
    name: int | None


class _Search(NamedTuple):
    failing: tuple[str, ...]
    trouble: str  # why the search came to no end; empty if it did


def check_samples(run_path: Path, regex: re.Pattern[str] | None, seconds: float = MATCH_SECONDS) -> SampleCheck:
    """Whether the regex is found in the Sample_ID or the Sample_Name of every sample of the run; never raises.

    Without a regex no sheet is needed. All the searching together may take so many seconds of CPU.
    """
    if regex is None:
        return SampleCheck("match", "no sample_regex is set, so no samplesheet is needed")
    sheet = ""
    try:
        sheets = find_sheets(run_path)
        if not sheets:
            where = printable(str(run_path))
            return SampleCheck("no samplesheet", f"no file of the run itself is named like SampleSheet.csv in {where}")
        content = b""
        for number, path in enumerate(sheets):
            before, sheet = content, printable(path.name)
            content = _read_file(path)
            if number and content != before:
                reason = f"{printable(sheets[0].name)} and {sheet} differ: keep one, or make them identical"
                return SampleCheck("ambiguous samplesheet", reason)
        return _judge(sheet, read_samples(content), regex, seconds)
    except SheetError as error:
        return SampleCheck("unreadable", f"{sheet}: {error}")
    except RunError as error:
        return SampleCheck("unreadable", str(error))


def find_sheets(run_path: Path) -> list[Path]:
    """The samplesheets in the run's root, sorted: files, and links to files inside the run; raises RunError."""
    root = os.path.realpath(run_path)
    try:
        names = sorted(name for name in os.listdir(run_path) if is_sheet_name(name))
    except OSError as error:
        raise RunError(f"cannot read {printable(str(run_path))}: {error.strerror}") from error
    return [run_path / name for name in names if _is_file_inside(os.path.join(run_path, name), root)]


def is_sheet_name(name: str) -> bool:
    """Return whether a file in a run's root is a samplesheet by its name."""
    return _SHEET_NAME.search(name) is not None and not name.startswith(_BESIDES_A_SHEET)


def read_samples(content: bytes) -> tuple[Sample, ...]:
    """Every sample once, in the order of the sheet, from all its data sections; raises SheetError."""
    found: dict[Sample, None] = {}
    problem = _NO_TABLE
    for _, section in groupby(_data_lines(_decode(content)), key=lambda line: line.section):
        lines = iter(section)
        first = next(lines)
        if table := _skip_to_table(first, lines):
            rows = (line for line in lines if not _is_comment(line, table))
            found.update((_read_row(line, table), None) for line in rows)
            problem = "no samples below the headers"
        elif problem == _NO_TABLE:
            problem = f"no column Sample_ID (the headers were looked for in line {first.number})"
    if not found:
        raise SheetError(problem if content.strip() else "the file is empty")
    named = {sample.sample_id for sample in found if sample.name}
    return tuple(sample for sample in found if sample.name or sample.sample_id not in named)


def _judge(sheet: str, samples: tuple[Sample, ...], regex: re.Pattern[str], seconds: float) -> SampleCheck:
    ids = tuple(dict.fromkeys(sample.sample_id for sample in samples))
    failing, trouble = _search(regex, samples, seconds)
    what = f"{sheet}: sample_regex '{_short(regex.pattern)}'"
    if trouble:
        return SampleCheck("samples do not match", f"{what} {trouble}", ids, timed_out=True)
    if failing:
        reason = f"{what} is not found in {len(failing):,} of {pluralize(len(ids), 'sample')}: {_listed(failing)}"
        return SampleCheck("samples do not match", reason, ids, failing)
    return SampleCheck("match", f"{what} is found in every sample ({len(ids):,})", ids)


# Files


def _is_file_inside(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    try:
        return is_inside(real, root) and stat.S_ISREG(os.lstat(real).st_mode)
    except OSError:
        return False


def _read_file(path: Path) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise SheetError("is no file")
            content = stream.read(MAX_SHEET_BYTES + 1)
    except OSError as error:
        raise SheetError(f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_SHEET_BYTES:
        raise SheetError(f"larger than {human_bytes(MAX_SHEET_BYTES)}: this is no samplesheet")
    return content


# Text


def _decode(content: bytes) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)
    encodings = [encoding] if (encoding := _utf16(content)) else ["utf-8", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = content.decode(encoding).lstrip("\ufeff")
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise SheetError("damaged, or no text: it has NUL bytes or UTF-16 that is cut off")


def _utf16(content: bytes) -> str:
    """The kind of UTF-16 that this is, with or without a byte order mark; empty if it is none."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = content[:4096]
    if start[1::2].count(0) * 4 > len(start):
        return "utf-16-le"
    return "utf-16-be" if start[0::2].count(0) * 4 > len(start) else ""


def _data_lines(text: str) -> Iterator[_Line]:
    """The lines of data sections, and those before any section, without what is blank but for separators."""
    section, in_data, count = 0, True, 0
    for number, text_line in enumerate(io.StringIO(text, newline=None), 1):
        if len(text_line) > MAX_LINE:
            raise SheetError(f"line {number} has {len(text_line):,} characters: this is no samplesheet")
        if _FILLER.fullmatch(text_line):
            continue
        if found := _SECTION.match(text_line):
            if in_data and section and found.end() < len(text_line):
                raise SheetError(f"line {number} starts with a bracket, but is neither section nor sample")
            title = found[1].strip().lower()
            section, in_data = number, title == "data" or title.endswith("_data")
        elif in_data:
            count += 1
            if count > MAX_ROWS:
                raise SheetError(f"more than {MAX_ROWS:,} rows: this is no samplesheet")
            yield _Line(section, number, text_line.strip(" \r\n"))


# Tables


def _skip_to_table(first: _Line, lines: Iterator[_Line]) -> _Table | None:
    """Consume the lines up to the headers; return their columns, or None if the section has no headers.

    Templates leave sentences and comments for people above the headers. What has as many cells as the headers may be
    a sample, so it is refused: it would be overlooked.
    """
    above: list[_Line] = []
    for line in itertools.chain((first,), lines):
        if table := _find_table(line):
            for each in above:
                if not _is_remark(each, line, table.separator):
                    raise SheetError(f"line {each.number} is above the headers (line {line.number}): move it below")
            return table
        above.append(line)
        if len(above) > MAX_REMARKS:
            return None
    return None


def _is_remark(line: _Line, header: _Line, separator: str) -> bool:
    """Return whether a line above the headers is meant for people."""
    if line.text.lstrip('" ').startswith(("#", "//")):
        return True
    cells = [cell for cell in line.text.split(separator) if cell.strip(' "')]
    return len(cells) < len(_cells(header, separator)) or (len(cells) == 1 and " " in cells[0].strip())


def _is_comment(line: _Line, table: _Table) -> bool:
    """Return whether a line below the headers is a sentence for people; a sample that is commented out is none."""
    filled = [cell for cell in line.text.split(table.separator) if cell.strip(' "')]
    return len(filled) == 1 and filled[0].lstrip('" ').startswith("#")


def _find_table(header: _Line) -> _Table | None:
    """The columns by the first separator that brings Sample_ID to light; None if there is no such column."""
    for separator in _SEPARATORS:
        try:
            titles = _cells(header, separator)
        except SheetError:
            continue
        ids = _columns(titles, "Sample_ID")
        if len(ids) > 1:
            raise SheetError(f"line {header.number} has two columns Sample_ID")
        if ids:
            return _Table(separator, ids[0], next(iter(_columns(titles, "Sample_Name")), None))
    return None


def _columns(titles: list[str], wanted: str) -> list[int]:
    """Return where this title is: spelt exactly so, since a LIMS may add one of its own; else in any spelling."""
    exact = [number for number, title in enumerate(titles) if title == wanted]
    return exact or [number for number, title in enumerate(titles) if _normalized(title) == _normalized(wanted)]


def _normalized(title: str) -> str:
    return re.sub(r"[\s_-]", "", title).lower()


def _read_row(line: _Line, table: _Table) -> Sample:
    cells = _cells(line, table.separator)
    sample_id = cells[table.sample_id] if table.sample_id < len(cells) else ""
    name = cells[table.name] if table.name is not None and table.name < len(cells) else ""
    if not sample_id:
        raise SheetError(f"line {line.number} has no Sample_ID")
    if max(len(sample_id), len(name)) > MAX_NAME:
        raise SheetError(f"line {line.number} has a sample's name of more than {MAX_NAME:,} characters")
    return Sample(sample_id, name)


def _cells(line: _Line, separator: str) -> list[str]:
    """One line by itself: a quote that is left open must not swallow the samples below it."""
    try:
        row = next(csv.reader((line.text,), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        raise SheetError(f"line {line.number} has a quote that is left open or closed too early") from None
    return [cell.strip() for cell in row]


# Matching


def _search(regex: re.Pattern[str], samples: tuple[Sample, ...], seconds: float) -> _Search:
    """A regex can take years. Only a signal can end it, and only the main thread of a process gets signals."""
    if threading.current_thread() is threading.main_thread():
        return _search_here(regex, samples, seconds)
    processes = multiprocessing.get_context("spawn")  # a fork could copy a lock that another thread holds
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=_search_in_child, args=(sender.send, regex, samples, seconds), daemon=True)
    try:
        with receiver:
            with sender:
                child.start()
            found: _Search = receiver.recv()
        child.join()
    except (EOFError, OSError):
        return _Search((), "could not be tried: the process for it did not start, or was ended from outside")
    return found


def _search_in_child(
    send: Callable[[_Search], None], regex: re.Pattern[str], samples: tuple[Sample, ...], seconds: float
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches the parent as well; this ends by itself
    send(_search_here(regex, samples, seconds))


def _search_here(regex: re.Pattern[str], samples: tuple[Sample, ...], seconds: float) -> _Search:
    failing: dict[str, None] = {}
    at = ""

    def search_all() -> None:
        nonlocal at
        for sample in samples:
            at = sample.sample_id
            if not regex.search(at) and not (sample.name and regex.search(sample.name)):
                failing[at] = None

    try:
        _with_limit(seconds, search_all)
    except TimeoutError:
        return _Search((), f"takes too long (over {human_seconds(seconds)}, at {_short(at)}): simplify it")
    except MemoryError:
        return _Search((), f"takes too much memory (at {_short(at)}): simplify it")
    return _Search(tuple(failing), "")


def _with_limit(seconds: float, work: Callable[[], T]) -> T:
    """Do the work; raises TimeoutError after so many seconds of CPU. For the main thread, and work without I/O.

    `re` looks for signals as it goes. The timer of CPU time leaves SIGALRM to others and a busy machine
    its time. The handler takes itself away before it raises, so wherever that happens nothing is left behind.
    """

    def give_up(_signum: int, _frame: object) -> NoReturn:
        signal.signal(signal.SIGVTALRM, before)
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, give_up) or signal.SIG_DFL
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# Words


def _listed(names: Iterable[str], limit: int = 5) -> str:
    """The first names and how many more: `A, B, C, D, E and 12 more`."""
    all_names = list(names)
    more = f" and {len(all_names) - limit:,} more" if len(all_names) > limit else ""
    return ", ".join(map(_short, all_names[:limit])) + more


def _short(name: str, limit: int = 60) -> str:
    return printable(name if len(name) <= limit else name[: limit - 3] + "...")
