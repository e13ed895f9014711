"""Runs over the nodes of a cluster, with a double of Slurm for exact faults and one of the CLI for quick starts."""

from __future__ import annotations

import contextlib
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import s3sync
from s3sync.aws.destination import Destination
from s3sync.runs.run_folder import open_run
from s3sync.slurm import work_folder
from s3sync.slurm.work_folder import FOLDER
from s3sync.state.store import StateStore
from tests.helpers.analyses import log_of, make_analysis
from tests.helpers.analyses import make_run as make_run_with_analyses
from tests.helpers.clusters import end_of, is_all_done, on_slurm, puts, wait_for_line, work_folders
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, WIDE_FILES, FakeAws, Lab, argv_of, modes_below
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.slurm_double import NO_CONTROLLER, Answer, SlurmDouble, Task, slurm_double


@pytest.fixture
def cluster(lab: Lab, quick_aws: FakeAws) -> Iterator[SlurmDouble]:
    """Two nodes, to which `lab` submits; each has a CLI that starts quickly."""
    with slurm_double(lab.tmp) as slurm:
        lab.env.update(slurm.env)
        yield slurm


def facts(log: dict[str, Any], *volatile: str) -> dict[str, Any]:
    """The facts of a log, without times and durations."""
    left_out = {"started", "finished", "first_completed", "seconds", "aws", *volatile}
    return {key: value for key, value in log.items() if key not in left_out}


# How it goes


def test_two_nodes_leave_what_one_machine_leaves(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path, tmp_path: Path
) -> None:
    """Each sends a shard; the markers go last; the log is that of an upload from here. Meanwhile other users can read
    nothing, and no file holds a secret.
    """
    server.create_bucket("from-here")
    argv = on_slurm(lab, wide_run, quick_aws(""), "--json")
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held(2)
        assert {task.node for task in cluster.running()} == {"n1", "n2"}
        (folder,) = work_folders(lab)
        there = modes_below(folder)
        assert {stat.S_IMODE(mode) for mode in there.values() if stat.S_ISDIR(mode)} == {0o700}
        files = {path: mode for path, mode in there.items() if stat.S_ISREG(mode)}
        ours = [mode for path, mode in files.items() if path.parent.name != "out"]  # those are Slurm's
        assert {stat.S_IMODE(mode) for mode in ours} == {0o600}
        secret = lab.env["AWS_SECRET_ACCESS_KEY"]
        for path in files:
            with contextlib.suppress(FileNotFoundError):  # tasks replace their files all the time
                assert secret.encode() not in path.read_bytes(), path
        assert not [argv for argv in cluster.submitted if secret in str(argv)]
        started = psutil.Process().children(recursive=True)
        assert not [p for p in started if secret in str(argv_of(p))]
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    report = result.json
    assert (report["completed"], report["total_uploaded_files"], report["sent_files"]) == (
        True,
        WIDE_FILES + 4,
        WIDE_FILES + 4,
    )
    is_all_done(lab, wide_run, server, cluster)
    order = [r.key for r in server.requests if r.operation == "PutObject"]
    assert order[-1] == f"{wide_run.name}/CopyComplete.txt"
    (array,) = cluster.arrays()
    assert [task.starts != [] for task in cluster.tasks if task.job == array] == [True, True]
    (tmp_path / "other").mkdir()
    other = Lab(tmp_path / "other", server.url)
    argv = other.upload_argv(wide_run, "--aws_command", quick_aws(""), "--executor", "local", bucket="from-here")
    assert other.run(*argv).code == 0
    assert facts(lab.log(wide_run), "bucket") == facts(other.log(wide_run), "bucket")
    here = {key: item.body for key, item in server.objects("from-here").items()}
    assert {key: item.body for key, item in server.objects(BUCKET).items()} == here


_REMEMBER = """
with open({said!r}, "a") as said:
    limit = [line for line in open(os.environ["AWS_CONFIG_FILE"]) if "max_bandwidth" in line]
    print([os.environ.get("SLURMD_NODENAME", "here"), argv, limit], file=said)
"""


def test_what_is_requested_reaches_the_nodes(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path, tmp_path: Path
) -> None:
    """A limit is shared by the nodes; the user's command is run once, and here."""
    (wide_run / "Data" / "left-out.tmp").write_text("no")
    said, ran = tmp_path / "said", tmp_path / "ran"
    (tmp_path / "hook").write_text(f'#!/bin/sh\necho "${{SLURMD_NODENAME:-here}} $S3SYNC_FILES" >> {ran}\n')
    (tmp_path / "hook").chmod(0o755)
    more = ["--storage_class", "STANDARD_IA", "--sse", "AES256", "--expected_bucket_owner", "123456789012"]
    more += ["--max_bandwidth", "900MB/s", "--verify", "size", "--exclude_patterns", r"\.tmp$", "--completion_object"]
    aws = quick_aws(_REMEMBER.format(said=str(said)))

    arguments = on_slurm(lab, Path(wide_run.name), aws, *more, "--on_complete", str(tmp_path / "hook"))
    result = lab.run(*arguments, cwd=wide_run.parent)  # the nodes get absolute paths

    assert result.code == 0, result.err
    assert ran.read_text() == f"here {WIDE_FILES + 4}\n"
    asked: list[tuple[str, list[str], list[str]]] = [eval(line) for line in said.read_text().splitlines()]
    sent = [(node, argv, limit) for node, argv, limit in asked if "cp" in argv]
    assert {node for node, *_ in sent} == {"n1", "n2"}
    assert all({"--storage-class=STANDARD_IA", "--sse=AES256"} <= set(argv) for _, argv, _ in sent)
    assert all("--expected-bucket-owner=123456789012" in argv for _, argv, _ in asked if "s3api" in argv)
    of_all, of_a_node = ("\tmax_bandwidth = 878906KB/s\n",), ("\tmax_bandwidth = 439453KB/s\n",)
    assert {(node, *limit) for node, _, limit in sent} == {("n1", *of_a_node), ("n2", *of_a_node), ("n1", *of_all)}
    log = lab.log(wide_run)
    assert (log["completed"], log["verified_by"], log["on_complete"]) == (True, "size", "done")
    assert log["completion_object"]
    keys = [r.key.partition("/")[2] for r in server.requests if r.operation == "PutObject"]
    assert keys[-2:] == ["CopyComplete.txt", "s3sync.complete.json"]
    assert "Data/left-out.tmp" not in keys


# Who asks for it


def test_the_same_command_follows_jobs_that_an_earlier_one_left_running(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """The follower was asked to end; an upload from here must wait, and says what for."""
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as first, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        first.send_signal(signal.SIGTERM)
        left = end_of(first)
        assert (left.code, left.out, left.error_ids) == (143, "", ["slurm.interrupted"])
        assert ("SIGTERM" in left.err, "jobs continue (squeue --name=s3sync-" in left.err) == (True, True), left.err
        assert len(cluster.running()) == 1
        busy = lab.upload(tiny_run, "--aws_command", quick_aws(""))
        assert (busy.code, busy.out, busy.error_ids) == (75, "", ["slurm.jobs-running"])
        assert ": 1 task running, 1 waiting (Resources) (" in busy.err
        nowhere = lab.upload(tiny_run, "--aws_command", quick_aws(""), env={"PATH": str(lab.home)})
        assert (nowhere.code, nowhere.out) == (75, "")
        assert "[slurm.other-host]" in nowhere.err
        with lab.start(*argv) as second:
            wait_for_line(second, "on Slurm")
            gate.release()
            result = end_of(second)

    assert result.code == 0, result.err
    assert result.out.startswith(f"uploaded: {tiny_run.name}\n")
    assert len(cluster.submitted) == 2, "an array and the last job"
    is_all_done(lab, tiny_run, server, cluster)


def test_jobs_finish_without_a_follower(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path, tmp_path: Path
) -> None:
    """After a kill, the next call finds the run completed, reports it, and runs the user's command: nothing else is
    left.
    """
    (tmp_path / "hook").write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\n")
    (tmp_path / "hook").chmod(0o755)
    argv = on_slurm(lab, tiny_run, quick_aws(""), "--on_complete", str(tmp_path / "hook"))
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        process.kill()
        process.communicate()
        gate.release()
        cluster.wait_for_the_end()
    assert (lab.log(tiny_run)["completed"], lab.log(tiny_run)["on_complete"]) == (True, "pending")
    assert not (tmp_path / "ran").exists()

    result = lab.run(*argv)

    assert result.code == 0, result.err
    assert result.out.startswith(f"nothing to send: {tiny_run.name} was completed ")
    assert (tmp_path / "ran").read_text() == "ran\n"
    is_all_done(lab, tiny_run, server, cluster)


def test_after_a_kill_between_both_submissions_the_next_call_submits_the_finalizer_job(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with server.hold(key_contains="/Data/") as gate:
        with lab.start(*argv) as process:
            cluster.answers["sbatch"] = [None, lambda: killed(process)]
            process.communicate()
        gate.wait_held()
        assert len(cluster.submitted) == 1
        with lab.start(*argv) as process:
            cluster.wait_until(lambda: len(cluster.submitted) == 2)
            gate.release()
            result = end_of(process)

    assert result.code == 0, result.err
    assert len(cluster.submitted) == 2
    is_all_done(lab, tiny_run, server, cluster)


def killed(process: subprocess.Popen[str]) -> Answer:
    """The answer of a command whose caller is gone."""
    process.kill()
    return Answer(1)


def test_ctrl_c_cancels_the_jobs_and_keeps_what_is_verified(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    """The same command, or an upload from here, sends the rest alone."""
    with (
        lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process,
        server.hold(key_contains="/Data/", after=500) as gate,
    ):
        gate.wait_held(2)
        process.send_signal(signal.SIGINT)
        gate.release()
        result = end_of(process)

    assert (result.code, result.out, result.error_ids) == (130, "", ["slurm.interrupted"])
    assert ("SIGINT" in result.err, "jobs cancelled, " in result.err) == (True, True), result.err
    assert not any(task.lives for task in cluster.tasks)
    assert work_folders(lab) == []
    stored = set(server.objects(BUCKET))
    assert 500 <= len(stored) < WIDE_FILES
    again = lab.upload(wide_run, "--aws_command", quick_aws(""), "--json")
    assert again.code == 0, again.err
    is_all_done(lab, wide_run, server, cluster)


def test_a_cancelled_finalizer_job_is_not_submitted_again(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """After `scancel` of all jobs by name, the waiting one ends first, and the running ones half a minute later."""
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        (last,) = (task for task in cluster.tasks if task.number is None)
        cluster.ask("scancel", [last.id], {})
        cluster.answers["squeue"] = [None, None]
        cluster.wait_until(lambda: cluster.answers["squeue"] == [])  # it was looked at since
        gate.release()
        result = end_of(process)

    assert (result.code, result.out) == (1, "")
    assert "[slurm.jobs-ended]" in result.err
    assert len(cluster.submitted) == 2
    assert lab.run(*argv).code == 0
    is_all_done(lab, tiny_run, server, cluster)


def test_two_calls_that_follow_the_same_jobs_both_end(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as first, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        with lab.start(*argv) as second:
            wait_for_line(second, "on Slurm")
            gate.release()
            ends = [end_of(first), end_of(second)]

    assert [end.code for end in ends] == [0, 0], ends
    assert len(cluster.submitted) == 2
    is_all_done(lab, tiny_run, server, cluster)


# What Slurm does


def test_a_missing_slurm_is_reported(lab: Lab, tiny_run: Path, tmp_path: Path) -> None:
    result = lab.upload(tiny_run, "--executor", "slurm", env={"PATH": str(tmp_path)})

    assert (result.code, result.out, result.error_ids) == (78, "", ["slurm.not-installed"])
    assert "sbatch, squeue, scancel, sinfo" in result.err
    assert result.err.count("\n") == 1


def test_what_slurm_refuses_is_one_line_and_the_run_stays_due(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    no = Answer(1, "", "sbatch: error: invalid partition specified: x\nsbatch: error: Batch job submission failed\n")
    cluster.answers["sbatch"] = [no]

    result = lab.run(*on_slurm(lab, tiny_run, quick_aws("")))

    said = "invalid partition specified: x / sbatch: error: Batch job submission failed"
    last = result.err.splitlines()[-1]
    assert (result.code, result.out, error_ids(last)) == (1, "", ["slurm.failed"])
    assert f"sbatch: error: {said}" in last
    assert work_folders(lab) == []
    log = lab.log(tiny_run)
    assert (log["completed"], log["failed_upload_files"]) == (False, [])
    assert lab.run(*on_slurm(lab, tiny_run, quick_aws(""))).code == 0


def test_after_a_failed_submission_no_jobs_are_reported(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Slurm cannot be asked which jobs it accepted, so the work folder stays; the next scan asks and submits."""
    config = lab.config_for(tiny_run, {"executor": "slurm"}, aws_command=quick_aws(""))
    cluster.answers = {name: [Answer(1, "", NO_CONTROLLER)] * 9 for name in ("sbatch", "squeue")}

    failed = lab.run("monitor", "--config", config)

    assert (failed.code, "Unable to contact slurm controller" in failed.err) == (1, True), failed.err
    assert len(work_folders(lab)) == 1
    (run,) = lab.run("status", "--config", config, "--json").json["runs"]
    says = "on Slurm: unknown whether it has accepted the jobs (the next scan asks Slurm, and tries again)"
    assert (run["state"], run["reason"]) == ("partial", says)
    assert "handed over" not in lab.run(*on_slurm(lab, tiny_run, quick_aws("")), "--dry_run").err
    cluster.answers = {}
    again = lab.run("monitor", "--config", config)
    assert (again.code, len(cluster.submitted)) == (0, 2), again.err
    cluster.wait_for_the_end()
    assert lab.run("monitor", "--config", config).code == 0
    is_all_done(lab, tiny_run, server, cluster)


def test_a_job_that_slurm_accepted_counts_regardless_of_sbatch(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """And a controller that is away for a while costs nothing."""

    def mumble() -> Answer:
        cluster.answers["sbatch"] = []
        argv, environ = asked.pop()
        cluster.sbatch(argv, environ)
        return Answer(0, "Submitted, probably\n")

    asked: list[Any] = []
    usual = cluster.ask

    def listen(name: str, argv: list[str], environ: Any) -> Answer:
        asked.append((argv, environ))
        return usual(name, argv, environ)

    cluster.ask = listen  # type: ignore[method-assign]
    cluster.answers = {"sbatch": [mumble]}
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        cluster.answers["squeue"] = [Answer(1, "", NO_CONTROLLER)] * 2
        cluster.wait_until(lambda: cluster.answers["squeue"] == [] and len(cluster.submitted) == 2)
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    assert result.err.count("Unable to contact slurm controller (connect failure); waiting for it") == 1
    is_all_done(lab, tiny_run, server, cluster)


def test_a_requeued_task_continues_where_it_was(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    """Once after SIGTERM, as with preemption, and once after its machine was lost."""
    with (
        lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process,
        server.hold(key_contains="/Data/", after=500) as gate,
    ):
        gate.wait_held(2)
        first, second = cluster.running()
        lost = second.node
        cluster.requeue(first, node="n3", ended=signal.SIGTERM)
        cluster.requeue(second, node="n4", ended=signal.SIGKILL)
        before = set(server.objects(BUCKET))
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    assert len(cluster.arrays()) == 1
    sent = puts(server)
    assert {key for key in before if sent[key] > 1} == set()
    is_all_done(lab, wide_run, server, cluster, {key for key in sent if key not in before}, gone=lost)


def test_a_task_on_a_node_that_slurm_has_given_up_is_waited_for(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Its twin sends nothing, neither meanwhile nor afterwards."""
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        (task,) = cluster.running()
        cluster.requeue(task, node="n2", ended=None)
        cluster.wait_until(lambda: len(cluster.running()) == 1)
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    assert len(task.starts) == 2
    is_all_done(lab, tiny_run, server, cluster)


def test_what_a_killed_task_leaves_goes_to_a_second_array(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    with (
        lab.start(*on_slurm(lab, wide_run, quick_aws(""))) as process,
        server.hold(key_contains="/Data/", after=20) as gate,
    ):
        gate.wait_held(2)
        stored = set(server.objects(BUCKET))
        cluster.kill(cluster.running()[0])
        gate.release()
        result = end_of(process)

    assert result.code == 0, result.err
    assert len(cluster.arrays()) == 2
    is_all_done(lab, wide_run, server, cluster, {key for key in puts(server) if key not in stored})


def test_a_cli_that_outlives_its_task_is_waited_for(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Slurm may not know it, since its parent has ended: the task that is begun again sends nothing meanwhile."""
    argv = on_slurm(lab, tiny_run, quick_aws(""))
    with lab.start(*argv) as process, server.hold(key_contains="/Data/") as gate:
        gate.wait_held()
        (task,) = cluster.running()
        (cli,) = [child for child in task.starts[0].children(recursive=True) if "cp" in argv_of(child)]
        cluster.requeue(task, node="n2", ended=None)
        task.starts[0].kill()
        wait_until_it_polls(cluster, lab, task.starts[1])
        gate.release()
        psutil.wait_procs([cli], timeout=120)
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, cluster, gone="n1")


def wait_until_it_polls(cluster: SlurmDouble, lab: Lab, second: psutil.Process) -> None:
    """Wait until the second start of a task polls for its lock."""
    (folder,) = work_folders(lab)
    cluster.wait_until(lambda: any(path.name.endswith(".1") for path in folder.rglob("ran.*")))
    before = second.num_ctx_switches().voluntary
    cluster.wait_until(lambda: second.num_ctx_switches().voluntary >= before + 20)


_FAILS_ON = """
if os.environ.get("SLURMD_NODENAME") in {nodes!r} and "--version" not in argv:
    print("An error occurred (ExpiredToken) when calling the ListObjectsV2 operation: it is old", file=sys.stderr)
    sys.exit(254)
"""


def test_a_node_that_cannot_work_is_avoided_by_the_jobs_that_come_after(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    """The second array and the finalizer job run elsewhere, but not on nodes that the user excluded."""
    cluster.open("n0", "n1", "n2")
    aws = quick_aws(_FAILS_ON.format(nodes=("n1",)))

    result = lab.run(*on_slurm(lab, wide_run, aws, "--sbatch_options", "-x n0"))

    assert result.code == 0, result.err
    assert exclusions(cluster) == ["", "", "n0,n1", "n0,n1"]
    is_all_done(lab, wide_run, server, cluster)


def exclusions(cluster: SlurmDouble) -> list[str]:
    """The nodes that each submitted job had to avoid."""
    return [Task(0, None, argv, {}).option("exclude") for argv in cluster.submitted]


def submit_and_pass_on(lab: Lab, cluster: SlurmDouble, config: str) -> None:
    """Two scans; the second one submits the finalizer job again, away from the node where it could not start."""
    cluster.open()
    assert lab.run("monitor", "--config", config).code == 0
    cluster.open("n1", "n2")
    cluster.wait_for_the_end()
    assert lab.run("monitor", "--config", config).code == 0
    cluster.wait_for_the_end()


@pytest.mark.parametrize("what", ["no program", "no shared folder"])
def test_a_node_where_the_program_cannot_start_is_avoided_and_reported_until_it_can(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path, tmp_path: Path, what: str
) -> None:
    """Its tasks end at once, and it gets the finalizer job next: that one is submitted elsewhere."""
    away = {"no program": sys.executable, "no shared folder": str(lab.log_dir)}[what]
    says = {"no program": "not found", "no shared folder": "its job wrote nothing to the log directory"}[what]
    cluster.replaced["n1"] = (away, str(tmp_path / "nowhere"))
    config = lab.config_for(wide_run, {"executor": "slurm", "slurm": {"nodes": 2}}, aws_command=quick_aws(""))
    watch = ("monitor", "--config", config)
    submit_and_pass_on(lab, cluster, config)

    last = lab.run(*watch)

    assert exclusions(cluster) == ["", "", "n1", "n1", "n1"], "array and last job, that one again, and both again"
    assert (last.code, lab.log(wide_run)["completed"]) == (1, True), last.err
    assert (set(last.error_ids), "node n1: " in last.err) == ({"slurm.broken-node"}, True), last.err
    assert says in last.err
    status = lab.run("status", "--config", config, "--json")
    assert (status.code, [found["key"] for found in status.json["troubles"]]) == (1, ["node n1"])
    again = lab.run(*watch, "--json")
    assert (again.code, [found["key"] for found in again.json["problems"]]) == (1, ["node n1"])
    is_all_done(lab, wide_run, server, cluster)

    cluster.replaced = {}
    (lab.log_path(wide_run)).unlink()
    lab.run(*watch)
    cluster.wait_for_the_end()
    assert "node n1" in lab.run(*watch).err, "it is known when the scan begins"
    assert lab.run(*watch).code == 0, "a task has run there"


def test_where_the_program_can_start_on_no_node_each_is_named(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path, tmp_path: Path
) -> None:
    """The finalizer job is tried once on each node."""
    for node in ("n1", "n2"):
        cluster.replaced[node] = (sys.executable, str(tmp_path / "nowhere"))
    config = lab.config_for(tiny_run, {"executor": "slurm"}, aws_command=quick_aws(""))
    submit_and_pass_on(lab, cluster, config)

    result = lab.run("monitor", "--config", config, "--json")

    assert exclusions(cluster) == ["", "", "n1"]
    assert (result.code, work_folders(lab)) == (1, [])
    problems = {found["key"].partition(" to ")[0]: found["id"] for found in result.json["problems"]}
    node = "slurm.broken-node"
    assert problems == {tiny_run.name: "slurm.nodes-broken", "node n1": node, "node n2": node}
    assert list(problems) == [tiny_run.name, "node n1", "node n2"]
    (line,) = (line for line in result.err.splitlines() if error_ids(line) == ["slurm.nodes-broken"])
    assert (" node n1: " in line, " node n2: " in line) == (True, True), line


def test_that_no_node_can_work_is_reported_once(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, wide_run: Path
) -> None:
    """As when the credentials have expired while the jobs waited. No second array is tried."""
    result = lab.run(*on_slurm(lab, wide_run, quick_aws(_FAILS_ON.format(nodes=("n1", "n2")))))

    assert (result.code, result.out) == (1, "")
    last = result.err.splitlines()[-1]
    assert (error_ids(last), "expired" in last) == (["aws.expired-credentials"], True)
    assert result.err.count("have expired") == 1, result.err
    assert len(cluster.arrays()) == 1
    assert lab.log(wide_run)["completed"] is False
    assert work_folders(lab) == []


def test_another_version_on_a_node_is_an_error_and_sends_nothing(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path, tmp_path: Path
) -> None:
    ours = Path(s3sync.__file__).parent
    other = tmp_path / "other" / "s3sync"
    shutil.copytree(ours, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "__init__.py").write_text('__version__ = "0.0.1"\n')
    cluster.node_env = {"n1": {"PYTHONPATH": str(other.parent)}}
    cluster.open("n1")

    result = lab.run(*on_slurm(lab, tiny_run, quick_aws("")))

    assert (result.code, result.out) == (1, "")
    said = result.err.splitlines()[-1]
    assert (error_ids(said), "n1 has s3sync 0.0.1 at " in said) == (["slurm.other-version"], True), said
    assert server.objects(BUCKET) == {}
    cluster.node_env = {}
    assert lab.run(*on_slurm(lab, tiny_run, quick_aws(""))).code == 0
    is_all_done(lab, tiny_run, server, cluster)


# What the disk does


def test_files_that_fail_on_a_node_are_sent_by_the_last_job_or_named(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """The marker waits for them."""
    server.add_fault(Fault("status", key_contains="first", status=500, code="InternalError", count=3))
    server.add_fault(Fault("status", key_contains="second", status=500, code="InternalError", count=6))

    result = lab.run(*on_slurm(lab, tiny_run, quick_aws("")))

    assert result.code == 1
    assert result.out.startswith(f"NOT completed: {tiny_run.name} [upload.not-completed]\n")
    log = lab.log(tiny_run)
    assert log["failed_upload_files"] == [str(tiny_run / "Data" / "second.cbcl")]
    assert {key.rpartition("/")[2] for key in server.objects(BUCKET)} == {"RunInfo.xml", "first.cbcl"}
    assert work_folders(lab) == []
    assert lab.run(*on_slurm(lab, tiny_run, quick_aws(""))).code == 0
    is_all_done(lab, tiny_run, server, cluster)


def test_what_changes_vanishes_or_comes_while_nodes_send_is_settled_by_the_last_job(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    (tiny_run / "Data" / "third.cbcl").write_text("gone soon")
    cluster.open()
    with lab.start(*on_slurm(lab, tiny_run, quick_aws(""))) as process:
        cluster.wait_until(lambda: len(cluster.submitted) == 2)
        (tiny_run / "Data" / "first.cbcl").write_text("another first file")
        (tiny_run / "Data" / "third.cbcl").unlink()
        (tiny_run / "Data" / "fourth.cbcl").write_text("late")
        cluster.open("n1", "n2")
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, cluster)


def test_an_analysis_is_checked_on_the_nodes_against_its_manifest(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tmp_path: Path
) -> None:
    """Damaged files are not sent; if the manifest changes meanwhile, the proofs based on it no longer count."""
    analysis = make_analysis(make_run_with_analyses(tmp_path / "instrument"))
    damaged = analysis / "Data" / "BCLConvert" / "fastq" / "a.fastq.gz"
    good = damaged.read_text()
    damaged.write_text("not as the instrument had it")

    result = lab.run(*on_slurm(lab, analysis, quick_aws("")))

    assert (result.code, "CRC-32 is" in result.out) == (1, True), result
    assert not any("a.fastq.gz" in key or "Complete" in key for key in server.objects(BUCKET))
    damaged.write_text(good)
    cluster.open()
    with lab.start(*on_slurm(lab, analysis, quick_aws(""))) as process:
        cluster.wait_until(lambda: len(cluster.submitted) == 4)
        manifest = analysis / "Manifest.tsv"
        manifest.write_text(manifest.read_text().replace("\n", "\r\n"))
        cluster.open("n1", "n2")
        result = end_of(process)
    log = log_of(lab, analysis)
    assert (result.code, log["completed"], log["manifest_files"]) == (0, True, 4), result
    assert work_folders(lab) == []


def test_a_work_folder_that_cannot_be_written_is_reported_before_anything_is_submitted(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    store = StateStore(lab.log_dir, open_run(tiny_run), Destination(BUCKET, ""))
    (lab.log_dir / FOLDER).mkdir(parents=True)
    work_folder.WorkFolder.of(lab.log_dir, store).path.write_text("in the way")

    result = lab.run(*on_slurm(lab, tiny_run, quick_aws("")))

    last = result.err.splitlines()[-1]
    assert (result.code, result.out, error_ids(last)) == (1, "", ["slurm.work-folder"])
    assert f" {lab.log_dir}/slurm/" in last
    assert cluster.submitted == []
    assert lab.log(tiny_run)["completed"] is False


def test_a_job_of_an_upload_that_is_over_does_nothing(
    lab: Lab, server: S3Server, cluster: SlurmDouble, quick_aws: FakeAws, tiny_run: Path
) -> None:
    """Slurm may start one again when its node is back: then its folder is another upload's."""
    cluster.open()
    with lab.start(*on_slurm(lab, tiny_run, quick_aws(""))) as process:
        cluster.wait_until(lambda: len(cluster.submitted) == 2)
        (folder,) = work_folders(lab)
        for number in ({}, {"SLURM_ARRAY_TASK_ID": "0"}):
            old = lab.run("task", str(folder), env={"SLURM_JOB_NAME": "s3sync-old", **number})
            assert (old.code, old.out) == (1, "")
            assert old.err.endswith(" [slurm.upload-over]\n")
        visible = [path for path in (folder / "results").iterdir() if not path.name.startswith(".")]
        assert visible == []  # the program itself writes hidden files there, which it renames
        cluster.open("n1", "n2")
        result = end_of(process)

    assert result.code == 0, result.err
    is_all_done(lab, tiny_run, server, cluster)
