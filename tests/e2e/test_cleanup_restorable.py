"""`cleanup` keeps a run that could not be restored, unless that check is switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.errors import error_ids
from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import Fault, S3Server

READ = Fault("status", method="GET", operation="GetObject", status=403, code="AccessDenied", count=None)
THAW = Fault("status", method="POST", operation="RestoreObject", status=403, code="AccessDenied", count=None)


def cleanup(lab: Lab, run: Path, *argv: str, **keys: Any) -> Result:
    return lab.run("cleanup", "--config", lab.config_for(run, **keys), "--older-than", "0h", "--json", *argv)


def why(result: Result) -> tuple[str, str]:
    (run,) = result.json["runs"]
    return run["verdict"], run["reason_id"]


def uploaded(lab: Lab, run: Path, storage_class: str = "STANDARD") -> Path:
    assert lab.upload(run, "--storage-class", storage_class).code == 0
    return run


def test_a_run_that_cannot_be_read_is_kept(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run, before = uploaded(lab, tiny_run), tree(tiny_run)
    server.add_fault(READ)
    result = cleanup(lab, run, "--delete", "--yes")
    assert why(result) == ("kept", "cleanup.not-readable"), result.err
    assert "s3:GetObject" in result.json["runs"][0]["reason"]
    assert result.json["runs"][0]["restore"] is None
    assert tree(run) == before


@pytest.mark.parametrize("by_option", [True, False])
def test_the_restore_check_can_be_skipped(lab: Lab, server: S3Server, tiny_run: Path, by_option: bool) -> None:
    run = uploaded(lab, tiny_run)
    server.add_fault(READ)
    keys = {} if by_option else {"require_restorable_runs": False}
    result = cleanup(lab, run, "--delete", "--yes", *(["--skip-restore-check"] if by_option else []), **keys)
    assert why(result) == ("deleted", "")
    assert not run.exists()


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING"])
def test_a_frozen_run_that_may_not_be_thawed_is_kept(
    lab: Lab, server: S3Server, tiny_run: Path, storage_class: str
) -> None:
    run = uploaded(lab, tiny_run, storage_class)
    if storage_class == "INTELLIGENT_TIERING":
        server.objects(BUCKET)[f"{run.name}/Data/first.cbcl"].headers["x-amz-archive-status"] = "ARCHIVE_ACCESS"
    server.add_fault(THAW)
    result = cleanup(lab, run, "--delete", "--yes")
    assert why(result) == ("kept", "cleanup.not-thawable"), result.err
    server.clear_faults()
    assert why(cleanup(lab, run)) == ("may be deleted", "")
    assert not [key for key, stored in server.objects(BUCKET).items() if "x-amz-restore" in stored.headers], (
        "none thaws"
    )


def test_a_run_that_is_being_thawed_may_be_deleted(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run = uploaded(lab, tiny_run, "GLACIER")
    for stored in server.objects(BUCKET).values():
        stored.headers["x-amz-restore"] = 'ongoing-request="true"'
    assert why(cleanup(lab, run)) == ("may be deleted", "")


def test_credentials_that_expire_meanwhile_are_no_reason_of_the_run(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run = uploaded(lab, tiny_run)
    server.add_fault(Fault("status", method="GET", operation="GetObject", status=400, code="ExpiredToken", count=None))
    result = cleanup(lab, run)
    assert why(result) == ("kept", "aws.expired-credentials")
    assert result.code == 1


def test_the_command_that_restores_each_run_is_named_and_works(lab: Lab, server: S3Server, tiny_run: Path) -> None:
    run, before = uploaded(lab, tiny_run), tree(tiny_run)
    (listed,) = cleanup(lab, run).json["runs"]
    (deleted,) = cleanup(lab, run, "--delete", "--yes").json["runs"]
    assert listed["restore"] == deleted["restore"]
    argv = deleted["restore"].split()
    result = lab.run(*argv[argv.index("restore") :])
    assert result.code == 0, result.err
    assert tree(run) == before
    assert error_ids(result.err) == []
