"""The measure of a restore beside the AWS CLI alone: tiny runs come back in both ways."""

from __future__ import annotations

import csv

from scripts.bench import back
from scripts.bench.back import CONTENDERS, WORKLOADS, Download
from scripts.bench.measure import Usage
from tests.helpers.bench import benchmark
from tests.helpers.lab import Lab


def test_both_ways_are_measured(lab: Lab) -> None:
    done = benchmark(lab, "--restore", "--scale", "0.005", "--cores", "2", "--rounds", "2")
    assert done.code == 0, done.err
    with (lab.root / "results" / "restore.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    expected = [(name, number, way) for name in WORKLOADS for number in "12" for way in CONTENDERS]
    assert [(row["workload"], row["round"], row["way"]) for row in rows] == expected
    assert not any(row["trouble"] for row in rows)
    assert all(float(row["seconds"]) > 0 and float(row["cpu_seconds"]) > 0 for row in rows)


def test_medians_and_what_is_allowed() -> None:
    def download(way: str, seconds: float, cpu_seconds: float, trouble: str = "") -> Download:
        return Download("small", 9, 9, way, 1, Usage(seconds, cpu_seconds, 1, (0,)), trouble)

    rows = back.rows_of(
        [
            *(download("bare", seconds, 20.0) for seconds in (10.0, 9.0, 30.0)),
            download("restore", 15.0, 26.9),
            download("restore", 99.0, 99.0, "lost"),
        ]
    )
    assert rows[1:] == [
        ("small", "bare", "10.0", "1.00", "20.0", "1.00", "yes"),
        ("small", "restore", "15.0", "1.50", "26.9", "1.34", "yes"),
    ]
    assert back.rows_of([download("bare", 10.0, 20.0), download("restore", 15.0, 27.1)])[2][-1] == "NO"
