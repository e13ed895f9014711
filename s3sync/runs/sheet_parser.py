"""Parse the samples of a samplesheet.

Sheets come from instruments, from a LIMS and out of Excel: version 1 (`[Data]`, or only the table), version 2
(`[BCLConvert_Data]`, `[Cloud_Data]`), in any encoding and with any separator. A sheet that cannot be read without
guessing is refused with the line's number, because an overlooked sample could send a run to the wrong place.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

MAX_ROWS = 200_000  # data rows
MAX_LINE = 100_000  # characters
MAX_NAME = 1_000  # characters
MAX_REMARKS = 50  # lines between [Data] and the headers

_SECTION = re.compile(r'[\s"]*\[([^\]",;\t]*)[\]",;\s]*')
_FILLER = re.compile(r'[\s,;"]*')
_SEPARATORS = (",", ";", "\t")
_ALWAYS_SAMPLES = ("data", "bclconvert_data")  # sections whose samples must never be overlooked
_NO_TABLE = "no section [Data] or [..._Data] with a column Sample_ID"


class SheetError(ValueError):
    """The reason in one line why these bytes are not a samplesheet, with its id; it does not name the file."""

    def __init__(self, reason: str, *, id: str) -> None:  # noqa: A002 - as of other errors
        super().__init__(reason)
        self.id = id


class Sample(NamedTuple):
    """A sample as the sheet spells it: `0012` stays `0012`. `name` is the Sample_Name, or empty."""

    sample_id: str
    name: str


class _Line(NamedTuple):
    section: int  # number of the line with the section's [Name]; 0 without one
    title: str  # the title of the section, in lower case
    number: int
    text: str


class _Table(NamedTuple):
    """The separator of a data section, and the indices of two columns."""

    separator: str
    sample_id: int
    name: int | None


def read_samples(content: bytes) -> tuple[Sample, ...]:
    """Return every sample once, in the order of the sheet, from all its data sections. Raises SheetError."""
    found: dict[Sample, None] = {}  # ordered, without duplicates
    problem = _NO_TABLE
    headless: _Line | None = None
    for _, section in groupby(_data_lines(_decode(content)), key=lambda line: line.section):
        lines = iter(section)
        first = next(lines)
        if table := _skip_to_headers(first, lines):
            rows = (line for line in lines if not _is_comment(line, table))
            found.update((_parse_row(line, table), None) for line in rows)
            problem = "no samples below the headers"
        else:
            headless = headless or (first if first.title in _ALWAYS_SAMPLES and not _is_sentence(first) else None)
            if problem == _NO_TABLE:
                problem = f"no column Sample_ID (the headers were expected in line {first.number})"
    if not found:
        raise SheetError(problem if content.strip() else "the file is empty", id="sheet.no-samples")
    if headless:
        text = f"the section [{headless.title}] has no column Sample_ID in line {headless.number}, as another one has"
        raise SheetError(text, id="sheet.section-without-samples")
    named = {sample.sample_id for sample in found if sample.name}
    return tuple(sample for sample in found if sample.name or sample.sample_id not in named)


def _decode(content: bytes) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)
    utf16 = _detect_utf16(content)
    encodings = [utf16] if utf16 else ["utf-8", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = content.decode(encoding).lstrip("\ufeff")
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise SheetError("damaged, or not text: it has NUL bytes or truncated UTF-16", id="sheet.no-text")


def _detect_utf16(content: bytes) -> str:
    """Return the UTF-16 encoding of this text, with or without a byte order mark; empty if it has another encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = content[:4096]
    if start[1::2].count(0) * 4 > len(start):
        return "utf-16-le"
    return "utf-16-be" if start[0::2].count(0) * 4 > len(start) else ""


def _data_lines(text: str) -> Iterator[_Line]:
    """Yield the lines of data sections, and those before any section, except blank ones and bare separators."""
    section, title, in_data, count = 0, "", True, 0
    for number, text_line in enumerate(io.StringIO(text, newline=None), 1):
        if len(text_line) > MAX_LINE:
            text = f"line {number} has {len(text_line):,} characters: this is not a samplesheet"
            raise SheetError(text, id="sheet.too-large")
        if _FILLER.fullmatch(text_line):
            continue
        if found := _SECTION.match(text_line):
            if in_data and section and found.end() < len(text_line):
                text = f"line {number} starts with a bracket, but is neither section nor sample"
                raise SheetError(text, id="sheet.bad-section")
            title = found[1].strip().lower()
            section, in_data = number, title == "data" or title.endswith("_data")
        elif in_data:
            count += 1
            if count > MAX_ROWS:
                raise SheetError(f"more than {MAX_ROWS:,} rows: this is not a samplesheet", id="sheet.too-large")
            yield _Line(section, title, number, text_line.strip(" \r\n"))


def _skip_to_headers(first: _Line, lines: Iterator[_Line]) -> _Table | None:
    """Consume the lines up to the headers and return the columns; None if the section has no headers.

    Templates have sentences and comments above the headers. A line there with as many cells as the headers may be a
    sample, so the sheet is refused: the sample would be overlooked.
    """
    above: list[_Line] = []
    for line in itertools.chain((first,), lines):
        if table := _parse_headers(line):
            for other in above:
                if not _is_remark(other, line, table.separator):
                    text = f"line {other.number} is above the headers (line {line.number}): move it below"
                    raise SheetError(text, id="sheet.line-above-headers")
            return table
        above.append(line)
        if len(above) > MAX_REMARKS:
            return None
    return None


def _is_remark(line: _Line, header: _Line, separator: str) -> bool:
    """Return whether a line above the headers is only a remark."""
    if line.text.lstrip('" ').startswith(("#", "//")):
        return True
    cells = [cell for cell in line.text.split(separator) if cell.strip(' "')]
    return len(cells) < len(_cells(header, separator)) or (len(cells) == 1 and " " in cells[0].strip())


def _is_sentence(line: _Line) -> bool:
    return line.text.lstrip('" ').startswith(("#", "//")) or " " in line.text.strip('" ,;')


def _is_comment(line: _Line, table: _Table) -> bool:
    """Return whether a line below the headers is a comment of one cell; a sample that is commented out is not."""
    filled = [cell for cell in line.text.split(table.separator) if cell.strip(' "')]
    return len(filled) == 1 and filled[0].lstrip('" ').startswith("#")


def _parse_headers(header: _Line) -> _Table | None:
    """Return the columns, by the first separator that yields a Sample_ID; None if there is no such column."""
    for separator in _SEPARATORS:
        try:
            titles = _cells(header, separator)
        except SheetError:
            continue
        ids = _columns(titles, "Sample_ID")
        if len(ids) > 1:
            raise SheetError(f"line {header.number} has two columns Sample_ID", id="sheet.two-columns")
        if ids:
            return _Table(separator, ids[0], next(iter(_columns(titles, "Sample_Name")), None))
    return None


def _columns(titles: list[str], wanted: str) -> list[int]:
    """Return the columns with exactly this title (a LIMS may add a similar one), else with any spelling of it."""
    exact = [index for index, title in enumerate(titles) if title == wanted]
    return exact or [index for index, title in enumerate(titles) if _normalize(title) == _normalize(wanted)]


def _normalize(title: str) -> str:
    return re.sub(r"[\s_-]", "", title).lower()


def _parse_row(line: _Line, table: _Table) -> Sample:
    cells = _cells(line, table.separator)
    sample_id = cells[table.sample_id] if table.sample_id < len(cells) else ""
    name = cells[table.name] if table.name is not None and table.name < len(cells) else ""
    if not sample_id:
        raise SheetError(f"line {line.number} has no Sample_ID", id="sheet.no-sample-id")
    if max(len(sample_id), len(name)) > MAX_NAME:
        text = f"line {line.number} has a sample's name of more than {MAX_NAME:,} characters"
        raise SheetError(text, id="sheet.long-name")
    return Sample(sample_id, name)


def _cells(line: _Line, separator: str) -> list[str]:
    """Split one line only, so that an open quote does not hide the samples below it."""
    try:
        row = next(csv.reader((line.text,), delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        text = f"line {line.number} has a quote that is never closed, or closed too early"
        raise SheetError(text, id="sheet.open-quote") from None
    return [cell.strip() for cell in row]
