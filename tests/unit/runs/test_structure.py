"""Which base calls RunInfo.xml asks for, and which of them are missing. All files but RunInfo.xml are values here."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from s3sync.runs import structure
from s3sync.runs.flow_cell import FlowCell
from s3sync.runs.local_files import LocalFile
from s3sync.runs.structure import BASE_CALLS, BaseCalls

FILTERS = [f"L00{lane}/s_{lane}_{tile}.filter" for lane in (1, 2) for tile in (1101, 1102, 2101, 2102)]
READS = ("6 N", "2 Y", "2 Y", "6 N")


def run_info(
    folder: Path,
    layout: str = 'LaneCount="2" SurfaceCount="2" SwathCount="1" TileCount="2"',
    reads: Iterable[str] = READS,
    tiles: Iterable[str] = (),
) -> FlowCell | None:
    named = "".join(f"<Tile>{tile}</Tile>" for tile in tiles)
    tags = "".join(f'<Read NumCycles="{read.split()[0]}" IsIndexedRead="{read.split()[1]}"/>' for read in reads)
    flow_cell = (
        f"<FlowcellLayout {layout}>{f'<TileSet><Tiles>{named}</Tiles></TileSet>' if named else ''}</FlowcellLayout>"
    )
    folder.mkdir(exist_ok=True)
    (folder / "RunInfo.xml").write_text(f"<RunInfo><Run><Reads>{tags}</Reads>{flow_cell}</Run></RunInfo>")
    return structure.read_flow_cell(folder)


def files(*paths: str, size: int = 9) -> list[LocalFile]:
    return [LocalFile(BASE_CALLS + path, size, 1) for path in paths]


def cbcl(lanes: int = 2, cycles: int = 16, surfaces: str = "12") -> list[str]:
    places = itertools.product(range(1, lanes + 1), range(1, cycles + 1), surfaces)
    return [f"L{lane:03}/C{cycle}.1/L{lane:03}_{surface}.cbcl" for lane, cycle, surface in places]


def bgzf(lanes: int = 2, cycles: int = 16) -> list[str]:
    return [f"L{lane:03}/{cycle:04}.bcl.bgzf" for lane in range(1, lanes + 1) for cycle in range(1, cycles + 1)]


def bcl(lanes: int = 2, cycles: int = 16, ending: str = ".bcl") -> list[str]:
    tiles = ("1101", "1102", "2101", "2102")
    places = itertools.product(range(1, lanes + 1), range(1, cycles + 1), tiles)
    return [f"L{lane:03}/C{cycle}.1/s_{lane}_{tile}{ending}" for lane, cycle, tile in places]


def gz(lanes: int = 2, cycles: int = 16) -> list[str]:
    return bcl(lanes, cycles, ".bcl.gz")


Paths = Callable[..., list[str]]
LAYOUTS = [pytest.param(paths, id=paths.__name__) for paths in (cbcl, bgzf, bcl, gz)]


def check(folder: Path, paths: Iterable[str], **how: str | Iterable[str]) -> BaseCalls:
    return structure.check(run_info(folder, **how), files(*paths))  # type: ignore[arg-type]


@pytest.mark.parametrize("paths", LAYOUTS)
def test_a_run_with_all_files_is_whole_in_every_layout(tmp_path: Path, paths: Paths) -> None:
    assert check(tmp_path, paths()) == BaseCalls(kind="whole", cycles=16, families=check(tmp_path, paths()).families)


@pytest.mark.parametrize("paths", LAYOUTS)
def test_every_single_file_that_is_missing_is_named(tmp_path: Path, paths: Paths) -> None:
    flow_cell = run_info(tmp_path)
    for path in paths():
        found = structure.check(flow_cell, files(*(other for other in paths() if other != path)))
        assert (found.kind, len(found.missing)) == ("missing", 1), path
        assert found.missing[0].removesuffix(".gz") == BASE_CALLS + path.removesuffix(".gz")
        assert f"the first is {found.missing[0]}" in found.summary


@pytest.mark.parametrize("paths", LAYOUTS)
def test_a_run_that_was_ended_early_lacks_the_rest_of_its_cycles(tmp_path: Path, paths: Paths) -> None:
    found = check(tmp_path, paths(cycles=12))
    assert (found.kind, found.cycles) == ("missing", 12)
    assert found.summary.startswith("lanes 1-2: cycles 3-6 of read 2 missing, ")


@pytest.mark.parametrize("paths", LAYOUTS)
def test_a_lane_without_base_calls_is_named(tmp_path: Path, paths: Paths) -> None:
    assert check(tmp_path, paths(lanes=1)).summary.startswith("lane 2: no base calls, ")


@pytest.mark.parametrize("paths", LAYOUTS)
def test_a_file_without_a_byte_is_not_there_yet(tmp_path: Path, paths: Paths) -> None:
    begun = paths()[3]
    found = structure.check(run_info(tmp_path), [*files(*paths()), *files(begun, size=0)])
    assert (found.kind, found.missing) == ("missing", (BASE_CALLS + begun,))
    assert f"1 empty base-call file, the first is {BASE_CALLS}{begun}" in found.summary


def test_missing_files_are_described_by_lane_read_and_cycle(tmp_path: Path) -> None:
    lost = {"L002/C8.1/L002_1.cbcl", "L002/C7.1/L002_1.cbcl", "L002/C2.1/L002_2.cbcl", "L001/C16.1/L001_2.cbcl"}
    found = check(tmp_path, set(cbcl()) - lost)
    assert found.summary == (
        "lane 1: cycle 6 of read 2 missing, 1 file; lane 2: cycle 2 of read 1 and all of index 1 missing, 3 files;"
        f" the first is {BASE_CALLS}L001/C16.1/L001_2.cbcl"
    )


def test_many_lanes_that_lack_different_files_are_summarised(tmp_path: Path) -> None:
    lost = {f"L00{lane}/C{cycle}.1/L00{lane}_1.cbcl" for lane in range(1, 9) for cycle in range(1, lane + 1)}
    layout = 'LaneCount="8" SurfaceCount="2" SwathCount="1" TileCount="2"'
    found = check(tmp_path, set(cbcl(lanes=8)) - lost, layout=layout)
    assert "lane 3: cycles 1-3 of read 1 missing, 3 files; lanes 4-8: 30 files missing; the first" in found.summary
    assert len(found.missing) == 36


def header(sizes: Iterable[int]) -> bytes:
    """Return the bytes of a CBCL with tiles of these compressed sizes."""
    rows = [(1101 + number, 9, 9, size) for number, size in enumerate(sizes)]
    bins = struct.pack("<II", 0, 0) * 4
    length = 12 + len(bins) + 4 + 16 * len(rows) + 1
    start = struct.pack("<HIBBI", 1, length, 2, 2, 4) + bins + struct.pack("<I", len(rows))
    return start + b"".join(struct.pack("<IIII", *row) for row in rows) + b"\1"


def test_a_cbcl_is_torn_if_it_is_shorter_than_its_header_says() -> None:
    start = header([100, 50, 7])
    assert not structure.is_truncated(start, len(start) + 157, "a.cbcl")
    assert structure.is_truncated(start, len(start) + 156, "a.cbcl")
    assert structure.is_truncated(start[:40], 40, "a.cbcl")
    assert structure.is_truncated(b"\2" + start[1:], len(start) + 157, "a.cbcl"), "no header at all"
    assert structure.is_truncated(b"", 0, "a.cbcl")


def test_a_bcl_is_torn_if_it_does_not_have_a_byte_for_each_cluster() -> None:
    start = (1000).to_bytes(4, "little") + b"x" * 60
    assert not structure.is_truncated(start, 1004, "s_1_1101.bcl")
    assert structure.is_truncated(start, 1003, "s_1_1101.bcl")
    assert structure.is_truncated(b"x", 1, "s_1_1101.bcl")


def test_files_with_less_than_half_the_bytes_of_the_others_are_short(tmp_path: Path) -> None:
    for paths in (cbcl(), bcl()):
        begun = paths[20]
        others = files(*(path for path in paths if path != begun), size=1000)
        flow_cell = run_info(tmp_path)
        assert structure.check(flow_cell, [*others, *files(begun, size=500)]).suspects == ()
        found = structure.check(flow_cell, [*others, *files(begun, size=499)])
        assert (found.kind, found.suspects) == ("whole", (BASE_CALLS + begun,))
    compressed = [*files(*gz()[1:], size=1000), *files(gz()[0], size=1)]
    assert structure.check(flow_cell, compressed).suspects == (), "nobody knows how well it can be compressed"


def test_temporary_names_of_copying_tools_are_not_base_calls(tmp_path: Path) -> None:
    last = cbcl()[-1]
    for name in (
        *(".L002_2.cbcl.Xa12Bc", "L002_2.cbcl.filepart", "L002_2.cbcl.part", "L002_2.cbcl.tmp"),
        *("L002_2.cbcl.8f2c1a0b.partial", ".in.L002_2.cbcl.", "L002_2.cbcl_.gstmp", "L002_2.cbcl.6eF5b5dA"),
        *(".~tmp~/L002_2.cbcl", ".rsync-partial/L002_2.cbcl", ".syncthing.L002_2.cbcl.tmp", ".L002_2.cbcl.~1a2b"),
    ):
        copied = f"{last.rpartition('/')[0]}/{name}"
        found = check(tmp_path, [*cbcl()[:-1], copied])
        assert (found.kind, found.missing) == ("missing", (BASE_CALLS + last,))
        assert f"{BASE_CALLS}{copied} is being copied" in found.summary
        alone = check(tmp_path, [copied])
        assert (alone.kind, alone.missing) == ("missing", (BASE_CALLS + copied,)), "more than none"


def test_filters_that_wait_in_a_folder_of_rsync_have_not_arrived(tmp_path: Path) -> None:
    waiting = [f"{path.rpartition('/')[0]}/.~tmp~/{path.rpartition('/')[2]}" for path in FILTERS]
    assert check(tmp_path, waiting).kind == "missing"


@pytest.mark.parametrize(
    "paths",
    [
        *([], ["config.xml"], [*FILTERS, "L001/C1.1/s_1_1101.stats"], ["Alignment/a.fastq.gz"]),
        ["L001/0001.bcl.bgzf.bci", "L001/C1.1/L001_1.cbcl.md5", "L001/C1.1/._L001_1.cbcl"],
    ],
    ids=["nothing", "texts", "filters and statistics", "fastq", "what lay beside them"],
)
def test_a_run_without_base_calls_is_known_as_one(tmp_path: Path, paths: list[str]) -> None:
    assert check(tmp_path, paths).kind == "none"


def test_some_filters_and_no_base_calls_are_a_copy_that_has_begun(tmp_path: Path) -> None:
    found = check(tmp_path, FILTERS[:5])
    assert (found.kind, len(found.missing)) == ("missing", 3)
    assert found.summary == f"no base calls yet; 3 filter files missing; the first is {BASE_CALLS}{FILTERS[5]}"


@pytest.mark.parametrize(
    "layout",
    ["", 'LaneCount="2"', 'LaneCount="x" SurfaceCount="2"', 'LaneCount="0" SurfaceCount="2"', 'SurfaceCount="2"'],
)
def test_a_run_info_that_does_not_say_how_many_lanes_and_surfaces_there_are_is_unknown(
    tmp_path: Path, layout: str
) -> None:
    assert check(tmp_path, cbcl(), layout=layout).kind == "unknown"


@pytest.mark.parametrize("reads", [[], ["x N"], ["-6 N"], ["6 N", " N"], [f"{'9' * 9} N"]])
def test_a_run_info_that_does_not_say_how_many_cycles_there_are_is_unknown(tmp_path: Path, reads: list[str]) -> None:
    assert check(tmp_path, cbcl(), reads=[read if read.split()[1:] else "? N" for read in reads]).kind == "unknown"


def test_a_run_info_that_asks_for_more_than_any_run_has_is_unknown(tmp_path: Path) -> None:
    layout = 'LaneCount="9" SurfaceCount="9" SwathCount="9" TileCount="{}"'
    assert check(tmp_path, bcl(), layout=layout.format(99), reads=["99999 N"]).kind == "unknown"
    assert check(tmp_path, bcl(), layout=layout.format(9999)).kind == "unknown"


def test_a_run_info_that_asks_for_no_cycles_asks_for_no_base_calls(tmp_path: Path) -> None:
    assert check(tmp_path, [], reads=["0 N"]).kind == "whole"


def test_files_with_other_names_of_tiles_than_those_of_run_info_are_unknown(tmp_path: Path) -> None:
    """As of a Genome Analyzer, whose tiles are s_1_1 to s_1_120."""
    paths = [f"L001/C{cycle}.1/s_1_{tile}.bcl" for cycle in range(1, 17) for tile in range(1, 9)]
    found = check(tmp_path, paths)
    assert found.kind == "unknown"
    assert "do not match the lanes, cycles and tiles in RunInfo.xml" in found.summary


def test_the_list_of_tiles_says_which_surface_a_flow_cell_has(tmp_path: Path) -> None:
    """The only surface of an SP flow cell is the second one."""
    tiles = ["1_2101", "1_2102", "2_2101", "2_2102"]
    assert check(tmp_path, cbcl(surfaces="2"), tiles=tiles).kind == "whole"
    assert check(tmp_path, cbcl(surfaces="1"), tiles=tiles).kind != "whole"


def test_without_a_list_of_tiles_the_one_surface_may_be_either(tmp_path: Path) -> None:
    layout = 'LaneCount="2" SurfaceCount="1" SwathCount="1" TileCount="2"'
    assert check(tmp_path, cbcl(surfaces="1"), layout=layout).kind == "whole"
    assert check(tmp_path, cbcl(surfaces="2"), layout=layout).kind == "whole"
    assert check(tmp_path, cbcl(surfaces="2")[:-1], layout=layout).kind == "missing"


def test_one_surface_alone_is_half_a_run_where_there_are_two(tmp_path: Path) -> None:
    found = check(tmp_path, cbcl(surfaces="1"))
    assert (found.kind, len(found.missing)) == ("missing", 32)


def test_lanes_that_the_list_of_tiles_does_not_have_were_not_sequenced(tmp_path: Path) -> None:
    assert check(tmp_path, cbcl(lanes=1), tiles=["1_1101", "1_2101"]).kind == "whole"


def test_five_digits_name_the_tiles_of_a_nextseq_500(tmp_path: Path) -> None:
    tiles = [f"{lane}_{tile}" for lane in (1, 2) for tile in (11101, 21312)]
    filters = ["L001/s_1.filter", "L002/s_2.filter"]
    assert check(tmp_path, [*bgzf(), *filters], tiles=tiles).kind == "whole"
    lost = check(tmp_path, [*bgzf(), *filters[:1]], tiles=tiles)
    assert (lost.kind, lost.missing) == ("missing", (f"{BASE_CALLS}L002/s_2.filter",))


@pytest.mark.parametrize("place", ["L00{}/", "", "L00{}/filters/"], ids=["in the lane", "above it", "below it"])
def test_filters_belong_to_tiles_wherever_they_lie(tmp_path: Path, place: str) -> None:
    names = [f"{place.format(lane)}s_{lane}_{t}.filter" for lane in (1, 2) for t in (1101, 1102, 2101, 2102)]
    assert check(tmp_path, [*cbcl(), *names]).kind == "whole"
    found = check(tmp_path, [*cbcl(), *names[:-2]])
    assert (found.kind, len(found.missing)) == ("missing", 2)
    assert found.summary.startswith("2 filter files missing; the first is ")


def test_all_filters_are_missing_only_where_the_first_read_is_long_enough_for_them(tmp_path: Path) -> None:
    assert check(tmp_path, cbcl(cycles=25), reads=["25 N"]).kind == "whole"
    assert check(tmp_path, cbcl(cycles=26), reads=["26 N"]).summary.startswith("8 filter files missing")


def test_filters_with_other_names_are_no_reason_to_wait(tmp_path: Path) -> None:
    assert check(tmp_path, [*cbcl(cycles=30), "L001/s_1_0001.filter"], reads=["30 N"]).kind == "whole"


def test_the_layouts_name_every_family_once() -> None:
    from s3sync.runs.completion import FAMILIES

    named = [family for layout in structure.LAYOUTS for family in layout.families]
    assert sorted(named) == sorted(family.name for family in FAMILIES)
