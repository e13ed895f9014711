"""`restore` of what somebody has deleted, replaced or denied, and to a place where something else is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.unprivileged import without_override


def restore(lab: Lab, run: Path | str, *argv: str, log_dir: str = "log") -> Result:
    return lab.run("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.root / log_dir), *argv)


@pytest.fixture
def saved(lab: Lab, tiny_run: Path) -> Path:
    """The run, which is in S3, and was moved away."""
    assert lab.upload(tiny_run).code == 0
    return tiny_run.rename(lab.root / "saved")


@pytest.mark.parametrize("log_dir", ["log", "another"])
def test_a_run_that_was_deleted_in_s3(lab: Lab, server: S3Server, saved: Path, tiny_run: Path, log_dir: str) -> None:
    for key in server.objects(BUCKET):
        server.delete(BUCKET, key)
    result = restore(lab, tiny_run, log_dir=log_dir)
    assert (result.code, result.error_ids) == (1, ["restore.not-in-s3"]), result.out + result.err
    assert ("delete marker" in result.err) == (log_dir == "log"), "only a record shows that it was there"
    assert list(tiny_run.parent.iterdir()) == []


def test_an_object_that_was_deleted_in_s3(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    server.delete(BUCKET, f"{tiny_run.name}/Data/first.cbcl")
    result = restore(lab, tiny_run, "--json")
    assert (result.code, list(result.json["failed"])) == (1, ["Data/first.cbcl"])
    assert "delete marker" in result.json["failed"]["Data/first.cbcl"]


@pytest.mark.parametrize("log_dir", ["log", "another"])
def test_a_key_that_no_file_can_have_keeps_no_run_away_that_is_whole_without_it(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, log_dir: str
) -> None:
    """Only a record shows that it is not of the run, as after `aws s3 cp ... s3://lab-runs/RUN//`."""
    server.put(BUCKET, f"{tiny_run.name}//notes.txt", b"notes")
    result = restore(lab, tiny_run, "--json", log_dir=log_dir)
    assert (result.code, list(result.json["failed"])) == (1, ["/notes.txt"]), result.out
    assert result.json["whole"] is False
    assert (tree(tiny_run) if tiny_run.exists() else None) == (tree(saved) if log_dir == "log" else None)


def test_downloads_that_are_all_denied_are_one_error(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    """A bucket whose requester pays answers in the same way."""
    denied = Fault("status", method="GET", operation="GetObject", status=403, code="AccessDenied", count=None)
    server.add_fault(denied)
    result = restore(lab, tiny_run)
    assert (result.code, result.error_ids) == (1, ["s3.access-denied"]), result.out + result.err
    assert "s3:GetObject" in result.err
    assert "requester" in result.err
    assert "s3:PutObject" not in result.err


def test_a_download_that_is_denied_is_named_by_its_file(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path
) -> None:
    denied = Fault("status", method="GET", operation="GetObject", status=403, code="AccessDenied", count=None)
    denied.key_contains = "first"
    server.add_fault(denied)
    for _ in range(2):  # the second call asks for this one alone
        result = restore(lab, tiny_run, "--json")
        assert (result.code, list(result.json["failed"])) == (1, ["Data/first.cbcl"]), result.err


def test_an_object_that_is_replaced_during_a_restore_is_recorded_as_it_is(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path
) -> None:
    """Without a record, what S3 has at the end counts; the log that is written is of those bytes."""
    changed = (saved / "Data" / "first.cbcl").read_bytes().upper()
    with server.hold(method="GET", operation="GetObject") as gate:
        argv = ("restore", str(tiny_run), "--bucket", BUCKET, "--log_dir", str(lab.root / "another"))
        process = lab.start(*argv)
        gate.wait_held()
        server.put(BUCKET, f"{tiny_run.name}/Data/first.cbcl", changed)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert (tiny_run / "Data" / "first.cbcl").read_bytes() == changed
    again = restore(lab, tiny_run, "--json", log_dir="another")
    assert (again.code, again.json["failed"]) == (0, {}), again.out


def test_a_file_on_disk_that_differs_from_the_record_is_not_called_another_than_in_s3(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path
) -> None:
    shutil.copytree(saved, tiny_run)
    changed = (saved / "Data" / "first.cbcl").read_bytes().upper()
    (tiny_run / "Data" / "first.cbcl").write_bytes(changed)
    server.put(BUCKET, f"{tiny_run.name}/Data/first.cbcl", changed)
    result = restore(lab, tiny_run, "--json")
    assert result.code == 1
    assert "the upload recorded" in result.json["failed"]["Data/first.cbcl"]


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_what_is_in_the_way_is_named_before_anything_is_fetched(
    lab: Lab, server: S3Server, saved: Path, tiny_run: Path, more: tuple[str, ...]
) -> None:
    (tiny_run / "RunInfo.xml").mkdir(parents=True)
    (tiny_run / "Data").symlink_to(saved / "Data")
    result = restore(lab, tiny_run, "--json", *more)
    assert result.code == 1
    assert result.json["failed"].keys() == {"Data/first.cbcl", "Data/second.cbcl", "RunInfo.xml"}
    assert all("move it away" in why for why in result.json["failed"].values()), result.out
    assert [request.key for request in server.requests if request.operation == "GetObject"] == [
        f"{tiny_run.name}/CopyComplete.txt"
    ]
    assert not (tiny_run / "CopyComplete.txt").exists()
    (tiny_run / "RunInfo.xml").rmdir()
    (tiny_run / "Data").unlink()
    assert restore(lab, tiny_run).code == 0
    assert tree(tiny_run) == tree(saved)


def test_no_run_is_restored_into_a_run(lab: Lab, server: S3Server, saved: Path, tiny_run: Path) -> None:
    """`upload --local-path` is the run's own folder, so somebody will give it here, too."""
    (lab.root / "link").symlink_to(saved / "Data")
    before = tree(saved)
    for folder in (saved, saved / "Data", lab.root / "link"):
        result = restore(lab, tiny_run.name, "--local-path", str(folder))
        assert (result.code, result.error_ids) == (2, ["usage.restore-into-run"]), result.out + result.err
    assert tree(saved) == before


def test_a_preview_says_that_the_folder_cannot_be_written(lab: Lab, saved: Path, tiny_run: Path) -> None:
    tiny_run.parent.chmod(0o555)
    argv = [*without_override(), sys.executable, "-m", "s3sync", "restore", str(tiny_run), "--bucket", BUCKET]
    argv += ["--log_dir", str(lab.log_dir), "--aws_command", lab.aws, "--dry-run"]
    ended = subprocess.run(argv, env=lab.env, capture_output=True, text=True, check=False)
    assert (ended.returncode, error_ids(ended.stderr)) == (0, ["restore.no-folder"]), ended.stdout + ended.stderr


@pytest.mark.parametrize("command", ["upload", "verify", "restore"])
def test_a_url_without_a_run_says_where_the_run_goes(lab: Lab, tiny_run: Path, command: str) -> None:
    result = lab.run(command, f"s3://{BUCKET}/{tiny_run.name}")
    assert (result.code, result.error_ids) == (2, ["usage.no-run"]), result.err
    assert f"s3sync {command} RUN s3://B/PATH" in result.err


def test_a_monitored_directory_that_is_not_mounted_is_not_filled(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    """The empty mount point is another folder than the scan has seen, on the disk below."""
    assert lab.watch(tiny_run).code == 0
    config = lab.config_for(tiny_run)
    disk = tiny_run.parent.rename(lab.root / "disk")
    tiny_run.parent.mkdir()
    result = lab.run("restore", tiny_run.name, "--config", config)
    assert (result.code, result.error_ids) == (1, ["monitor.directory-not-mounted"]), result.out + result.err
    assert list(tiny_run.parent.iterdir()) == []
    tiny_run.parent.rmdir()
    disk.rename(tiny_run.parent)
    shutil.rmtree(tiny_run)
    assert lab.run("restore", tiny_run.name, "--config", config).code == 0
