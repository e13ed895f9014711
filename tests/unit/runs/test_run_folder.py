"""What a run folder says of itself: RunInfo.xml, whether the copy is complete, and which files are in it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.errors import RunError
from s3sync.runs.completion import QUIET_SECONDS, Completion, check_completion, find_family, finished_at
from s3sync.runs.local_files import (
    Listing,
    LocalFile,
    SkippedEntry,
    is_inside,
    last_change,
    list_files,
    restat,
    restat_all,
)
from s3sync.runs.run_folder import Run, RunInfo, RunParameters, open_run, read_run_info, read_run_parameters
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.unprivileged import run_unprivileged

HOUR = QUIET_SECONDS
NOW = 1_800_000_000.0
NO_INFO = RunInfo()


def run_info(instrument: str) -> str:
    return f'<RunInfo><Run Id="R"><Instrument>{instrument}</Instrument></Run></RunInfo>'


def make_run(folder: Path, instrument: str = "A01295", **contents: str) -> Run:
    """A run folder; keyword arguments are files with their contents, `_` standing for the dot."""
    folder.mkdir(exist_ok=True)
    (folder / "RunInfo.xml").write_text(run_info(instrument))
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_text(content)
    return open_run(folder)


def bare_run(folder: Path) -> Run:
    return Run(path=folder, run_id=folder.name, info=NO_INFO)


# Families of instruments


@pytest.mark.parametrize(
    ("instrument", "family"),
    [
        ("M00146", "MiSeq"),
        ("SH00123", "MiSeq i100"),
        ("MN00595", "MiniSeq"),
        ("FS10000845", "iSeq 100"),
        ("NB551051", "NextSeq 500/550"),
        ("NS500340", "NextSeq 500/550"),
        ("VH00320", "NextSeq 1000/2000"),
        ("VL00115", "NextSeq 1000/2000"),
        ("SN7001179", "HiSeq"),
        ("D00289", "HiSeq"),
        ("7001179", "HiSeq"),
        ("J00118", "HiSeq"),
        ("K00233", "HiSeq"),
        ("E00384", "HiSeq"),
        ("ST-E00127", "HiSeq"),
        ("A01295", "NovaSeq 6000"),
        ("LH00130", "NovaSeq X"),
        ("", None),
        ("X123", None),
        ("M", None),
        ("lh00130", None),
        ("A01295\n", None),
        ("XA01295", None),
    ],
)
def test_family_by_instrument_id(instrument: str, family: str | None) -> None:
    found = find_family(instrument)
    assert (found.name if found else None) == family


# Completion

MISEQ_2 = (
    "<RunParameters><Setup><ApplicationVersion>4.9</ApplicationVersion></Setup>"
    "<MCSVersion>2.2.0</MCSVersion></RunParameters>"
)
MISEQ_4 = "<RunParameters><MCSVersion>4.0.0.1769</MCSVersion></RunParameters>"
NEXTSEQ_2 = "<RunParameters><Setup><ApplicationVersion>2.1.0.31</ApplicationVersion></Setup></RunParameters>"
NEXTSEQ_4 = "<RunParameters><Setup><ApplicationVersion> 4.0.1.41 </ApplicationVersion></Setup></RunParameters>"
NEXTSEQ_10 = "<RunParameters><Setup><ApplicationVersion>10</ApplicationVersion></Setup></RunParameters>"


@pytest.mark.parametrize(
    ("instrument", "markers", "parameters", "quiet", "complete", "reason"),
    [
        # instruments that always write CopyComplete.txt: RTAComplete means nothing, however long ago
        ("A01295", "", None, 99 * HOUR, False, "waits for CopyComplete.txt, which NovaSeq 6000 A01295"),
        ("A01295", "RTAComplete.txt", None, 99 * HOUR, False, "waits for CopyComplete.txt"),
        ("A01295", "RTAComplete.txt SequenceComplete.txt", None, 99 * HOUR, False, "waits for CopyComplete.txt"),
        ("A01295", "RTAComplete.txt CopyComplete.txt", None, 0, True, "CopyComplete.txt exists"),
        ("A01295", "CopyComplete.txt", None, 0, True, "CopyComplete.txt exists"),
        ("A01295", "copycomplete.txt", None, 0, True, "copycomplete.txt exists"),
        ("A01295", "CopyComplete.txt.tmp", None, 99 * HOUR, False, "waits for CopyComplete.txt"),
        ("A01295", "NotCopyComplete.txt", None, 99 * HOUR, False, "waits for CopyComplete.txt"),
        ("LH00130", "RTAComplete.txt", None, 99 * HOUR, False, "NovaSeq X LH00130"),
        ("LH00130", "CopyComplete.txt", None, 0, True, "CopyComplete.txt exists"),
        ("VH00320", "RTAComplete.txt", None, 99 * HOUR, False, "NextSeq 1000/2000"),
        ("FS10000845", "RTAComplete.txt", None, 99 * HOUR, False, "iSeq 100"),
        ("MN00595", "RTAComplete.txt", None, 99 * HOUR, False, "MiniSeq"),
        ("SH00123", "RTAComplete.txt", None, 99 * HOUR, False, "MiSeq i100"),
        # HiSeq never writes it
        ("D00289", "", None, 99 * HOUR, False, "waits for RTAComplete (HiSeq D00289)"),
        ("D00289", "RTAComplete.txt", None, 0, True, "RTAComplete.txt exists"),
        ("ST-E00127", "RTAComplete.txt", None, 0, True, "RTAComplete.txt exists"),
        ("D00289", "Basecalling_Netcopy_complete.txt", None, 99 * HOUR, False, "waits for RTAComplete"),
        ("D00289", "CopyComplete.txt", None, 0, True, "CopyComplete.txt exists"),
        # MiSeq and NextSeq 500/550 write it from version 4 of the control software on
        ("M00146", "RTAComplete.txt", MISEQ_2, 0, True, "RTAComplete.txt exists"),
        ("M00146", "", MISEQ_2, 99 * HOUR, False, "waits for RTAComplete (MiSeq M00146)"),
        ("M00146", "RTAComplete.txt", MISEQ_4, 99 * HOUR, False, "waits for CopyComplete.txt, which MiSeq M00146"),
        ("M00146", "CopyComplete.txt", MISEQ_4, 0, True, "CopyComplete.txt exists"),
        ("NB551051", "RTAComplete.txt", NEXTSEQ_2, 0, True, "RTAComplete.txt exists"),
        ("NB551051", "RTAComplete.xml", NEXTSEQ_2, 0, True, "RTAComplete.xml exists"),
        ("NB551051", "RTARead1Complete.txt RTARead2Complete.txt", NEXTSEQ_2, 9 * HOUR, False, "waits for RTAComplete"),
        ("NS500340", "RTAComplete.txt", NEXTSEQ_4, 99 * HOUR, False, "waits for CopyComplete.txt"),
        ("NS500340", "RTAComplete.txt CopyComplete.txt", NEXTSEQ_4, 0, True, "CopyComplete.txt exists"),
        ("NB551051", "RTAComplete.txt", NEXTSEQ_10, 99 * HOUR, False, "waits for CopyComplete.txt"),
        # ... and where the version cannot be known, time decides
        ("M00146", "RTAComplete.txt", None, HOUR - 1, False, "must stay unchanged for 1.0 s more"),
        ("M00146", "RTAComplete.txt", None, HOUR, True, "nothing changed for 1 h 00 min"),
        ("M00146", "RTAComplete.txt", NEXTSEQ_4, HOUR - 1, False, "must stay unchanged"),
        ("M00146", "RTAComplete.txt", "<broken", HOUR - 1, False, "must stay unchanged"),
        ("M00146", "RTAComplete.txt", "<R><MCSVersion>four</MCSVersion></R>", HOUR - 1, False, "must stay unchanged"),
        ("M00146", "RTAComplete.txt", "<R><MCSVersion/></R>", HOUR, True, "nothing changed"),
        # as it does for instruments nobody has heard of
        ("ZZ001", "", None, 99 * HOUR, False, "waits for RTAComplete (instrument ZZ001)"),
        ("", "", None, 99 * HOUR, False, "waits for RTAComplete (instrument unknown)"),
        ("ZZ001", "RTAComplete.txt", None, 0, False, "instrument ZZ001: RTAComplete.txt exists; must stay unchanged"),
        ("ZZ001", "RTAComplete.xml", None, HOUR - 1, False, "must stay unchanged for 1.0 s more"),
        ("ZZ001", "rtacomplete.TXT", None, HOUR, True, "rtacomplete.TXT exists and nothing changed"),
        ("ZZ001", "RTAComplete.txt", None, -HOUR, False, "must stay unchanged for 1 h 00 min more"),
        ("ZZ001", "COPYCOMPLETE.TXT", None, 0, True, "COPYCOMPLETE.TXT exists"),
    ],
)
def test_completion(
    tmp_path: Path, instrument: str, markers: str, parameters: str | None, quiet: float, complete: bool, reason: str
) -> None:
    run = make_run(tmp_path / "run", instrument)
    for marker in markers.split():
        (run.path / marker).touch()
    if parameters is not None:
        (run.path / "RunParameters.xml").write_text(parameters)
    found = check_completion(run, lambda: NOW - quiet, now=NOW)
    assert found.is_complete == complete, found.reason
    assert reason in found.reason


def check_rta_only(run: Run) -> Completion:
    (run.path / "RTAComplete.txt").touch()
    return check_completion(run, lambda: NOW, now=NOW)


def test_an_unknown_instrument_is_one_printable_line(tmp_path: Path) -> None:
    """The reason goes to terminals, logs and messages."""
    run = make_run(tmp_path / "run", f"&#155;31m&#8238;\nX{'y' * 1000}")
    found = check_completion(run, lambda: NOW, HOUR, NOW)
    assert found.reason == rf"waits for RTAComplete (instrument \x9b31m\u202e\nX{'y' * 93})"


def test_version_is_found_in_lower_case_run_parameters(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "M00146", runParameters_xml=MISEQ_2)
    assert check_rta_only(run) == Completion(is_complete=True, reason="RTAComplete.txt exists")


def test_version_is_found_in_the_other_run_parameters_if_one_is_broken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "M00146", RunParameters_xml="<", runParameters_xml=MISEQ_2)
    assert check_rta_only(run) == Completion(is_complete=True, reason="RTAComplete.txt exists")


def test_absurd_version_is_not_a_version(tmp_path: Path) -> None:
    absurd = f"<R><MCSVersion>{'9' * 5000}</MCSVersion></R>"
    run = make_run(tmp_path / "run", "M00146", RunParameters_xml=absurd)
    assert "must stay unchanged" in check_rta_only(run).reason


@pytest.mark.timeout(5)
def test_run_parameters_that_are_a_pipe_do_not_hang(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "M00146")
    os.mkfifo(run.path / "RunParameters.xml")
    assert "must stay unchanged" in check_rta_only(run).reason


def test_markers_count_at_the_root_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "LH00130")
    (run.path / "Analysis" / "1").mkdir(parents=True)
    (run.path / "Analysis" / "1" / "CopyComplete.txt").touch()
    assert not check_completion(run, lambda: 0).is_complete


def test_the_instrument_finished_a_run_when_it_wrote_the_last_of_its_markers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **{"RTAComplete.txt": "", "copycomplete.TXT": "", "SequenceComplete.txt": ""})
    began = 1_700_000_000.0
    for name, after in (("RTAComplete.txt", 1), ("copycomplete.TXT", HOUR), ("SequenceComplete.txt", 2 * HOUR)):
        os.utime(run.path / name, (began + after, began + after))
    (run.path / "Data").mkdir()
    (run.path / "Data" / "CopyComplete.txt").touch()

    assert finished_at(run) == began + HOUR


def test_a_marker_from_the_future_was_written_when_the_disk_says(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", **{"CopyComplete.txt": ""})
    os.utime(run.path / "CopyComplete.txt", (2**33, 2**33))

    assert finished_at(run) == (run.path / "CopyComplete.txt").stat().st_ctime


def test_a_run_without_markers_or_folder_was_not_finished(tmp_path: Path) -> None:
    assert finished_at(make_run(tmp_path / "run", **{"RTARead1Complete.txt": ""})) is None
    assert finished_at(bare_run(tmp_path / "gone")) is None


def test_completion_of_a_vanished_folder_is_a_run_error(tmp_path: Path) -> None:
    with raises_error(RunError, "run.unreadable", f" {tmp_path / 'gone'}"):
        check_completion(bare_run(tmp_path / "gone"), lambda: 0)


# RunInfo.xml

V2 = """\
<?xml version="1.0"?>
<RunInfo xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" Version="2">
  <Run Id="150611_M01234_0107_000000000-AB1CD" Number="106">
    <Flowcell>000000000-AB1CD</Flowcell>
    <Instrument>M01234</Instrument>
    <Date>150611</Date>
    <Reads>
      <Read NumCycles="151" Number="1" IsIndexedRead="N" />
      <Read NumCycles="8" Number="2" IsIndexedRead="Y" />
      <Read NumCycles="151" Number="3" IsIndexedRead="N" />
    </Reads>
    <FlowcellLayout LaneCount="1" SurfaceCount="2" SwathCount="1" TileCount="19" />
  </Run>
</RunInfo>
"""
V4 = """\
<?xml version="1.0"?>
<RunInfo xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" Version="4">
  <Run Id="181016_NB501234_0220_AHXYZABGX7" Number="220">
    <Flowcell>HXYZABGX7</Flowcell>
    <Instrument>NB501234</Instrument>
    <Date>181016</Date>
    <Reads>
      <Read Number="1" NumCycles="76" IsIndexedRead="N" />
      <Read Number="2" NumCycles="6" IsIndexedRead="Y" />
    </Reads>
    <FlowcellLayout LaneCount="4" SurfaceCount="2" SwathCount="3" TileCount="12" SectionPerLane="3" LanePerSection="2">
      <TileSet TileNamingConvention="FiveDigit"><Tiles><Tile>1_11101</Tile><Tile>1_21101</Tile></Tiles></TileSet>
    </FlowcellLayout>
    <ImageDimensions Width="2592" Height="1944" />
    <ImageChannels><Name>Red</Name><Name>Green</Name></ImageChannels>
  </Run>
</RunInfo>
"""
V6 = """\
<?xml version="1.0"?>
<RunInfo Version="6">
\t<Run Id="20250314_LH00999_0042_A22ABCDLT4" Number="42">
\t\t<Flowcell>22ABCDLT4</Flowcell>
\t\t<Instrument>LH00999</Instrument>
\t\t<Date>2025-03-14T15:09:26Z</Date>
\t\t<Reads>
\t\t\t<Read Number="1" NumCycles="151" IsIndexedRead="N" IsReverseComplement="N"/>
\t\t\t<Read Number="2" NumCycles="10" IsIndexedRead="Y" IsReverseComplement="N"/>
\t\t\t<Read Number="3" NumCycles="10" IsIndexedRead="Y" IsReverseComplement="Y"/>
\t\t\t<Read Number="4" NumCycles="151" IsIndexedRead="N" IsReverseComplement="N"/>
\t\t</Reads>
\t\t<FlowcellLayout LaneCount="8" SurfaceCount="2" SwathCount="2" TileCount="98">
\t\t\t<TileSet TileNamingConvention="FourDigit"><Tiles><Tile>1_1101</Tile></Tiles></TileSet>
\t\t</FlowcellLayout>
\t</Run>
</RunInfo>
"""
PARSED_V2 = RunInfo(
    run_id="150611_M01234_0107_000000000-AB1CD",
    instrument="M01234",
    flowcell="000000000-AB1CD",
    date="150611",
    cycles=(151, 8, 151),
)
PARSED_V4 = RunInfo(
    run_id="181016_NB501234_0220_AHXYZABGX7", instrument="NB501234", flowcell="HXYZABGX7", date="181016", cycles=(76, 6)
)
PARSED_V6 = RunInfo(
    run_id="20250314_LH00999_0042_A22ABCDLT4",
    instrument="LH00999",
    flowcell="22ABCDLT4",
    date="2025-03-14T15:09:26Z",
    cycles=(151, 10, 10, 151),
)


@pytest.mark.parametrize(
    ("content", "parsed"),
    [
        pytest.param(V2.encode(), PARSED_V2, id="version 2"),
        pytest.param(V4.encode(), PARSED_V4, id="version 4"),
        pytest.param(V6.encode(), PARSED_V6, id="version 6"),
        pytest.param(V2.replace("\n", "\r\n").encode(), PARSED_V2, id="CRLF"),
        pytest.param(V2.encode("utf-8-sig"), PARSED_V2, id="byte order mark"),
        pytest.param(V2.encode("utf-16"), PARSED_V2, id="UTF-16"),
        pytest.param(b"<R><Run/></R>", NO_INFO, id="nothing in it"),
        pytest.param(b"<R><Run><Flowcell/><Reads/></Run></R>", NO_INFO, id="empty elements"),
        pytest.param(
            b"<R><Run Id=' X'><Date>\n 1 </Date></Run></R>", replace(NO_INFO, run_id=" X", date="1"), id="blanks"
        ),
        pytest.param(
            b"<R><Run><Reads><Read/><Read NumCycles='x'/><Read NumCycles='-3'/><Read NumCycles='7'/></Reads></Run></R>",
            replace(NO_INFO, cycles=(7,)),
            id="cycles that are none",
        ),
    ],
)
def test_run_info(tmp_path: Path, content: bytes, parsed: RunInfo) -> None:
    path = tmp_path / "RunInfo.xml"
    path.write_bytes(content)
    assert read_run_info(path) == parsed


BOMB_ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 20))
ENTITY_BOMB = f'<!DOCTYPE R [<!ENTITY e0 "ha">{BOMB_ENTITIES}]><R><Run><Date>&e19;</Date></Run></R>'


@pytest.mark.parametrize(
    ("content", "error_id"),
    [
        pytest.param(b"", "run.invalid-xml", id="empty"),
        pytest.param(b"\0" * 4096, "run.invalid-xml", id="zeros of a torn write"),
        pytest.param(V2.encode()[:200], "run.invalid-xml", id="cut off"),
        pytest.param(b"<RunInfo></RunInfo>", "run.no-run-element", id="no Run"),
        pytest.param(b"<html><body><p>Run</p></body></html>", "run.no-run-element", id="another XML"),
        pytest.param(b"<Run/>", "run.no-run-element", id="Run at the root"),
        pytest.param(ENTITY_BOMB.encode(), "run.strange-xml", id="entity bomb"),
        pytest.param(ENTITY_BOMB.encode("utf-16"), "run.invalid-xml", id="entity bomb in UTF-16"),
        pytest.param(b"<R>" + b" " * 16 * 2**20 + b"<Run/></R>", "run.strange-xml", id="too large"),
        pytest.param(b"<a>" * 300_000 + b"</a>" * 300_000, "run.no-run-element", id="deeply nested"),
        pytest.param(b'<?xml version="1.0" encoding="none"?><R><Run/></R>', "run.invalid-xml", id="unknown encoding"),
        pytest.param(b'<?xml version="1.0" encoding="shift_jis"?><R><Run/></R>', "run.invalid-xml", id="multi-byte"),
        pytest.param(b'<?xml version="1.0" encoding="hex"?><R><Run/></R>', "run.invalid-xml", id="no text encoding"),
        pytest.param(b"<R><Run Id='\xe9'/></R>", "run.invalid-xml", id="Latin-1 that says it is UTF-8"),
    ],
)
def test_no_run_info(tmp_path: Path, content: bytes, error_id: str) -> None:
    path = tmp_path / "RunInfo.xml"
    path.write_bytes(content)
    with raises_error(RunError, error_id, str(path)):
        read_run_info(path)


# Opening a run


def test_open_run_keeps_the_name_the_user_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "real")
    (tmp_path / "260101_link").symlink_to(run.path)
    monkeypatch.chdir(tmp_path)
    opened = open_run("260101_link/")
    assert (opened.path, opened.run_id) == (tmp_path / "260101_link", "260101_link")
    assert open_run(Path("real") / "..//real/.") == run


@pytest.mark.parametrize("name", ["run 1", "run+[x]", "-run", "rün", "run\n1"])
def test_open_run_takes_any_utf8_name(tmp_path: Path, name: str) -> None:
    assert make_run(tmp_path / name).run_id == name


@pytest.mark.parametrize(
    ("folder", "error_id", "fact"),
    [
        ("gone", "run.not-found", "/gone "),
        ("file", "run.not-found", "/file "),
        ("dangling", "run.not-found", "/dangling "),
        ("nul\0", "run.not-found", "/nul"),
        ("n" * 300, "run.unreadable", "nnn"),
        ("/", "run.not-a-run", "/ "),
        ("empty", "run.not-a-run", "/empty: "),
        ("folder instead", "run.unreadable", "/folder instead/RunInfo.xml"),
        (os.fsdecode(b"r\xffn"), "run.name-not-utf8", r"/r\xffn"),
    ],
)
@pytest.mark.parametrize("need_run_info", [True, False])
def test_open_run_errors(tmp_path: Path, folder: str, error_id: str, fact: str, need_run_info: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder instead" / "RunInfo.xml").mkdir(parents=True)
    os.mkdir(os.fsencode(tmp_path) + b"/r\xffn")
    if not need_run_info and folder in ("empty", "folder instead"):
        assert open_run(tmp_path / folder, need_run_info=False).info == NO_INFO
        return
    with raises_error(RunError, error_id, fact) as caught:
        open_run(tmp_path / folder, need_run_info=need_run_info)
    assert "\n" not in str(caught.value)


def test_open_run_without_need_still_reads_what_is_there(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "LH00130")
    assert open_run(tmp_path / "run", need_run_info=False).info.instrument == "LH00130"


def test_a_name_that_is_an_escape_sequence_is_defused_in_messages(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        open_run(tmp_path / "\x1b[31mrun")
    assert "\\x1b[31mrun" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.timeout(5)
def test_run_info_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "RunInfo.xml")
    with pytest.raises(RunError):
        open_run(tmp_path)


OPEN = """
import sys
from s3sync.errors import RunError
from s3sync.runs.run_folder import open_run
try:
    open_run(sys.argv[1])
except RunError as error:
    print(f"{error} [{error.id}]")
"""


@pytest.mark.parametrize(
    ("closed", "named"),
    [
        ("parent/run/RunInfo.xml", "parent/run/RunInfo.xml"),
        ("parent/run", "parent/run/RunInfo.xml"),
        ("parent", "parent/run"),
    ],
)
def test_open_run_without_permission(tmp_path: Path, closed: str, named: str) -> None:
    (tmp_path / "parent").mkdir()
    make_run(tmp_path / "parent" / "run")
    (tmp_path / closed).chmod(0)
    try:
        said = run_unprivileged(OPEN, tmp_path / "parent" / "run")
    finally:
        (tmp_path / closed).chmod(0o700)
    assert (error_ids(said), f" {tmp_path / named}: " in said) == (["run.unreadable"], True), said


# Files


def listed(folder: Path) -> Listing:
    """Without the times that no test can set."""
    listing = list_files(bare_run(folder))
    assert len(listing.ctimes_ns) == len(listing.files)
    return replace(listing, ctimes_ns=())


def paths(folder: Path) -> list[str]:
    return [file.path for file in listed(folder).files]


def reasons(folder: Path) -> dict[str, str]:
    found = listed(folder)
    return dict([*found.rejected, *found.skipped])


def test_an_empty_folder_has_no_files(tmp_path: Path) -> None:
    assert listed(tmp_path) == Listing(files=(), rejected=())


def test_every_file_is_listed_with_size_and_mtime_sorted_by_path(tmp_path: Path) -> None:
    (tmp_path / "Data" / "L001" / "C1.1").mkdir(parents=True)
    (tmp_path / "empty" / "emptier").mkdir(parents=True)
    for name, size in {
        "RunInfo.xml": 10,
        ".hidden": 0,
        "Data/L001/C1.1/x.cbcl": 7,
        "Data/.dot": 1,
        "Data.txt": 2,
    }.items():
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, ns=(1, 1_600_000_000_123_456_789 + size))
    assert listed(tmp_path) == Listing(
        files=tuple(
            LocalFile(path, size, 1_600_000_000_123_456_789 + size)
            for path, size in [
                (".hidden", 0),
                ("Data.txt", 2),
                ("Data/.dot", 1),
                ("Data/L001/C1.1/x.cbcl", 7),
                ("RunInfo.xml", 10),
            ]
        ),
        rejected=(),
    )


@pytest.mark.parametrize(
    "name",
    [
        "[x]*?",
        "new\nline",
        "-leading",
        "--recursive",
        "'\"quotes\\",
        " ",
        "tab\t",
        "ü",
        "u\u0308",
        "\x1b[31m",
        "n" * 255,
        "💥",
    ],
)
def test_hostile_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert paths(tmp_path) == [name]


def test_a_link_to_a_file_of_the_run_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    target = tmp_path / "Data" / "s.locs"
    target.write_bytes(b"12345")
    (tmp_path / "relative").symlink_to("Data/s.locs")
    (tmp_path / "absolute").symlink_to(target)
    (tmp_path / "twice").symlink_to("relative")
    mtime = target.stat().st_mtime_ns
    names = ["Data/s.locs", "absolute", "relative", "twice"]
    assert listed(tmp_path) == Listing(files=tuple(LocalFile(name, 5, mtime) for name in names), rejected=())


def test_links_count_as_inside_when_the_run_itself_is_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "real" / "link").symlink_to("file")
    (tmp_path / "run").symlink_to("real")
    (tmp_path / "real" / "absolute").symlink_to(tmp_path / "run" / "file")
    assert paths(tmp_path / "run") == ["absolute", "file", "link"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("../secret", "a link out of the run, to .*/secret"),
        ("/etc/hostname", "a link out of the run, to /etc/hostname"),
        ("..", "a link out of the run"),
        ("../run-2/file", "a link out of the run"),
        ("Data/../../secret", "a link out of the run"),
        ("../gone", "a link out of the run"),
        ("gone", "a dangling link"),
        ("Data/gone", "a dangling link"),
        ("link", "a link to something that is not a file"),
        ("loop", "a link to something that is not a file"),
        ("Data", "a link to something that is not a file"),
        (".", "a link to something that is not a file"),
        ("pipe", "a link to something that is not a file"),
        ("file/x", "cannot be read: Not a directory|a dangling link"),
    ],
)
def test_links_that_cannot_be_sent(tmp_path: Path, target: str, reason: str) -> None:
    run = tmp_path / "run"
    (run / "Data").mkdir(parents=True)
    (run / "Data" / "inner").touch()
    (run / "file").touch()
    (run / "loop").symlink_to("link")
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "file").touch()
    (tmp_path / "secret").touch()
    os.mkfifo(run / "pipe")
    (run / "link").symlink_to(target)
    assert paths(run)[:2] == ["Data/inner", "file"]
    assert "link" not in paths(run)
    assert re.fullmatch(f"({reason}).*", reasons(run)["link"])
    only_inside = not reason.startswith(("a link out", "cannot"))
    assert only_inside == ("link" in dict(listed(run).skipped)), (
        "what leads out of the run has bytes that S3 would lack"
    )


@pytest.mark.parametrize(
    ("kind", "reason"), [(stat.S_IFIFO, "not a file but a named pipe"), (stat.S_IFSOCK, "not a file but a socket")]
)
@pytest.mark.timeout(5)
def test_special_files_are_named_and_never_opened(tmp_path: Path, kind: int, reason: str) -> None:
    os.mknod(tmp_path / "special", kind | 0o600)
    assert listed(tmp_path) == Listing(files=(), rejected=(), skipped=(SkippedEntry("special", reason),))


def test_names_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/d\xe9")
    for name in (b"/d\xe9/plain", b"/f\xff", b"/good"):
        Path(os.fsdecode(os.fsencode(tmp_path) + name)).touch()
    reason = "the name is not UTF-8, which S3 requires"
    assert paths(tmp_path) == ["good"]
    assert reasons(tmp_path) == {os.fsdecode(b"d\xe9/plain"): reason, os.fsdecode(b"f\xff"): reason}


LIST = """
import json, sys
from pathlib import Path
from s3sync.runs.local_files import list_files
from s3sync.runs.run_folder import Run, RunInfo
listing = list_files(Run(path=Path(sys.argv[1]), run_id="R", info=RunInfo()))
print(json.dumps({"files": [f.path for f in listing.files], "rejected": dict(listing.rejected)}))
"""


@pytest.mark.parametrize(
    ("closed", "mode", "rejected"),
    [
        ("file", 0, {"file": "cannot be read: Permission denied", "link": "cannot be read: Permission denied"}),
        (
            "Data",
            0,
            {"Data/": "folder cannot be read: Permission denied", "link2": "cannot be read: Permission denied"},
        ),
        (
            "Data",
            0o600,
            {"Data/inner": "cannot be read: Permission denied", "link2": "cannot be read: Permission denied"},
        ),
        (".", 0o100, {"/": "folder cannot be read: Permission denied"}),
    ],
    ids=["file", "folder", "folder that lists but does not open", "the run itself"],
)
def test_files_that_may_not_be_read_are_named(tmp_path: Path, closed: str, mode: int, rejected: dict[str, str]) -> None:
    (tmp_path / "Data").mkdir()
    for name in ("Data/inner", "file", "other"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "link2").symlink_to("Data/inner")
    (tmp_path / closed).chmod(mode)
    try:
        found = json.loads(run_unprivileged(LIST, tmp_path))
    finally:
        (tmp_path / closed).chmod(0o700)
    assert found["rejected"] == rejected
    everything = ["Data/inner", "file", "link", "link2", "other"]
    hidden = everything if closed == "." else [*rejected, *(["Data/inner"] if closed == "Data" else [])]
    assert found["files"] == [name for name in everything if name not in hidden]


def test_a_run_that_vanished_is_not_an_empty_one(tmp_path: Path) -> None:
    """A share that is gone must not make `nothing is pending` true."""
    try:
        listing = listed(tmp_path / "gone")
    except RunError:
        return
    assert listing.rejected


def test_the_last_change_is_by_mtime_and_by_ctime() -> None:
    files = tuple(LocalFile(str(n), 0, n * 10**9) for n in (3, 9, 5))
    assert last_change(Listing(files=files, rejected=(), ctimes_ns=(0, 0, 0))) == 9.0
    assert last_change(Listing(files=files, rejected=(), ctimes_ns=(0, 10 * 10**9, 0))) == 10.0, (
        "copied with its old times"
    )
    assert last_change(Listing(files=files, rejected=(), ctimes_ns=(0, 0, 0)), now=6.0) == 5.0, (
        "the future is no change"
    )
    assert last_change(Listing(files=(), rejected=())) == 0


def stat_one(run: Run, path: str) -> LocalFile | None:
    """As `restat`, by way of the one for many."""
    return restat_all(run, [path])[path]


each_stat = pytest.mark.parametrize("stat", [restat, stat_one])
Stat = Callable[[Run, str], "LocalFile | None"]


@each_stat
def test_a_second_stat_sees_the_file_as_it_is_now(tmp_path: Path, stat: Stat) -> None:
    run = bare_run(tmp_path)
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data/file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("Data/file")
    before = list_files(run).files
    assert [stat(run, f.path) for f in before] == list(before)
    (tmp_path / "Data/file").write_bytes(b"12")
    assert [stat(run, f.path) for f in before] == list(list_files(run).files)


@each_stat
@pytest.mark.parametrize(
    "name",
    ["gone", "Data", "pipe", "out", "dangling", "Data/../../outside", "way_out/secret", "Data/way_out/secret"],
)
def test_restat_of_a_path_that_is_no_longer_a_file_of_the_run(tmp_path: Path, stat: Stat, name: str) -> None:
    run = tmp_path / "run"
    (run / "Data").mkdir(parents=True)
    os.mkfifo(run / "pipe")
    (tmp_path / "outside").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").touch()
    (run / "out").symlink_to("../outside")
    (run / "way_out").symlink_to("../elsewhere")
    (run / "Data/way_out").symlink_to("../../elsewhere")
    (run / "dangling").symlink_to("nothing")
    assert stat(bare_run(run), name) is None


@pytest.mark.parametrize(
    ("real", "root", "inside"),
    [
        ("/runs/1/a", "/runs/1", True),
        ("/runs/1/a", "/runs/1/", True),
        ("/runs/1", "/runs/1", False),
        ("/runs/10/a", "/runs/1", False),
        ("/runs", "/runs/1", False),
        ("/a", "/", True),
    ],
)
def test_is_inside(real: str, root: str, inside: bool) -> None:
    assert is_inside(real, root) == inside


def test_run_parameters_are_what_people_want_to_see(tmp_path: Path) -> None:
    (tmp_path / "RunParameters.xml").write_text(
        "<RunParameters><Side>B</Side><ExperimentName> exp </ExperimentName><RecipeName>10B</RecipeName>"
        "<FlowCellType>X</FlowCellType><Setup><ApplicationVersion>1.2.3</ApplicationVersion></Setup></RunParameters>"
    )

    assert read_run_parameters(tmp_path) == RunParameters(
        experiment="exp", side="B", flowcell_type="X", recipe="10B", software="1.2.3"
    )


@pytest.mark.parametrize("content", [None, b"", b"<RunParameters>", b"<a/>"])
def test_run_parameters_that_say_nothing(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "runParameters.xml").write_bytes(content)

    assert read_run_parameters(tmp_path) == RunParameters()
