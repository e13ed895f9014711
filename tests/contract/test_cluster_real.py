"""Runs over the nodes of a real Slurm cluster: what it does when nodes, daemons and people do what they do.

After each story all of the disk is in S3 with the right bytes, the log is completed and true, and nothing is left.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from s3sync.slurm import broken_nodes
from s3sync.slurm.work_folder import FOLDER, WorkFolder
from tests.helpers.clusters import end_of, is_all_done, on_slurm, puts, wait_for_line
from tests.helpers.lab import AWS_V1, BUCKET, FakeAws, Lab, skip_or_fail
from tests.helpers.s3server import Gate, S3Server
from tests.helpers.slurm_cluster import SlurmCluster, slurm_cluster, why_no_slurm

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("slurm")]

# What jobs of a partition of higher priority take from those here, which begin again.
_PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""
_FULL = "size=64k,nr_inodes=40"  # there is room for a temporary folder, but not for what is to be staged in it
Record = Callable[[str, object], None]


@pytest.fixture
def slurm(lab: Lab) -> Iterator[SlurmCluster]:
    """A cluster of two nodes that `lab` belongs to, with a partition `urgent` that preempts the default one."""
    if why := why_no_slurm():
        skip_or_fail(why)
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        slurm_cluster(Path(folder), more=_PREEMPTION) as cluster,
    ):
        lab.env.update(cluster.env)
        yield cluster


def data_of(server: S3Server, after: int = 0) -> Gate:
    """Holds all files of data but the first."""
    return server.hold(key_contains="/Data/", after=after)


def tasks(slurm: SlurmCluster) -> dict[str, str]:
    """Where each task of an array runs."""
    return {job.job: job.node for job in slurm.squeue() if job.state == "RUNNING" and "_" in job.job}


def starts(lab: Lab) -> int:
    """How many times tasks started: each start has its own journal."""
    return len(list((lab.log_dir / FOLDER).glob("*/journals/*")))


@pytest.mark.parametrize("client", ["auto", "default"])
def test_both_nodes_send_a_run(lab: Lab, server: S3Server, slurm: SlurmCluster, wide_run: Path, client: str) -> None:
    """With the CLI itself."""
    with lab.start(*on_slurm(lab, wide_run, AWS_V1, "--transfer_client", client)) as process, data_of(server) as gate:
        gate.wait_held(2)
        slurm.wait_until(lambda: set(tasks(slurm).values()) == {"n1", "n2"})
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, wide_run, server, slurm)
    assert set(puts(server).values()) == {1}


def test_a_node_that_loses_power_costs_what_was_in_flight(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path, record_property: Record
) -> None:
    """Its task starts again on the other node, which asks S3 first."""
    with lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process:
        with data_of(server, after=500) as gate:
            gate.wait_held(2)
            (task,) = (job for job, node in tasks(slurm).items() if node == "n2")
            stored = set(server.objects(BUCKET))
            slurm.kill_node("n2")
            killed = time.monotonic()
        slurm.wait_until(lambda: tasks(slurm).get(task) == "n1")
        waited = round(time.monotonic() - killed)
        result = end_of(process)

    assert result.code == 0, result.err
    again = {key for key, times in puts(server).items() if times > 1}
    record_property("figures", {"most s": waited, "stored": len(stored), "again": len(again)})
    assert not again & stored
    is_all_done(lab, wide_run, server, slurm, again, gone="n2")


def test_a_task_without_slurmd_continues_and_its_twin_waits_for_it(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Slurm considers the node lost and starts the task again elsewhere; nothing is sent twice."""
    with lab.start(*on_slurm(lab, tiny_run, quick_aws(""))) as process, data_of(server) as gate:
        gate.wait_held()
        ((task, node),) = tasks(slurm).items()
        other = {"n1": "n2", "n2": "n1"}[node]
        slurm.kill_slurmd(node)
        slurm.set_state(node, "down")
        slurm.wait_until(lambda: tasks(slurm).get(task) == other and is_at_work(slurm, other))
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, slurm)


def is_at_work(slurm: SlurmCluster, node: str) -> bool:
    """Whether a process of ours runs there."""
    for process in slurm.processes(node):
        with contextlib.suppress(psutil.Error):  # it has already ended
            if "s3sync" in process.cmdline():
                return True
    return False


def test_requeued_or_preempted_tasks_continue_where_they_were(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path, record_property: Record
) -> None:
    """One by an administrator, the other one by a job of higher priority on its node."""
    urgent = ("--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=:")
    with lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process:
        with data_of(server, after=500) as gate:
            gate.wait_held(2)
            stored = set(server.objects(BUCKET))
            one, another = sorted(tasks(slurm))
            node = tasks(slurm)[another]
            slurm.requeue(one)
            slurm.run("sbatch", f"--nodelist={node}", *urgent)
            slurm.wait_until(lambda: tasks(slurm) == {})
        slurm.wait_until(lambda: starts(lab) == 4)
        result = end_of(process)

    assert result.code == 0, result.err
    again = {key for key, times in puts(server).items() if times > 1}
    record_property("figures", {"stored": len(stored), "again": len(again)})
    assert not again & stored
    is_all_done(lab, wide_run, server, slurm, again)


def test_jobs_cancelled_by_hand_lose_nothing(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path
) -> None:
    """One task of an array: others send the rest of it. All jobs: that is reported, and the same command continues."""
    argv = on_slurm(lab, wide_run, quick_aws(""))
    with lab.start(*argv) as process, data_of(server, after=20) as gate:
        gate.wait_held(2)
        (name,) = set(slurm.run("squeue", "--noheader", "--format=%j").split())
        slurm.run("scancel", f"--name={name}")
        result = end_of(process)
    assert (result.code, result.out) == (1, "")
    assert "[slurm.jobs-ended]" in result.err
    assert "run the same command to continue" in result.err
    with lab.start(*argv) as process, data_of(server, after=20) as gate:
        gate.wait_held(2)
        slurm.run("scancel", sorted(tasks(slurm))[0])
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, wide_run, server, slurm)


def test_a_controller_that_is_away_is_waited_for(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, tiny_run: Path
) -> None:
    with lab.start(*on_slurm(lab, tiny_run, quick_aws(""))) as process, data_of(server) as gate:
        gate.wait_held()
        slurm.stop_controller()
        wait_for_line(process, "Unable to contact slurm controller (connect failure); waiting for it")
        slurm.start_controller()
        slurm.wait_until(slurm.answers)
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, slurm)


def test_jobs_outlive_their_coordinator_and_ctrl_c_ends_them(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """The first is killed, the second finds its jobs and is interrupted, the third sends what is left."""
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with server.hold(key_contains="/Data/second") as gate:
        with lab.start(*argv) as process:
            gate.wait_held()
            process.kill()
            process.communicate()
        with lab.start(*argv) as process:
            wait_for_line(process, "on Slurm")
            process.send_signal(signal.SIGINT)
            result = end_of(process)
    assert (result.code, result.out, result.error_ids) == (130, "", ["slurm.interrupted"])
    assert ("SIGINT" in result.err, "jobs cancelled, " in result.err) == (True, True), result.err
    assert slurm.squeue() == []

    result = lab.run(*argv)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, slurm)


def test_a_node_whose_disk_is_full_is_avoided(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path
) -> None:
    slurm.mount_tmp("n1", _FULL)
    with lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process:
        with server.hold(key_contains="CopyComplete") as gate:
            gate.wait_held()
            (folder,) = (lab.log_dir / FOLDER).iterdir()
            nodes = [(result.node, bool(result.error)) for result in WorkFolder(folder).results().values()]
        result = end_of(process)

    assert sorted(nodes) == [("n1", True), ("n2", False), ("n2", False)], "a second array"
    assert result.code == 0, result.err
    is_all_done(lab, wide_run, server, slurm)


def test_a_node_where_the_program_cannot_start_is_avoided_and_named(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path
) -> None:
    """As if it were not installed there: its tasks end at once."""
    slurm.mount("n1", Path(sys.prefix))

    result = lab.run(*on_slurm(lab, wide_run, quick_aws("")))

    assert result.code == 0, result.err
    (line,) = (line for line in result.err.splitlines() if "could not start" in line)
    assert line.startswith("warning: s3sync could not start on node n1: ")
    assert "not found" in line
    assert list(broken_nodes.known(lab.log_dir)) == ["node n1"]
    is_all_done(lab, wide_run, server, slurm)


def test_nodes_with_full_disks_are_reported_and_nothing_is_lost(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, wide_run: Path
) -> None:
    for node in slurm.names:
        slurm.mount_tmp(node, _FULL)

    result = lab.run(*on_slurm(lab, wide_run, quick_aws("")))

    assert (result.code, result.out) == (1, "")
    assert "No space left on device (make room, or set TMPDIR)" in result.err.splitlines()[-1]
    for node in slurm.names:
        slurm.unmount_tmp(node)
    again = lab.run(*on_slurm(lab, wide_run, quick_aws("")))
    assert again.code == 0, again.err
    is_all_done(lab, wide_run, server, slurm)


def test_a_last_job_whose_node_dies_begins_again_on_another(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, tiny_run: Path, record_property: Record
) -> None:
    with lab.start(*on_slurm(lab, tiny_run, quick_aws(""))) as process:
        with server.hold(key_contains="CopyComplete") as gate:
            gate.wait_held()
            (job,) = slurm.squeue()
            slurm.kill_node(job.node)
            killed = time.monotonic()
        slurm.wait_until(lambda: [queued.state for queued in slurm.squeue()] == ["RUNNING"])
        record_property("figures", {"most s": round(time.monotonic() - killed)})
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, slurm, gone=job.node)


def test_the_monitor_submits_at_one_scan_and_collects_at_another(
    lab: Lab, server: S3Server, slurm: SlurmCluster, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Two runs are on the cluster at once, though a scan uploads one after the other."""
    other = tiny_run.with_name(tiny_run.name.replace("_0007_", "_0008_"))
    other.mkdir()
    for path in tiny_run.rglob("*"):
        target = other / path.relative_to(tiny_run)
        target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
    (other / "RunInfo.xml").write_text((tiny_run / "RunInfo.xml").read_text().replace(tiny_run.name, other.name))
    config = lab.config_for(tiny_run, {"executor": "slurm"}, aws_command=quick_aws(""))
    with data_of(server) as gate:
        assert lab.run("monitor", "--config", config).code == 0
        gate.wait_held(2)
        assert lab.run("monitor", "--config", config).code == 0
        assert len(slurm.squeue()) == 4
    slurm.wait_until(lambda: slurm.squeue() == [])

    result = lab.run("monitor", "--config", config)

    assert result.code == 0, result.err
    assert [lab.log(run)["completed"] for run in (tiny_run, other)] == [True, True]
    assert set(puts(server).values()) == {1}
    assert len(server.objects(BUCKET)) == 8
    assert list((lab.log_dir / FOLDER).glob("*")) == []
