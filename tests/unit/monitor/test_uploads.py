"""What goes wrong with one run becomes a problem, and does not stop the others."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from s3sync.aws.destination import Destination
from s3sync.config import Config
from s3sync.errors import (
    AwsError,
    BusyError,
    ConfigError,
    DeniedError,
    RunError,
    S3SyncError,
    SlurmError,
    StoppedError,
)
from s3sync.inventory import RunStatus
from s3sync.monitor.context import ScanContext
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_result import ScanResult, one_line
from s3sync.monitor.uploads import for_each
from s3sync.runs import LocalFile, Run
from s3sync.signals import StopRequest
from s3sync.state import Proof, RunState
from s3sync.transfer.request.upload_request import ProofTotals, UploadResult
from s3sync.transfer.selection import UploadSelection


@dataclass(frozen=True)
class Entry:
    bucket: str
    cluster: str = ""


@dataclass(frozen=True)
class FakeRun:
    key: str
    entry: Entry


def run_in(bucket: str, name: str, cluster: str = "") -> RunStatus:
    return cast(RunStatus, FakeRun(f"{name} to s3://{bucket}/{name}/", Entry(bucket, cluster)))


A, B, C = run_in("one", "A"), run_in("one", "B"), run_in("two", "C", "slurm")
D = run_in("two", "D", "slurm")


def scan(work: Callable[[RunStatus], None], *runs: RunStatus) -> tuple[ScanResult, list[str]]:
    """Returns the result, and the runs that work was done for."""
    done: list[str] = []
    context = ScanContext(config=cast(Config, None), environ={}, stop=StopRequest(), make_display=cast(Any, None))

    def noted(_context: ScanContext, _result: ScanResult, run: RunStatus) -> None:
        done.append(run.key[0])
        work(run)

    result = ScanResult()
    for_each(context, result, runs, noted)
    return result, done


def raising(error: Exception) -> Callable[[RunStatus], None]:
    def work(run: RunStatus) -> None:
        if run.key[0] in "AC":
            raise error

    return work


@pytest.mark.parametrize(
    ("error", "key", "kind", "done"),
    [
        (RunError("no RunInfo.xml", id="run.no-run-info"), A.key, "run", "ABCD"),
        (DeniedError("S3 rejects every file", id="s3.access-denied"), A.key, "run", "ABCD"),
        (AwsError("no such bucket", id="s3.no-bucket"), "s3://one", "aws", "AC"),
        (SlurmError("no answer", id="slurm.no-answer"), "Slurm", "other", "AB"),
        (ConfigError("no such partition", id="config.no-partition"), "Slurm", "other", "AB"),
    ],
)
def test_an_error_is_a_problem(error: S3SyncError, key: str, kind: str, done: str) -> None:
    """A bucket that cannot be reached is not tried again, neither is Slurm; all others are."""
    clustered = [A, B, C, D] if kind == "other" else [A, B, run_in("two", "C"), run_in("two", "D")]
    result, tried = scan(raising(error), *clustered)
    first = result.problems[0]
    assert (first.key, first.kind, first.id, first.text) == (key, kind, error.id, str(error))
    assert "".join(tried) == done
    assert result.is_misconfigured == isinstance(error, ConfigError)
    assert not result.ok


def test_a_bug_is_a_problem_with_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    result, tried = scan(raising(KeyError("a\nb")), A, B)
    (problem,) = result.problems
    assert (problem.key, problem.kind, problem.id) == (A.key, "run", "internal.unexpected-error")
    assert "\n" not in problem.text
    assert tried == ["A", "B"]
    assert caplog.records[0].exc_info


@pytest.mark.parametrize(
    ("error", "id_"),
    [
        (MemoryError(), "internal.out-of-memory"),
        (RuntimeError("can't start new thread"), "internal.too-many-processes"),
        (OSError(errno.EMFILE, "Too many open files"), "internal.too-many-files"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "internal.no-space"),
    ],
)
def test_an_error_of_the_machine_is_not_a_bug(error: Exception, id_: str) -> None:
    result, tried = scan(raising(error), A, B)
    (problem,) = result.problems
    assert (problem.key, problem.kind, problem.id, tried) == (A.key, "run", id_, ["A", "B"])
    assert "report it" not in problem.text


def test_a_run_that_another_process_uploads_is_not_a_problem() -> None:
    result, _ = scan(raising(BusyError("in use", id="lock.busy")), A, B)
    assert (result.problems, result.uploading_elsewhere, result.ok) == ([], {A.key}, True)


def test_a_stop_ends_the_scan() -> None:
    with pytest.raises(StoppedError):
        scan(raising(StoppedError("interrupted", id="run.interrupted")), A, B)


def test_a_run_is_replaced_by_its_new_status_even_beside_an_equal_one() -> None:
    twin = run_in("one", "A")
    assert twin == A
    result = ScanResult(runs=[A, twin])
    result.replace(twin, B)
    assert result.runs == [A, B]


def test_a_problem_of_two_runs_stays_until_both_are_tried_again() -> None:
    result = ScanResult()
    for run in (A, B):
        result.add_problem(run, Problem("s3://one", f"no answer about {run.key}", "aws", id="s3.no-answer"))
    assert len(result.problems) == 1
    result.forget_problems(A)
    assert [problem.key for problem in result.problems] == ["s3://one"]
    result.replace_found([A, B], [])
    assert [problem.key for problem in result.problems] == ["s3://one"]
    result.forget_problems(B)
    assert result.ok


def test_a_problem_of_the_config_that_was_fixed_meanwhile_is_forgotten() -> None:
    result, _ = scan(raising(ConfigError("no Slurm here", id="slurm.not-installed")), C, D)
    assert result.is_misconfigured
    result.forget_problems(C)
    assert (result.is_misconfigured, result.ok) == (False, True)


def test_a_run_that_was_uploaded_elsewhere_and_then_here_is_checked() -> None:
    result = ScanResult(runs=[A], uploading_elsewhere={A.key})
    outcome = outcome_of(LocalFile("a", 5, 1))
    result.add_upload(A, outcome)
    assert result.update().checked_keys == frozenset({A.key})
    assert result.uploads[A.key].state.verified == {}
    assert result.uploads[A.key].verified == outcome.verified == ProofTotals(1, 5, frozenset({"etag"}))
    assert one_line(result.uploads[A.key]) == one_line(outcome)


def outcome_of(*files: LocalFile) -> UploadResult:
    verified = {file.path: Proof.of(file, "d41d8cd98f00b204e9800998ecf8427e", "etag") for file in files}
    return UploadResult(
        run=cast(Run, None),
        destination=Destination("one", ""),
        log_path=Path("/log"),
        state=RunState(run_id="A", run_path="/A", verified=verified, total_local_files=len(files)),
        selection=UploadSelection(files=files, rejected=(), excluded=0, warnings=()),
    )


def test_what_was_wrong_with_a_bucket_that_the_edited_config_does_not_name_is_forgotten() -> None:
    result = ScanResult(runs=[A, B])
    misspelt = Problem("s3://one", "no such bucket", "aws", id="aws.no-bucket")
    of_restore = Problem("restore of X to /data/X", "not restored", "other", id="restore.failed")
    for run in (A, B):
        result.add_problem(run, misspelt)
    result.replace_problems(of_restore.key, [of_restore])
    result.replace_found([B, C], [])
    assert result.problems == [misspelt, of_restore]
    result.replace_found([C], [])
    assert result.problems == [of_restore]
