"""The measure of a small run beside a large one: tiny runs go up in each of its ways."""

from __future__ import annotations

import csv

from scripts.bench import beside
from scripts.bench.beside import WAYS, Times
from tests.helpers.bench import benchmark
from tests.helpers.lab import Lab


def test_every_way_is_measured(lab: Lab) -> None:
    done = benchmark(lab, "--beside", "--scale", "0.01", "--cores", "2")
    assert done.code == 0, done.err
    with (lab.root / "results" / "beside.tsv").open(encoding="utf-8", newline="") as stream:
        rows = {row["way"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert list(rows) == list(WAYS)
    assert [way for way, row in rows.items() if row["small"]] == ["small alone", "beside", "one by one"]
    assert [way for way, row in rows.items() if row["large"]] == ["large alone", "beside", "one by one"]
    assert not any(row["trouble"] for row in rows.values())


def test_medians_of_what_went_well() -> None:
    times = [Times("beside", number, small, 90.0) for number, small in enumerate((10.0, 12.0, 30.0), start=1)]
    rows = beside.rows_of([*times, Times("small alone", 1, 5.0, None), Times("beside", 4, None, None, "lost")])
    assert rows[1:] == [("small alone", "5.0", ""), ("beside", "12.0", "90.0")]
