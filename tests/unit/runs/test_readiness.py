"""Whether a run may go up: by its marker, by the base calls that RunInfo.xml asks for, by its manifest, by the time."""

from __future__ import annotations

import os
import re
import shutil
import struct
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.patterns import Pattern
from s3sync.runs import analysis, local_files, readiness, structure
from s3sync.runs.completion import find_family, find_family_of_run
from s3sync.runs.readiness import Readiness, Requirements
from s3sync.runs.run_folder import Run
from scripts.simulate_run import INSTRUMENTS, make_run

HOUR, DAY = 3600.0, 24 * 3600.0
TERMS = Requirements(quiet_seconds=HOUR)
SHAPE = {"cycles": (3, 2, 2, 3), "lanes": 2, "tiles": 2, "scale": 1e-9}


def simulated(folder: Path, instrument: str = "novaseqx", **options: object) -> Run:
    return analysis.open_run_or_analysis(make_run(folder, instrument, **{**SHAPE, **options}))  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return simulated(tmp_path)


def check(run: Run, after: float = 0, terms: Requirements = TERMS) -> Readiness:
    """Return the verdict in this many seconds, if nothing happens until then."""
    return readiness.check(run, terms, now=time.time() + after)


def warning_of(verdict: Readiness) -> str:
    return "; ".join(warning.text for warning in verdict.warnings)


def base_calls(run: Run) -> list[Path]:
    names = (path for path in run.path.rglob("*") if re.search(r"\.(cbcl|bcl(\.bgzf|\.gz)?)$", path.name))
    return sorted(names)


def cbcl_header(size: int) -> bytes:
    """Return the bytes of a CBCL with one tile of this compressed size."""
    rows = struct.pack("<IIII", 1101, 9, 9, size)
    return struct.pack("<HIBBI", 1, 12 + 4 + len(rows) + 1, 2, 2, 0) + struct.pack("<I", 1) + rows + b"\1"


def remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_whole_run_of_every_family_goes_up_at_once(tmp_path: Path, instrument: str) -> None:
    run = simulated(tmp_path, instrument)
    flow_cell = structure.read_flow_cell(run.path)
    assert structure.check(flow_cell, local_files.list_files(run).files).kind == "whole"
    verdict = check(run)
    assert (verdict.state, verdict.warnings) == ("complete", ()), verdict.reason
    assert re.fullmatch(r"(CopyComplete|RTAComplete).txt exists", verdict.reason)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_run_that_lacks_base_calls_settles_while_they_may_arrive_and_is_held_after_that(
    tmp_path: Path, instrument: str
) -> None:
    run = simulated(tmp_path, instrument)
    last = base_calls(run)[-1]
    last.unlink()

    early, late = check(run, HOUR - 60), check(run, HOUR + 1)

    assert early.state == "settling"
    assert "missing, 1 file; the first is Data/Intensities/BaseCalls/L002/" in early.reason
    assert "may still be copied: waits until nothing changed for 1 min" in early.reason
    assert late.state == "incomplete"
    assert late.reason.endswith("(copy the rest; `upload --skip-check` uploads it as it is)")
    assert check(run, terms=Requirements(require_whole=False)).state == "complete"


def test_every_file_that_arrives_starts_the_quiet_time_again(run: Run) -> None:
    base_calls(run)[-1].unlink()
    os.utime(run.path / "InterOp" / "TileMetricsOut.bin", (time.time() + 2 * HOUR,) * 2)
    assert check(run, HOUR + 60).state == "incomplete", "the clock of an instrument may be wrong: ctimes count"
    assert check(run, 2.5 * HOUR).state == "settling"


@pytest.mark.parametrize("instrument", ["miseq", "miseqi100", "nextseq2000", "novaseq6000", "novaseqx"])
def test_base_calls_that_a_copy_broke_off_are_missing(tmp_path: Path, instrument: str) -> None:
    run = simulated(tmp_path, instrument)
    last = base_calls(run)[-1]
    for length, reason in ((0, "1 empty base-call file"), (100, "1 base-call file truncated")):
        os.truncate(last, length)
        assert [check(run, after).state for after in (0, HOUR + 1)] == ["settling", "incomplete"]
        assert f"{reason}, the first is {last.relative_to(run.path)}" in check(run).reason


@pytest.mark.parametrize("instrument", ["miseq", "novaseq6000"])
def test_base_calls_that_came_last_are_truncated_even_if_most_of_their_bytes_came(
    tmp_path: Path, instrument: str
) -> None:
    run = simulated(tmp_path, instrument)
    for path in base_calls(run):
        path.write_bytes(cbcl_header(90) + b"x" * 90 if path.suffix == ".cbcl" else b"\x5a\0\0\0" + b"x" * 90)
    for marker in run.path.glob("*Complete.txt"):
        os.utime(marker)
    assert check(run).state == "complete"
    last = base_calls(run)[-1]
    os.truncate(last, last.stat().st_size - 1)
    assert [check(run, after).state for after in (0, HOUR + 1)] == ["settling", "incomplete"]
    assert f"1 base-call file truncated, the first is {last.relative_to(run.path)}" in check(run).reason


def test_headers_that_fit_none_of_the_base_calls_are_of_another_kind(run: Run) -> None:
    for path in base_calls(run):
        path.write_bytes(b"\2" + path.read_bytes()[1:])
    os.utime(run.path / "CopyComplete.txt")
    assert check(run).state == "complete"


def test_base_calls_of_a_cycle_that_failed_are_as_short_as_their_header_says(run: Run) -> None:
    start = cbcl_header(5)
    base_calls(run)[-1].write_bytes(start + b"12345")
    os.utime(run.path / "CopyComplete.txt")
    assert check(run).state == "complete"
    base_calls(run)[-1].write_bytes(start + b"1234")
    assert check(run).state == "settling"


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_a_run_without_base_calls_goes_up_after_the_quiet_time_with_a_warning(tmp_path: Path, instrument: str) -> None:
    run = simulated(tmp_path, instrument)
    remove(base_calls(run))

    assert check(run).state == "settling"
    verdict = check(run, HOUR + 1)

    assert verdict.state == "complete"
    assert warning_of(verdict) == "it has no base calls (not copied, or deleted after demultiplexing)"


def test_base_calls_that_are_excluded_need_not_be_there(run: Run) -> None:
    remove(path for path in base_calls(run) if "/L002/" in str(path))
    without_lane_2 = replace(TERMS, excludes=(Pattern("/BaseCalls/L002/"),))
    assert check(run, HOUR + 1).state == "incomplete"
    assert check(run, terms=without_lane_2).state == "settling", "the rest may still be copied"
    assert check(run, HOUR + 1, without_lane_2) == Readiness(
        "complete", "CopyComplete.txt exists and nothing changed for 1 h 00 min"
    )
    base_calls(run)[0].unlink()
    assert "1 file missing" in check(run, HOUR + 1, without_lane_2).reason

    remove(base_calls(run))
    assert check(run, HOUR + 1, replace(TERMS, excludes=(Pattern("/BaseCalls/"),))).warnings == (), "as it is meant"


def test_what_comes_after_the_marker_is_still_being_copied_even_if_all_base_calls_are_there(run: Run) -> None:
    (run.path / "InterOp" / "IndexMetricsOut.bin").write_bytes(b"late")
    verdict = check(run)
    assert verdict.state == "settling"
    assert "files arrived after the completion marker; must stay unchanged for 1 h 00 min more" in verdict.reason
    assert check(run, HOUR + 1).state == "complete"


def test_what_is_excluded_may_still_be_written(run: Run) -> None:
    (run.path / "Logs").mkdir(exist_ok=True)
    (run.path / "Logs" / "service.log").write_bytes(b"late")
    assert check(run).state == "settling"
    assert check(run, terms=replace(TERMS, excludes=(Pattern(r"/Logs/"),))).state == "complete"


def test_changes_by_people_do_not_hold_a_run_back(run: Run) -> None:
    """The sheet is corrected, RunInfo.xml touched, a note left."""
    for path in ("SampleSheet.csv", "RunInfo.xml", "notes.txt", "ours/notes.txt"):
        (run.path / path).parent.mkdir(exist_ok=True)
        (run.path / path).touch()
    assert check(run).state == "complete"


def test_a_run_with_only_its_markers_is_not_complete(tmp_path: Path) -> None:
    whole = simulated(tmp_path / "instrument")
    run = replace(whole, path=tmp_path / whole.run_id)
    run.path.mkdir()
    for path in whole.path.iterdir():
        if path.is_file():
            shutil.copy2(path, run.path)
    assert check(run).state == "settling"


@pytest.mark.parametrize("change", ["<RunInfo><Run><Instrument>LH00130</Instrument></Run></RunInfo>", "layout"])
def test_an_unknown_layout_waits_for_the_quiet_time(run: Run, change: str) -> None:
    info = run.path / "RunInfo.xml"
    text = re.sub("(?s)<FlowcellLayout.*</FlowcellLayout>", "", info.read_text()) if change == "layout" else change
    info.write_text(text)
    assert "RunInfo.xml does not list reads, lanes and tiles" in check(run).reason
    assert [check(run, after).state for after in (0, HOUR + 1)] == ["settling", "complete"]
    assert check(run, HOUR + 1).warnings == ()


def test_a_folder_that_cannot_be_read_is_for_the_upload_to_name(run: Run) -> None:
    listing = local_files.list_files(run)
    hidden = local_files.RejectedEntry("Data/Intensities/", "folder cannot be read: Permission denied")
    there = [n for n, file in enumerate(listing.files) if not file.path.startswith("Data/Intensities/")]
    listing = local_files.Listing(
        files=tuple(listing.files[n] for n in there),
        rejected=(hidden,),
        skipped=(),
        ctimes_ns=tuple(listing.ctimes_ns[n] for n in there),
    )
    assert readiness.check(run, TERMS, listing).state == "complete"


def test_base_calls_that_are_there_and_cannot_be_sent_are_for_the_upload_to_name(run: Run, tmp_path: Path) -> None:
    file = base_calls(run)[-1]
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert [check(run, after).state for after in (0, HOUR + 1)] == ["complete", "complete"]
    base_calls(run)[0].unlink()
    assert check(run).state == "settling"


# A run that ended early


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("<CompletionStatus>EarlyTerminationByUser</CompletionStatus>", "says EarlyTerminationByUser"),
        (
            "<RunStatus>RunErrored</RunStatus><ErrorDescription>No fluidics</ErrorDescription>",
            "says RunErrored (No fluidics)",
        ),
        ("<CompletionStatus>CompletedAsPlanned</CompletionStatus>", ""),
        ("<RunStatus>RunCompleted</RunStatus>", ""),
        ("", ""),
    ],
)
def test_a_run_that_was_ended_early_is_held_and_says_so(run: Run, status: str, reason: str) -> None:
    (run.path / "RunCompletionStatus.xml").write_text(f"<RunCompletionStatus>{status}</RunCompletionStatus>")
    remove(path for path in base_calls(run) if re.search(r"/C(8|9|10)\.1/", str(path)))

    verdict = check(run, HOUR + 1)

    assert verdict.state == "incomplete"
    assert verdict.reason.startswith("lanes 1-2: all of read 2 missing, 12 files; ")
    assert ("; the run ended early: RunCompletionStatus.xml " + reason in verdict.reason) is bool(reason)
    assert "--skip-check" in verdict.reason


# The last marker never comes


def test_a_run_whose_last_marker_does_not_come_goes_up_after_a_day_of_quiet_with_a_warning(run: Run) -> None:
    (run.path / "CopyComplete.txt").unlink()

    assert check(run, DAY - 60) == Readiness("sequencing", check(run).reason)
    verdict = check(run, DAY + 1)

    assert verdict.state == "complete"
    assert warning_of(verdict).startswith("CopyComplete.txt did not arrive within 24 h 00 min; uploaded without it")
    shorter = replace(TERMS, marker_wait_seconds=2 * HOUR)
    assert [check(run, after, shorter).state for after in (HOUR, 3 * HOUR)] == ["sequencing", "complete"]


def test_a_day_without_the_last_marker_begins_with_the_last_file_that_comes(run: Run) -> None:
    (run.path / "CopyComplete.txt").unlink()
    os.utime(run.path / "InterOp" / "TileMetricsOut.bin", (time.time() + 10 * HOUR,) * 2)

    assert [check(run, after).state for after in (DAY + 1, DAY + 11 * HOUR)] == ["sequencing", "complete"]


def test_a_run_without_its_last_marker_and_some_base_calls_is_held(run: Run) -> None:
    (run.path / "CopyComplete.txt").unlink()
    base_calls(run)[0].unlink()
    verdict = check(run, DAY + 1)
    assert verdict.state == "incomplete"
    assert verdict.reason.startswith("CopyComplete.txt did not arrive within 24 h 00 min; lane 1: cycle 1 of read 1")


@pytest.mark.parametrize("what", ["no base calls", "a layout that nobody knows"])
def test_without_its_last_marker_a_run_goes_up_only_if_all_base_calls_are_known_to_be_there(
    run: Run, what: str
) -> None:
    (run.path / "CopyComplete.txt").unlink()
    if what == "no base calls":
        remove(base_calls(run))
    else:
        (run.path / "RunInfo.xml").write_text("<RunInfo><Run><Instrument>LH00130</Instrument></Run></RunInfo>")
    assert [check(run, after).state for after in (HOUR, DAY + 1)] == ["sequencing", "incomplete"]


def test_a_run_that_is_still_written_waits_for_its_last_marker_however_long(run: Run) -> None:
    remove(run.path / name for name in ("CopyComplete.txt", "RTAComplete.txt"))
    assert check(run, 99 * DAY).state == "sequencing"


# Manifest.tsv of the run


def manifest(run: Run, *lines: str) -> None:
    (run.path / "Manifest.tsv").write_text("".join(f"{line}\n" for line in lines))
    os.utime(run.path / "CopyComplete.txt")


def test_a_file_that_the_manifest_names_must_be_there(run: Run) -> None:
    manifest(run, "RunInfo.xml\t00000000", "Logs/gone.log\t00000000")
    assert "1 file missing that Manifest.tsv lists, the first is Logs/gone.log (may still" in check(run).reason
    assert [check(run, after).state for after in (0, HOUR + 1)] == ["settling", "incomplete"]
    assert check(run, terms=replace(TERMS, excludes=(Pattern("/Logs/"),))).state == "complete"


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (["RunInfo.xml\t00000000"], ""),
        (["path\tchecksum", "RunInfo.xml\t00000000"], ""),
        (["", "File Path\tCRC32", "RunInfo.xml\t00000000"], ""),
        (["file_name\tsize\tMD5", "RunInfo.xml\t00000000"], ""),
        (["# made by NovaSeqX", "#path\tchecksum", "RunInfo.xml\t00000000"], ""),
        (["InterOp\t00000000", "RunInfo.xml\t00000000"], ""),
        ([r".\RunInfo.xml" + "\t00000000"], ""),
        (["RunInfo.xml\t00000000", "Analysis/1/Data/gone.gz\t00000000"], ""),
        (["RunInfo.xml\t" + "0" * 32], "Manifest.tsv has checksums of an unknown kind: only its file names"),
        (["RunInfo.xml\tsha256:x"], "Manifest.tsv has checksums of an unknown kind: only its file names"),
        (["RunInfo.xml 00000000"], "line 1 of Manifest.tsv must be a path, a tab and a checksum: it was not compared"),
        (["RunInfo.xml\t00000000", "../x\t00000000"], "line 2 of Manifest.tsv must be a path, a tab and a checksum"),
        (["/elsewhere/RunInfo.xml\t00000000"], "line 1 of Manifest.tsv must be a path"),
        (["elsewhere/RunInfo.xml\t00000000"], "Manifest.tsv lists no file of the run: it was not compared"),
        (["\udcff\udcfe"], "line 1 of Manifest.tsv must be a path, a tab and a checksum"),
    ],
)
def test_a_manifest_that_is_not_understood_is_a_warning_and_never_a_stop(
    run: Run, lines: list[str], warning: str
) -> None:
    (run.path / "Manifest.tsv").write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    verdict = check(run)
    assert verdict.state == "complete", verdict.reason
    assert warning_of(verdict).startswith(warning)
    assert bool(verdict.warnings) is bool(warning)


# Instruments by other names


@pytest.mark.parametrize(
    ("instrument", "parameters", "family"),
    [
        ("NDX550123", "", "NextSeq 500/550"),
        ("NDX550123_RUO", "", "NextSeq 500/550"),
        ("NB551051-RUO", "", "NextSeq 500/550"),
        ("X0001", "<InstrumentType>NovaSeqXPlus</InstrumentType>", "NovaSeq X"),
        ("PROTO-7", "<Application>NovaSeqXSeries Control Software</Application>", "NovaSeq X"),
        ("PROTO-7", "<Application>NovaSeq Control Software</Application>", "NovaSeq 6000"),
        ("PROTO-7", "<InstrumentType>MiSeqi100Plus</InstrumentType>", "MiSeq i100"),
        ("PROTO-7", "<Setup><ApplicationName>MiSeq Control Software</ApplicationName></Setup>", "MiSeq"),
        ("PROTO-7", "<ApplicationName>MiniSeq Control Software</ApplicationName>", "MiniSeq"),
        ("PROTO-7", "<ApplicationName>iSeq Control Software</ApplicationName>", "iSeq 100"),
        ("PROTO-7", "<InstrumentType>iSeq 100</InstrumentType>", "iSeq 100"),
        ("PROTO-7", "<Setup><ApplicationName>NextSeq Control Software</ApplicationName></Setup>", "NextSeq 500/550"),
        ("PROTO-7", "<InstrumentType>NextSeq2000</InstrumentType>", "NextSeq 1000/2000"),
        (
            "PROTO-7",
            "<ApplicationName>NextSeq 1000/2000 Control Software</ApplicationName>",
            "NextSeq 1000/2000",
        ),
        ("PROTO-7", "<Setup><ApplicationName>HiSeq Control Software</ApplicationName></Setup>", "HiSeq"),
        ("PROTO-7", "<InstrumentType>AVITI</InstrumentType>", None),
        ("PROTO-7", "", None),
    ],
)
def test_an_instrument_is_known_by_its_id_or_by_what_its_parameters_call_it(
    tmp_path: Path, instrument: str, parameters: str, family: str | None
) -> None:
    (tmp_path / "RunParameters.xml").write_text(f"<RunParameters>{parameters}</RunParameters>")
    found = find_family_of_run(tmp_path, instrument)
    assert (found.name if found else None) == family


def test_the_suffix_alone_is_not_an_instrument() -> None:
    assert find_family("_RUO") is None
    assert find_family("NDX550123_RUO_2") is None


def test_analyses_of_a_pre_production_instrument_are_units_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path, "novaseqx", **{**SHAPE, "run_id": "20260101_PROTO1_0001_A22CC55LT4"})  # type: ignore[arg-type]
    assert "<Instrument>PROTO1<" in (run / "RunInfo.xml").read_text()
    assert analysis.open_run_or_analysis(run).excludes_analyses
