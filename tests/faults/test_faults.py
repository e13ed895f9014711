"""What goes wrong is said in one clear line, with the right exit code, and nothing is marked as done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.lab import BUCKET, FakeAws, Lab, Result, tree
from tests.helpers.s3server import Fault, S3Server

pytestmark = pytest.mark.real_aws

WHEN_CP = "if argv[:1] != ['--version'] and 'cp' in argv:"


def one_clear_line(result: Result, *words: str, code: int = 1) -> None:
    """Exit code, nothing on stdout, and one line beyond the display's that says all of it."""
    assert (result.code, result.out) == (code, "")
    lines = [line for line in result.err.splitlines() if line.startswith("s3sync: ")]
    assert len(lines) == 1, result.err
    assert result.err.endswith(lines[0] + "\n")
    assert "Traceback" not in result.err
    for word in words:
        assert word in lines[0]


def nothing_is_done(lab: Lab, run: Path) -> None:
    """A valid log that says so, or none."""
    if lab.log_path(run).exists():
        log = lab.log(run)
        assert log["completed"] is False
        assert log["uploaded_files"] == {}
        assert log["total_uploaded_files"] == 0


def test_no_such_bucket(lab: Lab, server: S3Server, small_run: Path, each_aws: str) -> None:
    result = lab.run(*lab.words(small_run, "--aws_command", each_aws, bucket="no-such-bucket"))

    one_clear_line(result, "no such bucket: s3://no-such-bucket", "check --bucket")
    nothing_is_done(lab, small_run)


@pytest.mark.parametrize(
    ("code", "words"),
    [("ExpiredToken", "the AWS credentials have expired"), ("InvalidAccessKeyId", "the AWS credentials are wrong")],
)
def test_refused_by_s3(lab: Lab, server: S3Server, small_run: Path, code: str, words: str) -> None:
    server.add_fault(Fault("status", method=None, status=400, code=code, count=None))

    result = lab.upload(small_run)

    one_clear_line(result, words)
    nothing_is_done(lab, small_run)


def test_write_access_denied(lab: Lab, server: S3Server, small_run: Path, each_aws: str) -> None:
    server.add_fault(Fault("status", status=403, code="AccessDenied", count=None))

    result = lab.upload(small_run, "--aws_command", each_aws)

    one_clear_line(result, "access denied", "s3:PutObject")
    nothing_is_done(lab, small_run)


def test_without_permission_to_list_objects_are_looked_at_one_by_one(
    lab: Lab, server: S3Server, tmp_path: Path
) -> None:
    server.add_fault(
        Fault("status", method=None, operation="ListObjectsV2", status=403, code="AccessDenied", count=None)
    )
    run = tmp_path / "run"
    run.mkdir()
    for name in ("a", "b", "RunInfo.xml"):
        (run / name).write_text(name)

    result = lab.upload(run, "--skip_check")

    assert result.code == 0
    assert server.counters["HeadObject"] == 3
    assert lab.log(run)["completed"] is True


def test_an_aws_that_says_1_but_stored_everything_is_believed_less_than_s3(
    lab: Lab, server: S3Server, small_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws(f"{WHEN_CP}\n    import quick_aws\n    quick_aws.main(argv)\n    os._exit(1)")

    assert lab.upload(small_run, "--aws_command", aws).code == 0
    assert lab.log(small_run)["completed"] is True


def test_some_files_fail_then_succeed_in_the_same_call(lab: Lab, server: S3Server, small_run: Path) -> None:
    server.add_fault(Fault("drop", count=5))

    result = lab.upload(small_run, "--json")

    assert result.code == 0
    assert "retrying 5 files" in result.err
    assert {k: v.body for k, v in server.objects(BUCKET).items()} == {
        f"{small_run.name}/{path}": content for path, content in tree(small_run).items()
    }


def no_such_folder(run: Path) -> Path:
    return run / "nowhere"


def a_file(run: Path) -> Path:
    return run / "RunInfo.xml"


def not_a_run(run: Path) -> Path:
    (run / "RunInfo.xml").unlink()
    return run


def not_complete(run: Path) -> Path:
    (run / "RTAComplete.txt").unlink()
    return run


def bad_run_info(run: Path) -> Path:
    (run / "RunInfo.xml").write_text("<RunInfo><Run")
    return run


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_such_folder, "no such folder"),
        (a_file, "is a file"),
        (not_a_run, "no RunInfo.xml"),
        (not_complete, "waits for RTAComplete"),
        (bad_run_info, "is not valid XML"),
    ],
)
def test_what_is_no_completed_run_is_refused(
    lab: Lab, server: S3Server, small_run: Path, spoil: Callable[[Path], Path], words: str
) -> None:
    one_clear_line(lab.upload(spoil(small_run)), words)
    assert server.requests == []
    assert not lab.log_dir.exists()


def test_skip_check_uploads_any_folder(lab: Lab, server: S3Server, small_run: Path) -> None:
    assert lab.upload(not_a_run(small_run), "--skip_check").code == 0
    assert lab.log(small_run)["completed"] is True


@pytest.mark.parametrize(
    "words",
    [
        ("upload",),
        ("upload", "--bucket", BUCKET),
        ("upload", "--local_path", "x"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--cores", "0"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--threads", "many"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--no_such_option"),
        ("upload", "--local_path", "x", "--bucket", "s3://lab-runs"),
        ("upload", "--local_path", "x", "--bucket", "x"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--remote_path", "a/../b"),
        ("upload", "--local_path", "x", "--bucket", BUCKET, "--exclude_patterns", "["),
        ("nothing",),
        (),
    ],
)
def test_wrong_words_are_usage(lab: Lab, words: tuple[str, ...]) -> None:
    result = lab.run(*words)

    assert (result.code, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert result.err.startswith(("usage: s3sync", "s3sync: "))


def test_a_mistyped_bucket_leaves_no_run_behind(lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws) -> None:
    """A log of it would be shown for ever: of a run that nobody meant to be there."""
    aws = ("--aws_command", quick_aws(""))
    mistyped = lab.run(*lab.words(tiny_run, *aws, bucket="lab-run"))

    assert mistyped.code == 1
    assert "no such bucket: s3://lab-run" in mistyped.err
    assert list((lab.log_dir / "uploads").iterdir()) == []
    assert lab.run(*lab.words(tiny_run, *aws)).code == 0
    assert lab.run(*lab.words(tiny_run, *aws, bucket="lab-run")).code == 1
    assert lab.log(tiny_run)["completed"] is True, "the log of the right bucket stays"


def test_a_run_that_the_monitor_could_not_begin_stays_due(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """However old it gets until somebody corrects the config."""
    assert lab.watch(tiny_run, entry={"bucket": "no-such-bucket"}).code == 1
    os.utime(tiny_run / "RunInfo.xml", (0, 0))
    os.utime(tiny_run / "CopyComplete.txt", (0, 0))
    shown = lab.run("status", "--config", lab.config_for(tiny_run, entry={"bucket": "no-such-bucket"}), "--json")
    assert [run["state"] for run in shown.json["runs"]] == ["partial"]


def test_a_pattern_that_is_meant_for_other_runs_makes_no_noise_under_cron(
    lab: Lab, server: S3Server, tiny_run: Path, quick_aws: FakeAws
) -> None:
    aws = quick_aws("")
    result = lab.watch(tiny_run, aws_command=aws, entry={"exclude_patterns": [r"\.jpg$"]})

    assert (result.code, result.out, result.err) == (0, "", "")
    lines = (lab.log_dir / "s3_upload.log").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines if "matches nothing" in line] == [
        rf"{tiny_run.name}: exclude pattern '\.jpg$' matches nothing"
    ]
