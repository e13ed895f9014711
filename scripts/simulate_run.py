"""Make a believable Illumina run folder: real names and numbers of files, incompressible bytes, any size.

Base calls, cluster positions, thumbnails and InterOp hold pseudo-random bytes and shrink with the scale; text
(RunInfo.xml, RunParameters.xml, SampleSheet.csv, Config, Recipe, logs, completion markers) stays as it is.
The same seed and options give the same names and bytes, whatever the day: dates inside the files come from
the seed, and only the files' modification times are recent.

With --live the same files are written over time, as an instrument does: first the texts, then the data of each
cycle while they grow, in the end the completion markers. `simulate.live.LiveRun` is that for programs.

With --mirror they come as rsync copies a run: the root with its completion markers first, each file under a temporary
name until it is whole, with pauses. `simulate.copying.MirroredRun` is that for programs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Found only by the line above where this is run as a script.
from s3sync.errors import InterruptedBySignal
from s3sync.signals import StopRequest, stop_on_signals
from scripts.simulate.analyses import require_analysis, write_analysis
from scripts.simulate.copying import MirroredRun, copied
from scripts.simulate.files import DEFAULT_SCALE, RunFile, run_files, text_files
from scripts.simulate.instruments import INSTRUMENTS
from scripts.simulate.live import LiveRun, at_pace
from scripts.simulate.plan import Run, plan_run
from scripts.simulate.writing import begin_folder

__all__ = ["DEFAULT_SCALE", "INSTRUMENTS", "RunFile", "main", "make_run", "plan_run", "run_files"]

DEFAULT_SPEED, SLOWEST = 600, 0.001  # times an instrument's
EPILOG = """\
files, and size at the default scale of 0.002:
  miseq 9,524, 12 MB; nextseq2000 4,037, 89 MB; novaseq6000 5,490, 207 MB;
  novaseqx 14,628, 10 GB; miseqi100 3,603, 10 MB; nextseq550 4,233, 122 MB;
  iseq100 2,311, 2 MB; hiseq2500 27,195, 51 MB

examples:
  an S1 flow cell:
    simulate_run.py novaseq6000 /tmp/runs
  all files of a 25B flow cell, 112 MB:
    simulate_run.py novaseqx /tmp/runs --scale 0.00002
  a few files of each kind:
    simulate_run.py miseq /tmp/runs --cycles 26,8,26 --tiles 2
  another flow cell, without completion markers:
    simulate_run.py nextseq2000 /tmp/runs --seed 7 --incomplete
  with FASTQs in Analysis/1:
    simulate_run.py novaseqx /tmp/runs --scale 0.00002 --analysis
  over time, a cycle in half a second; prints a line for each cycle, with
  the seconds since the start and the time by the instrument's clock:
    simulate_run.py novaseq6000 /tmp/runs --cycles 26,8,8,26 --live --speed 600
  as rsync copies a run, with a pause of a minute before each folder:
    simulate_run.py novaseqx /tmp/runs --scale 0.00002 --mirror --pause 60
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
    return write_run(parent, run, scale, complete=complete)


def write_run(parent: Path, run: Run, scale: float, *, complete: bool) -> Path:
    """Write all files of a planned run at once, as `make_run` does, and return the folder's path."""
    files, writer = run_files(run, scale, complete=complete), begin_folder(parent, run)
    began, markers = time.time() - 3600 * run.instrument.run_hours, set(run.instrument.markers.split())
    for file in (file for file in files if file.path not in markers):
        writer.write(file)
    for second, file in enumerate(text_files(run, run.instrument.texts)):
        os.utime(writer.folder / file.path, (began + second, began + second))
    for file in (file for file in files if file.path in markers):  # last, by their ctimes too
        writer.write(file)
    return writer.folder


def write_live_run(parent: Path, run: Run, speed: float, stop: StopRequest, **options: Any) -> Path:
    """Write a run at `speed` times an instrument's, a line to stdout after each phase; gives the folder's path.

    The options are those of `LiveRun`. Raises InterruptedBySignal when `stop` is requested meanwhile.
    """
    live, began = LiveRun(parent, run, **options), time.monotonic()
    print(live.folder, flush=True)
    for moment in at_pace(live, speed, stop.wait):
        if live.upcoming is None or live.upcoming.phase != moment.phase:
            of_the_run = timedelta(seconds=round(moment.seconds))
            print(f"{time.monotonic() - began:9.1f} s  {of_the_run}  {moment.phase}", flush=True)
    stop.raise_if_requested()
    return live.folder


def mirror_run(parent: Path, run: Run, scale: float, pause: float, stop: StopRequest) -> Path:
    """Copy a run as rsync does, a line to stdout before each part of it; gives the folder's path.

    Raises InterruptedBySignal when `stop` is requested meanwhile.
    """
    copy, part = MirroredRun(parent, run, scale), ""
    print(f"{copy.folder}: its root", flush=True)
    for step in copied(copy, pause, stop.wait):
        if step.part != part:
            part = step.part
            print(part, flush=True)
    stop.raise_if_requested()
    return copy.folder


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_cycles(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(count) for count in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 151,8,8,151") from None


def parse_speed(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (speed := float(text)) >= SLOWEST:
            return speed
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from {SLOWEST} on")


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
    add(
        "--analysis",
        action="store_true",
        help="with an analysis of the run (novaseqx, nextseq2000, miseqi100); live: at the end",
    )
    add("--live", action="store_true", help="write the run over time, as the instrument does")
    add(
        "--speed",
        metavar="F",
        type=parse_speed,
        help="live: so many times as fast as the instrument; inf: no waiting (600)",
    )
    add("--mirror", action="store_true", help="write the run as rsync copies one: markers first")
    add("--pause", metavar="SECONDS", type=float, help="mirror: before each folder and lane (0)")
    add("--rewrite", metavar="N", type=int, help="live: N files of base calls get other bytes after the last cycle")
    add("--abandon", metavar="CYCLE", type=int, help="live: after that cycle the instrument stops for ever")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if the folder cannot be written, 2 for invalid options, 130 for SIGINT etc."""
    try:
        folder = write_asked_for(build_parser().parse_args(argv))
    except (ValueError, OSError, InterruptedBySignal) as error:
        print(f"simulate_run.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, InterruptedBySignal) else 2 if isinstance(error, ValueError) else 1
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}  {len(sizes):,} files  {sum(sizes):,} bytes")
    return 0


def write_asked_for(args: argparse.Namespace) -> Path:
    """Write the run that the command line describes, and return the folder's path; raises ValueError."""
    shape = {name: getattr(args, name) for name in ("seed", "cycles", "lanes", "tiles", "run_id")}
    how = {name: getattr(args, name) for name in ("speed", "rewrite", "abandon") if getattr(args, name) is not None}
    run = plan_run(args.instrument, **shape)
    if not args.live and how:
        raise ValueError(f"--{next(iter(how))} is for --live")
    _require_mirror(args)
    if args.analysis:
        require_analysis(run)
        if "abandon" in how:
            raise ValueError("--analysis is for a run that is not given up: not with --abandon")
    if args.mirror:
        folder = _mirror(args, run)
    else:
        folder = _live(args, run, how) if args.live else write_run(args.parent, run, args.scale, complete=args.complete)
    if args.analysis:
        write_analysis(folder, run, args.scale, complete=args.complete)
    return folder


def _require_mirror(args: argparse.Namespace) -> None:
    if args.pause is not None and not (args.mirror and 0 <= args.pause < threading.TIMEOUT_MAX):
        raise ValueError("--pause is for --mirror, and takes a number from 0 on")
    if args.mirror and (args.live or not args.complete):
        raise ValueError("--mirror copies a complete run: not with --live or --incomplete")


def _mirror(args: argparse.Namespace, run: Run) -> Path:
    stop = StopRequest()
    with stop_on_signals(stop):
        return mirror_run(args.parent, run, args.scale, args.pause or 0.0, stop)


def _live(args: argparse.Namespace, run: Run, how: dict[str, Any]) -> Path:
    stop, options = StopRequest(), {"speed": DEFAULT_SPEED, **how, "scale": args.scale, "complete": args.complete}
    with stop_on_signals(stop):
        return write_live_run(args.parent, run, stop=stop, **options)


if __name__ == "__main__":
    sys.exit(main())
