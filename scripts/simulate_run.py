"""Make a believable Illumina run folder: real names and numbers of files, incompressible bytes, any size.

Base calls, cluster positions, thumbnails and InterOp hold pseudo-random bytes and shrink with the scale; text
(RunInfo.xml, RunParameters.xml, SampleSheet.csv, Config, Recipe, logs, completion markers) stays as it is.
The same seed and options give the same names and bytes, whatever the day: dates inside the files come from
the seed, and only the files' modification times are recent.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import math
import os
import random
import re
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_SCALE = 1 / 500
FLOOR_BYTES = 1024  # no scaled file gets smaller, unless the real one is
BLOCK_BYTES = 4 * 1024 * 1024
STRIDE_BYTES = 1_000_003  # odd, so that the blocks of one large file are all different rotations
READ_NAMES = {1: "Read1", 2: "Read1 Read2", 3: "Read1 Index1 Read2", 4: "Read1 Index1 Index2 Read2"}
RUN_ID = re.compile(r"(\d{6,8})_([a-zA-Z\d-]+)_(\d{2,})_([A-Z\d-]+)")
EPILOG = """\
files, and size at the default scale of 0.002:
  miseq 9,524, 12 MB; nextseq2000 4,037, 89 MB; novaseq6000 5,490, 207 MB; novaseqx 14,628, 10 GB

examples:
  simulate_run.py novaseq6000 /tmp/runs                        an S1 flow cell
  simulate_run.py novaseqx /tmp/runs --scale 0.00002           all files of a 25B flow cell, 112 MB
  simulate_run.py miseq /tmp/runs --cycles 26,8,26 --tiles 2   a few files of each kind
  simulate_run.py nextseq2000 /tmp/runs --seed 7 --incomplete  another flow cell, without completion markers
"""


class FileKind(NamedTuple):
    """Files that differ in the {lane}, {cycle} and so on of their path, and their bytes at scale 1."""

    path: str
    size: int
    each: str = ""  # the axes of the run that are together in one file: the size is for one value of each


NUMBER_4, NUMBER = "_{instrument_id}_{number:04}_{side}{flowcell}", "_{instrument_id}_{number}_{flowcell}"
ISO_TIME, US_TIME = "%Y-%m-%dT%H:%M:%SZ", "%m/%d/%Y %I:%M:%S %p"
BASIC_METRICS = "CorrectedInt Error Extraction Image Q "
RTA3_METRICS = BASIC_METRICS + "Alignment Basecalling EmpiricalPhasing Event OpticalModel Registration"
RTA4_METRICS = BASIC_METRICS + "Basecalling ClusterStats Diversity EmpiricalPhasing ImageQuality"
CYCLE_LOG = "Logs/{run_id}_Cycle{logged}_Log.00.log "
ANALYTICS_LOG = "InstrumentAnalyticsLogs/running__{instrument_id}__{number:04}__Run.imf1"
INTENSITIES, BASECALLS = "Data/Intensities/", "Data/Intensities/BaseCalls/L{lane:03}/"
CBCL, FILTER = BASECALLS + "C{cycle}.1/L{lane:03}_{surface}.cbcl", BASECALLS + "s_{lane}_{tile}.filter"
RUN_INTEROP = (
    FileKind("InterOp/{cycle_metric}MetricsOut.bin", 25, "lane tile cycle"),
    FileKind("InterOp/{run_metric}MetricsOut.bin", 45, "lane tile"),
)
INTEROP = (FileKind("InterOp/C{cycle}.1/{cycle_metric}MetricsOut.bin", 25, "lane tile"), *RUN_INTEROP)
RTA_COMPLETE = "completed on {ended:" + US_TIME + "}\r\n"
PLAIN_TEXT = "; {path}\r\nRunId={run_id}\r\nInstrument={instrument_id}\r\nFlowcell={flowcell}\r\n"
PLAIN_XML = "<RunId>{run_id}</RunId><Instrument>{instrument_id}</Instrument><Flowcell>{flowcell}</Flowcell>"
RUN_INFO = """
<Run Id={quoted_id} Number="{number}"><Flowcell>{flowcell}</Flowcell><Instrument>{instrument_id}</Instrument>
<Date>{date}</Date><Reads>{reads}</Reads>
<FlowcellLayout LaneCount="{instrument.lanes}" SurfaceCount="{instrument.surfaces}" SwathCount="{instrument.swaths}"
TileCount="{instrument.tiles}">{tile_set}</FlowcellLayout></Run>"""
SHEET_V1 = """\
[Header],,,,
IEMFileVersion,4,,,
Experiment Name,{experiment},,,
Date,{started:%m/%d/%Y},,,
,,,,
[Reads],,,,
{reads}
,,,,
[Data],,,,
Sample_ID,Sample_Name,Sample_Project,index,index2
{samples}
"""
SHEET_V2 = """\
[Header]
FileFormatVersion,2
RunName,{experiment}

[Reads]
{reads}

[BCLConvert_Settings]
SoftwareVersion,4.1.23

[BCLConvert_Data]
Sample_ID,Index,Index2
{samples}
"""


@dataclass(frozen=True)
class Instrument:
    """What one kind of instrument writes. In shapes, # is a digit and ? a digit or capital letter."""

    id_shape: str
    flowcell_shape: str
    run_id_shape: str
    lanes: int
    surfaces: int
    swaths: int
    tiles: int  # a swath
    samples: int
    run_hours: int
    run_info_version: int
    data: tuple[FileKind, ...]
    texts: str  # there from the start of the run
    parameters: str  # inside of RunParameters.xml
    rta_complete: str
    completion: str = ""  # inside of RunCompletionStatus.xml
    sides: str = ""  # "AB" where two flow cells run side by side and the run id says which
    date: str = ISO_TIME  # in RunInfo.xml
    cycle_metrics: str = RTA4_METRICS  # InterOp with a record a tile and cycle
    run_metrics: str = "ExtendedTile SummaryRun Tile"  # InterOp with a record a tile
    logs: str = CYCLE_LOG + ANALYTICS_LOG
    markers: str = "RTAComplete.txt RunCompletionStatus.xml CopyComplete.txt"  # in the order of writing
    sheet: str = SHEET_V2
    cycles: tuple[int, ...] = (151, 8, 8, 151)


INSTRUMENTS = {
    "miseq": Instrument(  # control software before 4.0: RTAComplete.txt alone says that the run is over
        id_shape="M0####", flowcell_shape="000000000-K????", run_id_shape="{started:%y%m%d}" + NUMBER_4,
        run_info_version=2, date="%y%m%d", lanes=1, surfaces=2, swaths=1, tiles=14, samples=12, run_hours=24,
        cycle_metrics=BASIC_METRICS, run_metrics="Control Index Tile",
        data=(
            *RUN_INTEROP,
            FileKind(INTENSITIES + "L{lane:03}/s_{lane}_{tile}.locs", 4_800_000),
            FileKind(BASECALLS + "C{cycle}.1/s_{lane}_{tile}.bcl", 600_000),
            FileKind(FILTER, 600_000), FileKind(BASECALLS + "s_{lane}_{tile}.control", 1_200_000),
            FileKind("Thumbnail_Images/L{lane:03}/C{first_cycle}.1/s_{lane}_{tile}_{base}.jpg", 60_000),
        ),
        texts="RunInfo.xml runParameters.xml SampleSheet.csv Config/Effective.cfg Config/MiSeqOverride.cfg "
        "Config/RTAStart.bat Recipe/{flowcell}.xml Data/Intensities/RTAConfiguration.xml "
        "Data/Intensities/config.xml Data/Intensities/BaseCalls/config.xml",
        logs="Logs/{flowcell}_Cycle{logged}_Log.00.log RTALogs/{instrument_id}_GlobalLog_00.tsv "
        "RTARead{read}Complete.txt", markers="RTAComplete.txt", sheet=SHEET_V1,
        parameters="<Setup><ApplicationName>MiSeq Control Software</ApplicationName></Setup><RunID>{run_id}</RunID>"
        "<ScannerID>{instrument_id}</ScannerID><RunNumber>{number}</RunNumber><MCSVersion>3.1.0.13</MCSVersion>"
        "<RTAVersion>1.18.54</RTAVersion><Barcode>{flowcell}</Barcode><Reads>{reads}</Reads>"
        "<ReagentKitVersion>Version2</ReagentKitVersion><ExperimentName>{experiment}</ExperimentName>",
        rta_complete="{ended:%m/%d/%Y,%H:%M:%S.000},Illumina RTA 1.18.54\r\n",
    ),
    "nextseq2000": Instrument(  # P2 flow cell
        id_shape="VH0####", flowcell_shape="AA?????M5", run_id_shape="{started:%y%m%d}" + NUMBER,
        run_info_version=6, lanes=1, surfaces=2, swaths=6, tiles=11, samples=24, run_hours=29,
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 38_400_000), FileKind(CBCL, 1_000_000, "surface_tile"),
              FileKind(FILTER, 4_800_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/Effective.cfg Config/NextSeqCalibration.cfg "
        "Recipe/EffectiveRecipe.xml RTA.cfg",
        parameters="<InstrumentType>NextSeq2000</InstrumentType><RunId>{run_id}</RunId><RunCounter>{number}"
        "</RunCounter><InstrumentSerialNumber>{instrument_id}</InstrumentSerialNumber>"
        "<ApplicationName>NextSeq 1000/2000 Control Software</ApplicationName><RtaVersion>3.10.30</RtaVersion>"
        "<FlowCellMode>NextSeq 1000/2000 P2 Flow Cell Cartridge</FlowCellMode><FlowCellSerialNumber>{flowcell}"
        "</FlowCellSerialNumber><ExperimentName>{experiment}</ExperimentName><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA 3.10.30 " + RTA_COMPLETE,
        completion="<Version>1</Version><CompletionStatus>CompletedAsPlanned</CompletionStatus><RunId>{run_id}"
        "</RunId><CompletedReads>{named_reads}</CompletedReads><ErrorDescription>None</ErrorDescription>",
    ),
    "novaseq6000": Instrument(  # S1 flow cell
        id_shape="A0####", flowcell_shape="H????DRX#", run_id_shape="{started:%y%m%d}" + NUMBER_4, sides="AB",
        run_info_version=5, date=US_TIME, lanes=2, surfaces=2, swaths=2, tiles=78, samples=24, run_hours=25,
        cycle_metrics=RTA3_METRICS, run_metrics="ExtendedTile FWHMGrid PFGrid StaticRun SummaryRun Tile",
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 32_700_000), FileKind(CBCL, 500_000, "surface_tile"),
              FileKind(FILTER, 4_100_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/Effective.cfg Config/FirmwareVersions.txt "
        "Config/NovaSeqCalibration.cfg Config/NovaSeqOverride.cfg Recipe/{flowcell}.xml RTA3.cfg",
        logs=CYCLE_LOG + "Logs/info_00000.log Logs/warning_00000.log",
        markers="RTAComplete.txt SequenceComplete.txt CopyComplete.txt",
        parameters="<Application>NovaSeq Control Software</Application><ApplicationVersion>1.8.0"
        "</ApplicationVersion><InstrumentName>{instrument_id}</InstrumentName><Side>{side}</Side><RunId>{run_id}"
        "</RunId><RunNumber>{number}</RunNumber><RtaVersion>v3.4.4</RtaVersion><RfidsInfo><FlowCellSerialBarcode>"
        "{flowcell}</FlowCellSerialBarcode><FlowCellMode>S1</FlowCellMode></RfidsInfo><ExperimentName>{experiment}"
        "</ExperimentName><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA v3.4.4 " + RTA_COMPLETE,
    ),
    "novaseqx": Instrument(  # 25B flow cell
        id_shape="LH00###", flowcell_shape="2?????LT4", run_id_shape="{started:%Y%m%d}" + NUMBER_4, sides="AB",
        run_info_version=6, lanes=8, surfaces=2, swaths=4, tiles=98, samples=64, run_hours=42,
        data=(*INTEROP, FileKind(INTENSITIES + "s.locs", 41_600_000), FileKind(CBCL, 2_550_000, "surface_tile"),
              FileKind(FILTER, 5_200_000)),
        texts="RunInfo.xml RunParameters.xml SampleSheet.csv Config/RTA.cfg Recipe/EffectiveRecipe.xml RTA.cfg",
        parameters="<Side>{side}</Side><Application>NovaSeqXSeries Control Software</Application><InstrumentType>"
        "NovaSeqXPlus</InstrumentType><InstrumentSerialNumber>{instrument_id}</InstrumentSerialNumber><RunId>"
        "{run_id}</RunId><RunCounter>{number}</RunCounter><RecipeName>25B Sequencing</RecipeName><ExperimentName>"
        "{experiment}</ExperimentName><FlowCellName>NovaSeqXSeries B4</FlowCellName><FlowCellType>NovaSeqXSeriesB4"
        "</FlowCellType><ConsumableInfo><ConsumableInfo><SerialNumber>{flowcell}</SerialNumber><Type>FlowCell"
        "</Type><Name>25B</Name></ConsumableInfo></ConsumableInfo><PlannedReads>{named_reads}</PlannedReads>",
        rta_complete="RTA 4.29.3 " + RTA_COMPLETE,
        completion="<RunStartTime>{started:" + ISO_TIME + "}</RunStartTime><RunEndTime>{ended:" + ISO_TIME + "}"
        "</RunEndTime><CompletedReads>{named_reads}</CompletedReads><RunStatus>RunCompleted</RunStatus>",
    ),
}  # fmt: skip


class RunFile(NamedTuple):
    """A file to write: path relative to the run folder, size in bytes, content (None: random bytes)."""

    path: str
    size: int
    content: bytes | None = None


@dataclass(frozen=True)
class Run:
    """One run of an instrument, as its run id and RunInfo.xml describe it."""

    instrument: Instrument
    seed: int
    run_id: str
    instrument_id: str
    number: int
    side: str  # A, B or nothing
    flowcell: str
    started: datetime

    @property
    def reads(self) -> list[tuple[str, int]]:
        """Name (Read1, Index1, Index2, Read2) and cycles of each read, in the order of sequencing."""
        cycles = self.instrument.cycles
        return list(zip(READ_NAMES[len(cycles)].split(), cycles, strict=True))

    @property
    def axes(self) -> dict[str, Sequence[int | str]]:
        """What the parts of a path in {} run through; tile: surface, swath and two digits of tile."""
        made, last = self.instrument, sum(self.instrument.cycles)
        surfaces, swaths, tiles = (range(1, n + 1) for n in (made.surfaces, made.swaths, made.tiles))
        return {
            "lane": range(1, made.lanes + 1),
            "cycle": range(1, last + 1),
            "first_cycle": [1 + sum(made.cycles[:n]) for n in range(len(made.cycles))],
            "logged": range(0, last + 1, 5),
            "surface": surfaces,
            "tile": [f"{s}{w}{t:02}" for s, w, t in itertools.product(surfaces, swaths, tiles)],
            "surface_tile": range(made.swaths * made.tiles),
            "read": range(1, len(made.cycles) + 1),
            "base": "acgt",
            "cycle_metric": made.cycle_metrics.split(),
            "run_metric": made.run_metrics.split(),
        }

    def fill(self, template: str, **more: object) -> str:
        """The template with {run_id}, {flowcell} and the other facts of the run in place."""
        ended = self.started + timedelta(hours=self.instrument.run_hours)
        return template.format(**{**vars(self), "ended": ended, "experiment": f"Pool{self.number}", **more})


def plan_run(
    instrument: str = "novaseq6000",
    *,
    seed: int = 1,
    cycles: tuple[int, ...] | None = None,
    lanes: int | None = None,
    tiles: int | None = None,
    run_id: str | None = None,
) -> Run:
    """The run that these options describe (cycles of each read, tiles of a swath); raises ValueError."""
    if instrument not in INSTRUMENTS:
        raise ValueError(f"no such instrument: {instrument} (there are {', '.join(INSTRUMENTS)})")
    real = INSTRUMENTS[instrument]
    made = replace(
        real,
        cycles=real.cycles if cycles is None else cycles,
        lanes=real.lanes if lanes is None else lanes,
        tiles=real.tiles if tiles is None else tiles,
    )
    if len(made.cycles) not in READ_NAMES or not all(1 <= count <= 1000 for count in made.cycles):
        raise ValueError("cycles must be one to four numbers from 1 to 1000, such as 151,8,8,151")
    if not 1 <= made.lanes <= 8 or not 1 <= made.tiles <= 99:
        raise ValueError("lanes must be 1 to 8 and tiles 1 to 99")
    run = drawn_run(made, seed)
    return run if run_id is None else renamed(run, run_id)


def drawn_run(made: Instrument, seed: int) -> Run:
    """The run of that instrument with the ids and the date that the seed gives."""
    rng = random.Random(f"{seed} {made.id_shape}")
    run = Run(
        instrument=made,
        seed=seed,
        run_id="",
        instrument_id=drawn(made.id_shape, rng),
        number=rng.randrange(10, 1000),
        side=rng.choice(made.sides or [""]),
        flowcell=drawn(made.flowcell_shape, rng),
        started=datetime(2025, 1, 6, tzinfo=timezone.utc) + timedelta(minutes=rng.randrange(500_000)),
    )
    return replace(run, run_id=run.fill(made.run_id_shape))


def drawn(shape: str, rng: random.Random) -> str:
    choices = {"#": "0123456789", "?": "BCDFGHJKLMNPQRSTVWXYZ2345679"}
    return "".join(rng.choice(choices.get(sign, sign)) for sign in shape)


def renamed(run: Run, run_id: str) -> Run:
    """The run under a given run id, with whatever facts that name holds; raises ValueError."""
    if run_id in ("", ".", "..") or "/" in run_id or not run_id.isprintable():
        raise ValueError(f"run_id must be the name of a folder, not {run_id!r}")
    run, match = replace(run, run_id=run_id), RUN_ID.fullmatch(run_id)
    if match is None:
        return run
    date, instrument_id, number, flowcell = match.groups()
    with contextlib.suppress(ValueError):  # digits that are no date
        shape = "%Y%m%d" if len(date) == 8 else "%y%m%d"
        run = replace(run, started=datetime.strptime(date, shape).replace(tzinfo=timezone.utc))
    side = flowcell[0] if flowcell[0] in run.instrument.sides else ""
    flowcell = flowcell.removeprefix(side)
    return replace(run, instrument_id=instrument_id, number=int(number), side=side, flowcell=flowcell)


def xml(run: Run, tag: str, inside: str, **more: object) -> bytes:
    """An XML document with the facts of the run in place."""
    root = ET.fromstring(f"<{tag}>{run.fill(inside, run_id=escape(run.run_id), **more)}</{tag.split()[0]}>")
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root) + b"\n"


def read_tags(run: Run) -> str:
    """The reads as RunInfo.xml has them, with IsReverseComplement from version 6 on."""
    tags = []
    for number, (name, cycles) in enumerate(run.reads, start=1):
        tag = f'<Read Number="{number}" NumCycles="{cycles}" IsIndexedRead="{yes_no("Index" in name)}"'
        if run.instrument.run_info_version >= 6:
            tag += f' IsReverseComplement="{yes_no(name == "Index2")}"'
        tags.append(tag + "/>")
    return "".join(tags)


def yes_no(answer: bool) -> str:
    return "Y" if answer else "N"


def run_info(run: Run) -> bytes:
    """RunInfo.xml: reads and flow cell layout; the list of tiles from version 5 on."""
    made, tile_set = run.instrument, ""
    if made.run_info_version >= 5:
        places = itertools.product(run.axes["lane"], run.axes["tile"])
        tiles = "".join(f"<Tile>{lane}_{tile}</Tile>" for lane, tile in places)
        tile_set = f'<TileSet TileNamingConvention="FourDigit"><Tiles>{tiles}</Tiles></TileSet>'
    tag, date = f'RunInfo Version="{made.run_info_version}"', f"{run.started:{made.date}}"
    quoted_id = quoteattr(run.run_id)
    return xml(run, tag, RUN_INFO, quoted_id=quoted_id, date=date, reads=read_tags(run), tile_set=tile_set)


def sample_sheet(run: Run) -> bytes:
    """SampleSheet.csv: version 1 for MiSeq, else version 2; names and indexes of samples come from the seed."""
    rng = random.Random(f"{run.seed} samples {run.instrument.id_shape}")
    is_v1, project = run.instrument.sheet == SHEET_V1, drawn("??##", rng)
    index_cycles = [cycles for name, cycles in run.reads if "Index" in name]
    samples = []
    for number in range(1, run.instrument.samples + 1):
        name = f"{project}-{rng.randrange(10**5):05}-{number:03}"
        indexes = ["".join(rng.choices("ACGT", k=cycles)) for cycles in [*index_cycles, 0, 0][:2]]
        samples.append(",".join([name, name, project, *indexes] if is_v1 else [name, *indexes]))
    if is_v1:
        reads = [f"{cycles},,,," for name, cycles in run.reads if "Index" not in name]
    else:
        reads = [f"{name}Cycles,{cycles}" for name, cycles in run.reads]
    sheet = run.fill(run.instrument.sheet, reads="\n".join(reads), samples="\n".join(samples))
    return sheet.replace("\n", "\r\n").encode()


def text_file(run: Run, path: str) -> RunFile:
    """A file of text; CopyComplete.txt and SequenceComplete.txt are empty."""
    named = "".join(f'<Read ReadName="{name}" Cycles="{cycles}" />' for name, cycles in run.reads)
    match path:
        case "RunInfo.xml":
            content = run_info(run)
        case "SampleSheet.csv":
            content = sample_sheet(run)
        case "RunParameters.xml" | "runParameters.xml":
            content = xml(run, "RunParameters", run.instrument.parameters, named_reads=named, reads=read_tags(run))
        case "RunCompletionStatus.xml":
            content = xml(run, "RunCompletionStatus", run.instrument.completion, named_reads=named)
        case "RTAComplete.txt":
            content = run.fill(run.instrument.rta_complete).encode()
        case "CopyComplete.txt" | "SequenceComplete.txt":
            content = b""
        case _ if path.startswith("RTARead"):
            content = run.fill(f"Read {path[7]} {RTA_COMPLETE}").encode()
        case _ if path.endswith(".xml"):
            content = xml(run, "Configuration", PLAIN_XML)
        case _:
            content = run.fill(PLAIN_TEXT, path=path).encode()
    return RunFile(path, len(content), content)


def expanded(run: Run, template: str) -> list[str]:
    """All paths of a template, one for each value of each part in {}."""
    axes = {name: values for name, values in run.axes.items() if re.search(rf"{{{name}\b", template)}
    places = itertools.product(*axes.values())
    return [template.format(**vars(run), **dict(zip(axes, place, strict=True))) for place in places]


def text_files(run: Run, templates: str) -> list[RunFile]:
    return [text_file(run, path) for template in templates.split() for path in expanded(run, template)]


def data_files(run: Run, scale: float) -> Iterator[RunFile]:
    """Files of random bytes, their real sizes multiplied by the scale."""
    axes = run.axes
    for kind in run.instrument.data:
        size = kind.size * math.prod(len(axes[name]) for name in kind.each.split())
        for path in expanded(run, kind.path):
            yield RunFile(path, max(min(size, FLOOR_BYTES), round(size * scale)))


def run_files(run: Run, scale: float = DEFAULT_SCALE, *, complete: bool = True) -> list[RunFile]:
    """All files of the run in the order of writing, RunInfo.xml first; raises ValueError.

    The scale multiplies the sizes of binary files (1: as large as the instrument's). Without `complete` the
    completion markers are left out, as while the run is still being copied (RTARead1Complete.txt etc. stay).
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, not {scale}")
    made = run.instrument
    markers = text_files(run, made.markers) if complete else []
    return [*text_files(run, made.texts), *data_files(run, scale), *text_files(run, made.logs), *markers]


def write_file(folder: Path, file: RunFile, pool: memoryview, label: str) -> None:
    path = folder / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for block in random_blocks(pool, label, file.size) if file.content is None else [file.content]:
            stream.write(block)


def random_blocks(pool: memoryview, label: str, size: int) -> Iterator[bytes | memoryview]:
    """As many bytes as asked for: a header that no other label has, then ever other parts of the pool."""
    header = hashlib.blake2b(label.encode(), digest_size=32).digest()
    yield header[:size]
    start, left = int.from_bytes(header[:8], "big"), size - len(header)
    while left > 0:
        start = (start + STRIDE_BYTES) % BLOCK_BYTES
        block = pool[start : start + min(left, BLOCK_BYTES)]
        yield block
        left -= len(block)


def make_run(
    parent: Path,
    instrument: str = "novaseq6000",
    *,
    seed: int = 1,
    scale: float = DEFAULT_SCALE,
    cycles: tuple[int, ...] | None = None,
    lanes: int | None = None,
    tiles: int | None = None,
    run_id: str | None = None,
    complete: bool = True,
) -> Path:
    """Write a run folder under the parent and return its path.

    Cycles are those of each read, tiles those of a swath; the default scale makes about 207 MB for novaseq6000.
    The texts of the run's start are as old as the run is long, RunInfo.xml the oldest; all else is new.
    Raises ValueError for options that no instrument has, FileExistsError for a folder that holds something.
    """
    run = plan_run(instrument, seed=seed, cycles=cycles, lanes=lanes, tiles=tiles, run_id=run_id)
    files, folder = run_files(run, scale, complete=complete), Path(parent, run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there already, with files in it")
    pool = memoryview(random.Random(f"{seed} pool").randbytes(BLOCK_BYTES) * 2)
    for file in files:
        write_file(folder, file, pool, label=f"{seed} {run.run_id} {file.path}")
    began = time.time() - 3600 * run.instrument.run_hours
    for second, file in enumerate(text_files(run, run.instrument.texts)):
        os.utime(folder / file.path, (began + second, began + second))
    return folder


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_cycles(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 151,8,8,151") from None


def build_parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    summary = "Make a believable Illumina run folder with incompressible bytes."
    parser = Parser("simulate_run.py", description=summary, epilog=EPILOG, formatter_class=raw)
    add = parser.add_argument
    add("instrument", metavar="INSTRUMENT", choices=list(INSTRUMENTS), help=", ".join(INSTRUMENTS))
    add("parent", metavar="PARENT", type=Path, help="folder for the run folder; made where missing")
    add("--scale", metavar="F", type=float, default=DEFAULT_SCALE, help="size of binary files, 1 is real (%(default)s)")
    add("--seed", metavar="N", type=int, default=1, help="another seed, another flow cell (%(default)s)")
    add("--cycles", metavar="R1,I1,I2,R2", type=parse_cycles, help="of each read; R1, R1,R2 and R1,I1,R2 work too")
    add("--lanes", metavar="N", type=int, help="1 to 8")
    add("--tiles", metavar="N", type=int, help="of each swath, 1 to 99")
    add("--run_id", "--run-id", metavar="NAME", help="instead of the one from the seed")
    add("--incomplete", dest="complete", action="store_false", help="leave out the completion markers")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0, 1 when the folder cannot be written, 2 for options that make no sense."""
    try:
        folder = make_run(**vars(build_parser().parse_args(argv)))
    except (ValueError, OSError) as error:
        print(f"simulate_run.py: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}  {len(sizes):,} files  {sum(sizes):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
