"""How many nodes a sequencing core wants: the calculation, and what scripts/bench/README.md says of it."""

from __future__ import annotations

import math

import pytest

from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.runs.local_files import LocalFile
from s3sync.transfer import batches
from s3sync.transfer.batches import BYTE_COST, FILE_COST
from scripts.bench import capacity
from scripts.bench.capacity import HASH_COST, USUAL, Node, load_of, puts_of
from tests.helpers.bench import benchmark
from tests.helpers.lab import Lab
from tests.helpers.pages import text_of

MIB = 1024 * 1024
HOUR = 3600


@pytest.mark.parametrize(
    ("size", "puts"), [(0, 1), (8 * MIB - 1, 1), (8 * MIB, 3), (8 * MIB + 1, 4), (80 * MIB, 12)], ids=str
)
def test_a_file_is_one_put_or_its_parts_with_their_begin_and_end(size: int, puts: int) -> None:
    assert DEFAULT_MULTIPART.threshold == 8 * MIB
    assert puts_of(LocalFile("f", size, 0)) == puts


def test_the_cost_of_a_run_is_that_of_the_plan_and_the_hashing() -> None:
    load = load_of("novaseqx")
    assert load.size == pytest.approx(5.2e12, rel=0.02)  # Illumina's number for 25B
    least = load.size * (BYTE_COST + HASH_COST) + load.files * FILE_COST
    assert least < load.cpu_seconds < 1.1 * least


def test_a_node_sends_what_its_cores_or_its_line_allow() -> None:
    load = load_of("novaseqx")
    assert Node(cores=8, line=1e9, line_use=1).rate(load) == 1e9 / 8
    assert Node(cores=1, line=1e15).rate(load) == load.size / load.cpu_seconds


def test_a_node_that_has_a_shard_more_than_others_says_when_it_ends() -> None:
    assert capacity._seconds(100.0, nodes=4, shards=16) == capacity.CALL_SECONDS + 4 * (capacity.SHARD_SECONDS + 6.25)
    assert capacity._seconds(100.0, nodes=2, shards=5) == capacity.CALL_SECONDS + 3 * (capacity.SHARD_SECONDS + 20)


def test_the_benchmark_shows_capacity_without_measuring(lab: Lab) -> None:
    done = benchmark(lab, "--capacity")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    assert (lab.root / "results" / "capacity.md").read_text().count("| --- |") == len(capacity.sections())


def test_the_page_on_measurements_says_what_follows_from_the_constants() -> None:
    page = " ".join(text_of("scripts/bench/README.md").split())
    load, small_files = load_of("novaseqx"), 1 / (FILE_COST + capacity.OWN_FILE_COST)
    for text in (
        f"A core sends {load.size / load.cpu_seconds / 1e9:.1f} GB/s",
        f"about {round(small_files, -1):.0f} small files a second",
        f"{math.floor(capacity.PUTS_A_SECOND / small_files)} cores that send nothing but small files",
        f"has up to {batches._MAX_BATCH_COST / BYTE_COST / 1e9:.1f} GB",
        f"${load.puts * 0.005 / 1000:.2f}",
        f"{load.size / USUAL.rate(load) / HOUR:.1f} hours that 10 Gbit/s",
        f"{capacity.LOG_BYTES} bytes a file",
        f"counts {capacity.CALL_SECONDS:.0f} seconds for what comes before and after all tasks",
        f"and {capacity.SHARD_SECONDS:.0f} for each task beside its sending",
    ):
        assert text in page


def test_the_page_on_measurements_has_these_very_tables() -> None:
    page = text_of("scripts/bench/README.md")
    rows = [row for _, table in capacity.sections() for row in table]
    assert [row for row in rows if f"| {' | '.join(row)} |" not in page] == []
