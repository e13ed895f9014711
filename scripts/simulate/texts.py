"""Make the texts of a run: RunInfo.xml, parameters, samplesheets, markers, logs."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

from scripts.simulate.instruments import RTA_COMPLETE, SHEET_V1
from scripts.simulate.plan import Run, drawn

PLAIN_TEXT = "; {path}\r\nRunId={run_id}\r\nInstrument={instrument_id}\r\nFlowcell={flowcell}\r\n"
PLAIN_XML = "<RunId>{run_id}</RunId><Instrument>{instrument_id}</Instrument><Flowcell>{flowcell}</Flowcell>"
RUN_INFO = """
<Run Id={quoted_id} Number="{number}"><Flowcell>{flowcell}</Flowcell><Instrument>{instrument_id}</Instrument>
<Date>{date}</Date><Reads>{reads}</Reads>
<FlowcellLayout LaneCount="{instrument.lanes}" SurfaceCount="{instrument.surfaces}" SwathCount="{instrument.swaths}"
TileCount="{instrument.tiles}">{tile_set}</FlowcellLayout></Run>"""


def xml(run: Run, tag: str, inside: str, **more: object) -> bytes:
    """Return an XML document with the facts of the run filled in."""
    root = ET.fromstring(f"<{tag}>{run.fill(inside, run_id=escape(run.run_id), **more)}</{tag.split()[0]}>")
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root) + b"\n"


def read_tags(run: Run) -> str:
    """Return the reads as in RunInfo.xml, with IsReverseComplement from version 6 on."""
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
    """Return SampleSheet.csv: version 1 for MiSeq, else version 2. Names and indexes of samples depend on the seed."""
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


def text_of(run: Run, path: str) -> bytes:
    """Return the content of a text file; CopyComplete.txt and SequenceComplete.txt are empty."""
    named = "".join(f'<Read ReadName="{name}" Cycles="{cycles}" />' for name, cycles in run.reads)
    match path:
        case "RunInfo.xml":
            return run_info(run)
        case "SampleSheet.csv":
            return sample_sheet(run)
        case "RunParameters.xml" | "runParameters.xml":
            return xml(run, "RunParameters", run.instrument.parameters, named_reads=named, reads=read_tags(run))
        case "RunCompletionStatus.xml":
            return xml(run, "RunCompletionStatus", run.instrument.completion, named_reads=named)
        case "RTAComplete.txt":
            return run.fill(run.instrument.rta_complete).encode()
        case "CopyComplete.txt" | "SequenceComplete.txt":
            return b""
        case _ if path.startswith("RTARead"):
            return run.fill(f"Read {path[7]} {RTA_COMPLETE}").encode()
        case _ if path.endswith(".xml"):
            return xml(run, "Configuration", PLAIN_XML)
        case _:
            return run.fill(PLAIN_TEXT, path=path).encode()
