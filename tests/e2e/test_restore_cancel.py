"""`restore --cancel`: a restore that waits is ended, and leaves nothing behind but what is in the run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import Fault, S3Server
from tests.helpers.thaw_logs import date_back


def restore(lab: Lab, run: Path, *argv: str) -> Result:
    return lab.run("restore", str(run), "--bucket", BUCKET, "--log_dir", str(lab.log_dir), "--json", *argv)


@pytest.fixture
def waiting(lab: Lab, tiny_run: Path) -> Path:
    """A run in an archive that is being thawed."""
    assert lab.upload(tiny_run, "--storage-class", "GLACIER").code == 0
    shutil.move(tiny_run, tiny_run.parent.parent / "saved")
    assert restore(lab, tiny_run, "--tier", "Bulk").code == 1
    return tiny_run


def test_a_restore_that_waits_is_ended(lab: Lab, server: S3Server, waiting: Path) -> None:
    done = restore(lab, waiting, "--cancel")
    assert (done.code, done.json["cancelled"], done.json["requested_files"]) == (0, True, 4), done.err
    assert lab.run("status", "--config", lab.config_for(waiting), "--json").json["restores"] == []
    server.thaw(BUCKET)
    assert lab.watch(waiting).code == 0
    assert not waiting.exists()
    assert list(waiting.parent.iterdir()) == []
    again = restore(lab, waiting, "--cancel")
    assert (again.code, error_ids(again.err)) == (1, ["restore.not-pending"])


def test_what_is_in_the_run_folder_stays(lab: Lab, server: S3Server, waiting: Path) -> None:
    server.thaw(BUCKET, f"{waiting.name}/RunInfo.xml")
    assert restore(lab, waiting).code == 1
    before = tree(waiting)
    assert before.keys() == {"RunInfo.xml"}
    assert restore(lab, waiting, "--cancel").json["removed_files"] is True
    assert tree(waiting) == before
    assert [path.name for path in waiting.parent.iterdir()] == [waiting.name]


def test_a_restore_that_failed_is_not_a_problem_after_its_end(lab: Lab, server: S3Server, waiting: Path) -> None:
    server.thaw(BUCKET)
    server.add_fault(Fault("status", method="GET", operation="GetObject", status=500, code="InternalError", count=None))
    date_back(lab)
    assert lab.watch(waiting).code == 1
    status = ("status", "--config", lab.config_for(waiting), "--json")
    failed = lab.run(*status)
    assert (failed.code, failed.json["level"]) == (1, "bad")
    assert failed.json["restores"][0]["problem"]["id"]
    assert restore(lab, waiting, "--cancel").code == 0
    after = lab.run(*status)
    assert after.json["restores"] == []
    assert not [problem for problem in after.json["problems"] if problem["key"].startswith("restore of ")]


def test_only_the_restore_that_the_same_command_began_is_ended(lab: Lab, server: S3Server, waiting: Path) -> None:
    other = restore(lab, waiting, "--cancel", "--only", "metadata")
    assert (other.code, error_ids(other.err)) == (1, ["restore.not-pending"])
    assert str(waiting) in other.err
    assert restore(lab, waiting, "--cancel", "--wait").code == 2
    assert restore(lab, waiting, "--cancel").code == 0
