"""The Slurm cluster that tests use: it does what real ones do, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.slurm_cluster import Queued, SlurmCluster

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("slurm")]

_FOR_EVER = "sleep 1000"


class Script:
    """A batch script, and what its jobs said of themselves."""

    def __init__(self, folder: Path, line: str) -> None:
        self._path = folder / "script"
        self._said = folder / "said"
        what = '"${SLURM_ARRAY_TASK_ID:-} $(hostname) ${SLURM_RESTART_COUNT:-0} $TMPDIR $(nproc)"'
        self._path.write_text(f"#!/bin/sh\necho {what} >> {self._said}\n{line}\n")

    def submit(self, cluster: SlurmCluster, *argv: str) -> str:
        """The job's id."""
        return cluster.run("sbatch", "--parsable", "--requeue", "--output=/dev/null", *argv, str(self._path)).strip()

    @property
    def said(self) -> list[list[str]]:
        """Task, host, restarts, TMPDIR and cores of each start, in order."""
        return [line.split(" ") for line in self._said.read_text().splitlines()] if self._said.exists() else []


def begun(cluster: SlurmCluster, script: Script, starts: int = 1) -> None:
    """Wait until a script has started this many times: squeue says RUNNING shortly before that."""
    cluster.wait_until(lambda: len(script.said) == starts)


def test_an_array_runs_on_all_nodes_and_what_depends_on_it_after_it(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Tasks wait for each other here, so both nodes work at once; both fail, which does not matter to the next."""
    script = Script(tmp_path, f"while [ $(wc -l < {tmp_path}/said) -lt 2 ]; do sleep 0.1; done; exit 3")
    array = script.submit(slurm, "--exclusive", "--array=0-1")
    after = script.submit(slurm, f"--dependency=afterany:{array}")

    slurm.wait_until(lambda: slurm.squeue() == [])

    (*tasks, last) = script.said
    assert sorted(task[:2] for task in tasks) in ([["0", "n1"], ["1", "n2"]], [["0", "n2"], ["1", "n1"]])
    assert all(tmp == str(slurm.tmp(host)) for _, host, _, tmp, _ in script.said)
    assert (last[0], int(after) > int(array)) == ("", True)


def test_requeued_jobs_run_again(slurm: SlurmCluster, tmp_path: Path) -> None:
    """A task of an array, with the same numbers; its environment has the number of earlier starts."""
    script = Script(tmp_path, f"[ ${{SLURM_RESTART_COUNT:-0}} = 0 ] && {_FOR_EVER}")
    job = script.submit(slurm, "--array=7-7")
    begun(slurm, script)

    slurm.requeue(f"{job}_7")

    slurm.wait_until(lambda: slurm.job(f"{job}_7") == Queued(f"{job}_7", "PENDING", "", "BeginTime"))
    slurm.wait_until(lambda: slurm.squeue() == [])
    assert [(task, restarts) for task, _, restarts, *_ in script.said] == [("7", "0"), ("7", "1")]


def test_jobs_of_a_node_that_lost_power_run_again_on_another(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Its processes are gone, even those with their own session; the other node is not affected."""
    script = Script(tmp_path, f"setsid {_FOR_EVER} & {_FOR_EVER}")
    slurm.set_state("n1", "drain")
    script.submit(slurm)
    begun(slurm, script)
    slurm.set_state("n1", "resume")
    slurm.wait_until(lambda: sum(process.name() == "sleep" for process in slurm.processes("n2")) == 2)
    everything = slurm.processes("n2")

    slurm.kill_node("n2")

    assert not any(process.is_running() for process in everything)
    begun(slurm, script, 2)
    assert [(host, restarts) for _, host, restarts, *_ in script.said] == [("n2", "0"), ("n1", "1")]
    slurm.start_slurmd("n2")
    slurm.wait_until(lambda: slurm.nodes() == {"n1": "mixed", "n2": "idle"})


def test_a_task_continues_without_slurmd(slurm: SlurmCluster, tmp_path: Path) -> None:
    """And ends for Slurm when slurmd is there again."""
    script = Script(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    script.submit(slurm, "--nodelist=n1")
    begun(slurm, script)

    slurm.kill_slurmd("n1")
    assert "slurmd" not in {process.name() for process in slurm.processes("n1")}
    slurm.start_slurmd("n1")
    slurm.wait_until(lambda: slurm.nodes()["n1"] == "mixed")
    (tmp_path / "go").touch()

    slurm.wait_until(lambda: slurm.squeue() == [] and slurm.nodes()["n1"] == "idle")
    assert len(script.said) == 1


def test_a_drained_node_gets_nothing_and_a_full_disk_is_full_for_its_node_alone(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    script = Script(tmp_path, f'head -c 100000 /dev/zero > "$TMPDIR/file" || echo $(hostname) >> {tmp_path}/full')
    slurm.mount_tmp("n1", "size=64k")
    for node in ("n2", "n1"):
        slurm.set_state(node, "drain")
    job = script.submit(slurm, "--array=0-1")
    slurm.wait_until(lambda: slurm.squeue()[0].reason.startswith("Nodes required for job are DOWN, DRAINED"))
    assert set(slurm.nodes().values()) == {"drained"}

    slurm.set_state("n1", "resume")
    slurm.wait_until(lambda: slurm.squeue() == [])
    slurm.set_state("n1", "drain")
    slurm.set_state("n2", "resume")
    script.submit(slurm)
    slurm.wait_until(lambda: slurm.squeue() == [])

    assert [host for _, host, *_ in script.said] == ["n1", "n1", "n2"], job
    assert (tmp_path / "full").read_text() == "n1\nn1\n"


def test_a_restarted_controller_still_knows_its_jobs(slurm: SlurmCluster, tmp_path: Path) -> None:
    """While it is away no command gets an answer, and running jobs continue."""
    script = Script(tmp_path, f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done")
    job = script.submit(slurm)
    begun(slurm, script)

    slurm.stop_controller()

    with pytest.raises(RuntimeError, match=r"Unable to contact slurm controller \(connect failure\)"):
        slurm.squeue()
    slurm.start_controller()
    slurm.wait_until(slurm.answers)
    assert [(queued.job, queued.state) for queued in slurm.squeue()] == [(job, "RUNNING")]
    (tmp_path / "go").touch()
    slurm.wait_until(lambda: slurm.squeue() == [])


_HOLD = """
import pathlib, sys
from tests.helpers.slurm_cluster import slurm_cluster
folder = pathlib.Path(sys.argv[1])
with slurm_cluster(folder, nodes=1, pinned=True) as cluster:
    cluster.run("sbatch", "--output=/dev/null", f"--wrap=nproc > {folder}/cores; setsid sleep 1000 & sleep 1000")
    cluster.wait_until(lambda: [p.info["name"] for p in cluster.processes("n1")].count("sleep") == 2)
    print("runs", flush=True)
    sys.stdin.read()
"""


def _named(processes: Iterable[psutil.Process]) -> Iterator[tuple[int, str]]:
    """A handle and the name of each process that is still running."""
    for process in processes:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            name = process.name()
            yield os.pidfd_open(process.pid), name


def test_nothing_of_it_outlives_a_test_that_is_killed() -> None:
    """Neither daemons nor processes of jobs; a pinned node has one core."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        with subprocess.Popen([sys.executable, "-c", _HOLD, folder], cwd=Path(__file__).parents[2], **pipes) as test:
            assert test.stdout is not None
            assert test.stdout.readline() == "runs\n"
            family = dict(_named(psutil.Process(test.pid).children(recursive=True)))
            assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= set(family.values())
            handles = list(family)
            test.kill()
        ended = [select.select([handle], [], [], 60)[0] for handle in handles]
        assert all(ended)
        assert (Path(folder) / "cores").read_text() == "1\n"
        for handle in handles:
            os.close(handle)
