"""Measure s3sync beside the AWS CLI alone and other tools, in alternation on one machine.

Run it with `make bench`. Without --bucket everything goes to a server on this machine, and no account is used.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from s3sync.aws.destination import parse_destination  # noqa: E402
from s3sync.aws.installation import find_aws  # noqa: E402
from s3sync.errors import S3SyncError  # noqa: E402
from s3sync.resources import usable_cores  # noqa: E402
from scripts.bench import modes, plot, tables, tuning  # noqa: E402
from scripts.bench.contenders import CONTENDERS, UNSET, USUAL, Pair, is_installed  # noqa: E402
from scripts.bench.modes import description, progress_line, record, say  # noqa: E402
from scripts.bench.server import make_certificate  # noqa: E402
from scripts.bench.sites import BucketSite, LocalSite, Site  # noqa: E402
from scripts.bench.trials import Measurement, entries_of, measure_all  # noqa: E402
from scripts.bench.workloads import SHAPES, Workload, make_workload, own_workload  # noqa: E402

DEFAULT_WORKLOADS = ("small", "novaseq", "far")
SLURM = ("speedup", "coordinator")
BUCKET_CONTENDERS = ("s3sync", "bare", "plain")
DESCRIPTION = """\
Measures this program beside the AWS CLI alone and other tools: in one run, on
one machine, in alternation."""
EPILOG = f"""\
workloads:
{chr(10).join(f"  {name:<12} {shape.about}" for name, shape in SHAPES.items())}

contenders:
{chr(10).join(f"{'*' if name in USUAL else ' '} {name:<14} {one.about}" for name, one in CONTENDERS.items())}

examples:
  benchmark.py
      about 10 minutes on 2 cores
  benchmark.py --workloads small --scale 0.01 --rounds 1
      a quick check that it works
  benchmark.py --workloads novaseq --tls
      large files, over TLS
  benchmark.py --growth
      planning, scans and resumed uploads
  benchmark.py --live
      a run that goes up while it is written; about 5 minutes
  benchmark.py --beside
      a small run beside a large one; about 6 minutes
  benchmark.py --restore
      2,000 small files, and 2 of 400 MB, downloaded and verified; 4 minutes
  benchmark.py --capacity
      how many nodes 10 and 100 large sequencers need: a calculation, in seconds
  benchmark.py --slurm speedup coordinator
      a run on the nodes of a cluster; 5 minutes each, the first as root, with
      Debian's packages of Slurm
  benchmark.py --bucket B --local-path RUN --cores 2 4 8 --threads 4 8
      which pair is best for this run and bucket
"""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, 1 if something failed, 2 for invalid options, 130 after Ctrl-C."""
    try:
        args = parsed(sys.argv[1:] if argv is None else argv)
        with tempfile.TemporaryDirectory(prefix="s3sync-benchmark-") as folder:
            return run(args, Path(folder))
    except ValueError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return 2
    except (S3SyncError, OSError, RuntimeError) as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, S3SyncError) else 1
    except KeyboardInterrupt:
        print("benchmark.py: interrupted", file=sys.stderr)
        return 130


def build_parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("benchmark.py", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    add = parser.add_argument
    add("--workloads", nargs="+", choices=SHAPES, metavar="NAME", help=f"default: {' '.join(DEFAULT_WORKLOADS)}")
    add(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        metavar="NAME",
        help="default: those marked *; fewer with --bucket",
    )
    add("--rounds", type=int, metavar="N", help="default: 2, for `far` and a run of yours 1")
    add("--scale", type=float, default=1.0, metavar="F", help="use this part of the files (default 1)")
    add("--cores", type=int, nargs="+", metavar="N", help="processes; several are a grid (default: all cores)")
    add("--threads", type=int, nargs="+", metavar="N", help="requests at once in each (default: s3sync decides)")
    add("--tls", action="store_true", help="let the server on this machine speak TLS")
    add("--latency", type=float, metavar="MS", help="what it waits before each answer")
    add("--growth", action="store_true", help="the costs that grow, instead of the default workloads")
    add(
        "--tune",
        nargs="+",
        choices=tuning.KNOBS,
        metavar="NAME",
        help="vary these defaults, one at a time",
    )
    add("--live", action="store_true", help="a run that goes up while it is written, over a slow line")
    add("--beside", action="store_true", help="a small run that is complete while a large one is uploaded")
    add("--restore", action="store_true", help="runs that come back, beside the AWS CLI alone")
    add(
        "--slurm", nargs="+", choices=SLURM, metavar="NAME", help=f"a run on the nodes of a cluster: {', '.join(SLURM)}"
    )
    add("--capacity", action="store_true", help="how many nodes large sites need; nothing is measured")
    add("--output", type=Path, default=Path("build/benchmark"), metavar="DIR", help="default %(default)s")
    add("--bucket", metavar="B", help="a real bucket, with your credentials")
    add(
        "--remote-path",
        "--remote_path",
        default="/",
        metavar="PATH",
        help="where in it a new prefix is made (default /)",
    )
    add(
        "--local-path", "--local_path", type=Path, metavar="RUN", help="a run folder of yours instead of simulated ones"
    )
    add("--yes", action="store_true", help="delete what was uploaded to the bucket without asking")
    add(
        "--aws-command", "--aws_command", metavar="FILE", help="the AWS CLI (default: beside this Python, else on PATH)"
    )
    add("--other-aws", metavar="FILE", help="another AWS CLI, for bare-other, s3sync-other, plain-other, crt-other")
    return parser


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options, with defaults that depend on others. Raises ValueError or S3SyncError."""
    args = build_parser().parse_args(argv)
    args.cores = args.cores or [usable_cores()]
    numbers = [*args.cores, *(args.threads or ()), 1 if args.rounds is None else args.rounds]
    if min(numbers) < 1 or not 0 < args.scale < math.inf or not 0 <= (args.latency or 0) < math.inf:
        raise ValueError("cores, threads, rounds and scale must be more than 0, latency no less")
    args.threads = args.threads or [UNSET]
    modes = args.growth or args.tune or args.live or args.beside or args.restore or args.slurm or args.capacity
    if args.bucket and (args.tls or args.latency is not None or modes):
        only = "--tls, --latency, --growth, --tune, --live, --beside, --restore, --slurm and --capacity"
        raise ValueError(f"{only} are for the server on this machine, not for --bucket")
    if args.local_path and args.workloads:
        raise ValueError("either --local_path or --workloads")
    if args.bucket:
        parse_destination(args.bucket, args.remote_path)
    if not (args.workloads or args.local_path or modes):
        args.workloads = ["small"] if args.bucket else list(DEFAULT_WORKLOADS)
    args.contenders = args.contenders or list(BUCKET_CONTENDERS if args.bucket else USUAL)
    args.aws_command = find_aws(args.aws_command, os.environ)
    check_other(args)
    return args


def check_other(args: argparse.Namespace) -> None:
    """Find the second AWS CLI; raises ValueError where one is needed and none is given."""
    users = [name for name in args.contenders if CONTENDERS[name].other]
    if users and not args.other_aws:
        raise ValueError(f"--other-aws is required for {', '.join(users)}")
    args.other_aws = find_aws(args.other_aws, os.environ) if args.other_aws else ""


def run(args: argparse.Namespace, folder: Path) -> int:
    """Measure everything that the options select; return the exit code."""
    args.output.mkdir(parents=True, exist_ok=True)
    if args.bucket:
        site = BucketSite(args.bucket, args.remote_path, args.aws_command)
        try:
            return compare(args, site, folder)
        finally:
            clean_up(site, args.yes)
    code = compare(args, local_site(args, folder), folder) if args.workloads or args.local_path else 0
    if args.growth:
        modes.show_growth(args, folder)
    if args.tune:
        code = max(code, modes.tune(args, local_site(args, folder), folder))
    if args.live:
        code = max(code, modes.show_live(args, folder))
    if args.beside:
        code = max(code, modes.show_beside(args, folder))
    if args.restore:
        code = max(code, modes.show_restore(args, folder))
    if "speedup" in (args.slurm or ()):
        code = max(code, modes.show_speedup(args, folder))
    if "coordinator" in (args.slurm or ()):
        modes.show_coordinator(args, folder)
    if args.capacity:
        modes.show_capacity(args)
    return code


def local_site(args: argparse.Namespace, folder: Path) -> LocalSite:
    """Return a server on this machine. Raises RuntimeError if TLS is not possible."""
    try:
        needs_tls = args.tls or any(SHAPES[name].tls for name in args.workloads or ())
        return LocalSite(folder, make_certificate(folder) if needs_tls else None, always_tls=args.tls)
    except ImportError as error:
        raise RuntimeError(f"--tls needs {error.name}, which is not installed (`make bench` installs it)") from None


def compare(args: argparse.Namespace, site: Site, folder: Path) -> int:
    """Measure all contenders with all workloads, and show the results even if interrupted; return the exit code."""
    workloads = list(workloads_of(args, folder))
    present = [name for name in args.contenders if is_installed(name)]
    for name in args.contenders:
        if name not in present:
            say(f"{name} is left out: it is not installed (`make bench` installs it)")
    entries = entries_of(present, [Pair(*pair) for pair in product(args.cores, args.threads)])
    measured = measure_all(site, workloads, entries, args.rounds, args.aws_command, args.other_aws)
    measurements: list[Measurement] = []
    try:
        record(args.output / "measurements.tsv", tables.TSV_HEAD, measured, tables.tsv_row, progress_line, measurements)
    finally:
        show(args, measurements)
    return 1 if any(one.trouble for one in measurements) else 0


def workloads_of(args: argparse.Namespace, folder: Path) -> Iterator[Workload]:
    latency = None if args.latency is None else args.latency / 1000
    if args.local_path:
        yield own_workload(args.local_path, latency)
    for name in args.workloads or ():
        workload = make_workload(name, folder, args.scale, 0.0 if args.bucket else latency)
        say(str(workload))
        yield workload


def show(args: argparse.Namespace, measurements: list[Measurement]) -> None:
    """Print tables, and write them as Markdown and a picture into the output folder."""
    if not measurements:
        return
    about = description(args)
    print(f"\n{tables.report(measurements, about, tables.aligned)}", flush=True)
    (args.output / "report.md").write_text(tables.report(measurements, about), encoding="utf-8")
    written = ["measurements.tsv", "report.md"]
    try:
        plot.draw(tables.by_workload(measurements), args.output / "report.png")
        written.append("report.png")
    except ImportError as error:
        say(f"no picture: {error.name} is not installed (`make bench` installs it)")
    say(f"written into {args.output}: {', '.join(written)}")


def clean_up(site: BucketSite, yes: bool) -> None:
    """Delete what was uploaded, and nothing else, if the user agrees."""
    if not site.used:
        return
    if yes or agreed(f"Delete {site.url} and all that is under it? [y/N] "):
        say(f"deleting {site.url}")
        if site.remove():
            say(f"not all was deleted: {site.url}")
    else:
        say(f"what was uploaded stays: {site.url}")


def agreed(question: str) -> bool:
    """Return whether a user at the terminal says yes."""
    if not sys.stdin.isatty():
        return False
    with contextlib.suppress(EOFError):
        return input(question).strip().lower() in ("y", "yes")
    return False


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended, too
    sys.exit(main())
