"""Compare the base-call files of a run with those that its RunInfo.xml requires.

The layouts are from Illumina's pages on sequencing output files. If no layout describes the files, the result is
`unknown`: then only time can show that a copy has ended.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from s3sync.runs.flow_cell import FlowCell, read_flow_cell
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import RUN_INFO
from s3sync.runs.structure_summary import Cell, describe_copying, describe_missing
from s3sync.text import pluralize

__all__ = ["BASE_CALLS", "BaseCalls", "check", "has_header", "is_truncated", "read_flow_cell"]

BASE_CALLS = "Data/Intensities/BaseCalls/"
WITH_HEADER = (".cbcl", ".bcl")  # their headers contain their size
FILTER_CYCLE = 25  # filters are made from this many cycles of the first read; shorter reads may have none
_MAX_CELLS = 4_000_000  # more files than any run has: no instrument writes a RunInfo.xml that requires more

Kind: TypeAlias = Literal["whole", "missing", "none", "unknown"]


class Layout(NamedTuple):
    """How a family stores base calls: one file for each lane, cycle and, depending on `per`, surface or tile.

    `path` matches paths below BaseCalls; `name` is the format of the name of a file.
    """

    per: Literal["surface", "lane", "tile"]
    families: tuple[str, ...]
    path: re.Pattern[str]
    name: str


LAYOUTS = (
    Layout(
        "surface",
        ("NovaSeq X", "NovaSeq 6000", "NextSeq 1000/2000", "MiSeq i100"),
        re.compile(r"L(?P<lane>\d{3})/C(?P<cycle>\d{1,4})\.1/L\d{3}_(?P<unit>\d)\.cbcl"),
        "L{lane:03}/C{cycle}.1/L{lane:03}_{unit}.cbcl",
    ),
    Layout(
        "lane",
        ("NextSeq 500/550", "MiniSeq", "iSeq 100"),
        re.compile(r"L(?P<lane>\d{3})/(?P<cycle>\d{4})\.bcl(?:\.bgzf|\.gz)?(?P<unit>)"),
        "L{lane:03}/{cycle:04}.bcl.bgzf",
    ),
    Layout(
        "tile",
        ("MiSeq", "HiSeq"),
        re.compile(r"L(?P<lane>\d{3})/C(?P<cycle>\d{1,4})\.1/s_\d_(?P<unit>\d{1,5})\.bcl(?:\.gz|\.bgzf)?"),
        "L{lane:03}/C{cycle}.1/s_{lane}_{unit}.bcl",
    ),
)
_FILTER = re.compile(r"(?:(?!\.)[^/]+/)*s_(?P<lane>\d)(?:_(?P<unit>\d{1,5}))?\.filter")
_BASE_CALL_NAME = r"[^/]+\.(?:cbcl|bcl(?:\.gz|\.bgzf)?|filter)"
_PARTIAL_COPY = re.compile(  # names that copy tools use until a file of base calls is complete
    rf"(?:.*/)?(?:\.(?!_){_BASE_CALL_NAME}[.~][^/]+"  # rsync, Syncthing, Unison, Nextcloud
    rf"|\.[^/]*(?:tmp|partial)[^/]*/{_BASE_CALL_NAME}(?:\.[^/]+)?|\.in\.{_BASE_CALL_NAME}\.?"  # folders of rsync; lftp
    rf"|{_BASE_CALL_NAME}(?:\.[0-9A-Za-z]{{6,8}})?_?\.(?:filepart|part|partial|tmp|crdownload|copying|gstmp)"
    rf"|{_BASE_CALL_NAME}\.[0-9A-Fa-f]{{8}})"  # the AWS CLI
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseCalls:
    """Which base calls a run has.

    whole: all that RunInfo.xml requires. missing: some are not there; `missing` has their paths and `summary` is for
    people. none: no base calls at all. unknown: it cannot be determined, and `summary` says why.
    """

    kind: Kind
    summary: str = ""
    missing: tuple[str, ...] = ()
    cycles: int = 0  # complete ones, counted from the first
    families: tuple[str, ...] = ()  # families that store base calls like this
    suspects: tuple[str, ...] = ()  # less than half as large as similar files: their headers show if they are truncated


def check(flow_cell: FlowCell | None, files: Iterable[LocalFile]) -> BaseCalls:
    """Compare the files below BaseCalls with those that the flow cell requires. `files` may contain other files."""
    if flow_cell is None:
        return BaseCalls(kind="unknown", summary=f"{RUN_INFO} does not list reads, lanes and tiles")
    if flow_cell.cycles == 0:
        return BaseCalls(kind="whole")
    seen = _SeenFiles.of(files)
    if seen.layout is None:
        return _check_without_base_calls(flow_cell, seen)
    layout, families = seen.layout, seen.layout.families
    expected = _expected_cells(flow_cell, layout, seen)
    if expected is None:
        summary = f"the names of its base-call files do not match the lanes, cycles and tiles in {RUN_INFO}"
        return BaseCalls(kind="unknown", summary=summary, families=families)
    absent = [*sorted(expected - seen.cells), *sorted(_missing_filters(flow_cell, layout, seen))]
    suspects, empty = seen.suspects(), sorted(seen.empty)
    if not absent and not empty:
        return BaseCalls(kind="whole", cycles=flow_cell.cycles, families=families, suspects=suspects)
    paths = [_path_of(layout, cell) for cell in absent]
    seen_lanes = {lane for lane, _, _ in seen.cells}
    return BaseCalls(
        kind="missing",
        summary=describe_missing(flow_cell, absent, paths[:1], empty, seen.copying, seen_lanes),
        missing=(*paths, *empty),
        cycles=min((cycle for _, cycle, _ in absent if cycle), default=flow_cell.cycles + 1) - 1,
        families=families,
        suspects=suspects,
    )


def _check_without_base_calls(flow_cell: FlowCell, seen: _SeenFiles) -> BaseCalls:
    """Check by the filters: deleted base calls leave all filters or none; some mean that a copy has begun."""
    if seen.copying:
        summary = f"no base calls yet; {describe_copying(seen.copying)}"
        return BaseCalls(kind="missing", summary=summary, missing=tuple(seen.copying))
    tiles = {(lane, 0, tile) for lane in flow_cell.lanes for tile in flow_cell.tiles_of(lane)}
    if not seen.filters & tiles or seen.filters >= tiles:
        return BaseCalls(kind="none", summary="it has no base calls")
    paths = tuple(_path_of(LAYOUTS[0], cell) for cell in sorted(tiles - seen.filters))
    filters = f"{pluralize(len(paths), 'filter file')} missing; the first is {paths[0]}"
    return BaseCalls(kind="missing", summary=f"no base calls yet; {filters}", missing=paths)


@dataclass(slots=True)
class _SeenFiles:
    """The files below BaseCalls, sorted by what they are."""

    by_layout: list[set[Cell]] = field(default_factory=lambda: [set() for _ in LAYOUTS])
    filters: set[Cell] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)  # paths of base calls of 0 bytes, as a copy that has just begun
    copying: list[str] = field(default_factory=list)  # paths of files that a copy tool has not finished
    sizes: dict[tuple[str, str], list[tuple[int, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )  # size and path of base calls with a header, by lane and unit

    @classmethod
    def of(cls, files: Iterable[LocalFile]) -> _SeenFiles:
        seen = cls()
        for file in files:
            if file.path.startswith(BASE_CALLS):
                seen._add(file, file.path[len(BASE_CALLS) :])
        return seen

    def _add(self, file: LocalFile, path: str) -> None:
        for layout, cells in zip(LAYOUTS, self.by_layout, strict=True):
            if match := layout.path.fullmatch(path):
                cells.add((int(match["lane"]), int(match["cycle"]), match["unit"]))
                if file.size == 0:
                    self.empty.add(file.path)
                if path.endswith(WITH_HEADER):
                    self.sizes[match["lane"], match["unit"]].append((file.size, file.path))
                return
        if match := _FILTER.fullmatch(path):
            self.filters.add((int(match["lane"]), 0, match["unit"] or ""))
        elif _PARTIAL_COPY.fullmatch(path):
            self.copying.append(file.path)

    @property
    def layout(self) -> Layout | None:
        """Return the layout of most files; None without base calls."""
        number = max(range(len(LAYOUTS)), key=lambda number: len(self.by_layout[number]))
        return LAYOUTS[number] if self.by_layout[number] else None

    @property
    def cells(self) -> set[Cell]:
        """Return the base calls in the layout of most files."""
        return max(self.by_layout, key=len)

    def suspects(self) -> tuple[str, ...]:
        """Return the files with a header that are much smaller than others of their lane and unit.

        The sizes of files without a header vary too much, depending on how well they compress.
        """
        paths = []
        for sizes in self.sizes.values():
            median = sorted(size for size, _ in sizes)[len(sizes) // 2]
            paths += [path for size, path in sizes if 0 < size < median / 2]
        return tuple(sorted(paths))


def _expected_cells(flow_cell: FlowCell, layout: Layout, seen: _SeenFiles) -> set[Cell] | None:
    """Return the cells that must be there; None if the files are not named like that."""
    units = {lane: _units_of(flow_cell, layout, seen, lane) for lane in flow_cell.lanes}
    if not units or not all(units.values()) or flow_cell.cycles * sum(map(len, units.values())) > _MAX_CELLS:
        return None
    cycles = range(1, flow_cell.cycles + 1)
    expected = {(lane, cycle, unit) for lane in units for cycle in cycles for unit in units[lane]}
    if not any(cell in expected for cell in seen.cells):
        return None
    if layout.per == "tile" and not all(unit in units.get(lane, ()) for lane, _, unit in seen.cells):
        return None  # the tiles have other names than these, so the expected ones would be a guess
    return expected


def _units_of(flow_cell: FlowCell, layout: Layout, seen: _SeenFiles, lane: int) -> frozenset[str]:
    """Return the surfaces or tiles for which a lane has files."""
    if layout.per == "lane":
        return frozenset([""])
    if layout.per == "tile":
        return flow_cell.tiles_of(lane)
    surfaces = flow_cell.surfaces_of(lane)
    if lane not in flow_cell.tiles and len(surfaces) == 1:  # RunInfo.xml does not say which of the two
        present = frozenset(unit for _, _, unit in seen.cells)
        return present if len(present) == 1 else surfaces
    return surfaces


def _missing_filters(flow_cell: FlowCell, layout: Layout, seen: _SeenFiles) -> set[Cell]:
    """Return the missing filters, as lane, cycle 0 and tile: one for each tile, or for each lane if `per` is lane."""
    if not seen.filters and flow_cell.reads[0].cycles <= FILTER_CYCLE:
        return set()
    is_by_lane = layout.per == "lane"
    expected = {
        (lane, 0, unit) for lane in flow_cell.lanes for unit in ([""] if is_by_lane else flow_cell.tiles_of(lane))
    }
    if seen.filters and not seen.filters & expected:
        return set()  # they have other names
    return expected - seen.filters


def _path_of(layout: Layout, cell: Cell) -> str:
    lane, cycle, unit = cell
    if cycle:
        return BASE_CALLS + layout.name.format(lane=lane, cycle=cycle, unit=unit)
    return f"{BASE_CALLS}L{lane:03}/s_{lane}{f'_{unit}' if unit else ''}.filter"


def has_header(path: str) -> bool:
    """Return whether a path in a run is a base-call file whose header contains its size."""
    return path.startswith(BASE_CALLS) and path.endswith(WITH_HEADER)


def is_truncated(header: bytes, size: int, path: str) -> bool:
    """Return whether a file of base calls has fewer bytes than its header says, or has no valid header."""
    if not path.endswith(".cbcl"):
        return len(header) < 4 or int.from_bytes(header[:4], "little") != size - 4
    try:
        version, header_size, _, _, bins = struct.unpack_from("<HIBBI", header)
        (tiles,) = struct.unpack_from("<I", header, 12 + 8 * bins)
        if version != 1 or header_size != 12 + 8 * bins + 4 + 16 * tiles + 1:
            return True
        rows = [struct.unpack_from("<IIII", header, 16 + 8 * bins + 16 * tile) for tile in range(tiles)]
    except struct.error:
        return True
    whole: int = header_size + sum(compressed for *_, compressed in rows)
    return size < whole
