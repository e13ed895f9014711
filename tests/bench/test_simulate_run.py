"""The simulated run folders look like real ones and come out the same every time."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
import zlib
from typing import TYPE_CHECKING

import pytest

from scripts.simulate_run import INSTRUMENTS, RunFile, main, make_run, plan_run, run_files

if TYPE_CHECKING:
    from pathlib import Path

RUN_ID = re.compile(r"^\d{6,8}_[a-zA-Z\d\-]+_\d{2,}_[AB0][A-Z\d\-]+$")
COMPLETION_MARKERS = {"RTAComplete.txt", "SequenceComplete.txt", "CopyComplete.txt", "RunCompletionStatus.xml"}
SMALL = (3, 2, 2, 3)

every_instrument = pytest.mark.parametrize("instrument", list(INSTRUMENTS))


def small_run(parent: Path, instrument: str = "novaseq6000", *, seed: int = 1, complete: bool = True) -> Path:
    return make_run(parent, instrument, seed=seed, scale=1e-4, cycles=SMALL, lanes=1, tiles=2, complete=complete)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def count(files: list[RunFile], pattern: str) -> int:
    return sum(re.fullmatch(pattern, file.path) is not None for file in files)


@every_instrument
def test_same_seed_gives_same_names_and_bytes(tmp_path: Path, instrument: str) -> None:
    first, second = (small_run(tmp_path / name, instrument) for name in "ab")
    assert first.name == second.name
    assert contents(first) == contents(second)


@every_instrument
def test_another_seed_gives_another_flow_cell_and_other_bytes(tmp_path: Path, instrument: str) -> None:
    first, second = (small_run(tmp_path, instrument, seed=seed) for seed in (1, -1))
    assert plan_run(instrument, seed=1).flowcell != plan_run(instrument, seed=-1).flowcell
    one, other = contents(first), contents(second)
    assert one["SampleSheet.csv"] != other["SampleSheet.csv"]
    binaries = [path for path, content in one.items() if re.search(r"\.(c?bcl|filter|locs|bin)$", path) and content]
    assert len(binaries) > 10
    assert all(one[path] != other[path] for path in binaries)


@every_instrument
def test_the_plan_is_what_gets_written(tmp_path: Path, instrument: str) -> None:
    plan = run_files(plan_run(instrument, cycles=SMALL, lanes=1, tiles=2), 1e-4)
    written = contents(small_run(tmp_path, instrument))
    assert {file.path: file.size for file in plan} == {path: len(content) for path, content in written.items()}


@every_instrument
def test_default_run_id_is_one_that_instruments_give(instrument: str) -> None:
    assert all(RUN_ID.match(plan_run(instrument, seed=seed).run_id) for seed in range(200))


def test_novaseq6000_is_as_large_as_an_s1_run() -> None:
    files = run_files(plan_run("novaseq6000"), 1)
    assert count(files, r"Data/Intensities/BaseCalls/L00[12]/C\d+\.1/L00[12]_[12]\.cbcl") == 1272
    assert count(files, r"Data/Intensities/BaseCalls/L00([12])/s_\1_[12][12]\d\d\.filter") == 624
    assert count(files, r"Data/Intensities/s\.locs") == 1
    assert len(files) == pytest.approx(5492, rel=0.03)
    assert sum(file.size for file in files) == pytest.approx(102e9, rel=0.1)
    assert 100e6 < sum(file.size for file in run_files(plan_run("novaseq6000"))) < 300e6


def test_novaseqx_is_as_large_as_a_25b_run() -> None:
    files = run_files(plan_run("novaseqx"), 1)
    assert count(files, r"Data/Intensities/BaseCalls/L00(\d)/C\d+\.1/L00\1_[12]\.cbcl") == 5088
    assert count(files, r"Data/Intensities/BaseCalls/L00(\d)/s_\1_[12][1-4]\d\d\.filter") == 6272
    assert sum(file.size for file in files) == pytest.approx(5.2e12, rel=0.1)


def test_nextseq2000_is_like_a_p2_run() -> None:
    files = run_files(plan_run("nextseq2000"))
    assert count(files, r"Data/Intensities/BaseCalls/L001/C\d+\.1/L001_[12]\.cbcl") == 636
    assert count(files, r"Data/Intensities/BaseCalls/L001/s_1_[12][1-6]\d\d\.filter") == 132


def test_miseq_has_a_file_a_tile_and_cycle() -> None:
    files = run_files(plan_run("miseq"))
    basecalls = r"Data/Intensities/BaseCalls/L001/"
    assert count(files, basecalls + r"C\d+\.1/s_1_[12]1\d\d\.bcl") == 28 * 318
    assert count(files, basecalls + r"s_1_[12]1\d\d\.filter") == 28
    assert count(files, basecalls + r"s_1_[12]1\d\d\.control") == 28
    assert count(files, r"Data/Intensities/L001/s_1_[12]1\d\d\.locs") == 28
    assert count(files, r"Thumbnail_Images/L001/C(1|152|160|168)\.1/s_1_[12]1\d\d_[acgt]\.jpg") == 28 * 4 * 4
    assert count(files, r"InterOp/C\d+\.1/.*") == 0
    assert count(files, r"runParameters\.xml") == 1


@every_instrument
def test_names_are_different_and_stay_in_the_run(instrument: str) -> None:
    paths = [file.path for file in run_files(plan_run(instrument))]
    assert len(set(paths)) == len(paths)
    assert not [path for path in paths if re.search(r"^/|\.\.|[{}]|//", path)]


@every_instrument
def test_run_info_agrees_with_the_folder(tmp_path: Path, instrument: str) -> None:
    folder = small_run(tmp_path, instrument)
    run = ET.parse(folder / "RunInfo.xml").getroot().find("Run")
    assert run is not None
    assert run.get("Id") == folder.name
    date, instrument_id, number, flowcell = folder.name.split("_")
    assert run.findtext("Instrument") == instrument_id
    assert int(run.get("Number", "")) == int(number)
    assert flowcell.removeprefix(plan_run(instrument).side) == run.findtext("Flowcell")
    assert [read.get("NumCycles") for read in run.iterfind("Reads/Read")] == ["3", "2", "2", "3"]
    assert [read.get("IsIndexedRead") for read in run.iterfind("Reads/Read")] == ["N", "Y", "Y", "N"]
    cycles = {path.name for path in folder.glob("Data/Intensities/BaseCalls/L001/C*.1")}
    by_cycle = {path.name for path in folder.glob("Data/Intensities/BaseCalls/L001/*.bcl.bgzf")}
    assert (cycles, by_cycle) in [
        ({f"C{cycle}.1" for cycle in range(1, 11)}, set()),
        (set(), {f"{cycle:04}.bcl.bgzf" for cycle in range(1, 11)}),
    ]
    assert {2: date, 4: date, 6: f"20{date[-6:-4]}-{date[-4:-2]}-{date[-2:]}"}.get(
        INSTRUMENTS[instrument].run_info_version, f"{date[2:4]}/{date[4:6]}/20{date[:2]}"
    ) in (run.findtext("Date") or "")


@every_instrument
def test_layout_and_tiles_agree_with_the_filters(tmp_path: Path, instrument: str) -> None:
    folder = small_run(tmp_path, instrument)
    layout = ET.parse(folder / "RunInfo.xml").getroot().find("Run/FlowcellLayout")
    assert layout is not None
    lanes, surfaces, swaths, tiles = (int(layout.get(f"{n}Count", "")) for n in ("Lane", "Surface", "Swath", "Tile"))
    filters = sorted(path.stem for path in folder.rglob("*.filter"))
    if (folder / "Data/Intensities/BaseCalls/L001/s_1.filter").exists():
        assert len(filters) == lanes
        return
    assert len(filters) == lanes * surfaces * swaths * tiles
    if INSTRUMENTS[instrument].run_info_version >= 5:
        assert sorted(f"s_{tile.text}" for tile in layout.iterfind("TileSet/Tiles/Tile")) == filters


@every_instrument
def test_every_xml_parses_and_parameters_name_the_run(tmp_path: Path, instrument: str) -> None:
    folder = small_run(tmp_path, instrument)
    roots = {path.name: ET.parse(path).getroot() for path in folder.rglob("*.xml")}
    parameters = roots["runParameters.xml" if instrument in ("miseq", "hiseq2500") else "RunParameters.xml"]
    assert folder.name in [element.text for element in parameters]


@pytest.mark.parametrize(
    ("instrument", "markers"),
    [
        ("miseq", {"RTAComplete.txt"}),
        ("nextseq2000", {"RTAComplete.txt", "RunCompletionStatus.xml", "CopyComplete.txt"}),
        ("novaseq6000", {"RTAComplete.txt", "SequenceComplete.txt", "CopyComplete.txt"}),
        ("novaseqx", {"RTAComplete.txt", "RunCompletionStatus.xml", "CopyComplete.txt"}),
        ("miseqi100", {"RTAComplete.txt", "RunCompletionStatus.xml", "CopyComplete.txt"}),
        ("nextseq550", {"RTAComplete.txt", "RunCompletionStatus.xml"}),
        ("iseq100", {"RTAComplete.txt", "RunCompletionStatus.xml", "CopyComplete.txt"}),
        ("hiseq2500", {"RTAComplete.txt"}),
    ],
)
def test_markers_are_those_of_the_instrument(tmp_path: Path, instrument: str, markers: set[str]) -> None:
    complete = contents(small_run(tmp_path / "complete", instrument))
    incomplete = contents(small_run(tmp_path / "incomplete", instrument, complete=False))
    assert complete.keys() & COMPLETION_MARKERS == markers
    assert complete.keys() - incomplete.keys() == markers
    assert {path: complete[path] for path in incomplete} == incomplete


def test_miseq_marks_the_end_of_each_read(tmp_path: Path) -> None:
    names = contents(small_run(tmp_path, "miseq"))
    assert {f"RTARead{read}Complete.txt" for read in range(1, 5)} <= names.keys()


def test_completion_status_says_what_its_instrument_says(tmp_path: Path) -> None:
    nextseq, novaseqx = (
        ET.parse(small_run(tmp_path, name) / "RunCompletionStatus.xml") for name in ("nextseq2000", "novaseqx")
    )
    assert nextseq.findtext("CompletionStatus") == "CompletedAsPlanned"
    assert novaseqx.findtext("RunStatus") == "RunCompleted"


def test_files_are_written_in_the_order_of_an_instrument(tmp_path: Path) -> None:
    folder, now = small_run(tmp_path), time.time()
    times = {path: path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}
    assert min(times, key=times.__getitem__).name == "RunInfo.xml"
    assert times[folder / "CopyComplete.txt"] == max(times.values())
    assert now - times[folder / "RunInfo.xml"] == pytest.approx(25 * 3600, abs=60)
    assert max(times.values()) == pytest.approx(now, abs=60)


def test_sample_sheets_are_version_1_for_miseq_and_2_for_others(tmp_path: Path) -> None:
    v1, v2 = (contents(small_run(tmp_path, name))["SampleSheet.csv"].decode() for name in ("miseq", "novaseqx"))
    assert "[Data],,,,\r\nSample_ID,Sample_Name,Sample_Project,index,index2\r\n" in v1
    assert {line.count(",") for line in v1.splitlines()} == {4}
    assert "[BCLConvert_Data]\r\nSample_ID,Index,Index2\r\n" in v2
    assert "Read1Cycles,3\r\nIndex1Cycles,2\r\n" in v2
    names = [line.split(",")[0] for line in v2.split("Index2\r\n")[1].splitlines()]
    assert len(set(names)) == INSTRUMENTS["novaseqx"].samples


def test_content_cannot_be_compressed_and_never_repeats(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cycles=(2,), lanes=1, scale=0.2)
    large, other = sorted(folder.glob("Data/Intensities/BaseCalls/L001/C1.1/*.cbcl"))
    content = large.read_bytes()
    assert len(content) == 156 * 500_000 * 0.2
    assert len(zlib.compress(content, 1)) > 0.99 * len(content)
    block = 4 * 1024 * 1024
    pieces = [content[start : start + block] for start in range(0, len(content), block)]
    assert len({zlib.crc32(piece) for piece in pieces}) == len(pieces)
    assert content != other.read_bytes()


def test_scale_shrinks_binary_files_only_and_not_below_the_floor() -> None:
    run = plan_run("novaseq6000")
    real, small = ({f.path: f for f in run_files(run, scale)} for scale in (1, 1e-9))
    assert all(small[path].size == min(file.size, 1024) for path, file in real.items() if file.content is None)
    assert all(small[path] == file for path, file in real.items() if file.content is not None)


def test_a_given_run_id_names_folder_and_facts(tmp_path: Path) -> None:
    folder = make_run(tmp_path, cycles=(1,), lanes=1, tiles=1, run_id="240229_A01234_0042_BHABCDDRX3")
    run = ET.parse(folder / "RunInfo.xml").getroot().find("Run")
    assert run is not None
    facts = [run.findtext(name) for name in ("Flowcell", "Instrument", "Date")]
    assert (folder.name, run.get("Number")) == ("240229_A01234_0042_BHABCDDRX3", "42")
    assert facts == ["HABCDDRX3", "A01234", "02/29/2024 12:00:00 AM"]


@pytest.mark.parametrize("run_id", ["run 1", "a&b<c>'\"", "{run_id}", "999999_A01234_0042_BHABCDDRX3", "läuft"])
def test_any_folder_name_will_do(tmp_path: Path, run_id: str) -> None:
    folder = make_run(tmp_path, "novaseqx", cycles=(1,), lanes=1, tiles=1, run_id=run_id)
    run = ET.parse(folder / "RunInfo.xml").getroot().find("Run")
    assert run is not None
    assert (folder, run.get("Id")) == (tmp_path / run_id, run_id)


def test_main_says_in_one_line_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scale", "0.0001", "--seed", "3", "--cycles", "2,1,2", "--tiles", "1", "--run-id", "here"]
    assert main(["miseq", str(tmp_path), *options, "--incomplete"]) == 0
    made = contents(tmp_path / "here")
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'here'}  {len(made):,} files  {sum(map(len, made.values())):,} bytes\n"
    assert err == ""
    assert "RTAComplete.txt" not in made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "required"),
        (["hiseq", "{parent}"], "invalid choice: 'hiseq'"),
        (["miseq", "{parent}", "--scale", "0"], "scale must be a positive number"),
        (["miseq", "{parent}", "--scale", "nan"], "scale must be a positive number"),
        (["miseq", "{parent}", "--scale", "big"], "--scale: invalid float value"),
        (["miseq", "{parent}", "--cycles", "151;8"], "'151;8' is not like 151,8,8,151"),
        (["miseq", "{parent}", "--cycles", "1,2,3,4,5"], "cycles must be one to four numbers"),
        (["miseq", "{parent}", "--cycles", "151,0"], "cycles must be one to four numbers"),
        (["miseq", "{parent}", "--lanes", "9"], "lanes must be 1 to 8"),
        (["miseq", "{parent}", "--tiles", "0"], "tiles 1 to 99"),
        (["miseq", "{parent}", "--run_id", "../up"], "run_id must be the name of a folder"),
    ],
)
def test_bad_options_are_one_message_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([option.format(parent=tmp_path / "runs") for option in options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").touch()
    assert main(["miseq", str(tmp_path), "--run_id", "taken"]) == 1
    assert capsys.readouterr().err.endswith("taken is there already, with files in it\n")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["precious"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert make_run(tmp_path, cycles=(1,), tiles=1, run_id="empty") == tmp_path / "empty"


def test_a_parent_that_is_not_a_folder_is_one_message_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["miseq", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "simulate_run.py novaseq6000 /tmp/runs" in capsys.readouterr().out


def test_an_instrument_that_is_not_known_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"no such instrument: hiseq \(there are miseq, "):
        plan_run("hiseq")
