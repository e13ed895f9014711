"""Open a run folder, and read its RunInfo.xml and RunParameters.xml."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from s3sync import files
from s3sync.errors import RunError, advice_for
from s3sync.text import printable

RUN_INFO = "RunInfo.xml"
ANALYSIS_FOLDER = "Analysis"  # in a run folder; contains one folder for each analysis, named by its number
_MAX_XML_BYTES = 16 * 1024 * 1024  # real ones have up to 160 kB
_HEAD_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The content of RunInfo.xml; a missing element is an empty string or tuple."""

    run_id: str = ""
    instrument: str = ""
    flowcell: str = ""
    date: str = ""
    cycles: tuple[int, ...] = ()  # the cycles of each read in order, index reads included


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParameters:
    """The interesting part of RunParameters.xml; a missing element is an empty string."""

    experiment: str = ""
    side: str = ""  # which side of the instrument: A or B
    flowcell_type: str = ""
    recipe: str = ""
    software: str = ""  # version of the control software


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A folder with a RunInfo.xml, or an analysis in such a folder.

    `path` is absolute and `run_id` the name of the folder. A run with `excludes_analyses` does not contain its
    analyses. An analysis lies in the folder `parent_run`: its `run_id` is `RUN/Analysis/1`, and `info` is that of the
    run.
    """

    path: Path
    run_id: str
    info: RunInfo
    excludes_analyses: bool = False
    parent_run: Path | None = None

    @property
    def root(self) -> Path:
        """Return the run folder: this one, or the one in which the analysis lies."""
        return self.parent_run or self.path


def open_run(folder: str | Path, *, need_run_info: bool = True) -> Run:
    """Return the run in a folder. Raises RunError if there is none.

    Without `need_run_info` any folder is accepted, and what RunInfo.xml does not contain stays empty.
    """
    path = Path(os.path.abspath(folder))  # not resolve(): the folder keeps the name that the user gave it
    where = printable(str(path))
    if not _is_folder(path):
        raise RunError(f"no such folder: {where} (check its path)", id="run.not-found")
    if not path.name:
        raise RunError(f"{where} is not a run folder (give the folder of one run)", id="run.not-a-run")
    if not is_utf8(path.name):
        raise RunError(
            f"the name of the folder is not UTF-8, which S3 requires: {where} (rename it)", id="run.name-not-utf8"
        )
    try:
        info = read_run_info(path / RUN_INFO)
    except RunError:
        if need_run_info:
            raise
        info = RunInfo()
    return Run(path=path, run_id=path.name, info=info)


def is_utf8(name: str) -> bool:
    """Return whether a file name is valid UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unreadable(path: Path, error: OSError) -> RunError:
    """Return the error for a file or folder of a run that cannot be read."""
    reason = error.strerror or str(error)
    is_denied = isinstance(error, PermissionError)
    advice = "give this user access to it" if is_denied else advice_for(error, "check its file system")
    return RunError(f"cannot read {printable(str(path))}: {reason} ({advice})", id="run.unreadable")


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL, which no path has
        return False
    except OSError as error:
        raise unreadable(path, error) from error


def read_run_info(path: Path) -> RunInfo:
    """Parse a RunInfo.xml of any version. Raises RunError."""
    run = parse_xml(path).find("Run")
    if run is None:
        raise RunError(
            f"{printable(str(path))} has no <Run> element (is it an Illumina run? copy the file again)",
            id="run.no-run-element",
        )
    counts = (read.get("NumCycles", "") for read in run.iterfind("Reads/Read"))
    return RunInfo(
        run_id=run.get("Id", ""),
        instrument=_text_of(run, "Instrument"),
        flowcell=_text_of(run, "Flowcell"),
        date=_text_of(run, "Date"),
        cycles=tuple(int(count) for count in counts if count.isdecimal() and len(count) < 10),
    )


def read_instrument(path: Path) -> str:
    """Return the instrument's id from the start of a RunInfo.xml, whose list of tiles is long. Raises RunError."""
    start = _read_xml(path, _HEAD_BYTES)
    with contextlib.suppress(ET.ParseError, ValueError, LookupError):  # parsing the whole file explains errors
        for _, element in ET.iterparse(io.BytesIO(start), ["end"]) if b"<!ENTITY" not in start else ():
            if element.tag == "Instrument" and (name := (element.text or "").strip()):
                return name
    return read_run_info(path).instrument


def read_run_parameters(folder: Path) -> RunParameters:
    """Parse the readable part of the RunParameters.xml of a run."""
    root = parse_run_parameters(folder)
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


def parse_run_parameters(folder: Path) -> ET.Element | None:
    """Return the root of RunParameters.xml (runParameters.xml on older instruments); None if it cannot be read."""
    roots = (parse_optional_xml(folder / name) for name in ("RunParameters.xml", "runParameters.xml"))
    return next((root for root in roots if root is not None), None)


def parse_optional_xml(path: Path) -> ET.Element | None:
    """Return the root of a small XML file; None if it is missing or cannot be read."""
    try:
        return parse_xml(path)
    except RunError:
        return None


def parse_xml(path: Path) -> ET.Element:
    """Return the root of a small XML file. Raises RunError."""
    where = printable(str(path))
    content = _read_xml(path, _MAX_XML_BYTES)
    if len(content) > _MAX_XML_BYTES or b"<!ENTITY" in content:
        raise RunError(
            f"{where} was not written by an instrument: it is too large, or has entities (copy it again)",
            id="run.strange-xml",
        )
    try:
        return ET.fromstring(content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise RunError(
            f"{where} is not valid XML: {printable(str(error))} (copy it again)", id="run.invalid-xml"
        ) from error


def _read_xml(path: Path, limit: int) -> bytes:
    try:
        return files.read_limited(path, limit)
    except FileNotFoundError:
        folder = printable(str(path.parent))
        raise RunError(
            f"no {path.name} in {folder}: not a run folder (give the folder of one run)", id="run.not-a-run"
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error


def _text_of(element: ET.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()
