"""Analyses in the folder of a run: found after it, uploaded when both markers are there, as their manifest has them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync.aws.destination import COMPLETION_OBJECT, Destination
from s3sync.config import Config, load_config
from s3sync.errors import RunError
from s3sync.inventory import discovery, statuses
from s3sync.runs import analysis, analysis_manifest, local_files, run_folder
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.transfer import proof
from scripts.simulate_run import main as simulate
from tests.helpers.analyses import LAST, RUN_INFO, log_of, make_analysis, make_run
from tests.helpers.crashes import orphans_of
from tests.helpers.errors import raises_error
from tests.helpers.lab import BUCKET, FakeAws, Lab, kill_all, tree
from tests.helpers.s3server import S3Server

HOUR = 3600


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "instrument")


def keys(run: Path) -> set[str]:
    """The keys of all files of the run that are not in an analysis."""
    return {f"{run.name}/{path}" for path in tree(run) if not re.match("Analysis/[0-9]", path)}


def keys_of(analysis: Path) -> set[str]:
    run = analysis.parents[1]
    return {f"{run.name}/{path.relative_to(run)}" for path in analysis.rglob("*") if path.is_file()}


def puts(server: S3Server) -> list[str]:
    return [r.key for r in server.requests if r.operation == "PutObject" and r.status == 200]


def states(lab: Lab, run: Path, **keys: Any) -> dict[str, tuple[str, str]]:
    """State and reason by what comes after the run's name."""
    rows = lab.run("status", "--config", lab.config_for(run, **keys), "--json").json["runs"]
    return {row["run_id"].removeprefix(run.name): (row["state"], row["reason"]) for row in rows}


# The monitor


def test_analyses_come_after_their_run_each_when_both_its_markers_are_there(
    lab: Lab, server: S3Server, run: Path
) -> None:
    first = make_analysis(run, complete=False)
    assert lab.watch(run).code == 0
    assert set(server.objects(BUCKET)) == keys(run)
    log_of_the_run = lab.log_path(run).read_bytes()
    assert states(lab, run) == {
        "": ("uploaded", "4 files verified in S3"),
        "/Analysis/1": ("analysing", f"waits for {LAST}, or until nothing changed for 1 h 00 min"),
    }

    (first / LAST).write_text("not as the manifest has it")
    second = make_analysis(run, 2, complete=False)
    damaged = lab.watch(run)
    markers = {f"{run.name}/Analysis/1/{name}" for name in (LAST, "CopyComplete.txt")}
    assert damaged.code == 1
    assert f"{LAST}: CRC-32 is " in damaged.err
    assert set(server.objects(BUCKET)) == keys(run) | keys_of(first) - markers, "all but the markers"
    assert log_of(lab, first)["failed_upload_files"] == [str(first / LAST)]

    (first / LAST).write_text("")
    (second / LAST).write_text("")
    assert lab.watch(run).code == 0
    for unit in (first, second):  # they are uploaded at the same time
        assert (log_of(lab, unit)["completed"], log_of(lab, unit)["manifest_files"]) == (True, 4)
        sent = [key for key in puts(server) if f"/Analysis/{unit.name}/" in key]
        assert {key.replace("/2/", "/1/") for key in sent[-2:]} == markers
    assert set(server.objects(BUCKET)) == keys(run) | keys_of(first) | keys_of(second)
    assert len(puts(server)) == len(set(puts(server))), "nothing is sent twice"
    requests = len(server.requests)
    assert lab.watch(run).code == 0
    assert len(server.requests) == requests, "nothing is left to do"
    assert lab.log_path(run).read_bytes() == log_of_the_run, "the run is what it was"
    verified = lab.run("verify", str(run), "--bucket", BUCKET, "--json").json
    assert (verified["identical"], verified["total_local_files"]) == (True, len(tree(run)))


# By hand


def test_what_the_instruments_manifest_denies_is_neither_sent_nor_are_the_markers(
    lab: Lab, server: S3Server, run: Path
) -> None:
    bad, good, unfinished = make_analysis(run, 1), make_analysis(run, 2), make_analysis(run, 3, complete=False)
    (good / "Manifest.tsv").unlink()  # not every analysis has one
    whole = (bad / "Data/BCLConvert/fastq/a.fastq.gz").read_bytes()
    (bad / "Data/BCLConvert/fastq/a.fastq.gz").write_bytes(whole.replace(b"a", b"x", 1))
    (bad / "Data/logs/dragen.log").rename(lab.root / "dragen.log")
    went_up_with_the_run(lab, server, run, good / "Data/logs/dragen.log")

    result = lab.upload(run, "--json")

    assert result.code == result.json["exit_code"] == 1
    assert result.json["completed"] is True
    assert result.json["total_uploaded_files"] == len(keys(run))
    assert "only in S3" not in result.err, "what went up with the run now belongs to its analysis"
    first, second, third = result.json["analyses"]
    assert first["failed"] == {
        "Data/BCLConvert/fastq/a.fastq.gz": (
            f"CRC-32 is {zlib.crc32(whole.replace(b'a', b'x', 1)):08x} on this disk, "
            f"Manifest.tsv says {zlib.crc32(whole):08x}: the copy from the instrument is damaged; copy the file again"
        ),
        "Data/logs/dragen.log": (
            "Manifest.tsv lists it, but it is missing: the copy from the instrument is incomplete; copy it again"
        ),
    }
    assert (second["completed"], second["manifest_files"]) == (True, 0)
    assert (third["completed"], third["reason"].split(", or")[0]) == (False, f"waits for {LAST}")
    sent = {f"{run.name}/Analysis/1/{path}" for path in ("Manifest.tsv", "Data/BCLConvert/fastq/b.fastq.gz")}
    assert set(server.objects(BUCKET)) == keys(run) | keys_of(good) | sent
    assert log_of(lab, bad)["completed"] is False

    shutil.move(lab.root / "dragen.log", bad / "Data/logs")
    (bad / "Data/BCLConvert/fastq/a.fastq.gz").write_bytes(whole)
    shutil.rmtree(unfinished)
    again = lab.upload(run)

    assert again.code == 0
    assert again.out.count("nothing to send: ") == 2
    assert f"uploaded: {run.name}/Analysis/1\n" in again.out
    assert "  CRC-32  of 4 files matches Manifest.tsv\n" in again.out
    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {
        f"{run.name}/{p}": c for p, c in tree(run).items()
    }
    assert len(puts(server)) == len(set(puts(server))), "nothing is sent twice"


def went_up_with_the_run(lab: Lab, server: S3Server, run: Path, path: Path) -> None:
    """An interrupted upload by a version that treated analyses as a part of the run."""
    inside, unit = str(path.relative_to(run)), run_folder.open_run(run)
    etag = server.put(BUCKET, f"{run.name}/{inside}", path.read_bytes()).etag
    status = path.stat()
    proof = Proof(path=inside, size=status.st_size, mtime_ns=status.st_mtime_ns, etag=etag, verified_by="etag")
    store = StateStore(lab.log_dir, unit, Destination(BUCKET, ""))
    store.prepare()
    state = RunState(run_id=unit.run_id, run_path=str(run), verified={inside: proof}, total_local_files=100)
    store.begin(state)
    store.finish(state)


def test_one_analysis_killed_and_resumed_and_due_at_a_second_place(lab: Lab, server: S3Server, run: Path) -> None:
    analysis = make_analysis(run)
    with server.hold(key_contains="dragen.log") as gate:
        process = lab.start(*lab.upload_argv(analysis, "--cores", "1", "--threads", "1"))
        gate.wait_held()
        process.kill()
        process.communicate(timeout=120)
        kill_all(orphans_of(lab))
    server.wait_disconnected()
    assert log_of(lab, analysis)["completed"] is False
    there = set(puts(server))
    assert 0 < len(there) < len(keys_of(analysis))

    resumed = lab.upload(analysis, "--json", "--verify", "size", "--completion_object")

    assert resumed.code == 0
    assert resumed.json["run_id"] == f"{run.name}/Analysis/1"
    assert resumed.json["sent_files"] == len(keys_of(analysis) - there)
    receipt = f"{run.name}/Analysis/1/{COMPLETION_OBJECT}"
    assert set(server.objects(BUCKET)) == keys_of(analysis) | {receipt}, "of the run nothing"
    assert resumed.json["manifest_files"] == 4
    verified = lab.run("verify", str(analysis), "--bucket", BUCKET, "--json").json
    assert (verified["identical"], verified["url"]) == (True, f"s3://{BUCKET}/{run.name}/Analysis/1/")
    elsewhere = lab.upload(analysis, "--json", "--remote_path", "/second", "--dry_run")
    assert elsewhere.json["would_send_files"] == len(keys_of(analysis))
    assert elsewhere.json["log"] != resumed.json["log"]
    os.utime(analysis / "Manifest.tsv")
    doubted = lab.upload(analysis, "--json", "--dry_run").json
    assert (doubted["would_send_files"], doubted["same_size_in_s3"]) == (5, 5), "all that another manifest names"


def test_a_dry_run_shows_all_of_it_and_a_manifest_that_makes_no_sense(lab: Lab, server: S3Server, run: Path) -> None:
    make_analysis(run, 1)
    torn = make_analysis(run, 2) / "Manifest.tsv"
    torn.write_text("Data/a.fastq.gz\t0123")

    result = lab.upload(run, "--dry_run")

    assert result.code == 1
    assert f"would send: {run.name}\n" in result.out
    assert f"would send: {run.name}/Analysis/1\n" in result.out
    assert (
        f"NOT uploaded: {run.name}/Analysis/2 [upload.analysis-waits]\n  why     cannot understand {torn}: "
        "line 1 must be a path, a tab and 8 hex digits (copy it again, or remove it)\n"
    ) in result.out
    assert server.objects(BUCKET) == {}
    refused = lab.upload(torn.parent, "--exclude_patterns", "/nothing/")
    assert (refused.error_ids, str(torn) in refused.err) == (["run.strange-manifest"], True), refused.err
    other = make_run(run.parent, "20261123_A01234_0061_AHFAULTDRX7", "A01234")
    mine = make_analysis(other)
    refused = lab.upload(mine)
    assert (refused.error_ids, f" {mine}: " in refused.err) == (["run.not-a-run"], True), refused.err


# Which files are whose


@pytest.mark.parametrize(
    ("instrument", "apart"), [("LH00130", True), ("VH00130", True), ("VL00130", True), ("A01234", False), ("X", False)]
)
def test_instruments_that_analyse_have_their_analyses_apart(tmp_path: Path, instrument: str, apart: bool) -> None:
    run = make_run(tmp_path, instrument=instrument)
    make_analysis(run)
    (run / "Analysis" / "1a").mkdir()
    (run / "Analysis" / "1a" / "report").write_text("")

    paths = {file.path for file in local_files.list_files(analysis.open_run_or_analysis(run)).files}

    ours = {"Analysis/notes.txt", "Analysis/1a/report", "CopyComplete.txt", "Data/first.cbcl", "RunInfo.xml"}
    assert paths == (ours if apart else set(tree(run)))
    flat = local_files.list_files(analysis.open_run_or_analysis(run, need_run_info=False)).files
    assert {file.path for file in flat} == set(tree(run)), "with --skip_check and for verify it is one folder"


def test_a_link_to_a_file_of_the_run_is_that_file_in_an_analysis_too(run: Path) -> None:
    unit = make_analysis(run)
    (unit / "sheet").symlink_to("../../RunInfo.xml")
    (unit / "out").symlink_to("/etc/hostname")
    listing = local_files.list_files(analysis.open_run_or_analysis(unit))
    assert "sheet" in {file.path for file in listing.files}
    assert [item.path for item in listing.rejected] == ["out"]


def test_analyses_are_in_the_order_of_their_numbers_and_are_real_folders(run: Path, tmp_path: Path) -> None:
    for number in (10, 9, 1):
        make_analysis(run, number)
    (run / "Analysis" / "2").symlink_to(run / "Analysis" / "1")
    (run / "Analysis" / "3").write_text("no folder")
    assert [unit.path.name for unit in analysis.list_analyses(analysis.open_run_or_analysis(run))] == ["1", "9", "10"]
    assert analysis.list_analyses(Run(path=tmp_path, run_id="RUN", info=RunInfo())) == []


def test_a_run_with_the_name_of_an_analysis_has_its_own_log(tmp_path: Path) -> None:
    info, place = RunInfo(), Destination(BUCKET, "")
    names = ["RUN", "RUN/Analysis/1", "RUN.Analysis.1", "RUN.Analysis.x", "R" * 190 + "/Analysis/1"]
    stores = [StateStore(tmp_path, Run(path=tmp_path, run_id=name, info=info), place) for name in names]
    assert stores[1].log_path.name == "RUN.Analysis.1.upload.log.json"
    assert stores[3].log_path.name == "RUN.Analysis.x.upload.log.json"
    assert len({store.log_path for store in stores} | {store.lock_path for store in stores}) == 2 * len(stores)
    assert all(store.log_path.parent == tmp_path / "uploads" for store in stores)


# States


def statuses_of(config: Config) -> dict[str, tuple[str, str]]:
    found = statuses.run_statuses(config, discovery.discover(config).distinct)
    return {run.run.run_id.removeprefix(run.run.root.name): (run.state, run.reason) for run in found}


@pytest.fixture
def config(tmp_path: Path, run: Path) -> Config:
    """The config of a monitor that has uploaded the run."""
    path = tmp_path / "scan.json"
    entry = {"monitored_directories": [str(run.parent)], "bucket": BUCKET, "remote_path": "/"}
    path.write_text(json.dumps({"log_dir": str(tmp_path / "log"), "monitor": [entry]}))
    config = load_config(path, {})
    save(config, analysis.open_run_or_analysis(run), completed=True)
    return config


def save(config: Config, unit: Run, *, completed: bool) -> None:
    store = StateStore(config.log_dir, unit, config.monitor[0].destination)
    store.prepare()
    state = RunState(run_id=unit.run_id, run_path=str(unit.path), completed=completed, total_local_files=1)
    store.begin(state)
    store.finish(state)


def age(analysis: Path, hours: float) -> None:
    for name in (LAST, "CopyComplete.txt"):
        if (analysis / name).exists():
            os.utime(analysis / name, (time.time() - hours * HOUR,) * 2)


def test_each_analysis_has_its_own_state(config: Config, run: Path) -> None:
    made = [make_analysis(run, number) for number in range(1, 9)]
    save(config, analysis.open_run_or_analysis(made[0]), completed=True)
    save(config, analysis.open_run_or_analysis(made[1]), completed=False)
    age(made[1], 100)
    age(made[2], 100)
    (made[3] / "Manifest.tsv").write_bytes(b"\xff\xfe")
    (made[4] / "CopyComplete.txt").unlink()
    (made[4] / LAST).unlink()
    age(made[5], 100)
    os.utime(made[5] / "CopyComplete.txt")
    (made[6] / "CopyComplete.txt").rename(made[6] / "COPYCOMPLETE.TXT")

    found = statuses_of(config)

    assert [state for state, _ in found.values()] == [
        *("uploaded", "uploaded", "partial", "too old", "unreadable", "analysing", "new", "new", "new")
    ]
    assert found["/Analysis/3"][1] == "finished 4 days ago (max_age 72 h; `touch` its CopyComplete.txt to upload it)"
    assert "it is not UTF-8 text" in found["/Analysis/4"][1]
    assert found["/Analysis/5"][1] == f"waits for CopyComplete.txt and {LAST}"


def test_analyses_wait_for_their_run_and_excluded_ones_do_not_appear(config: Config, run: Path) -> None:
    make_analysis(run)
    for pattern, there in (("/Analysis/", False), (r"Analysis/\d+/.", False), (r"omplete\.txt$", True)):
        entry = config.monitor[0].model_copy(update={"excludes": (re.compile(pattern),)})
        assert ("/Analysis/1" in statuses_of(config.model_copy(update={"monitor": (entry,)}))) is there, pattern
    save(config, analysis.open_run_or_analysis(run), completed=False)
    assert list(statuses_of(config)) == [""]


def test_other_instruments_have_no_rows_for_what_is_part_of_the_run(config: Config, run: Path) -> None:
    make_analysis(run)
    (run / "RunInfo.xml").write_text(RUN_INFO.format(run.name, "A01234"))
    assert list(statuses_of(config)) == [""]
    (run / "RunInfo.xml").write_text("torn")
    assert list(statuses_of(config)) == ["", "/Analysis/1"], "reported rather than dropped"


def test_the_instrument_is_found_in_the_start_of_run_info(tmp_path: Path) -> None:
    path = tmp_path / "RunInfo.xml"
    padding = "<Tile>1_1101</Tile>" * 1000
    path.write_text(f"<RunInfo><Run><Instrument> LH1 </Instrument>{padding}")  # torn, but far below
    assert run_folder.read_instrument(path) == "LH1"
    path.write_text(f"<RunInfo><Run>{padding}<Instrument>LH2</Instrument></Run></RunInfo>")
    assert run_folder.read_instrument(path) == "LH2"
    path.write_text('<!DOCTYPE r [<!ENTITY i "LH3">]><RunInfo><Run><Instrument>LH3</Instrument></Run></RunInfo>')
    with raises_error(RunError, "run.strange-xml", str(path)):
        run_folder.read_instrument(path)


# The manifest


def test_a_manifest_as_instruments_write_it() -> None:
    content = b"Data/css/ids theme.css\t57e0323c\nData/Secondary_Analysis_Complete.txt\t00000000\n"
    found = {"Data/css/ids theme.css": 0x57E0323C, LAST: 0}
    assert analysis_manifest.parse_checksums(content) == found
    assert analysis_manifest.parse_checksums(
        b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n").upper().replace(b"DATA", b"Data")
    )
    assert analysis_manifest.parse_checksums(content[:-1] + b"\r\n\r\n" + content) == found, (
        "twice the same is no contradiction"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it lists no file"),
        (b"\r\n\n", "it lists no file"),
        ("a\t00000000".encode("utf-16"), "it is not UTF-8 text"),
        (b"Data/\xe9\t00000000\n", "it is not UTF-8 text"),
        (b"a\t00000000\nb\t0000000", "line 2 must be a path, a tab and 8 hex digits"),
        (b"a\t00000000\nb", "line 2 must be a path, a tab and 8 hex digits"),
        (b"path\tcrc32\n", "line 1 must be a path, a tab and 8 hex digits"),
        (b"a\tb\t00000000\n", "line 1 must be a path, a tab and 8 hex digits"),
        (b"/etc/passwd\t00000000\n", "line 1 has a path that is not in the analysis: /etc/passwd"),
        (b"a\t00000000\nData/../../x\t00000000\n", "line 2 has a path that is not in the analysis: Data/../../x"),
        (b"Data//\x1b[2J\t00000000\n", r"line 1 has a path that is not in the analysis: Data//\x1b[2J"),
        (b"a\t00000000\na\t00000001\n", "line 2 has a different CRC-32 for a than an earlier line"),
    ],
)
def test_a_manifest_that_cannot_be_understood_says_where_and_why(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        analysis_manifest.parse_checksums(content)


@given(st.binary(max_size=100) | st.text(alphabet="a/.\t\r\n0fé", max_size=100).map(str.encode))
def test_no_manifest_whatsoever_is_more_than_paths_in_the_analysis_or_a_reason(content: bytes) -> None:
    found: dict[str, int] = {}
    with contextlib.suppress(ValueError):
        found = analysis_manifest.parse_checksums(content)
    assert all(path and ".." not in path.split("/") and path[0] != "/" for path in found)


def test_a_manifest_that_is_not_a_file_or_far_too_large_is_a_reason(run: Path) -> None:
    unit = analysis.open_run_or_analysis(make_analysis(run))
    manifest = unit.path / "Manifest.tsv"
    manifest.unlink()
    os.mkfifo(manifest)
    with raises_error(RunError, "run.unreadable", str(manifest), "regular file"):
        analysis_manifest.read_checksums(unit)
    manifest.unlink()
    with manifest.open("wb") as stream:
        stream.truncate(64 * 1024 * 1024 + 1)
    with raises_error(RunError, "run.strange-manifest", str(manifest)):
        analysis_manifest.read_checksums(unit)


def test_proofs_hold_only_for_the_manifest_that_they_were_checked_against(run: Path) -> None:
    listing, expected = analysis_manifest.list_files_and_checksums(analysis.open_run_or_analysis(make_analysis(run)))
    verified = {file.path: Proof.of(file, "etag", "etag") for file in listing.files}
    assert proof.with_same_checksums(verified, listing, expected) == verified
    before = {**verified, "Manifest.tsv": replace(verified["Manifest.tsv"], mtime_ns=1)}
    assert proof.with_same_checksums(before, listing, expected).keys() == {"CopyComplete.txt", "Manifest.tsv"}
    assert proof.with_same_checksums(before, listing, {}) == before
    assert isinstance(listing.files[0], LocalFile)


# The simulator


def test_a_simulated_analysis_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--scale", "0.00001", "--cycles", "3,2,2,3", "--lanes", "1", "--tiles", "2"]
    assert simulate(["nextseq2000", str(tmp_path), *small, "--analysis"]) == 0
    unit = analysis.open_run_or_analysis(Path(capsys.readouterr().out.split("  ")[0], "Analysis", "1"))
    assert analysis.check_completion(unit).is_complete
    files = tree(unit.path)
    assert analysis_manifest.read_checksums(unit) == {
        path: zlib.crc32(content) for path, content in files.items() if path not in ("Manifest.tsv", "CopyComplete.txt")
    }
    assert sum(path.endswith(".fastq.gz") for path in files) == 2 * 25
    assert simulate(["miseq", str(tmp_path), *small, "--analysis"]) == 2
    assert "novaseqx, nextseq2000 and miseqi100 do" in capsys.readouterr().err


# What one marker alone is worth


@pytest.mark.parametrize("marker", ["CopyComplete.txt", LAST])
def test_one_marker_and_a_quiet_time_are_enough_where_the_other_does_not_come(run: Path, marker: str) -> None:
    folder = make_analysis(run)
    (other,) = {"CopyComplete.txt", LAST} - {marker}
    (folder / other).unlink()
    unit, now = analysis.open_run_or_analysis(folder), time.time()

    early, late = (analysis.check_completion(unit, HOUR, now + after) for after in (HOUR - 60, HOUR + 60))

    assert not early.is_complete
    assert early.reason == f"waits for {other}, or until nothing changed for 1 h 00 min"
    assert late.is_complete
    assert late.warnings == ((late.reason, "run.one-marker"),)
    assert f"{marker} exists, {other} does not, and nothing changed for 1 h 0" in late.reason


def test_no_marker_at_all_is_not_enough_however_long(run: Path) -> None:
    folder = make_analysis(run, complete=False)
    (folder / "CopyComplete.txt").unlink()
    unit = analysis.open_run_or_analysis(folder)
    assert not analysis.check_completion(unit, HOUR, time.time() + 99 * HOUR).is_complete


def test_the_monitor_uploads_an_analysis_with_one_marker_and_says_so(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    folder = make_analysis(run, complete=False)
    (folder / "Manifest.tsv").unlink()
    keys: dict[str, Any] = {"quiet_minutes": 0, "aws_command": quick_aws("")}
    for _ in range(2):  # the analysis after its run
        assert lab.watch(run, **keys).code == 0
    assert keys_of(folder) <= set(server.objects(BUCKET))
    assert f"{LAST} does not, and nothing changed" in (lab.log_dir / "s3_upload.log").read_text()


def test_an_analysis_without_manifest_whose_markers_came_first_is_still_being_copied(run: Path) -> None:
    folder = make_analysis(run)
    (folder / "Manifest.tsv").unlink()
    unit, now = analysis.open_run_or_analysis(folder), time.time()
    assert analysis.check_completion(unit, HOUR, now).is_complete
    (folder / "Data" / "late.fastq.gz").write_text("late")
    early, late = (analysis.check_completion(unit, HOUR, now + after) for after in (0, HOUR + 60))
    assert not early.is_complete
    assert early.reason == "files arrived after its markers; waits until nothing changed for 1 h 00 min"
    assert (late.is_complete, late.warnings) == (True, ())


@pytest.mark.parametrize("instrument", ["SH00123", "LH00130", "VH00320", "VL00030"])
def test_the_analyses_of_all_instruments_that_make_some_are_units_of_their_own(tmp_path: Path, instrument: str) -> None:
    run = make_run(tmp_path, f"20261123_{instrument}_0061_ASC2177698-SC3", instrument)
    folder = make_analysis(run)
    assert [unit.path for unit in analysis.list_analyses(analysis.open_run_or_analysis(run))] == [folder]
    assert analysis.open_run_or_analysis(folder).parent_run == run


# The manifest of the run itself


def test_a_file_that_the_runs_own_manifest_denies_is_not_sent_and_neither_are_the_markers(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    right = zlib.crc32((run / "Analysis/notes.txt").read_bytes())
    (run / "Manifest.tsv").write_text(f"Data/first.cbcl\t00000001\nAnalysis/notes.txt\t{right:08x}\n")

    result = lab.upload(run, "--aws_command", quick_aws(""))

    assert result.code == 1
    assert "Data/first.cbcl: CRC-32 is " in result.out
    sent = {f"{run.name}/{path}" for path in ("RunInfo.xml", "Manifest.tsv", "Analysis/notes.txt")}
    assert set(server.objects(BUCKET)) == sent


def test_checksums_of_an_unknown_kind_in_the_runs_own_manifest_are_a_warning(
    lab: Lab, server: S3Server, run: Path, quick_aws: FakeAws
) -> None:
    (run / "Manifest.tsv").write_text(f"Data/first.cbcl\t{'0' * 32}\n")
    result = lab.upload(run, "--aws_command", quick_aws(""))
    assert result.code == 0
    assert "warning: Manifest.tsv has checksums of an unknown kind: only its file names were compared" in result.err
    assert set(server.objects(BUCKET)) == keys(run)
