"""Describe in a few clauses which base calls of a run are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

from s3sync.runs.flow_cell import FlowCell
from s3sync.text import pluralize, printable

Cell: TypeAlias = tuple[int, int, str]  # lane, cycle (0: none), and surface or tile (empty: neither)

_MAX_GROUPS = 3  # groups of lanes to describe
_MAX_RANGES = 5  # ranges of numbers to name


def describe_missing(
    flow_cell: FlowCell,
    missing: Sequence[Cell],
    first_path: Sequence[str],
    empty: Sequence[str],
    copying: Sequence[str],
    seen_lanes: Collection[int],
) -> str:
    """Return what is missing: `lane 3: cycles 120-151 of read 2 missing, 64 files; the first is ...`.

    `missing` are cells, `first_path` is the path of the first of them, `empty` and `copying` are paths of files that
    are there, and `seen_lanes` have base calls.
    """
    clauses = list(_describe_lanes(flow_cell, [cell for cell in missing if cell[1]], seen_lanes))
    if filters := sum(not cycle for _, cycle, _ in missing):
        clauses.append(f"{pluralize(filters, 'filter file')} missing")
    clauses += [f"the first is {path}" for path in first_path]
    if empty:
        count = pluralize(len(empty), "empty base-call file")
        clauses.append(f"{count}, the first is {printable(empty[0])}")
    if copying:
        clauses.append(describe_copying(copying))
    return "; ".join(clauses)


def describe_copying(paths: Sequence[str]) -> str:
    """Return that the first of these files is being copied."""
    return f"{printable(paths[0])} is being copied"


def _describe_lanes(flow_cell: FlowCell, missing: Sequence[Cell], seen_lanes: Collection[int]) -> Iterator[str]:
    """Yield a clause for each group of lanes that lack the same cycles; the last clause covers all further lanes."""
    cycles_by_lane: dict[int, list[int]] = defaultdict(list)
    for lane, cycle, _ in missing:
        cycles_by_lane[lane].append(cycle)
    groups: dict[str, list[int]] = defaultdict(list)
    for lane, cycles in cycles_by_lane.items():
        has_nothing = lane not in seen_lanes and len(set(cycles)) == flow_cell.cycles
        gap = "no base calls" if has_nothing else f"{_describe_cycles(flow_cell, set(cycles))} missing"
        groups[gap].append(lane)

    def label(lanes: Sequence[int]) -> str:
        return f"{'lane' if len(lanes) == 1 else 'lanes'} {_format_ranges(lanes)}"

    def count(lanes: Sequence[int]) -> str:
        return pluralize(sum(len(cycles_by_lane[lane]) for lane in lanes), "file")

    for gap, lanes in list(groups.items())[:_MAX_GROUPS]:
        yield f"{label(lanes)}: {gap}, {count(lanes)}"
    if others := sorted(lane for lanes in list(groups.values())[_MAX_GROUPS:] for lane in lanes):
        yield f"{label(others)}: {count(others)} missing"


def _describe_cycles(flow_cell: FlowCell, cycles: set[int]) -> str:
    """Return `cycles 120-151 of read 2` or `all of index 1`, counted within each read."""
    parts, first = [], 1
    for read in flow_cell.reads:
        inside = sorted(cycle - first + 1 for cycle in cycles if first <= cycle < first + read.cycles)
        first += read.cycles
        if len(inside) == read.cycles and inside:
            parts.append(f"all of {read.name}")
        elif inside:
            parts.append(f"{'cycle' if len(inside) == 1 else 'cycles'} {_format_ranges(inside)} of {read.name}")
    return " and ".join(parts)


def _format_ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as ranges, `1-3, 7`; only the first few."""
    ranges: list[list[int]] = []  # first and last number of each
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return ", ".join(texts[:_MAX_RANGES]) + (", ..." if len(texts) > _MAX_RANGES else "")
