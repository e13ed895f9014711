"""What ends a whole call, and what fails only a file: one line says it, nothing is lost or sent needlessly."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync.aws import argv, client
from s3sync.aws.causes import NO_RESPONSE, Cause
from s3sync.aws.client import AwsCli
from s3sync.aws.destination import BucketRef
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.launcher import Launcher
from s3sync.runs import local_files, run_folder
from s3sync.runs.local_files import LocalFile
from s3sync.signals import StopRequest
from s3sync.text import list_by_reason
from s3sync.transfer import batch_sender
from s3sync.transfer.batch_sender import BatchResult
from s3sync.transfer.batches import FILE_COST, Batch, BatchQueue
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.file_verifier import PassResult
from s3sync.transfer.pipeline import Pipeline
from s3sync.transfer.sharing import BatchPace
from tests.helpers.contexts import context_of
from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.promise import is_verified, next_scan_completes
from tests.helpers.s3server import Fault, S3Server


@pytest.fixture
def quick_lab(lab: Lab, quick_aws: FakeAws) -> Lab:
    """One that waits for nothing; each `upload` in it is given the quick double."""
    quick_aws("")
    return lab


def upload(lab: Lab, run: Path, *options: str) -> Result:
    aws = str(lab.root / "quick" / "aws")
    return lab.upload(run, "--cores", "1", "--max_processes", "1", "--aws_command", aws, *options)


def with_files(run: Path, folder: str, count: int) -> list[str]:
    """More files of data; gives their paths in the run."""
    (run / folder).mkdir()
    paths = [f"{folder}/{number:03}.cbcl" for number in range(count)]
    for path in paths:
        (run / path).write_text(path)
    return paths


def test_a_policy_that_denies_a_folder_fails_its_files_and_no_others(
    quick_lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    """They are more than the failures in a row that end a process, and they come first."""
    denied = with_files(tiny_run, "Aside", 50)
    fault = Fault("status", status=403, code="AccessDenied", key_contains="/Aside/", count=None)
    server.add_fault(fault)

    result = upload(quick_lab, tiny_run)

    log = quick_lab.log(tiny_run)
    assert result.code == 1
    assert log["failed_upload_files"] == [str(tiny_run / path) for path in denied]
    others = {str(tiny_run / path) for path in tree(tiny_run)} - set(log["failed_upload_files"])
    assert log["uploaded_files"].keys() == {path for path in others if not path.endswith("CopyComplete.txt")}
    assert "  failed  50 files:\n    Aside/000.cbcl: not in S3; An error occurred (AccessDenied)" in result.out
    assert "    and 47 more for the same reason, in the log\n" in result.out
    again = upload(quick_lab, tiny_run)
    assert (again.code, again.error_ids, again.out.count("\n    Aside/")) == (1, [], 3)
    server.clear_faults()
    assert upload(quick_lab, tiny_run).code == 0
    is_verified(quick_lab, tiny_run, server)


def test_a_policy_that_denies_everything_ends_the_call_in_one_line(
    quick_lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    server.add_fault(Fault("status", status=403, code="AccessDenied", count=None))

    result = upload(quick_lab, tiny_run)

    assert (result.code, result.out, result.error_ids) == (1, "", ["s3.access-denied"])
    assert f" s3://{BUCKET}/{tiny_run.name}/ (" in result.err
    assert result.err.count("trying") == 0
    assert len(quick_lab.log(tiny_run)["failed_upload_files"]) == 3, "the marker was not to be sent yet"


def test_a_run_that_a_policy_denies_keeps_no_other_from_being_uploaded(
    quick_lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    other = tiny_run.with_name("261124_A01234_0008_AHFAULTDRX8")
    shutil.copytree(tiny_run, other)
    info = other / "RunInfo.xml"
    info.write_text(info.read_text().replace(tiny_run.name, other.name))
    for run in (tiny_run, other):
        server.clear_faults()
        server.add_fault(Fault("status", status=403, code="AccessDenied", key_contains=run.name, count=None))

        result = quick_lab.watch(tiny_run, aws_command=str(quick_lab.root / "quick" / "aws"), max_cores=1)

        assert (result.code, result.error_ids) == (1, ["s3.access-denied"])
        assert f" s3://{BUCKET}/{run.name}/ (" in result.err
        uploaded = other if run == tiny_run else tiny_run
        assert quick_lab.log(uploaded)["completed"] is True
        for path in quick_lab.log_dir.joinpath("uploads").iterdir():
            path.unlink()
        for key in server.objects(BUCKET):
            server.delete(BUCKET, key)


def test_a_server_that_disappears_ends_the_call_in_one_line(
    quick_lab: Lab, server: S3Server, tiny_run: Path, tmp_path: Path
) -> None:
    with_files(tiny_run, "More", 60)
    aws = str(quick_lab.root / "quick" / "aws")
    upload = quick_lab.upload_argv(tiny_run, "--cores", "2", "--aws_command", aws)
    with server.hold(key_contains="More/030") as gate:
        process = quick_lab.start(*upload)
        gate.wait_held()
        server.stop()
        out, err = process.communicate(timeout=120)

    said = [line for line in err.splitlines() if line.startswith("s3sync: ")]
    assert (process.returncode, out, len(said)) == (1, "", 1), err
    assert error_ids(said[0]) == ["s3.unreachable"]
    assert f" s3://{BUCKET}/{tiny_run.name}/ (" in said[0]
    assert 'aws said: Could not connect to the endpoint URL: "' in said[0]
    assert "sent and not compared yet" in err
    log = quick_lab.log(tiny_run)
    everything = {str(tiny_run / path) for path in tree(tiny_run)} - {str(tiny_run / "CopyComplete.txt")}
    assert {*log["failed_upload_files"], *log["uploaded_files"]} == everything
    assert log["failed_reasons"][str(tiny_run / "More/031.cbcl")].startswith("not ")
    server.start()
    before = set(server.objects(BUCKET))
    assert before
    next_scan_completes(quick_lab, tiny_run, server, aws_command=aws)
    stored = [r.key for r in server.requests if r.operation == "PutObject" and r.status == 200]
    assert len(stored) == len(set(stored)), "what had arrived is not sent again"


def test_a_connection_that_breaks_now_and_then_ends_nothing(quick_lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """File after file fails, but S3 answers when it is asked."""
    with_files(tiny_run, "More", 10)
    server.add_fault(Fault("reset", key_contains="More/", count=5))

    result = upload(quick_lab, tiny_run)

    assert result.code == 0, result.err
    is_verified(quick_lab, tiny_run, server)


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeTooSkewed"])
def test_a_first_listing_that_fails_is_requested_again(
    quick_lab: Lab, server: S3Server, tiny_run: Path, code: str
) -> None:
    server.add_fault(Fault("status", method="GET", code=code, count=2))

    result = upload(quick_lab, tiny_run)

    assert result.code == 0, result.err
    is_verified(quick_lab, tiny_run, server)


def test_an_interruption_says_how_many_were_sent_and_not_compared_yet(
    quick_lab: Lab, server: S3Server, tiny_run: Path
) -> None:
    with_files(tiny_run, "More", 60)
    aws = str(quick_lab.root / "quick" / "aws")
    with server.hold(key_contains="More/030") as gate:
        process = quick_lab.start(*quick_lab.upload_argv(tiny_run, "--cores", "1", "--aws_command", aws))
        gate.wait_held()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    total = len(tree(tiny_run))
    assert process.returncode == 130
    arrived = len(server.objects(BUCKET))
    assert error_ids(err) == ["run.interrupted"]
    assert f"SIGINT: 0 of {total} files verified, {arrived} more sent and not compared yet" in err


# Its parts


def endless(tmp_path: Path, answer: str = "") -> str:
    """An `aws` that prints a line when it is ready, and ends with an `answer` on a second line of a pipe, or never."""
    script = tmp_path / "endless"
    ready, go = tmp_path / "ready", tmp_path / "go"
    for pipe in (ready, go):
        os.mkfifo(pipe)
    script.write_text(f"#!/bin/sh\necho > {ready}\nread line < {go}\necho '{answer}'\n")
    script.chmod(0o755)
    return str(script)


def test_a_cleanup_finishes_although_a_stop_is_requested_meanwhile(tmp_path: Path) -> None:
    """Else the multipart uploads that it was about to abort stay in S3."""
    stop = StopRequest()
    aws = AwsCli(Launcher(endless(tmp_path, "[]"), {"PATH": "/usr/bin:/bin"}), stop)
    ended: list[client.AwsResult] = []
    listing = argv.list_uploads_argv(BucketRef("lab-runs"), "RUN/")
    thread = threading.Thread(target=lambda: ended.append(aws.run_despite_stop(listing, 60)))
    thread.start()
    (tmp_path / "ready").read_text()
    stop.request(signal.SIGINT)
    aws.processes.terminate_all()
    (tmp_path / "go").write_text("go\n")
    thread.join(timeout=120)
    assert [(one.succeeded, one.stdout, one.killed_reason) for one in ended] == [(True, b"[]\n", "")]


class Late(AwsCli):
    """One whose process starts only after all were ended."""

    sender: batch_sender.BatchSender

    def run_streaming(self, *args: Any, **more: Any) -> client.AwsResult:
        self.sender.abort()
        return super().run_streaming(*args, **more)


def test_a_process_that_starts_after_all_were_ended_is_ended_too(tmp_path: Path, tiny_run: Path) -> None:
    aws = Late(Launcher(endless(tmp_path), {"PATH": "/usr/bin:/bin"}), StopRequest())
    run = run_folder.open_run(tiny_run)
    sender = aws.sender = batch_sender.BatchSender(context_of(aws, run, tmp_path, BUCKET), run)
    batch = Batch(1, local_files.list_files(run).files)

    assert sender.send(batch).last_error == "aws was interrupted, so it was terminated"
    assert sender.send(batch).last_error.startswith("not sent")
    assert aws.processes.started == 1


class ScriptedSender:
    """A sender, plan and governor in one, whose batches end as a test says."""

    size = usual_size = max_size = expected_size = 1
    file_cost = FILE_COST
    uploaded = 0
    pace = BatchPace(is_bounded=False)

    def __init__(self, *sent: tuple[Cause | None, Cause | None]) -> None:
        self._sent = list(sent)
        self.batches: list[int] = []

    def send(self, batch: Batch, _ahead: object) -> BatchResult:
        self.batches.append(batch.number)
        cause, in_vain = self._sent.pop(0)
        return BatchResult(batch=batch, cause=cause, futile_cause=in_vain)

    def update(self, *_args: object, **_more: object) -> Any:
        return 1

    def nothing(self, *_args: object, **_more: object) -> None: ...

    begin = reset = mark_compared = enforce_bandwidth = abort = note_running = nothing


def passes_of(sender: ScriptedSender, *queues: BatchQueue) -> Iterator[Cause | None]:
    reader = SimpleNamespace(cost=lambda files: 0, look=lambda files: {}, head_unsettled=lambda files: {})
    verifier = SimpleNamespace(
        reader=reader,
        hasher=SimpleNamespace(has_expected_crc=False, part_size=0),
        choice=EvidenceChoice("size", DEFAULT_MULTIPART),
        note_sent=lambda _result: None,
        verify=lambda _files, _sent: PassResult((), ()),
    )
    any_sender = cast("Any", sender)
    pipeline = Pipeline(any_sender, cast("Any", verifier), any_sender)
    for queue in queues:
        list(pipeline.run(queue))
        yield pipeline.cause


def queue_of(*paths: str) -> BatchQueue:
    return BatchQueue([[LocalFile(path, 1, 1)] for path in paths])


def test_the_cause_of_one_pass_is_not_that_of_the_next() -> None:
    lasting = Cause(id="aws.broken", what="it is broken", advice="repair it")
    sender = ScriptedSender((lasting, None), (None, None))
    assert list(passes_of(sender, queue_of("a"), queue_of("b"))) == [lasting, None]


def test_a_second_cause_ends_the_sending_as_the_first_did() -> None:
    sender = ScriptedSender(*[(None, NO_RESPONSE)] * 3)
    queue = queue_of("a", "b", "c", "d", "e")
    assert list(passes_of(sender, queue)) == [NO_RESPONSE]
    assert len(sender.batches) == 3


def test_many_files_that_failed_for_one_reason_are_summarized() -> None:
    why = 'not in S3; Could not connect to the endpoint URL: "http://s3.example/lab/RUN/{}"'
    reasons = {f"Data/a {number:02}": why.format(f"Data/a%20{number:02}") for number in range(40)}
    reasons |= {"RunInfo.xml": "cannot be read", "CopyComplete.txt": "cannot be read"}
    assert list_by_reason(reasons, ", in the log") == [
        *(f"    Data/a {number:02}: {why.format(f'Data/a%20{number:02}')}" for number in range(3)),
        "    and 37 more for the same reason, in the log",
        "    RunInfo.xml: cannot be read",
        "    CopyComplete.txt: cannot be read",
    ]
