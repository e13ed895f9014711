"""The measures of a cluster: tiny runs on played and on real nodes; how long nodes with own cores would take."""

from __future__ import annotations

import json

import pytest

from scripts.bench import cluster
from scripts.bench.cluster import Trial
from tests.helpers.bench import benchmark
from tests.helpers.lab import Lab
from tests.helpers.slurm_cluster import SlurmCluster


def trial(nodes: int, seconds: float, node_cpu: tuple[float, ...], number: int = 1, *, trouble: str = "") -> Trial:
    head, tail = (2.0, 4.0) if nodes else (0.0, 0.0)
    tasks = seconds - head - tail
    return Trial(nodes, number, nodes, seconds, head, tasks, tail, node_cpu, 3.0, 2.0, 5.0, trouble)


def test_nodes_with_cores_of_their_own_wait_as_one_did_that_was_alone() -> None:
    alone = trial(1, 46.0, (32.0,))  # 40 s for 32 CPU-seconds
    assert cluster.own_seconds(alone, alone) == pytest.approx(46.0)
    crowded = trial(4, 60.0, (8.0, 12.0, 10.0, 9.0))
    assert cluster.own_seconds(crowded, alone) == pytest.approx(2 + 12 * 40 / 32 + 4)


def test_ratios_are_those_within_a_round_and_failures_do_not_count() -> None:
    slow, fast = ([trial(0, base, (base,), n), trial(2, base / 2, (9.0, 9.0), n)] for n, base in ((1, 80.0), (2, 40.0)))
    local, two = cluster.rows_of([*slow, *fast, trial(2, 1.0, (1.0,), 3, trouble="lost")])
    assert (local.nodes, local.ratio, local.own_ratio) == (0, 1.0, 1.0)
    assert (two.nodes, two.seconds, two.ratio) == (2, 30.0, 2.0)
    assert cluster.rows_of([trial(1, 1.0, (1.0,), trouble="lost")]) == []


def test_the_table_fits_a_terminal() -> None:
    trials = [trial(nodes, 123.4, (123.4,) * max(1, nodes)) for nodes in (0, 1, 16)]
    widths = (max(map(len, column)) for column in zip(*cluster.table(trials), strict=True))
    assert sum(width + 2 for width in widths) - 2 <= 80


def test_coordinator_and_last_job_are_measured_beside_played_tasks(lab: Lab) -> None:
    done = benchmark(lab, "--slurm", "coordinator", "--scale", "0.001")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
    found = json.loads((lab.root / "results" / "coordinator.json").read_text())
    assert found["files"] == 100
    phases = {phase["name"]: phase for phase in found["phases"]}
    assert list(phases) == ["plan and submit", "follow", "last job", "collect"]
    for name in ("plan and submit", "last job"):
        assert 0.1 < phases[name]["cpu_seconds"] < 200
        assert 1e7 < phases[name]["peak_bytes"] < 1e9
    assert min(found[f"{kind}_bytes"] for kind in ("plan", "journal", "log")) > 1000


@pytest.mark.real
@pytest.mark.xdist_group("slurm")
def test_a_run_on_nodes_is_measured_beside_one_core(slurm: SlurmCluster, lab: Lab) -> None:
    """`slurm` is here for its skip: the benchmark makes its own clusters."""
    done = benchmark(lab, "--slurm", "speedup", "--scale", "0.002", "--rounds", "1")
    assert done.code == 0, done.err
    found = json.loads((lab.root / "results" / "speedup.json").read_text())
    assert [row["nodes"] for row in found["rows"]] == [0, 1, 2, 4]
    for one in found["trials"]:
        assert one["trouble"] == ""
        assert 0.5 < sum(one["node_cpu"]) < 200
    on_cluster = found["trials"][1:]
    assert all(min(one["last_cpu"], one["coordinator_cpu"], one["head"], one["tail"]) > 0.1 for one in on_cluster)
    assert [line for line in done.out.splitlines() if len(line) > 80] == []
