"""What the jobs of a cluster are given, and what they leave: shards, and the work folder between all hosts."""

from __future__ import annotations

import os
import random
import re
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync.aws.destination import Destination
from s3sync.errors import StateError, UsageError
from s3sync.patterns import Pattern
from s3sync.runs.local_files import LocalFile
from s3sync.slurm import broken_nodes, job_status, shards
from s3sync.slurm.client import SlurmOptions, parse_options
from s3sync.slurm.job_spec import JobSpec, Result, spec_from_json, spec_to_json
from s3sync.slurm.start_marks import FailedStart
from s3sync.slurm.submission import script_of
from s3sync.slurm.work_folder import FINALIZER, WorkFolder
from s3sync.state.run_state import Proof
from s3sync.transfer.batches import FILE_COST, cost_of
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals, UploadCounters, UploadRequest
from s3sync.transfer.upload.handover import Handover
from tests.helpers.errors import raises_error
from tests.helpers.hostile_names import HOSTILE_NAMES

TO = Destination("lab-runs", "2026")
ANYTHING = st.binary(max_size=60) | st.sampled_from([b"", b"[]", b"{}", b"null", b'{"tally": 1}', b"[" * 9999])


def files_of(*sizes: int) -> list[LocalFile]:
    return [LocalFile(f"Data/{number:06}", size, 1) for number, size in enumerate(sizes)]


def spec_of(folder: Path) -> JobSpec:
    job = UploadRequest(local_path=folder / "run", destination=TO, log_dir=folder, cores=2, excludes=(Pattern("x$"),))
    nothing = FileTotals(0, 0)
    return JobSpec(
        name="s3sync-1",
        version="1",
        options=SlurmOptions(nodes=3, options=("-p", "a")),
        handover=Handover(
            request=job,
            submitted="2026-11-23T00:00:00+00:00",
            resumed=False,
            manifest=None,
            amount=FileTotals(3, 9),
            verified=nothing,
            sent=nothing,
            seconds=0.5,
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    made = WorkFolder(tmp_path / "slurm" / "RUN.12345678")
    made.create(spec_of(tmp_path), "#!/bin/sh\n")
    return made


# Shards


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=60), st.integers(1, 12), st.randoms())
def test_shards_have_each_file_once_in_ranges_of_keys_and_cost_the_same_but_for_a_file(
    sizes: list[int], number: int, chance: random.Random
) -> None:
    files = files_of(*sizes)

    cut = shards.make_shards(chance.sample(files, len(files)), number)

    assert [file for shard in cut for file in shard] == sorted(files)
    assert 1 <= len(cut) <= number
    assert all(cut)
    dearest = max(cost_of([file]) for file in files)
    assert max(cost_of(shard) for shard in cut) <= cost_of(files) / number + dearest + 1e-6


@pytest.mark.parametrize(
    ("files", "nodes", "number"),
    [(1, 4, 1), (900, 4, 1), (1001, 4, 2), (100_000, 4, 12), (1_000_000, 4, 16), (1_000_000, 1, 4)],
)
def test_a_node_gets_a_shard_if_that_is_worth_its_start_and_some_if_the_run_is_large(
    files: int, nodes: int, number: int
) -> None:
    size = round(files * FILE_COST / 3.5e-9)  # one file that costs as much
    assert shards.shard_count_for(files_of(size), nodes) == number


@given(st.integers(0, 10**15), st.integers(1, 100))
def test_there_is_always_a_shard_and_never_more_than_some_a_node(size: int, nodes: int) -> None:
    assert 1 <= shards.shard_count_for(files_of(size), nodes) <= max(nodes, nodes * shards.SHARDS_A_NODE)


# What sbatch is given


@pytest.mark.parametrize("options", ["--wrap=x", "--array 1-9", "-a1", "-J name", "--job-name=x", "--export=NONE", "'"])
def test_what_this_program_chooses_itself_is_refused(options: str) -> None:
    with pytest.raises(UsageError):
        parse_options(options)


@pytest.mark.parametrize("options", ["-x a", "-xa", "--exclude a", "--exclude=a", "--exclude=b --mem=1G -x a"])
def test_nodes_to_avoid_are_added_to_those_that_the_user_excludes(options: str) -> None:
    requested = SlurmOptions(options=parse_options(options))

    assert requested.sbatch_options()[1:] == requested.options
    assert requested.sbatch_options(["n1", "n2"])[-1] == "--exclude=a,n1,n2"
    assert SlurmOptions(options=("-p", "x")).sbatch_options(["n1"])[-1] == "--exclude=n1"


# The work folder


def test_an_upload_that_an_older_version_submitted_is_read(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    facts = spec_to_json(replace(spec, handover=replace(spec.handover, verified=FileTotals(2, 5))))
    facts["handover"]["proven"] = facts["handover"].pop("verified")
    assert spec_from_json(facts).handover.verified == FileTotals(2, 5)


def test_a_handover_survives_the_round_trip_with_any_names(folder: WorkFolder, tmp_path: Path) -> None:
    names = [*HOSTILE_NAMES, os.fsdecode(b"\xff\xfe")]
    files = [LocalFile(name, number, -number) for number, name in enumerate(names)]
    half = len(files) // 2

    assert folder.write_plan(1, [tuple(files[:half]), tuple(files[half:])]) == range(2)
    assert folder.write_plan(2, [tuple(files[:1])]) == range(2, 3)

    assert WorkFolder(folder.path).spec() == spec_of(tmp_path)
    assert [folder.shard(number) for number in range(3)] == [tuple(files[:half]), tuple(files[half:]), (files[0],)]
    with raises_error(StateError, "slurm.work-folder", "No such file"):
        folder.shard(3)
    assert (folder.array_count(), folder.shard_count()) == (2, 3)
    assert sorted(folder.all_files()) == sorted(files)
    proofs = [Proof.of(file, "etag", "etag") for file in files]
    with folder.journal(1, TO) as journal:
        journal.record(proofs)
    result = Result(
        node="n1",
        counters=UploadCounters(sent_files=2),
        failed=dict.fromkeys(HOSTILE_NAMES[:3], "why"),
        aws="aws",
        error="",
    )
    folder.write_result(1, result)
    assert folder.proofs(1, TO) == folder.proofs(None, TO) == proofs
    assert folder.results() == {1: result}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.rglob("*") if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.path.rglob("*") if path.is_dir()} == {0o700}
    folder.discard()
    assert (folder.exists(), folder.path.exists()) == (False, False)


def test_each_start_of_a_task_has_its_own_journal_and_a_torn_line_costs_that_line_alone(folder: WorkFolder) -> None:
    proofs = [Proof(path=f"Data/{number}", size=1, mtime_ns=1, etag="e", verified_by="etag") for number in range(4)]
    for start in (proofs[:2], proofs[2:]):
        with folder.journal(3, TO) as journal:
            journal.record(start)
    with folder.journal(4, Destination("another", "")) as journal:
        journal.record(proofs)
    for path in (folder.path / "journals").iterdir():
        path.write_bytes(path.read_bytes()[:-3])

    assert len(list((folder.path / "journals").iterdir())) == 3
    assert {proof.path for proof in folder.proofs(3, TO)} == {"Data/0", "Data/2"}
    assert folder.proofs(4, TO) == []


@given(ANYTHING)
@settings(max_examples=50, deadline=None)
def test_arbitrary_content_of_job_files_is_not_a_result_and_no_progress(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as where:
        folder = WorkFolder(Path(where) / "work")
        folder.create(spec_of(Path(where)), "")
        for kind in ("results", "progress"):
            for name in ("000000.json", "last.json", "garbage", "-1.json"):
                (folder.path / kind / name).write_bytes(content)

        assert (folder.result(0), folder.result(FINALIZER), folder.results()) == (None, None, {})
        assert (folder.progress(0), job_status.count_transfers(folder)) == (None, UploadCounters())


@given(ANYTHING)
@settings(max_examples=50, deadline=None)
def test_arbitrary_content_of_coordinator_files_is_an_error_that_says_what_to_do(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as where:
        folder = WorkFolder(Path(where) / "work")
        folder.create(spec_of(Path(where)), "")
        (folder.path / "job.json").write_bytes(content)

        with raises_error(StateError, "slurm.bad-work-folder", str(folder.path)):
            folder.spec()


def test_a_task_reads_only_its_own_plan_and_counting_reads_none(folder: WorkFolder) -> None:
    """With a million files, each look at the status would parse them all."""
    folder.write_plan(1, [(file,) for file in files_of(1, 2, 3)])
    for number in (0, 2):
        (folder.path / "plan" / f"{number:06}.jsonl").write_text("garbage")

    assert (folder.array_count(), folder.shard_count(), folder.shard(1)) == (1, 3, tuple(files_of(1, 2, 3)[1:2]))
    folder.mark_submitted()
    assert job_status.describe_progress(folder) == "0 of 3 files sent, 0 of 3 shards done (squeue --name=s3sync-1)"


def test_a_work_folder_of_an_older_version_is_refused_with_what_to_do(folder: WorkFolder) -> None:
    (folder.path / "plan-1.jsonl").write_text('[0, "Data/1", 1, 1]')

    with raises_error(StateError, "slurm.bad-work-folder", str(folder.path), "older version"):
        folder.shard_count()


def test_files_that_a_killed_start_of_a_task_has_sent_are_counted(folder: WorkFolder) -> None:
    """It has no result. What it found in S3 was not sent, and what another start says it has sent is counted once."""
    killed, ended = folder.start_name(0), folder.start_name(0)
    for start, numbers, found in ((killed, (0, 1), False), (killed, (2, 3), True), (ended, (4,), False)):
        with folder.journal(0, TO, start, found=found) as journal:
            journal.record(
                [Proof(path=f"Data/{number}", size=10, mtime_ns=1, etag="e", verified_by="etag") for number in numbers]
            )
    assert job_status.count_transfers(folder) == UploadCounters(sent_files=3, sent_size=30)

    folder.write_result(
        0, Result(node="n1", counters=UploadCounters(sent_files=1, sent_size=10, found_files=4), failed={}, start=ended)
    )

    assert job_status.count_transfers(folder) == UploadCounters(sent_files=3, sent_size=30, found_files=4)
    assert len(folder.proofs(0, TO)) == 5


def test_a_run_without_an_accepted_job_is_not_shown_on_slurm(folder: WorkFolder) -> None:
    folder.write_plan(1, [tuple(files_of(1))])
    assert not folder.is_submitted()
    assert (
        job_status.describe_progress(folder)
        == "unknown whether it has accepted the jobs (the next scan asks Slurm, and tries again)"
    )
    folder.lock_path(0).parent.mkdir()
    folder.lock_path(0).touch()
    assert folder.is_submitted(), "a task was started, whatever sbatch said"


def started(folder: WorkFolder, who: str, node: str, said: str) -> None:
    """A script that left its mark, and printed this."""
    (folder.path / "starts" / who).write_text(f"{node}\nout-{who}.txt\n")
    (folder.path / "out" / f"out-{who}.txt").write_text(said)


def test_nodes_on_which_the_program_did_not_start_are_known_by_what_they_printed(folder: WorkFolder) -> None:
    """Not those that Slurm took the job from meanwhile, nor one that lost power."""
    started(folder, "0.7.0", "n1", "job.sh: 8: exec: /opt/python: not found\n")
    started(folder, "1.8.0", "n2", "slurmstepd: error: *** JOB 8 ON n2 CANCELLED AT 2026-11-28T15:00:00 ***\n")
    started(folder, "2.9.0", "n3", "")
    started(folder, "3.10.1", "n4", "it runs\n")
    started(folder, "last.11.0", "n5\x1b[31m", "one\ntwo\nImportError: no rich\n")
    folder.starts.mark_started({"SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "10", "SLURM_RESTART_COUNT": "1"})
    (folder.path / "starts" / "garbage").write_bytes(b"\xff")

    assert [replace(start, time_ns=0) for start in folder.starts.failed_starts()] == [
        FailedStart(node="n1", output="job.sh: 8: exec: /opt/python: not found", is_finalizer=False),
        FailedStart(node="n5\\x1b[31m", output="two / ImportError: no rich", is_finalizer=True),
    ]


TOO_OLD = "#!/bin/sh\necho 'SyntaxError: invalid syntax' >&2\nexit 1\n"


@pytest.mark.parametrize(
    ("python", "code", "says"),
    [
        (None, 127, "not found"),
        ("not executable", 126, "Permission denied"),
        (TOO_OLD, 1, "SyntaxError: invalid syntax"),
        ("#!/bin/sh\necho \"ModuleNotFoundError: No module named 's3sync'\" >&2\nexit 1\n", 1, "No module named"),
        ("#!/nowhere/interpreter\n", 127, "not found"),
    ],
)
def test_a_script_that_cannot_start_the_program_names_its_node(
    folder: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str | None, code: int, says: str
) -> None:
    """In a folder whose name a shell would part."""
    other = WorkFolder(tmp_path / "a folder's $name" / "RUN.12345678")
    program = tmp_path / "a python"
    if python is not None:
        program.write_text(python)
        program.chmod(0o600 if python == "not executable" else 0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    other.create(spec_of(tmp_path), script_of(other))
    environ = {"PATH": "/usr/bin:/bin", "SLURMD_NODENAME": "n7", "SLURM_JOB_ID": "9"}
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "8", "SLURM_RESTART_COUNT": "1"}

    for more, name in (({}, "9.txt"), (array, "8_3.txt")):
        with (other.path / "out" / name).open("wb") as out:
            ended = subprocess.run(("sh", other.script), env={**environ, **more}, stderr=out, check=False)
        assert ended.returncode == code

    one, last = other.starts.failed_starts()
    assert (one.node, one.is_finalizer, last.node, last.is_finalizer) == ("n7", False, "n7", True)
    assert says in one.output
    assert list(job_status.find_broken_nodes(other)) == ["n7"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (other.path / "starts").iterdir()} == {0o600}
    for more in ({}, array):
        other.starts.mark_started({**environ, **more})
    assert other.starts.failed_starts() == []


def test_a_node_is_not_broken_once_a_job_has_run_there_since(folder: WorkFolder) -> None:
    started(folder, "0.7.0", "n1", "not found\n")
    os.utime(folder.path / "starts" / "0.7.0", ns=(10**9, 10**9))
    assert job_status.find_broken_nodes(folder) == {"n1": "not found"}
    folder.write_result(1, Result(node="n1", counters=UploadCounters(), failed={}))
    assert (job_status.find_broken_nodes(folder), job_status.find_working_nodes(folder)) == ({}, {"n1"})
    os.utime(folder.path / "results" / "000001.json", ns=(1, 1))
    assert job_status.find_broken_nodes(folder) == {"n1": "not found"}, "it ran there before"


def test_a_node_whose_job_left_nothing_is_known_from_slurm(folder: WorkFolder) -> None:
    """Not one of a task that has begun, or has left its mark."""
    folder.lock_path(1).parent.mkdir()
    folder.lock_path(1).touch()
    started(folder, "2.9.0", "n3", "")
    started(folder, "3.10.0", "n5", "it ran, and was killed")
    folder.starts.mark_started({"SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "10"})
    for _ in range(2):
        folder.starts.mark_silent_nodes(
            [(0, "n1"), (1, "n2"), (2, "n3"), (3, "n5"), (None, "n4"), (5, "")], folder.started_shards()
        )
    assert [(start.node, start.is_finalizer) for start in folder.starts.failed_starts()] == [
        ("n1", False),
        ("n4", True),
    ]
    assert "is it shared, and can this user write there?" in job_status.find_broken_nodes(folder)["n1"]


def test_broken_nodes_are_remembered_until_a_job_has_run_there(tmp_path: Path) -> None:
    hostile = "../n2\x1b"
    broken_nodes.remember(tmp_path, {"n1": "not found", hostile: "why"}, ["n3"])
    first = broken_nodes.known(tmp_path)
    assert list(first) == ["node ../n2\\x1b", "node n1"]
    assert re.fullmatch(
        r"s3sync has not been able to start there since 2\S+: not found \(install it there .*\)", first["node n1"]
    )
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "broken-nodes"] * 2

    broken_nodes.remember(tmp_path, {"n1": "something else"}, ["n1", hostile])

    assert broken_nodes.known(tmp_path) == {"node n1": first["node n1"]}, "broken counts more, and since when it is"
    (tmp_path / "broken-nodes" / "n1.json").write_text("garbage")
    assert "cannot read its record" in broken_nodes.known(tmp_path)["node n1"]
    broken_nodes.remember(tmp_path, {}, ["n1"])
    assert broken_nodes.known(tmp_path) == {}


def test_progress_is_what_was_said_last(folder: WorkFolder) -> None:
    for files in (1, 2):
        folder.write_progress(
            0, Snapshot(activity="uploading", files=files, files_total=3, size=files * 10, size_total=30, processes=2)
        )
    folder.write_progress(
        FINALIZER, Snapshot(activity="checking", files=3, files_total=3, size=30, size_total=30, processes=0)
    )

    assert folder.progress(0) == Snapshot(
        activity="uploading", files=2, files_total=3, size=20, size_total=30, processes=2
    )
    assert folder.progress(FINALIZER) == Snapshot(
        activity="checking", files=3, files_total=3, size=30, size_total=30, processes=0
    )


def test_results_of_tasks_and_last_job_are_counted_together_but_for_their_seconds(folder: WorkFolder) -> None:
    for who, sent in ((0, 5), (1, 7), (FINALIZER, 1)):
        folder.write_result(
            who,
            Result(
                node="n1",
                counters=UploadCounters(sent_files=sent, sent_size=10 * sent, aws_processes=1, seconds=9),
                failed={},
            ),
        )

    assert job_status.count_transfers(folder) == UploadCounters(sent_files=13, sent_size=130, aws_processes=3)
