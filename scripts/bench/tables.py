"""Write measurements as tables: each one for programs, medians and ratios for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

from s3sync.text import human_bytes
from scripts.bench.contenders import CONTENDERS, FIRST
from scripts.bench.trials import Measurement
from scripts.bench.workloads import Workload

_OPERATIONS = (
    *("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
    *("HeadObject", "ListObjectsV2"),
)
TSV_HEAD = (
    *("workload", "files", "bytes", "latency_seconds", "contender", "label", "cores", "threads", "round"),
    *("seconds", "cpu_seconds", "peak_bytes", "server_cpu_seconds", *_OPERATIONS, "other_requests", "trouble"),
)
_HEAD = ("contender", "wall s", "min-max", "ratio", "CPU s", "ratio", "MB", "requests", "server")
_BUSY = 0.7  # of the wall time: it has one core's worth of threads
Rows = Sequence[Sequence[str]]


class Summary(NamedTuple):
    """The medians of a contender for one workload, and of its ratios to `bare` in the same round (or None)."""

    label: str
    seconds: float
    spread: tuple[float, float]
    ratio: float | None
    cpu_seconds: float
    cpu_ratio: float | None
    peak_bytes: float
    server_cpu_seconds: float
    requests: Counter[str] | None  # of the last round


def tsv_row(one: Measurement) -> list[str]:
    """Return a row of the table of all measurements, in the order of TSV_HEAD."""
    workload, usage = one.workload, one.usage
    pair = one.entry.pair if CONTENDERS[one.entry.contender].paired else ("", "")
    requests = Counter(one.requests)
    known = [requests.pop(operation, 0) for operation in _OPERATIONS]
    counts = [*known, sum(requests.values())] if one.requests is not None else [""] * (len(known) + 1)
    cells = (
        *(
            workload.name,
            len(workload.files),
            workload.size,
            workload.latency,
            one.entry.contender,
            one.entry.label,
            *pair,
            one.round,
        ),
        *(f"{usage.seconds:.3f}", f"{usage.cpu_seconds:.3f}", usage.peak_bytes, f"{one.server_cpu_seconds:.3f}"),
        *(*counts, one.trouble),
    )
    return [str(cell) for cell in cells]


def by_workload(measurements: Iterable[Measurement], first: str = FIRST) -> dict[Workload, list[Summary]]:
    """Return the medians of successful measurements, in their order. Ratios are to the one with the label `first`."""
    good = [one for one in measurements if not one.trouble]
    found: dict[Workload, list[Summary]] = {}
    for workload in dict.fromkeys(one.workload for one in good):
        groups: dict[str, list[Measurement]] = {}
        for one in good:
            if one.workload == workload:
                groups.setdefault(one.entry.label, []).append(one)
        others = groups.get(first)
        found[workload] = [_summary(label, group, others) for label, group in groups.items()]
    return found


def best_pairs(measurements: Iterable[Measurement]) -> list[str]:
    """Return for each workload the cores and threads with which this program was fastest, as options."""
    good = [one for one in measurements if not one.trouble and one.entry.contender == "s3sync"]
    lines = []
    for workload in dict.fromkeys(one.workload for one in good):
        times: dict[tuple[int, int], list[float]] = {}
        for one in good:
            if one.workload == workload:
                times.setdefault(one.entry.pair, []).append(one.usage.seconds)
        if len(times) < 2:
            continue
        (cores, threads), seconds = min(times.items(), key=lambda item: median(item[1]))
        rate = f"{median(seconds):.1f} s, {human_bytes(workload.size / median(seconds))}/s"
        lines.append(f"best of {len(times)} for {workload.name}: --cores {cores} --threads {threads} ({rate})")
    return lines


def rows_of(summaries: Iterable[Summary]) -> list[tuple[str, ...]]:
    """Return a header and a row for each contender."""
    return [_HEAD, *map(_cells, summaries)]


def markdown(rows: Rows) -> str:
    """Return a table in Markdown; all columns but the first are numbers."""
    head, *others = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *others))


def aligned(rows: Rows) -> str:
    """Return a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def busy_server(summaries: Iterable[Summary]) -> str:
    """Return a note about contenders that kept our own server busy, and may have measured it; empty if none."""
    names = [one.label for one in summaries if one.server_cpu_seconds > _BUSY * one.seconds]
    return f"The server was busy more than {_BUSY:.0%} of the time with: {', '.join(names)}.\n" if names else ""


def requests_lines(summaries: Iterable[Summary]) -> list[str]:
    """Return a table of the requests of each contender, by kind."""
    asked = [(one.label, one.requests) for one in summaries if one.requests]
    return [
        f"- {label}: " + ", ".join(f"{number:,} {name}" for name, number in requests.most_common())
        for label, requests in asked
    ]


def report(measurements: Sequence[Measurement], about: Sequence[str], table: Callable[[Rows], str] = markdown) -> str:
    """Return the report: how it was measured, and a section for each workload."""
    lines = [*about, ""]
    for workload, summaries in by_workload(measurements).items():
        lines += [f"### {workload}", "", table(rows_of(summaries))]
        lines += filter(None, [busy_server(summaries)])
        lines += [*requests_lines(summaries), ""]
    failures = [f"- {one.workload.name}, {one.entry.label}: {one.trouble}" for one in measurements if one.trouble]
    if failures:
        lines += ["Failed, and not counted:", "", *failures, ""]
    return "\n".join([*lines, *best_pairs(measurements), ""])


def _summary(label: str, group: Sequence[Measurement], first: Sequence[Measurement] | None) -> Summary:
    seconds = [one.usage.seconds for one in group]
    return Summary(
        label=label,
        seconds=median(seconds),
        spread=(min(seconds), max(seconds)),
        ratio=_ratio(group, first, lambda one: one.usage.seconds),
        cpu_seconds=median(one.usage.cpu_seconds for one in group),
        cpu_ratio=_ratio(group, first, lambda one: one.usage.cpu_seconds),
        peak_bytes=median(one.usage.peak_bytes for one in group),
        server_cpu_seconds=median(one.server_cpu_seconds for one in group),
        requests=group[-1].requests,
    )


def _ratio(
    group: Sequence[Measurement], first: Sequence[Measurement] | None, of: Callable[[Measurement], float]
) -> float | None:
    """Return the median of the ratios within each round, so that what slows a whole round does not count."""
    beside = {one.round: of(one) for one in first or ()}
    ratios = [of(one) / beside[one.round] for one in group if beside.get(one.round)]
    return median(ratios) if ratios else None


def _cells(one: Summary) -> tuple[str, ...]:
    def ratio(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    return (
        one.label,
        f"{one.seconds:.1f}",
        f"{one.spread[0]:.1f}-{one.spread[1]:.1f}",
        ratio(one.ratio),
        f"{one.cpu_seconds:.1f}",
        ratio(one.cpu_ratio),
        f"{one.peak_bytes / 1e6:.0f}" if one.peak_bytes else "",
        "" if one.requests is None else f"{sum(one.requests.values()):,}",
        "" if one.requests is None else f"{one.server_cpu_seconds:.1f}",
    )
