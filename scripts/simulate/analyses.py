"""Make an analysis of a run as DRAGEN on the instrument does: FASTQs, reports, logs, Manifest.tsv."""

from __future__ import annotations

import zlib
from pathlib import Path

from scripts.simulate.files import FLOOR_BYTES, RunFile
from scripts.simulate.plan import Run
from scripts.simulate.texts import sample_sheet
from scripts.simulate.writing import READ_BYTES, writer_for

COMPLETE = "Data/Secondary_Analysis_Complete.txt"
FASTQ_BYTES = 15_000_000  # a sample, lane and cycle, at scale 1
_TEXTS = """\
Data/AggregateReports/report.html
Data/BCLConvert/fastq/Logs/FastqComplete.txt
Data/BCLConvert/fastq/Logs/Info.log
Data/BCLConvert/fastq/Reports/Demultiplex_Stats.csv
Data/BCLConvert/fastq/Reports/fastq_list.csv
Data/BCLConvert/logs/cmdline_{number}.txt
Data/BCLConvert/logs/dragen_run_{number}.log
Data/Demux/AggregateReports/report.html
Data/logs/dragen_prev_48_hrs.log
Data/summary/4.1.7/detailed_summary.json
Data/summary/4.1.7/workflow_status.json
"""


def require_analysis(run: Run) -> None:
    """Raise ValueError if its instrument makes no analyses."""
    if not run.instrument.analysis:
        raise ValueError("no such instrument makes an analysis of its runs: novaseqx, nextseq2000 and miseqi100 do")


def analysis_files(run: Run, scale: float) -> list[RunFile]:
    """Return all files of an analysis except its manifest and CopyComplete.txt, with paths relative to its folder."""
    samples = [*_samples(run), "Undetermined"]
    reads = [cycles for name, cycles in run.reads if "Index" not in name]
    files = [
        RunFile(
            f"Data/BCLConvert/fastq/{sample}_S{place % len(samples)}_L{lane:03}_R{read}_001.fastq.gz",
            max(FLOOR_BYTES, round(FASTQ_BYTES * cycles * scale)),
        )
        for place, sample in enumerate(samples, start=1)
        for lane in run.axes["lane"]
        for read, cycles in enumerate(reads, start=1)
    ]
    texts = {path: run.fill("{run_id} {path}\n", path=path) for path in run.fill(_TEXTS).split()}
    texts["Data/BCLConvert/SampleSheet.csv"] = sample_sheet(run).decode()
    texts[COMPLETE] = ""
    return [*files, *(RunFile(path, len(text), text.encode()) for path, text in texts.items())]


def write_analysis(folder: Path, run: Run, scale: float, number: int = 1, *, complete: bool = True) -> Path:
    """Write `Analysis/NUMBER` into the folder of this run, its manifest and markers last; gives its path.

    Raises ValueError for an instrument that makes none.
    """
    require_analysis(run)
    place = folder / "Analysis" / str(number)
    writer = writer_for(place, run)
    files = [file for file in analysis_files(run, scale) if complete or file.path != COMPLETE]
    for file in files:
        writer.write(file)
    if complete:
        lines = sorted(f"{file.path}\t{_crc32(place / file.path):08x}\n" for file in files)
        (place / "Manifest.tsv").write_text("".join(lines))
        (place / "CopyComplete.txt").touch()
    return place


def _samples(run: Run) -> list[str]:
    """Return the Sample_IDs in the sample sheet."""
    rows = sample_sheet(run).decode().split("Sample_ID,")[1].splitlines()[1:]
    return [row.partition(",")[0] for row in rows]


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            crc = zlib.crc32(block, crc)
    return crc
