"""Make a believable Illumina run folder: real names and numbers of files, incompressible bytes, any size.

Base calls, cluster positions, thumbnails and InterOp hold pseudo-random bytes and shrink with the scale; text
(RunInfo.xml, RunParameters.xml, SampleSheet.csv, Config, Recipe, logs, completion markers) stays as it is.
The same seed and options give the same names and bytes, whatever the day: dates inside the files come from
the seed, and only the files' modification times are recent.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Found only by the line above where this is run as a script.
from scripts.simulate.files import DEFAULT_SCALE, RunFile, run_files, text_files
from scripts.simulate.instruments import INSTRUMENTS
from scripts.simulate.plan import plan_run
from scripts.simulate.writing import empty_folder, random_pool, write_file

__all__ = ["DEFAULT_SCALE", "INSTRUMENTS", "RunFile", "main", "make_run", "plan_run", "run_files"]

EPILOG = """\
files, and size at the default scale of 0.002:
  miseq 9,524, 12 MB; nextseq2000 4,037, 89 MB; novaseq6000 5,490, 207 MB; novaseqx 14,628, 10 GB

examples:
  simulate_run.py novaseq6000 /tmp/runs                        an S1 flow cell
  simulate_run.py novaseqx /tmp/runs --scale 0.00002           all files of a 25B flow cell, 112 MB
  simulate_run.py miseq /tmp/runs --cycles 26,8,26 --tiles 2   a few files of each kind
  simulate_run.py nextseq2000 /tmp/runs --seed 7 --incomplete  another flow cell, without completion markers
"""


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
    empty_folder(folder)
    pool = random_pool(seed)
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
