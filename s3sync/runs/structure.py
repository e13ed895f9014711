"""Which base-call files a run must have by its RunInfo.xml, and which of them are missing. Pure, but for one XML file.

The layouts are those of Illumina's pages on sequencing output files. What no layout describes is `unknown`: then only
time can show that a copy has ended.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from s3sync.runs import run_folder
from s3sync.runs.run_folder import RUN_INFO, LocalFile
from s3sync.text import pluralize, printable

BASE_CALLS = "Data/Intensities/BaseCalls/"
HEADED = (".cbcl", ".bcl")  # their headers say how long they are
FILTER_CYCLE = 25  # filters are made from so many cycles of the first read; from shorter reads there may be none
_MAX_CELLS = 4_000_000  # more files than any run has: a RunInfo.xml that asks for them is not an instrument's
_MAX_TILES = 1000  # of a swath: even more digits than their names have
_NAMED = 3  # lanes that a summary names

Kind: TypeAlias = Literal["whole", "missing", "none", "unknown"]
Cell: TypeAlias = tuple[int, int, str]  # lane, cycle (0: none), and surface or tile (empty: neither)


class Layout(NamedTuple):
    """How a family stores base calls: one file for each lane and cycle and, as `per` says, each surface or tile.

    `path` is searched in paths below BaseCalls; `name` makes the name of a file that is missing.
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
_COPIED = r"[^/]+\.(?:cbcl|bcl(?:\.gz|\.bgzf)?|filter)"
_COPYING = re.compile(  # what copying tools call a file of base calls until it is whole, or where they put it
    rf"(?:.*/)?(?:\.(?!_){_COPIED}[.~][^/]+"  # rsync, Syncthing, Unison, Nextcloud
    rf"|\.[^/]*(?:tmp|partial)[^/]*/{_COPIED}(?:\.[^/]+)?|\.in\.{_COPIED}\.?"  # folders of rsync; lftp
    rf"|{_COPIED}(?:\.[0-9A-Za-z]{{6,8}})?_?\.(?:filepart|part|partial|tmp|crdownload|copying|gstmp)"
    rf"|{_COPIED}\.[0-9A-Fa-f]{{8}})"  # the AWS CLI
)


class Read(NamedTuple):
    """One read of a run: as people call it (`read 2`, `index 1`), and its cycles."""

    name: str
    cycles: int


class FlowCell(NamedTuple):
    """What RunInfo.xml says of reads and flow cell. `tiles` are the names of tiles by lane; empty where the file has no
    list of them."""

    reads: tuple[Read, ...]
    lanes: tuple[int, ...]
    surfaces: int
    swaths: int
    tiles_in_swath: int
    tiles: Mapping[int, frozenset[str]]

    @property
    def cycles(self) -> int:
        """Of all reads together."""
        return sum(read.cycles for read in self.reads)

    def surfaces_of(self, lane: int) -> frozenset[str]:
        """The numbers of the lane's surfaces: by its tiles, as a flow cell with one surface may have the second."""
        if lane in self.tiles:
            return frozenset(tile[0] for tile in self.tiles[lane])
        return frozenset(str(number) for number in range(1, self.surfaces + 1))

    def tiles_of(self, lane: int) -> frozenset[str]:
        """The names of the lane's tiles; without a list of them as four digits name surface, swath and tile."""
        if lane in self.tiles:
            return self.tiles[lane]
        places = itertools.product(*(range(1, n + 1) for n in (self.surfaces, self.swaths, self.tiles_in_swath)))
        return frozenset(f"{surface}{swath}{tile:02}" for surface, swath, tile in places)


class Found(NamedTuple):
    """What of the base calls is there.

    whole: all that RunInfo.xml asks for. missing: some of it is not there; `lost` are the paths, `summary` says it to
    people. none: no base calls at all. unknown: `summary` says why nobody can tell. `families` are those that store
    base calls like this. What is `short` may be a copy that was broken off, or a cycle that failed: its header knows.
    """

    kind: Kind
    summary: str = ""
    lost: tuple[str, ...] = ()
    cycles: int = 0  # those of which all is there, counted from the first
    families: tuple[str, ...] = ()
    short: tuple[str, ...] = ()  # paths of base calls with less than half the bytes that others of their kind have


def read_flow_cell(folder: Path) -> FlowCell | None:
    """What RunInfo.xml says of reads and flow cell; None if it does not. Raises RunError."""
    run = run_folder.parse_xml(folder / RUN_INFO).find("Run")
    if run is None:
        return None
    reads = list(
        _reads([(read.get("NumCycles", ""), read.get("IsIndexedRead", "")) for read in run.iterfind("Reads/Read")])
    )
    if not reads or None in reads:
        return None
    known = tuple(read for read in reads if read)
    layout = run.find("FlowcellLayout")
    if layout is None:
        return None if any(read.cycles for read in known) else FlowCell(known, (), 0, 0, 0, {})
    tiles: dict[int, set[str]] = defaultdict(set)
    for tile in layout.iterfind("TileSet/Tiles/Tile"):
        lane, _, name = (tile.text or "").strip().partition("_")
        if not (_is_number(lane) and _is_number(name)):
            return None
        tiles[int(lane)].add(name)
    counts = [layout.get(name, "") for name in ("LaneCount", "SurfaceCount", "SwathCount", "TileCount")]
    lanes, surfaces, swaths, count = (int(text) if _is_number(text) else 0 for text in counts)
    if max(lanes, surfaces, swaths) > 9 or count > _MAX_TILES:
        return None
    named = tuple(sorted(tiles)) or tuple(range(1, lanes + 1))
    frozen = {lane: frozenset(names) for lane, names in tiles.items()}
    return FlowCell(known, named, surfaces, swaths, count, frozen)


def _reads(rows: Iterable[tuple[str, str]]) -> Iterator[Read | None]:
    counts: Counter[str] = Counter()
    for cycles, indexed in rows:
        kind = "index" if indexed.strip().upper().startswith("Y") else "read"
        counts[kind] += 1
        yield Read(f"{kind} {counts[kind]}", int(cycles)) if _is_number(cycles) and len(cycles) < 6 else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def check(flow_cell: FlowCell | None, files: Iterable[LocalFile]) -> Found:
    """Compare what is below BaseCalls with what the flow cell asks for; other files may be among those."""
    if flow_cell is None:
        return Found("unknown", f"{RUN_INFO} does not say which reads, lanes and tiles there are")
    if flow_cell.cycles == 0:
        return Found("whole")
    seen = _Seen.of(files)
    if seen.layout is None:
        if seen.copying:
            return Found("missing", f"no base calls yet; {_is_being_copied(seen.copying)}", tuple(seen.copying))
        return _without_base_calls(flow_cell, seen)
    if (expected := _expected(flow_cell, seen)) is None:
        names = f"its files of base calls are not named as {RUN_INFO} has lanes, cycles and tiles"
        return Found("unknown", names, families=seen.layout.families)
    lost = [*sorted(expected - seen.cells), *sorted(_missing_filters(flow_cell, seen))]
    bad = sorted(seen.empty)
    cycles = min((cycle for _, cycle, _ in lost if cycle), default=flow_cell.cycles + 1) - 1
    if not lost and not bad:
        return Found("whole", cycles=cycles, families=seen.layout.families, short=_short(seen))
    summary = "; ".join(_summaries(flow_cell, seen, lost, bad))
    paths = (*(_path_of(seen.layout, cell) for cell in lost), *bad)
    return Found("missing", summary, paths, cycles, seen.layout.families, _short(seen))


def _short(seen: _Seen) -> tuple[str, ...]:
    """Of files whose header says how long they are: the sizes of others differ with how well they can be compressed."""
    found = []
    for sizes in seen.sizes.values():
        middle = sorted(size for size, _ in sizes)[len(sizes) // 2]
        found += [path for size, path in sizes if 0 < size < middle / 2]
    return tuple(sorted(found))


def _without_base_calls(flow_cell: FlowCell, seen: _Seen) -> Found:
    """Those that were deleted leave all filters or none; some of them show that a copy has just begun."""
    tiles = {(lane, 0, tile) for lane in flow_cell.lanes for tile in flow_cell.tiles_of(lane)}
    if not seen.filters & tiles or seen.filters >= tiles:
        return Found("none", "no base calls in it")
    lost = sorted(tiles - seen.filters)
    filters = f"{pluralize(len(lost), 'filter file')} missing; the first is {_path_of(LAYOUTS[0], lost[0])}"
    return Found("missing", f"no base calls yet; {filters}", tuple(_path_of(LAYOUTS[0], cell) for cell in lost))


class _Seen(NamedTuple):
    """The files below BaseCalls, by what they are."""

    layout: Layout | None  # that of most of them
    cells: set[Cell]
    filters: set[Cell]
    empty: set[str]  # paths of base calls without a byte, as a copy leaves them that has just begun
    copying: list[str]  # paths of those that a copying tool has not finished
    sizes: Mapping[tuple[str, str], list[tuple[int, str]]]  # of those with a header: with their paths, by lane and unit

    @classmethod
    def of(cls, files: Iterable[LocalFile]) -> _Seen:
        by_layout: list[set[Cell]] = [set() for _ in LAYOUTS]
        filters: set[Cell] = set()
        empty: set[str] = set()
        copying: list[str] = []
        sizes: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        skip = len(BASE_CALLS)
        for file in files:
            if not file.path.startswith(BASE_CALLS):
                continue
            path = file.path[skip:]
            for layout, cells in zip(LAYOUTS, by_layout, strict=True):
                if match := layout.path.fullmatch(path):
                    if file.size == 0:
                        empty.add(file.path)
                    cells.add((int(match["lane"]), int(match["cycle"]), match["unit"]))
                    if path.endswith(HEADED):
                        sizes[match["lane"], match["unit"]].append((file.size, file.path))
                    break
            else:
                if match := _FILTER.fullmatch(path):
                    filters.add((int(match["lane"]), 0, match["unit"] or ""))
                elif _is_copying(path):
                    copying.append(file.path)
        most = max(range(len(LAYOUTS)), key=lambda number: len(by_layout[number]))
        layout_of_most = LAYOUTS[most] if by_layout[most] else None
        return cls(layout_of_most, by_layout[most], filters, empty, copying, sizes)


def _is_copying(path: str) -> bool:
    """Whether the last part of a path is what a copying tool calls a file of base calls until it is whole."""
    return _COPYING.fullmatch(path) is not None


def _is_being_copied(copying: Sequence[str]) -> str:
    return f"{printable(copying[0])} is being copied"


def _expected(flow_cell: FlowCell, seen: _Seen) -> set[Cell] | None:
    """All cells there have to be; None if the files are not named so."""
    assert seen.layout is not None
    units = {lane: _units(flow_cell, seen, lane) for lane in flow_cell.lanes}
    if not units or not all(units.values()) or flow_cell.cycles * sum(map(len, units.values())) > _MAX_CELLS:
        return None
    cycles = range(1, flow_cell.cycles + 1)
    expected = {(lane, cycle, unit) for lane in units for cycle in cycles for unit in units[lane]}
    if not any(cell in expected for cell in seen.cells):
        return None
    if seen.layout.per == "tile" and not all(unit in units.get(lane, ()) for lane, _, unit in seen.cells):
        return None  # other names of tiles than these: what should be there is a guess
    return expected


def _units(flow_cell: FlowCell, seen: _Seen, lane: int) -> frozenset[str]:
    """The surfaces or tiles that a lane has files of."""
    assert seen.layout is not None
    if seen.layout.per == "lane":
        return frozenset([""])
    if seen.layout.per == "tile":
        return flow_cell.tiles_of(lane)
    surfaces = flow_cell.surfaces_of(lane)
    if lane not in flow_cell.tiles and len(surfaces) == 1:  # which of the two nobody says
        there = frozenset(unit for _, _, unit in seen.cells)
        return there if len(there) == 1 else surfaces
    return surfaces


def _missing_filters(flow_cell: FlowCell, seen: _Seen) -> set[Cell]:
    """One for each tile, or for each lane where base calls are stored by lane; as lane, cycle 0 and tile."""
    assert seen.layout is not None
    if not seen.filters and flow_cell.reads[0].cycles <= FILTER_CYCLE:
        return set()
    by_lane = seen.layout.per == "lane"
    expected = {(lane, 0, unit) for lane in flow_cell.lanes for unit in ([""] if by_lane else flow_cell.tiles_of(lane))}
    if seen.filters and not seen.filters & expected:
        return set()  # named otherwise
    return expected - seen.filters


def _path_of(layout: Layout, cell: Cell) -> str:
    lane, cycle, unit = cell
    if cycle:
        return BASE_CALLS + layout.name.format(lane=lane, cycle=cycle, unit=unit)
    return f"{BASE_CALLS}L{lane:03}/s_{lane}{f'_{unit}' if unit else ''}.filter"


def _summaries(flow_cell: FlowCell, seen: _Seen, lost: Sequence[Cell], empty: Sequence[str]) -> Iterator[str]:
    """What is missing, in a few clauses: `lane 3: cycles 120-151 of read 2 missing, 64 files`."""
    assert seen.layout is not None
    by_lane: dict[int, list[Cell]] = defaultdict(list)
    for cell in lost:
        if cell[1]:
            by_lane[cell[0]].append(cell)
    alike: dict[str, list[int]] = defaultdict(list)
    for lane, cells in by_lane.items():
        whole_lane = len({cycle for _, cycle, _ in cells}) == flow_cell.cycles and lane not in {
            c[0] for c in seen.cells
        }
        what = "no base calls" if whole_lane else f"{_cycles(flow_cell, {cycle for _, cycle, _ in cells})} missing"
        alike[what].append(lane)
    for what, lanes in itertools.islice(alike.items(), _NAMED):
        files = sum(len(by_lane[lane]) for lane in lanes)
        yield f"{'lane' if len(lanes) == 1 else 'lanes'} {_ranges(lanes)}: {what}, {pluralize(files, 'file')}"
    if len(alike) > _NAMED:
        rest = [lane for lanes in list(alike.values())[_NAMED:] for lane in lanes]
        files = sum(len(by_lane[lane]) for lane in rest)
        yield f"{'lane' if len(rest) == 1 else 'lanes'} {_ranges(sorted(rest))}: {pluralize(files, 'file')} missing"
    if filters := [cell for cell in lost if not cell[1]]:
        yield f"{pluralize(len(filters), 'filter file')} missing"
    if lost:
        yield f"the first is {_path_of(seen.layout, lost[0])}"
    if empty:
        yield f"{pluralize(len(empty), 'file')} of base calls without a byte, the first is {printable(empty[0])}"
    if seen.copying:
        yield _is_being_copied(seen.copying)


def _cycles(flow_cell: FlowCell, cycles: set[int]) -> str:
    """`cycles 120-151 of read 2`, `all of index 1`: counted within each read."""
    parts, first = [], 1
    for read in flow_cell.reads:
        inside = sorted(cycle - first + 1 for cycle in cycles if first <= cycle < first + read.cycles)
        first += read.cycles
        if len(inside) == read.cycles and inside:
            parts.append(f"all of {read.name}")
        elif inside:
            parts.append(f"{'cycle' if len(inside) == 1 else 'cycles'} {_ranges(inside)} of {read.name}")
    return " and ".join(parts)


def _ranges(numbers: Sequence[int]) -> str:
    """`1-3, 7`; of many only the first ones."""
    groups: list[list[int]] = []  # first and last of each
    for number in numbers:
        if groups and number == groups[-1][1] + 1:
            groups[-1][1] = number
        else:
            groups.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in groups]
    return ", ".join(texts[:5]) + (", ..." if len(texts) > 5 else "")


def is_torn(start: bytes, size: int, path: str) -> bool:
    """Whether a file of base calls of this size, which starts like this, has less bytes than its header says; also if
    that is no header."""
    if not path.endswith(".cbcl"):
        return len(start) < 4 or int.from_bytes(start[:4], "little") != size - 4
    try:
        version, header_size, _, _, bins = struct.unpack_from("<HIBBI", start)
        (tiles,) = struct.unpack_from("<I", start, 12 + 8 * bins)
        if version != 1 or header_size != 12 + 8 * bins + 4 + 16 * tiles + 1:
            return True
        rows = [struct.unpack_from("<IIII", start, 16 + 8 * bins + 16 * tile) for tile in range(tiles)]
    except struct.error:
        return True
    whole: int = header_size + sum(compressed for *_, compressed in rows)
    return size < whole
