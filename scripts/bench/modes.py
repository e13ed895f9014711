"""Measure what `make bench` compares besides its default workloads, and publish each result as it comes."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from s3sync import __version__
from s3sync.resources import usable_cores
from s3sync.text import now_iso
from scripts.bench import back, beside, capacity, cluster, coordinator, growth, live, tables, tuning
from scripts.bench.contenders import USUAL_THREADS, Pair
from scripts.bench.sites import LocalSite, Site
from scripts.bench.trials import Measurement
from scripts.bench.workloads import make_workload

_T = TypeVar("_T")

SMALLEST = 10  # files, however small the scale


def record(
    table: Path,
    head: Sequence[str],
    measured: Iterable[_T],
    row: Callable[[_T], Sequence[str]],
    line: Callable[[_T], str],
    found: list[_T] | None = None,
) -> list[_T]:
    """Write each measurement to a table and to stderr as soon as it is made, add it to `found`, and return these."""
    found = [] if found is None else found
    with table.open("w", encoding="utf-8") as stream:
        write_row(stream, head)
        for one in measured:
            found.append(one)
            write_row(stream, row(one))
            say(line(one))
    return found


def publish(report: Path, rows: Sequence[Sequence[str]], about: str = "") -> None:
    """Print a table, with what readers should know about it, and write both as Markdown."""
    above = f"{about}\n\n" if about else ""
    print(f"\n{above}{tables.aligned(rows)}", flush=True)
    report.write_text(above + tables.markdown(rows), encoding="utf-8")


def show_growth(args: argparse.Namespace, folder: Path) -> None:
    """Measure the costs that grow with the number of files and runs."""
    measured = growth.measure_growth(folder, LocalSite(folder, None).environ, args.aws_command, args.scale)
    rows = record(args.output / "growth.tsv", growth.HEAD, map(growth.row_of, measured), lambda row: row, ", ".join)
    publish(args.output / "growth.md", [growth.HEAD, *rows])


def tune(args: argparse.Namespace, site: Site, folder: Path) -> int:
    """Vary one default at a time; return the exit code. Ratios are to the default."""
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
    """Yield a heading and a table for each workload."""
    knob = tuning.KNOBS[name]
    default = tuning.label_of(name, knob.default)
    for workload, summaries in tables.by_workload(measurements, default).items():
        yield f"### {name}: {knob.about} ({workload}; default {knob.default:g})"
        yield tables.markdown(tables.rows_of(summaries)).rstrip()


def show_live(args: argparse.Namespace, folder: Path) -> int:
    """Measure how long after its last file a run is in S3, streamed or not; return the exit code."""
    order = live.make_order(args.scale, args.cores[0], args.threads[0] or USUAL_THREADS, args.aws_command)
    measured = live.measure_live(order, args.rounds or 1, LocalSite(folder, None).environ)
    tails = record(args.output / "live.tsv", live.TSV_HEAD, measured, live.tsv_row, live.line_of)
    publish(args.output / "live.md", live.rows_of(tails), "\n".join(live.about(order, tails)))
    return 1 if any(one.trouble for one in tails) else 0


def show_beside(args: argparse.Namespace, folder: Path) -> int:
    """Measure how long a small run takes beside a large one; return the exit code."""
    order = beside.make_order(args.scale, args.cores[0], args.threads[0] or USUAL_THREADS, args.aws_command)
    measured = beside.measure_beside(order, args.rounds or 1, LocalSite(folder, None).environ)
    times = record(args.output / "beside.tsv", beside.TSV_HEAD, measured, beside.tsv_row, beside.line_of)
    publish(args.output / "beside.md", beside.rows_of(times), "\n".join(beside.about(order)))
    return 1 if any(one.trouble for one in times) else 0


def show_restore(args: argparse.Namespace, folder: Path) -> int:
    """Measure restores beside downloads by the CLI alone; return the exit code."""
    environ, options = LocalSite(folder, None).environ, {"cores": args.cores[0], "rounds": args.rounds or 2}
    measured = back.measure_back(folder, environ, args.aws_command, **options, scale=args.scale)
    downloads = record(args.output / "restore.tsv", back.TSV_HEAD, measured, back.tsv_row, back.line_of)
    publish(args.output / "restore.md", back.rows_of(downloads))
    return 1 if any(one.trouble for one in downloads) else 0


def show_speedup(args: argparse.Namespace, folder: Path) -> int:
    """Measure one core against the nodes of a cluster; return the exit code."""
    site = LocalSite(folder, None)
    workload = make_workload("mixed", folder, args.scale, None if args.latency is None else args.latency / 1000)
    trials: list[cluster.Trial] = []
    for one in cluster.measure_speedup(site, workload, args.rounds or workload.rounds, args.aws_command):
        trials.append(one)
        say(cluster.line_of(one))
    publish(args.output / "speedup.md", cluster.table(trials), cluster.about(workload))
    (args.output / "speedup.json").write_text(cluster.as_json(workload, trials), encoding="utf-8")
    return 1 if any(one.trouble for one in trials) else 0


def show_coordinator(args: argparse.Namespace, folder: Path) -> None:
    """Measure what the host that submits and follows the jobs has to do for very many files."""
    files = max(SMALLEST, round(coordinator.FILES * args.scale))
    seconds = coordinator.FOLLOWED_SECONDS * min(1, args.scale)
    cost = coordinator.measure(LocalSite(folder, None).environ, args.aws_command, files, seconds)
    publish(args.output / "coordinator.md", coordinator.table(cost), coordinator.about(cost))
    (args.output / "coordinator.json").write_text(coordinator.as_json(cost), encoding="utf-8")


def show_capacity(args: argparse.Namespace) -> None:
    """Calculate what a host sends, and what large sites need."""
    sections = capacity.sections()
    print("\n\n".join(f"{about}\n\n{tables.aligned(rows)}" for about, rows in sections), flush=True)
    text = "\n".join(f"{about}\n\n{tables.markdown(rows)}" for about, rows in sections)
    (args.output / "capacity.md").write_text(text, encoding="utf-8")


def description(args: argparse.Namespace, first: str = "`bare`") -> list[str]:
    """Return lines about how the numbers were measured."""
    versions = [version_of(aws) for aws in (args.aws_command, args.other_aws) if aws]
    where = f"s3://{args.bucket}" if args.bucket else f"a server on the same machine{', over TLS' if args.tls else ''}"
    return [
        f"s3sync {__version__}, {' and '.join(versions)}, Python {platform.python_version()},",
        f"{usable_cores()} cores, {now_iso()}, to {where}.",
        f"{'/'.join(map(str, args.cores))} processes x {'/'.join(str(n or 'usual') for n in args.threads)} threads;",
        "s3sync may start four times as many processes while the CPU idles.",
        f"Medians of rounds in alternation; ratios to {first} in the same round;",
        "the page cache is warm but for runs of the user's; CPU of the whole process",
        "tree; MB: its peak PSS, sampled twice a second; server: CPU-seconds of the",
        "S3 server beside it.",
    ]


def version_of(aws: str) -> str:
    """Return the version of an AWS CLI: `aws-cli/1.46.3`."""
    version = subprocess.run([aws, "--version"], capture_output=True, text=True, check=False).stdout
    return version.split(" ")[0].strip()


def progress_line(one: Measurement) -> str:
    """Return a measurement as one line."""
    name = f"{one.workload.name} round {one.round} {one.entry.label}"
    return f"{name}: {one.trouble or f'{one.usage.seconds:.1f} s, {one.usage.cpu_seconds:.1f} CPU-s'}"


def write_row(stream: TextIO, cells: Sequence[str]) -> None:
    """Write a row of a table and flush it, so that an interruption loses nothing."""
    stream.write("\t".join(cell.replace("\t", " ") for cell in cells) + "\n")
    stream.flush()


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)
