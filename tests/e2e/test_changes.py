"""What comes into a run after it was uploaded is noticed, named and uploaded; an idle scan costs next to nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.destination import Destination
from s3sync.patterns import Pattern
from s3sync.runs import local_files
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.transfer import changes
from s3sync.transfer.changes import Change, ChangeWatch
from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.s3server import S3Server

DAY = 86_400.0
COMPLETED = "2026-11-01T00:00:00+00:00"
AT = 1_793_491_200.0  # the same
FILES = {
    "RunInfo.xml": b"<info>",
    "SampleSheet.csv": b"sheet",
    "InterOp/QMetricsOut.bin": b"q",
    "Data/Intensities/BaseCalls/L001/1.cbcl": b"one",
    "CopyComplete.txt": b"",
}


class Subject:
    """A run with the log of its upload, and what watches it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = Run(path=root / "runs" / "RUN", run_id="RUN", info=RunInfo())
        self.store = StateStore(root / "log", self.run, Destination("lab-runs", ""))
        self.listed = 0
        for path, body in FILES.items():
            self.write(path, body)
        self.completed()

    def write(self, path: str, body: bytes = b"new") -> None:
        (self.run.path / path).parent.mkdir(parents=True, exist_ok=True)
        (self.run.path / path).write_bytes(body)

    def completed(self, *, signed: bool = True, **keys: Any) -> None:
        """A log in which the run is verified as it is now."""
        state = RunState(run_id="RUN", run_path=str(self.run.path), completed=True, finished=COMPLETED, **keys)
        state = replace(state, watched=changes.read_marks(self.run) if signed else None)
        listing = local_files.list_files(self.run)
        md5s = {file.path: hashlib.md5((self.run.path / file.path).read_bytes()).hexdigest() for file in listing.files}
        state = replace(state, verified={file.path: Proof.of(file, md5s[file.path], "etag") for file in listing.files})
        self.store.prepare()
        self.store.begin(state)
        self.store.finish(state)

    def look(self, *, days: float = 7, after: float = 0.0, scanning: bool = True) -> Change | None:
        """Let one scan look for changes, this many seconds after the upload."""
        watch = ChangeWatch(self.root / "log", days, scanning=scanning, now=AT + after)
        head = self.store.head()
        assert head is not None
        found = watch.find_change(self.run, self.store, head, (), self._opened)
        watch.save()
        return found

    def _opened(self) -> Run:
        self.listed += 1
        return self.run


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "InterOp/IndexMetricsOut.bin",
        "Alignment_1/20261123_010203/Fastq/a.fastq.gz",
        "Data/Intensities/BaseCalls/Undetermined_S0_L001_R1_001.fastq.gz",
        "SampleSheet.csv",
        "SampleSheet_2.csv",
        "Analysis/1/report.html",
        "notes.txt",
    ],
)
def test_what_tools_write_later_is_found_by_a_few_stats_long_after_the_upload(subject: Subject, path: str) -> None:
    assert subject.look(after=300 * DAY) is None
    assert subject.listed == 0
    subject.write(path)
    change = subject.look(after=300 * DAY, scanning=False)
    assert change == Change(1, (path,))
    assert change.text == f"1 file is new or changed since it was uploaded: {path}"


def test_a_file_that_is_written_into_an_alignment_later_is_found(subject: Subject) -> None:
    subject.write("Alignment_1/20261123/Fastq/a.gz")
    subject.completed()
    subject.write("Alignment_1/20261123/Fastq/b.gz")
    assert subject.look() == Change(1, ("Alignment_1/20261123/Fastq/b.gz",))


def test_what_no_stat_shows_is_found_by_a_listing_every_few_hours(subject: Subject) -> None:
    subject.write("Data/Intensities/BaseCalls/L001/1.cbcl", b"other bytes")
    assert subject.look(after=60) is None
    assert subject.listed == 0
    assert subject.look(after=7 * 3600) == Change(1, ("Data/Intensities/BaseCalls/L001/1.cbcl",))


def test_after_some_days_only_stats_are_left_and_with_none_nothing(subject: Subject) -> None:
    subject.write("Data/Intensities/BaseCalls/L001/1.cbcl", b"other bytes")
    assert subject.look(after=8 * DAY) is None
    subject.write("InterOp/IndexMetricsOut.bin")
    assert subject.look(days=0, after=8 * DAY) is None
    assert subject.listed == 0


def test_a_listing_that_finds_nothing_is_not_repeated_at_once(subject: Subject) -> None:
    for after in (7 * 3600, 7 * 3600 + 600, 12 * 3600):
        assert subject.look(after=after) is None
    listings = subject.listed
    assert listings
    assert subject.look(after=14 * 3600) is None
    assert subject.listed == 2 * listings


def test_a_clock_that_was_ahead_for_a_while_does_not_end_the_listings(subject: Subject) -> None:
    assert subject.look(after=7 * 3600 - 60) is None
    assert subject.look(after=6 * DAY) is None
    subject.write("Data/Intensities/BaseCalls/L001/1.cbcl", b"other bytes")
    assert subject.look(after=7 * 3600) == Change(1, ("Data/Intensities/BaseCalls/L001/1.cbcl",))


def test_deleted_files_are_not_changes_and_cost_one_listing(subject: Subject) -> None:
    shutil.rmtree(subject.run.path / "Data")
    (subject.run.path / "SampleSheet.csv").unlink()
    assert subject.look() is None
    listings = subject.listed
    assert listings
    assert subject.look() is None
    assert subject.listed == listings


def test_a_run_with_an_old_log_is_listed_once_and_then_remembered(subject: Subject) -> None:
    subject.completed(signed=False)
    assert subject.look(after=300 * DAY, scanning=False) is None
    assert subject.listed == 0, "only a scan does that"
    for _ in range(2):
        assert subject.look(after=300 * DAY) is None
    assert subject.listed == 2, "once looked at, once listed"
    subject.write("notes.txt")
    assert subject.look(after=300 * DAY) == Change(1, ("notes.txt",))


def test_an_old_log_shows_what_has_arrived_since(subject: Subject) -> None:
    subject.completed(signed=False)
    subject.write("notes.txt")
    assert subject.look(after=300 * DAY) == Change(1, ("notes.txt",))


def test_many_listings_are_spread_over_scans(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "ROUTINE_SECONDS", 0.0)
    assert subject.look(after=DAY) is None
    assert subject.listed == 0, "no time is left for it in this scan"
    subject.write("notes.txt")
    assert subject.look(after=DAY) == Change(1, ("notes.txt",)), "what has changed for certain is always listed"


def test_a_run_that_changes_all_the_time_does_not_keep_the_others_from_being_listed(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Subject(tmp_path / "other")
    other.run = replace(other.run, run_id="OTHER")
    other.store = StateStore(tmp_path / "log", other.run, Destination("lab-runs", ""))
    other.completed()
    other.write("Data/Intensities/BaseCalls/L001/1.cbcl", b"other bytes")
    subject.write("notes.txt")
    monkeypatch.setattr(time, "monotonic", itertools.count(0, 5.0).__next__)  # each listing takes 5 s
    watch = ChangeWatch(tmp_path / "log", 7, scanning=True, now=AT + 7 * 3600)
    for run, path in ((subject, "notes.txt"), (other, "Data/Intensities/BaseCalls/L001/1.cbcl")):
        head = run.store.head()
        assert head is not None
        assert watch.find_change(run.run, run.store, head, (), run._opened) == Change(1, (path,))


def test_only_changes_since_the_first_check_count_in_a_run_of_the_predecessor(subject: Subject) -> None:
    log = json.loads(subject.store.log_path.read_text())
    ours = ("version", "local_files", "watched", "finished", "verified_by", "folder")
    subject.store.log_path.write_text(json.dumps({key: log[key] for key in log if key not in ours}))
    subject.write("excluded by the predecessor.txt")
    newest = max(path.stat().st_ctime for path in subject.run.path.rglob("*")) + 0.001
    assert subject.look(after=newest - AT) is None
    assert subject.listed == 0
    late = subject.run.path / "notes.txt"
    while not late.exists() or late.stat().st_ctime <= newest:  # the clock of a file system goes in steps
        late.write_text("late")
    assert subject.look(after=newest - AT) == Change(1, ("notes.txt",))


def test_what_the_entry_excludes_is_not_a_change(subject: Subject) -> None:

    subject.write("Thumbnail_Images/a.jpg")
    head = subject.store.head()
    assert head is not None
    watch = ChangeWatch(subject.root / "log", 7, scanning=True, now=AT)
    assert watch.find_change(subject.run, subject.store, head, (Pattern("/Thumbnail"),), lambda: subject.run) is None


def test_another_run_in_the_same_folder_is_not_a_changed_run(subject: Subject) -> None:
    for path in FILES:
        subject.write(path, b"entirely other bytes")
    found = subject.look()
    assert found is not None
    assert "it has other bytes in" in found.another
    for path, body in FILES.items():
        subject.write(path, body)
    subject.completed()
    for path in FILES:
        os.utime(subject.run.path / path, (1, 1))
    found = subject.look(after=7 * 3600)
    assert found is not None
    assert (found.files, found.another) == (5, ""), "all of it was touched, and is the same"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"a": 1}', b'{"a": ["x", 1, null, null]}', b"\xff"])
def test_an_unreadable_memory_does_not_matter(subject: Subject, content: bytes) -> None:
    (subject.root / "log" / changes.MEMORY).write_bytes(content)
    subject.write("notes.txt")
    assert subject.look() == Change(1, ("notes.txt",))


# The whole way

Scan = Callable[..., Result]


@pytest.fixture
def scan(lab: Lab, tiny_run: Path, quick_aws: FakeAws) -> Scan:
    aws = quick_aws("")

    def scan(*argv: str, command: str = "monitor", entry: dict[str, Any] | None = None) -> Result:
        return lab.run(command, "--config", lab.config_for(tiny_run, entry, aws_command=aws), *argv)

    return scan


def test_a_file_that_comes_after_the_upload_is_named_and_sent_alone(
    lab: Lab, server: S3Server, tiny_run: Path, scan: Scan
) -> None:
    assert scan().code == 0
    puts = server.counters["PutObject"]
    (tiny_run / "CopyComplete.txt").unlink()
    (tiny_run / "Data/first.cbcl").unlink()
    (tiny_run / "InterOp").mkdir()
    (tiny_run / "InterOp/IndexMetricsOut.bin").write_bytes(b"index")
    (run,) = scan("--json", command="status").json["runs"]
    assert (run["state"], run["reason_id"]) == ("partial", "run.changed")
    assert run["reason"].startswith("1 file ")
    assert ": InterOp/IndexMetricsOut.bin" in run["reason"]

    assert scan().code == 0

    assert server.counters["PutObject"] == puts + 1
    assert server.objects(BUCKET)[f"{tiny_run.name}/InterOp/IndexMetricsOut.bin"].body == b"index"
    requests = len(server.requests)
    assert scan().code == 0
    assert len(server.requests) == requests
    assert lab.log(tiny_run)["completed"] is True


def test_a_touch_alone_sends_nothing_and_is_over_after_one_scan(
    lab: Lab, server: S3Server, tiny_run: Path, scan: Scan, tmp_path: Path
) -> None:
    (tiny_run / "SampleSheet.csv").write_text("sheet")
    ran = tmp_path / "ran"
    entry = {"on_complete": ["/bin/sh", "-c", f"echo ran >> {ran}"]}
    assert scan(entry=entry).code == 0
    puts = server.counters["PutObject"]
    os.utime(tiny_run / "SampleSheet.csv", (1, 1))

    assert scan(entry=entry).code == 0

    requests = len(server.requests)
    assert scan(entry=entry).code == 0
    assert (server.counters["PutObject"], len(server.requests)) == (puts, requests)
    assert ran.read_text() == "ran\n", "nothing new is in S3"


def test_changes_can_be_ignored_and_are_reported_once(lab: Lab, server: S3Server, tiny_run: Path, scan: Scan) -> None:
    entry = {"upload_changes": False}
    assert scan(entry=entry).code == 0
    requests = len(server.requests)
    (tiny_run / "late.txt").write_text("late")

    first, second = scan(entry=entry), scan(entry=entry)

    assert (first.code, second.code) == (0, 0)
    assert (first.error_ids, ": late.txt, " in first.err) == (["monitor.run-changed"], True), first.err
    assert second.err == ""
    assert len(server.requests) == requests
    (run,) = scan("--json", command="status", entry=entry).json["runs"]
    assert run["state"] == "uploaded"
    assert "late.txt" in run["reason"]


def test_cleanup_of_a_changed_run_names_what_sends_the_change(
    lab: Lab, server: S3Server, tiny_run: Path, scan: Scan
) -> None:
    assert scan().code == 0
    (tiny_run / "late.txt").write_text("late")
    options = ("--older_than", "0h", "--json")
    (run,) = scan(*options, command="cleanup").json["runs"]
    assert run["verdict"] == "kept"
    assert "late.txt; uploaded at the next scan" in run["reason"]
    (run,) = scan(*options, command="cleanup", entry={"upload_changes": False}).json["runs"]
    assert run["verdict"] == "kept"
    aws = json.loads((lab.root / "scan.json").read_text())["aws_command"]
    command = f" upload {tiny_run} --bucket {BUCKET} --aws-command {aws} --log-dir {lab.log_dir}"
    assert command in run["reason"], run["reason"]
    assert scan().code == 0
    (run,) = scan(*options, command="cleanup").json["runs"]
    assert run["verdict"] == "may be deleted"
    assert len(tree(tiny_run)) == 5
