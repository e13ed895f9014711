"""The measure of streaming: a tiny run goes up in each of its ways."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from scripts.bench import live
from scripts.bench.live import WAYS, Tail
from scripts.simulate.files import run_files
from scripts.simulate.timeline import timeline
from tests.helpers.bench import benchmark
from tests.helpers.lab import FakeAws, Lab
from tests.helpers.s3server import StoredObject


def tail(way: str, seconds: float, number: int = 1, *, trouble: str = "") -> Tail:
    requests = Counter(PutObject=460, ListObjectsV2=6)
    return Tail(way, number, 460, 10**6, seconds, 10, 5 * 10**5, 1, 20, 30.5, 4.5, 2.5, requests, trouble)


def test_every_contender_is_measured_and_shown(lab: Lab) -> None:
    done = benchmark(lab, "--live", "--scale", "0.01", "--cores", "2")
    assert done.code == 0, done.err
    results = lab.root / "results"
    with (results / "live.tsv").open(encoding="utf-8", newline="") as stream:
        rows = {row["way"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert list(rows) == list(WAYS)
    for way, row in rows.items():
        assert (row["round"], row["files"], row["trouble"]) == ("1", "460", "")
        assert 0 < float(row["seconds"]) < 200
        assert 0.5 < float(row["late_cpu_seconds"]) <= float(row["cpu_seconds"]) < 200
        assert 0 < float(row["last_seconds"]) < 200
        assert int(row["requests"]) > 460
        if way != "streamed":
            assert (row["left_files"], row["left_size"], row["all_scans"]) == ("460", row["size"], "1")
    assert int(rows["streamed"]["all_scans"]) >= int(rows["streamed"]["scans"]) >= 1
    assert done.err.count("live round 1 ") == 3
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    assert re.search(r"^\| way \|.*\n\| --- \|.*\n\| streamed \| \d", (results / "live.md").read_text(), re.MULTILINE)


def test_what_went_up_before_the_last_marker_is_not_left() -> None:
    stored = [
        StoredObject(None, size, "etag", last_modified=moment) for size, moment in ((1, 9.9), (2, 10.0), (4, 11.0))
    ]
    assert live.sizes_since(stored, 10.0) == [2, 4]


def test_a_contender_that_loses_files_is_named_and_does_not_count(lab: Lab, fake_aws: FakeAws) -> None:
    liar = fake_aws("if 'sync' in argv: sys.exit(0)")
    lost = live.measure(live.make_order(0.01, 2, 4, liar), "sync", 1, lab.root / "work", lab.env)
    assert lost.trouble == "460 files did not arrive"
    assert live.rows_of([lost])[1:] == []


def test_a_scan_that_fails_is_reported_with_its_last_lines(lab: Lab, fake_aws: FakeAws) -> None:
    broken = fake_aws("sys.exit('An error occurred (NoSuchBucket) when calling the PutObject operation: gone')")
    order = live.make_order(0.01, 2, 4, broken)._replace(most_seconds=0)
    failed = live.measure(order, "afterwards", 1, lab.root / "work", lab.env)
    assert failed.trouble.startswith("exit code 1 (1 time")


def test_ratios_are_to_the_same_scans_without_streaming() -> None:
    times = {"streamed": (6, 8, 30), "afterwards": (70, 80, 90)}
    tails = [tail(way, seconds, n) for way, several in times.items() for n, seconds in enumerate(several, start=1)]
    streamed, afterwards = live.rows_of([*tails, tail("streamed", 1, 4, trouble="lost")])[1:]
    assert streamed == ("streamed", "8.0", "6.0-30.0", "0.10", "2.5", "10", "0.5", "20", "30.5", "466")
    assert afterwards[:4] == ("afterwards", "80.0", "70.0-90.0", "1.00")
    assert live.rows_of(tails[:1])[1][3] == ""  # nobody to compare with


def test_the_run_has_the_announced_size_and_a_realistic_end() -> None:
    order = live.make_order(1, 2, 4, "aws")
    assert sum(file.size for file in run_files(order.run, order.scale)) == pytest.approx(2e8, rel=0.02)
    moments = timeline(order.run)
    (last_cycle,) = {m.seconds for m in moments if m.phase == "cycle 26/26" and m.path.startswith("Logs/info")}
    assert (moments[-1].seconds - last_cycle) / moments[-1].seconds < 0.15
