"""Read from RunInfo.xml which reads, lanes and tiles a run has."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from s3sync.runs import run_folder
from s3sync.runs.run_folder import RUN_INFO

_MAX_TILES = 1000  # in a swath; the names of tiles have fewer digits


class Read(NamedTuple):
    """One read of a run: its name for people (`read 2`, `index 1`), and its number of cycles."""

    name: str
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowCell:
    """The reads and the geometry of a flow cell. `tiles` has the names of tiles by lane, if RunInfo.xml lists them."""

    reads: tuple[Read, ...]
    lanes: tuple[int, ...] = ()
    surfaces: int = 0
    swaths: int = 0
    tiles_in_swath: int = 0
    tiles: Mapping[int, frozenset[str]]

    @property
    def cycles(self) -> int:
        """Return the number of cycles of all reads."""
        return sum(read.cycles for read in self.reads)

    def surfaces_of(self, lane: int) -> frozenset[str]:
        """Return the numbers of the lane's surfaces, from its tiles if listed: a single surface may be number 2."""
        if lane in self.tiles:
            return frozenset(tile[0] for tile in self.tiles[lane])
        return frozenset(str(number) for number in range(1, self.surfaces + 1))

    def tiles_of(self, lane: int) -> frozenset[str]:
        """Return the names of the lane's tiles; if not listed, four digits of surface, swath and tile."""
        if lane in self.tiles:
            return self.tiles[lane]
        places = itertools.product(*(range(1, n + 1) for n in (self.surfaces, self.swaths, self.tiles_in_swath)))
        return frozenset(f"{surface}{swath}{tile:02}" for surface, swath, tile in places)


def read_flow_cell(folder: Path) -> FlowCell | None:
    """Return the flow cell that the RunInfo.xml of a run describes; None if it does not. Raises RunError."""
    run = run_folder.parse_xml(folder / RUN_INFO).find("Run")
    reads = _parse_reads(run) if run is not None else ()
    if run is None or not reads:
        return None
    layout = run.find("FlowcellLayout")
    if layout is None:
        return None if any(read.cycles for read in reads) else FlowCell(reads=reads, tiles={})
    tiles = _parse_tiles(layout)
    counts = [layout.get(name, "") for name in ("LaneCount", "SurfaceCount", "SwathCount", "TileCount")]
    lanes, surfaces, swaths, tiles_in_swath = (int(text) if _is_number(text) else 0 for text in counts)
    if tiles is None or max(lanes, surfaces, swaths) > 9 or tiles_in_swath > _MAX_TILES:
        return None
    return FlowCell(
        reads=reads,
        lanes=tuple(sorted(tiles)) or tuple(range(1, lanes + 1)),
        surfaces=surfaces,
        swaths=swaths,
        tiles_in_swath=tiles_in_swath,
        tiles=tiles,
    )


def _parse_reads(run: ET.Element) -> tuple[Read, ...]:
    """Return the reads; none if one of them is not understood."""
    counts: Counter[str] = Counter()
    reads = []
    for read in run.iterfind("Reads/Read"):
        kind = "index" if read.get("IsIndexedRead", "").strip().upper().startswith("Y") else "read"
        counts[kind] += 1
        cycles = read.get("NumCycles", "")
        if not _is_number(cycles) or len(cycles) > 5:
            return ()
        reads.append(Read(f"{kind} {counts[kind]}", int(cycles)))
    return tuple(reads)


def _parse_tiles(layout: ET.Element) -> dict[int, frozenset[str]] | None:
    """Return the names of the tiles by lane, none if they are not listed; None if one is not understood."""
    tiles: dict[int, set[str]] = defaultdict(set)
    for tile in layout.iterfind("TileSet/Tiles/Tile"):
        lane, _, name = (tile.text or "").strip().partition("_")
        if not (_is_number(lane) and _is_number(name)):
            return None
        tiles[int(lane)].add(name)
    return {lane: frozenset(names) for lane, names in tiles.items()}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
