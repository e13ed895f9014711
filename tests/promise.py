"""What every fault has to leave behind: either a proven run, or one that is told apart and tried again."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import BUCKET, Lab, Result, tree
from tests.s3server import S3Server


def is_pending(lab: Lab, run: Path, result: Result, reason: str, *files: str, code: int = 1) -> None:
    """The call failed with this code and said why; the log is valid, not completed, and does not have `files`.

    `files` (paths in the run) are those that failed for themselves, not with the whole call.
    """
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    assert reason in result.out + result.err
    log = lab.log(run)
    assert log["completed"] is False
    paths = [str(run / path) for path in files]
    assert set(paths) <= set(log["failed_upload_files"])
    assert not set(paths) & log["uploaded_files"].keys()
    assert log["total_uploaded_files"] < log["total_local_files"]
    assert all(reason in log["failed_reasons"][path] for path in paths)


def next_tick_completes(lab: Lab, run: Path, server: S3Server) -> None:
    """The monitor tries again, and then all of it is proven."""
    result = lab.watch(run)
    assert result.code == 0, result.out + result.err
    is_proven(lab, run, server)


def is_proven(lab: Lab, run: Path, server: S3Server) -> None:
    """The log says completed, and S3 has the bytes of the disk, no more and no less."""
    log = lab.log(run)
    assert log["completed"] is True
    assert log["failed_upload_files"] == []
    files = tree(run)
    assert log["uploaded_files"].keys() == {str(run / path) for path in files}
    stored = {key: item.body for key, item in server.objects(BUCKET).items()}
    assert stored == {f"{run.name}/{path}": content for path, content in files.items()}
