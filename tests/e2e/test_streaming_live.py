"""Whole runs that are streamed from their first cycle to their last marker, and what may go wrong on that way."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from scripts.simulate.live import LiveRun
from scripts.simulate_run import plan_run
from tests.helpers.lab import BUCKET, Lab, Result, kill_family, tree
from tests.helpers.s3server import S3Server

SCALE = 1e-4
MARKERS = {"RTAComplete.txt", "SequenceComplete.txt", "CopyComplete.txt"}
BULK = re.compile(
    r".*\.(c?bcl|filter|locs|control|jpg)"
)  # written once; all else is written until the end, or is reported
HOUR = 3600
SHEET = "[Data]\nSample_ID,Sample_Name\n{name},{name}\n"


class Monitored:
    """A run in the making, and scans of a monitor that streams it; a file has settled as soon as it is written.

    `entry` is more of the config's entry. After each scan S3 must hold what may have gone up by then, and no more.
    """

    def __init__(self, lab: Lab, server: S3Server, live: LiveRun, **entry: Any) -> None:
        self.lab = lab
        self.server = server
        self.live = live
        self.run = live.folder
        self.entry = {"stream": True, **entry}
        self.keys: dict[str, Any] = {"settle_minutes": 0, "max_cores": 2}
        self._seen: list[dict[str, bytes]] = []  # what was on disk at each scan

    @property
    def config(self) -> str:
        return self.lab.config_for(self.run, self.entry, **self.keys)

    def scan(self) -> Result:
        """One scan over the run as it is."""
        self._seen.append(tree(self.run))
        return self.lab.run("monitor", "--config", self.config)

    def quiet_scan(self) -> None:
        """One that has nothing to say."""
        done = self.scan()
        assert (done.code, done.out, done.err) == (0, "", "")

    def killed_scan(self, after: int) -> None:
        """Kill a scan, with all that it started, when `after` files have arrived and more are on their way."""
        self._seen.append(tree(self.run))
        with self.server.hold(after) as gate, self.lab.start("monitor", "--config", self.config) as process:
            gate.wait_held()
            kill_family(process)
            gate.release()
            process.communicate(timeout=120)
        self.server.wait_disconnected()

    @property
    def log(self) -> dict[str, Any]:
        return self.lab.log_in(BUCKET, self.run)

    def objects(self, bucket: str = BUCKET) -> dict[str, bytes | None]:
        """What S3 has, by path in the run."""
        return {k.removeprefix(f"{self.run.name}/"): stored.body for k, stored in self.server.objects(bucket).items()}

    def sent(self) -> list[str]:
        """Paths of what arrived so far, in order."""
        puts = (r.key for r in self.server.requests if r.operation == "PutObject" and r.status == 200)
        return [key.removeprefix(f"{self.run.name}/") for key in puts]

    def bulk(self) -> dict[str, bytes]:
        """The files on disk that need not wait for the end."""
        return {path: content for path, content in tree(self.run).items() if BULK.fullmatch(path)}

    def a_file_of(self, cycle: int) -> Path:
        return sorted(self.run.glob(f"Data/Intensities/BaseCalls/L001/C{cycle}.1/*"))[0]

    def needed(self) -> Counter[str]:
        """How often each file had to be sent: bulk data once for each content that a scan saw, the rest once."""
        times = Counter(dict.fromkeys(self._seen[-1], 1))
        for path in filter(BULK.fullmatch, times):
            contents = (files[path] for files in self._seen if path in files)
            times[path] = sum(1 for _ in itertools.groupby(contents))
        return times

    def assert_streams(self) -> None:
        """Of a run that is not complete all that may go up is in S3 as it is on disk, and nothing else."""
        assert self.objects() == self.bulk()
        assert (self.log["completed"], self.log["total_uploaded_files"]) == (False, len(self.bulk()))
        assert self.log["total_local_files"] == len(tree(self.run))

    def assert_uploaded(self) -> None:
        """S3 is byte for byte the disk, and the log says so."""
        assert self.objects() == tree(self.run)
        log = self.log
        assert (log["completed"], log["total_failed_upload"]) == (True, 0)
        assert log["total_uploaded_files"] == log["total_local_files"] == len(tree(self.run))


def small(lab: Lab, server: S3Server, instrument: str = "novaseq6000", *, abandon: int | None = None) -> Monitored:
    """A run of two cycles."""
    run = plan_run(instrument, cycles=(1, 1), lanes=1, tiles=1)
    return Monitored(lab, server, LiveRun(lab.root / "instrument", run, SCALE, abandon=abandon))


# From the first cycle to the last marker


@pytest.mark.parametrize(
    ("instrument", "rewrite", "stops"),
    [
        ("novaseq6000", 2, [("cycle 3/8", 2), ("cycle 7/8", 0), ("RTAComplete", 2)]),
        ("miseq", 0, [("cycle 2/8", 2), ("cycle 8/8", 2)]),
    ],
    ids=["NovaSeq 6000", "MiSeq without CopyComplete"],
)
def test_a_run_goes_up_while_it_is_written_each_file_once_and_the_markers_last(
    lab: Lab, server: S3Server, instrument: str, rewrite: int, stops: list[tuple[str, int]]
) -> None:
    run = plan_run(instrument, cycles=(3, 1, 1, 3), lanes=1, tiles=1)
    watched = Monitored(lab, server, LiveRun(lab.root / "instrument", run, SCALE, rewrite=rewrite))
    watched.live.write_until("start")
    watched.quiet_scan()
    assert server.requests == []
    for phase, more_writes in stops:
        watched.live.write_until(phase)
        for _ in range(more_writes):
            next(watched.live)
        watched.quiet_scan()
        watched.assert_streams()
    in_time = len(watched.sent())
    assert list(watched.live)
    watched.quiet_scan()
    watched.assert_uploaded()
    sent = watched.sent()
    assert Counter(sent) == watched.needed()
    markers = MARKERS & set(tree(watched.run))
    assert set(sent[-len(markers) :]) == markers
    assert set(sent[:in_time]) == set(watched.bulk())
    watched.quiet_scan()
    assert len(watched.sent()) == len(sent)


def test_a_run_that_the_instrument_gives_up_is_reported_once(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server, abandon=1)
    assert list(watched.live)
    watched.quiet_scan()
    watched.assert_streams()
    watched.keys["abandoned_hours"] = 1e-6
    result = watched.scan()
    assert result.code == 0
    assert result.err.count("[run.abandoned]") == 1
    watched.quiet_scan()
    assert watched.objects() == watched.bulk()


def test_scans_that_are_killed_cost_at_most_what_was_in_flight(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server, "miseq")
    watched.live.write_until("cycle 2/2")
    watched.killed_scan(after=5)
    assert list(watched.live)
    watched.killed_scan(after=20)
    watched.quiet_scan()
    watched.assert_uploaded()
    assert Counter(watched.sent()) == watched.needed()


# What may become of files that went up


def test_what_shrinks_vanishes_or_becomes_a_folder_after_its_upload_is_reported_as_only_in_s3(
    lab: Lab, server: S3Server
) -> None:
    watched = small(lab, server)
    watched.keys["require_whole_runs"] = False  # the run loses base calls here
    watched.live.write_until("cycle 2/2")
    watched.quiet_scan()
    watched.assert_streams()
    assert list(watched.live)
    shrunk, gone = watched.a_file_of(1), watched.a_file_of(2)
    folder = next(watched.run.glob("Data/**/*.filter"))
    os.truncate(shrunk, 5)
    gone.unlink()
    folder.unlink()
    folder.mkdir()
    (folder / "inside.bin").write_bytes(b"what stands in a folder of that name")
    extra = {
        str(path.relative_to(watched.run)): watched.objects()[str(path.relative_to(watched.run))]
        for path in (gone, folder)
    }
    result = watched.scan()
    assert result.code == 0
    assert "2 uploaded files are only in S3, gone from the run or excluded: " in result.err
    assert all(path in result.err for path in extra)
    assert watched.objects() == {**tree(watched.run), **extra}
    log = watched.log
    assert (log["completed"], log["total_uploaded_files"]) == (True, log["total_local_files"])
    assert log["uploaded_files"].keys() == {str(watched.run / path) for path in tree(watched.run)}
    watched.quiet_scan()
    verified = lab.run("verify", str(watched.run), "--bucket", BUCKET, "--json")
    assert (verified.code, sorted(verified.json["only_in_s3"])) == (1, sorted(extra))


def test_a_file_that_becomes_a_link_out_of_the_run_keeps_it_open_until_it_is_gone(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server)
    watched.live.write_until("cycle 2/2")
    watched.quiet_scan()
    file = watched.a_file_of(1)
    went_up = file.read_bytes()
    file.unlink()
    (lab.root / "elsewhere").write_bytes(went_up)
    file.symlink_to(lab.root / "elsewhere")
    watched.quiet_scan()
    assert list(watched.live)
    refused = watched.scan()
    assert refused.code == 1
    assert "a link out of the run" in refused.err
    assert watched.log["completed"] is False
    assert str(file) not in watched.log["uploaded_files"]
    assert MARKERS.isdisjoint(watched.objects())
    file.unlink()
    file.write_bytes(went_up)
    watched.keys["quiet_minutes"] = 0  # for a file that comes after the markers
    watched.quiet_scan()
    watched.assert_uploaded()
    assert watched.sent().count(str(file.relative_to(watched.run))) == 1


def test_a_file_that_comes_while_the_markers_go_up_is_uploaded_too(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server)
    watched.live.write_until("cycle 2/2")
    watched.quiet_scan()
    assert list(watched.live)
    with server.hold(key_contains="/CopyComplete.txt") as gate:
        process = lab.start("monitor", "--config", watched.config)
        gate.wait_held()
        watched.a_file_of(1).with_name("late.cbcl").write_bytes(b"the straggler")
        gate.release()
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")
    watched.assert_uploaded()


# Clocks, sheets, destinations


def test_files_from_the_future_wait_for_the_end_of_the_run_and_no_longer(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server)
    watched.live.write_until("cycle 2/2")
    ahead = [watched.run / path for path in watched.bulk() if "/C1.1/" in path]
    for path in ahead:
        os.utime(path, (time.time() + HOUR,) * 2)
    watched.quiet_scan()
    assert watched.objects().keys() == {p for p in watched.bulk() if "/C1.1/" not in p}
    assert list(watched.live)
    # The markers last: a file that changes after them would have to settle first.
    for path in sorted(watched.run.rglob("*"), key=lambda path: path.name in MARKERS):
        os.utime(path, (time.time() + HOUR,) * 2)
    watched.quiet_scan()
    watched.assert_uploaded()
    assert watched.needed().keys() == set(watched.sent())
    before = len(server.requests)
    watched.quiet_scan()
    assert len(server.requests) == before


def test_a_sheet_that_changes_its_mind_twice_ends_in_a_whole_run(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server)
    watched.entry["sample_regex"] = "^CEN"
    watched.live.write_until("cycle 1/2")
    sheet = watched.run / "SampleSheet.csv"
    sheet.write_text(SHEET.format(name="CEN-1"))
    watched.quiet_scan()
    watched.assert_streams()
    sent = watched.sent()
    sheet.write_text(SHEET.format(name="OTHER-1"))
    assert list(watched.live)
    result = watched.scan()
    assert (result.code, result.err.count("samples do not match")) == (0, 1)
    watched.quiet_scan()
    assert watched.sent() == sent
    sheet.write_text(SHEET.format(name="CEN-1"))
    watched.quiet_scan()
    watched.assert_uploaded()
    assert Counter(watched.sent()) == watched.needed()


def test_two_entries_stream_a_run_to_two_buckets(lab: Lab, server: S3Server) -> None:
    watched = small(lab, server, "miseq")
    server.create_bucket("archive")
    entry = {"monitored_directories": [str(watched.run.parent)], "remote_path": "/", "stream": True}
    entries = [{**entry, "bucket": BUCKET}, {**entry, "bucket": "archive", "exclude_patterns": [r"\.jpg$"]}]

    def scan() -> Result:
        return lab.run("monitor", "--config", lab.config_for(watched.run, settle_minutes=0, monitor=entries))

    watched.live.write_until("cycle 2/2")
    assert scan().code == 0
    watched.assert_streams()
    bulk = watched.bulk()
    assert watched.objects("archive") == {path: body for path, body in bulk.items() if not path.endswith(".jpg")}
    assert list(watched.live)
    assert scan().code == 0
    watched.assert_uploaded()
    whole = tree(watched.run)
    assert watched.objects("archive") == {path: body for path, body in whole.items() if not path.endswith(".jpg")}
