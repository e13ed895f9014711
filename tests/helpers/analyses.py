"""Make runs with analyses."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from tests.helpers.lab import Lab, tree

RUN_INFO = (  # no cycles, so that no base calls have to be there
    '<RunInfo Version="6"><Run Id="{}" Number="61"><Instrument>{}</Instrument><Reads><Read NumCycles="0"/></Reads>'
    "<FlowcellLayout/></Run></RunInfo>"
)


LAST = "Data/Secondary_Analysis_Complete.txt"


def make_run(parent: Path, name: str = "20261123_LH00130_0061_A22CC55LT4", instrument: str = "LH00130") -> Path:
    """A complete run of as few files as there are kinds, and one that lies in Analysis/ itself."""
    run = parent / name
    for path, content in {
        "Data/first.cbcl": "first",
        "Analysis/notes.txt": "of the run",
        "CopyComplete.txt": "",
    }.items():
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_text(content)
    (run / "RunInfo.xml").write_text(RUN_INFO.format(name, instrument))
    return run


def make_analysis(run: Path, number: int = 1, *, complete: bool = True) -> Path:
    """An analysis of four files, its manifest and CopyComplete.txt; without the last marker if it is not complete."""
    folder = run / "Analysis" / str(number)
    for name in ("BCLConvert/fastq/a.fastq.gz", "BCLConvert/fastq/b.fastq.gz", "logs/dragen.log"):
        path = folder / "Data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {number}\n")
    (folder / LAST).write_text("")
    (folder / "Manifest.tsv").write_text("".join(f"{p}\t{zlib.crc32(c):08x}\n" for p, c in tree(folder).items()))
    (folder / "CopyComplete.txt").write_text("")
    if not complete:
        (folder / LAST).unlink()
    return folder


def log_path(lab: Lab, analysis: Path) -> Path:
    return lab.log_dir / "uploads" / f"{analysis.parents[1].name}.Analysis.{analysis.name}.upload.log.json"


def log_of(lab: Lab, analysis: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(log_path(lab, analysis).read_text())
    return loaded
