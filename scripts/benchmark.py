"""Measure s3sync beside the AWS CLI alone and other tools, in alternation on one machine.

Run it with `make bench`. Without --bucket everything goes to a server on this machine, and no account is used.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NoReturn, TextIO

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from s3sync import __version__  # noqa: E402 - found only by the line above
from s3sync.aws.destination import parse_destination  # noqa: E402
from s3sync.aws.installation import find_aws  # noqa: E402
from s3sync.errors import S3SyncError  # noqa: E402
from s3sync.resources import usable_cores  # noqa: E402
from s3sync.text import now_iso  # noqa: E402
from scripts.bench import back, beside, capacity, cluster, coordinator, growth, live, plot, tables, tuning  # noqa: E402
from scripts.bench.contenders import CONTENDERS, UNSET, USUAL, USUAL_THREADS, Pair, is_installed  # noqa: E402
from scripts.bench.server import make_certificate  # noqa: E402
from scripts.bench.sites import BucketSite, LocalSite, Site  # noqa: E402
from scripts.bench.trials import Measurement, entries_of, measure_all  # noqa: E402
from scripts.bench.workloads import SHAPES, Workload, make_workload, own_workload  # noqa: E402

DEFAULT_WORKLOADS = ("small", "novaseq", "far")
SMALLEST = 10  # files, however small the scale
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
      a look whether it works
  benchmark.py --workloads novaseq --tls
      large files, over TLS
  benchmark.py --growth
      planning, scans and resumed uploads
  benchmark.py --live
      a run that goes up while it is written; about 5 minutes
  benchmark.py --beside
      a small run beside a large one; about 6 minutes
  benchmark.py --restore
      2,000 small files, and 2 of 400 MB, downloaded and proven; about 4 minutes
  benchmark.py --capacity
      how many nodes 10 and 100 large sequencers want: a calculation, in seconds
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
    """Exit code: 0, 1 when something failed, 2 for options that make no sense, 130 after Ctrl-C."""
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
    add("--scale", type=float, default=1.0, metavar="F", help="that part of the files (default 1)")
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
        help="what the defaults rest on, one varied at a time",
    )
    add("--live", action="store_true", help="a run that goes up while it is written, over a slow line")
    add("--beside", action="store_true", help="a small run that is complete while a large one is uploaded")
    add("--restore", action="store_true", help="runs that come back, beside the AWS CLI alone")
    add(
        "--slurm", nargs="+", choices=SLURM, metavar="NAME", help=f"a run on the nodes of a cluster: {', '.join(SLURM)}"
    )
    add("--capacity", action="store_true", help="how many nodes large sites want; nothing is measured")
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
    add("--yes", action="store_true", help="delete what was uploaded to the bucket without a question")
    add(
        "--aws-command", "--aws_command", metavar="FILE", help="the AWS CLI (default: beside this Python, else on PATH)"
    )
    add("--other-aws", metavar="FILE", help="another AWS CLI, for bare-other, s3sync-other, plain-other, crt-other")
    return parser


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options, with defaults that depend on others filled in; raises ValueError or S3SyncError."""
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
    """Everything that was asked for."""
    args.output.mkdir(parents=True, exist_ok=True)
    if args.bucket:
        site = BucketSite(args.bucket, args.remote_path, args.aws_command)
        try:
            return compare(args, site, folder)
        finally:
            clean_up(site, args.yes)
    code = compare(args, local_site(args, folder), folder) if args.workloads or args.local_path else 0
    if args.growth:
        show_growth(args, folder)
    if args.tune:
        code = max(code, tune(args, local_site(args, folder), folder))
    if args.live:
        code = max(code, show_live(args, folder))
    if args.beside:
        code = max(code, show_beside(args, folder))
    if args.restore:
        code = max(code, show_restore(args, folder))
    if "speedup" in (args.slurm or ()):
        code = max(code, show_speedup(args, folder))
    if "coordinator" in (args.slurm or ()):
        show_coordinator(args, folder)
    if args.capacity:
        show_capacity(args)
    return code


def local_site(args: argparse.Namespace, folder: Path) -> LocalSite:
    """Raises RuntimeError where TLS cannot be had."""
    try:
        needs_tls = args.tls or any(SHAPES[name].tls for name in args.workloads or ())
        return LocalSite(folder, make_certificate(folder) if needs_tls else None, always_tls=args.tls)
    except ImportError as error:
        raise RuntimeError(f"--tls needs {error.name}, which is not installed (`make bench` installs it)") from None


def compare(args: argparse.Namespace, site: Site, folder: Path) -> int:
    """All contenders with all workloads; tells and writes what came of it, also if it is interrupted."""
    workloads = list(made(args, folder))
    present = [name for name in args.contenders if is_installed(name)]
    for name in args.contenders:
        if name not in present:
            say(f"{name} is left out: it is not installed (`make bench` installs it)")
    entries = entries_of(present, [Pair(*pair) for pair in product(args.cores, args.threads)])
    measurements: list[Measurement] = []
    with (args.output / "measurements.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, tables.TSV_HEAD)
        try:
            for one in measure_all(site, workloads, entries, args.rounds, args.aws_command, args.other_aws):
                measurements.append(one)
                write_row(stream, tables.tsv_row(one))
                say(progress_line(one))
        finally:
            show(args, measurements)
    return 1 if any(one.trouble for one in measurements) else 0


def made(args: argparse.Namespace, folder: Path) -> Iterator[Workload]:
    latency = None if args.latency is None else args.latency / 1000
    if args.local_path:
        yield own_workload(args.local_path, latency)
    for name in args.workloads or ():
        workload = make_workload(name, folder, args.scale, 0.0 if args.bucket else latency)
        say(str(workload))
        yield workload


def progress_line(one: Measurement) -> str:
    name = f"{one.workload.name} round {one.round} {one.entry.label}"
    return f"{name}: {one.trouble or f'{one.usage.seconds:.1f} s, {one.usage.cpu_seconds:.1f} CPU-s'}"


def show(args: argparse.Namespace, measurements: list[Measurement]) -> None:
    """Tables on stdout, and as Markdown and a picture in the output folder."""
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


def description(args: argparse.Namespace, first: str = "`bare`") -> list[str]:
    """What a reader has to know to judge the numbers, in lines."""
    versions = [version_of(aws) for aws in (args.aws_command, args.other_aws) if aws]
    where = f"s3://{args.bucket}" if args.bucket else f"a server on the same machine{', over TLS' if args.tls else ''}"
    return [
        f"s3sync {__version__}, {' and '.join(versions)}, Python {platform.python_version()},",
        f"{usable_cores()} cores, {now_iso()}, to {where}.",
        f"{'/'.join(map(str, args.cores))} processes x {'/'.join(str(n or 'usual') for n in args.threads)} threads;",
        "s3sync may start four times as many processes while the CPU idles.",
        f"Medians of rounds in alternation; ratios to {first} in the same round;",
        "the page cache is warm but for runs of the user's; CPU of the whole process",
        "tree; MB: its peak PSS, looked at twice a second; server: CPU-seconds of the",
        "S3 server beside it.",
    ]


def version_of(aws: str) -> str:
    """`aws-cli/1.46.3`."""
    version = subprocess.run([aws, "--version"], capture_output=True, text=True, check=False).stdout
    return version.split(" ")[0].strip()


def show_growth(args: argparse.Namespace, folder: Path) -> None:
    rows: list[tuple[str, ...]] = [growth.HEAD]
    environ = LocalSite(folder, None).environ
    with (args.output / "growth.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, growth.HEAD)
        for one in growth.measure_growth(folder, environ, args.aws_command, args.scale):
            rows.append(growth.row_of(one))
            write_row(stream, rows[-1])
            say(", ".join(rows[-1]))
    print(f"\n{tables.aligned(rows)}", flush=True)
    (args.output / "growth.md").write_text(tables.markdown(rows), encoding="utf-8")


def tune(args: argparse.Namespace, site: Site, folder: Path) -> int:
    """What is set, one thing at a time; the ratios are to its default."""
    pair = Pair(args.cores[0], args.threads[0])
    measurements: list[Measurement] = []
    sections = ["\n".join(description(args, "the default"))]
    with (args.output / "tuning.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, tables.TSV_HEAD)
        for name in args.tune:
            found = []
            for one in tuning.measure_knob(name, site, folder, args.scale, args.rounds or 2, args.aws_command, pair):
                found.append(one)
                write_row(stream, tables.tsv_row(one))
                say(progress_line(one))
            measurements += found
            sections += tuned(name, found)
    print("\n\n".join(sections), flush=True)
    (args.output / "tuning.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return 1 if any(one.trouble for one in measurements) else 0


def tuned(name: str, measurements: Sequence[Measurement]) -> Iterator[str]:
    """A table for each workload."""
    knob = tuning.KNOBS[name]
    default = tuning.label_of(name, knob.default)
    for workload, summaries in tables.by_workload(measurements, default).items():
        yield f"### {name}: {knob.about} ({workload}; default {knob.default:g})"
        yield tables.markdown(tables.rows_of(summaries)).rstrip()


def show_live(args: argparse.Namespace, folder: Path) -> int:
    """How long after its last file a run is in S3, streamed or not; tells and writes what came of it."""
    order = live.make_order(args.scale, args.cores[0], args.threads[0] or USUAL_THREADS, args.aws_command)
    tails: list[live.Tail] = []
    with (args.output / "live.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, live.TSV_HEAD)
        for one in live.measure_live(order, args.rounds or 1, LocalSite(folder, None).environ):
            tails.append(one)
            write_row(stream, live.tsv_row(one))
            say(live.line_of(one))
    about, rows = "\n".join(live.about(order, tails)), live.rows_of(tails)
    print(f"\n{about}\n\n{tables.aligned(rows)}", flush=True)
    (args.output / "live.md").write_text(f"{about}\n\n{tables.markdown(rows)}", encoding="utf-8")
    return 1 if any(one.trouble for one in tails) else 0


def show_beside(args: argparse.Namespace, folder: Path) -> int:
    """How long a small run takes beside a large one; tells and writes what came of it."""
    order = beside.make_order(args.scale, args.cores[0], args.threads[0] or USUAL_THREADS, args.aws_command)
    times: list[beside.Times] = []
    with (args.output / "beside.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, beside.TSV_HEAD)
        for one in beside.measure_beside(order, args.rounds or 1, LocalSite(folder, None).environ):
            times.append(one)
            write_row(stream, beside.tsv_row(one))
            say(beside.line_of(one))
    about, rows = "\n".join(beside.about(order)), beside.rows_of(times)
    print(f"\n{about}\n\n{tables.aligned(rows)}", flush=True)
    (args.output / "beside.md").write_text(f"{about}\n\n{tables.markdown(rows)}", encoding="utf-8")
    return 1 if any(one.trouble for one in times) else 0


def show_restore(args: argparse.Namespace, folder: Path) -> int:
    """Downloads that are proven beside those of the CLI alone; tells and writes what came of it."""
    downloads: list[back.Download] = []
    environ, options = LocalSite(folder, None).environ, {"cores": args.cores[0], "rounds": args.rounds or 2}
    with (args.output / "restore.tsv").open("w", encoding="utf-8") as stream:
        write_row(stream, back.TSV_HEAD)
        for one in back.measure_back(folder, environ, args.aws_command, **options, scale=args.scale):
            downloads.append(one)
            write_row(stream, back.tsv_row(one))
            say(back.line_of(one))
    rows = back.rows_of(downloads)
    print(f"\n{tables.aligned(rows)}", flush=True)
    (args.output / "restore.md").write_text(tables.markdown(rows), encoding="utf-8")
    return 1 if any(one.trouble for one in downloads) else 0


def show_speedup(args: argparse.Namespace, folder: Path) -> int:
    """One core against nodes of a cluster; tells and writes what came of it."""
    site = LocalSite(folder, None)
    workload = make_workload("mixed", folder, args.scale, None if args.latency is None else args.latency / 1000)
    trials: list[cluster.Trial] = []
    for one in cluster.measure_speedup(site, workload, args.rounds or workload.rounds, args.aws_command):
        trials.append(one)
        say(cluster.line_of(one))
    about, rows = cluster.about(workload), cluster.table(trials)
    print(f"\n{about}\n\n{tables.aligned(rows)}", flush=True)
    (args.output / "speedup.md").write_text(f"{about}\n\n{tables.markdown(rows)}", encoding="utf-8")
    (args.output / "speedup.json").write_text(cluster.as_json(workload, trials), encoding="utf-8")
    return 1 if any(one.trouble for one in trials) else 0


def show_coordinator(args: argparse.Namespace, folder: Path) -> None:
    """What the host that submits and follows has to do for very many files; tells and writes it."""
    files = max(SMALLEST, round(coordinator.FILES * args.scale))
    seconds = coordinator.FOLLOWED_SECONDS * min(1, args.scale)
    cost = coordinator.measure(LocalSite(folder, None).environ, args.aws_command, files, seconds)
    about, rows = coordinator.about(cost), coordinator.table(cost)
    print(f"\n{about}\n\n{tables.aligned(rows)}", flush=True)
    (args.output / "coordinator.md").write_text(f"{about}\n\n{tables.markdown(rows)}", encoding="utf-8")
    (args.output / "coordinator.json").write_text(coordinator.as_json(cost), encoding="utf-8")


def show_capacity(args: argparse.Namespace) -> None:
    """What a host sends, what large sites want, and how long runs would wait there in a month."""
    sections = capacity.sections()
    print("\n\n".join(f"{about}\n\n{tables.aligned(rows)}" for about, rows in sections), flush=True)
    text = "\n".join(f"{about}\n\n{tables.markdown(rows)}" for about, rows in sections)
    (args.output / "capacity.md").write_text(text, encoding="utf-8")


def clean_up(site: BucketSite, yes: bool) -> None:
    """Delete what was uploaded, and nothing else, if the user says so."""
    if not site.used:
        return
    if yes or agreed(f"Delete {site.url} and all that is under it? [y/N] "):
        say(f"deleting {site.url}")
        if site.remove():
            say(f"not all was deleted: {site.url}")
    else:
        say(f"what was uploaded stays: {site.url}")


def agreed(question: str) -> bool:
    """Whether somebody is there and says yes."""
    if not sys.stdin.isatty():
        return False
    with contextlib.suppress(EOFError):
        return input(question).strip().lower() in ("y", "yes")
    return False


def write_row(stream: TextIO, cells: Sequence[str]) -> None:
    """A line of a table for programs; on disk at once, so that an interruption loses nothing."""
    stream.write("\t".join(cell.replace("\t", " ") for cell in cells) + "\n")
    stream.flush()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended, too
    sys.exit(main())
