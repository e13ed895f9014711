"""How many nodes a sequencing core wants: the calculation, a simulated month, and what scripts/bench/README.md says."""

from __future__ import annotations

import math

import pytest

from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.runs.local_files import LocalFile
from s3sync.slurm.client import DEFAULT_NODES
from s3sync.slurm.shards import SHARDS_A_NODE
from s3sync.transfer import batches
from s3sync.transfer.batches import BYTE_COST, FILE_COST
from scripts.bench import capacity
from scripts.bench.capacity import HASH_COST, USUAL, Node, Site, load_of, plan_of, puts_of, simulate
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


def hours_of_a_run(nodes: int = 1) -> float:
    """With nodes that do nothing else."""
    load = load_of("novaseqx")
    return (load.size / USUAL.rate(load) / nodes + SHARDS_A_NODE * capacity.TASK_SECONDS) / HOUR


def test_a_run_that_comes_alone_takes_its_own_time() -> None:
    alone = simulate(Site(1, sides=1), USUAL, nodes=1)
    assert alone.runs in (14, 15, 16)  # of 48 hours, the first somewhere in it
    assert alone.median_hours == pytest.approx(hours_of_a_run())
    assert alone.most_hours == pytest.approx(hours_of_a_run())
    assert alone.most_at_once == 1
    assert alone.use == pytest.approx(alone.runs * hours_of_a_run() / (30 * 24))


def test_a_run_has_no_more_nodes_than_it_asks_for() -> None:
    two, ten = (simulate(Site(1, sides=1), USUAL, nodes=nodes).median_hours for nodes in (2, 10))
    assert two == pytest.approx(hours_of_a_run(2))
    assert ten == pytest.approx(hours_of_a_run(DEFAULT_NODES))


def test_runs_that_come_together_wait_for_each_other() -> None:
    both = simulate(Site(1, sides=2), USUAL, nodes=1)
    assert both.most_at_once == 2
    assert both.most_hours > 1.5 * hours_of_a_run()


@pytest.mark.parametrize("site", capacity.SITES, ids=str)
@pytest.mark.parametrize("office", [False, True], ids=["any time", "office hours"])
def test_the_planned_nodes_hold_for_a_month(site: Site, office: bool) -> None:
    outcome = simulate(site, USUAL, plan_of(site, USUAL).nodes, office=office)
    assert capacity.holds(site, outcome)
    assert outcome.use < 0.75


def test_a_node_that_has_a_shard_more_than_others_says_when_it_ends() -> None:
    assert capacity._seconds(100.0, nodes=4, shards=16) == capacity.CALL_SECONDS + 4 * (capacity.SHARD_SECONDS + 6.25)
    assert capacity._seconds(100.0, nodes=2, shards=5) == capacity.CALL_SECONDS + 3 * (capacity.SHARD_SECONDS + 20)


def test_too_few_nodes_fall_behind_and_it_is_seen() -> None:
    site = Site(100)
    load = load_of(site.instrument)
    needed = site.runs_a_day * load.size / (24 * HOUR) / USUAL.rate(load)
    outcome = simulate(site, USUAL, math.floor(needed))
    assert not capacity.holds(site, outcome)
    assert outcome.use > 1


def test_no_runs_are_loaded_outside_office_hours() -> None:
    at_work = capacity._at_work
    assert [at_work(hour) for hour in (0, 8, 17.9, 18, 4 * 24 + 18, 6 * 24 + 12)] == [8, 8, 17.9, 32, 176, 176]


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
        f"{capacity.TASK_SECONDS:.0f} seconds a task",
        f"counts {capacity.CALL_SECONDS:.0f} seconds for what comes before and after all tasks",
        f"and {capacity.SHARD_SECONDS:.0f} for each task beside its sending",
    ):
        assert text in page


def test_the_page_on_measurements_has_these_very_tables() -> None:
    page = text_of("scripts/bench/README.md")
    rows = [row for _, table in capacity.sections() for row in table]
    assert [row for row in rows if f"| {' | '.join(row)} |" not in page] == []
