"""What every fault must leave behind: a verified run, or one that is known to be incomplete and tried again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.helpers.lab import BUCKET, Lab, Result, tree
from tests.helpers.s3server import S3Server


class Server(Protocol):
    """Any S3 server whose objects can be looked at past HTTP."""

    def objects(self, bucket: str) -> Mapping[str, Any]:
        """The objects by key; they have a `body`."""


def is_pending(
    lab: Lab, run: Path, result: Result, reason: str, *files: str, code: int = 1, journal: bool = False
) -> None:
    """The call failed with this code and said why; the log is valid, not completed, and does not have `files`.

    `files` (paths in the run) are those that failed for themselves, not with the whole call.
    """
    assert result.code == code, result.out + result.err
    assert "Traceback" not in result.err
    assert reason in result.out + result.err, result.out + result.err
    log = _valid_log(lab, run, journal=journal)
    assert log["completed"] is False
    paths = [str(run / path) for path in files]
    assert set(paths) <= set(log["failed_upload_files"])
    assert not set(paths) & log["uploaded_files"].keys()
    assert log["total_uploaded_files"] < log["total_local_files"]
    assert all(reason in log["failed_reasons"][path] for path in paths), log["failed_reasons"]


def next_scan_completes(lab: Lab, run: Path, server: Server, **keys: Any) -> None:
    """The monitor tries again, and then all of it is verified; `keys` are more of its config."""
    result = lab.watch(run, **keys)
    assert result.code == 0, result.out + result.err
    assert "Traceback" not in result.err
    is_verified(lab, run, server)


def is_verified(lab: Lab, run: Path, server: Server) -> None:
    """The log says completed, and S3 has the bytes of the disk, no more and no less."""
    log = _valid_log(lab, run)
    assert log["completed"] is True
    assert log["failed_upload_files"] == []
    files = tree(run)
    assert log["uploaded_files"].keys() == {str(run / path) for path in files}
    stored = {key: item.body for key, item in server.objects(BUCKET).items()}
    assert stored == {f"{run.name}/{path}": content for path, content in files.items()}


def _valid_log(lab: Lab, run: Path, *, journal: bool = False) -> dict[str, Any]:
    """The log, whose numbers agree with its lists, and beside which nothing is left but a journal where one has to be.

    That is where the log could not be replaced at the end.
    """
    log = lab.log(run)
    assert log["total_uploaded_files"] == len(log["uploaded_files"])
    assert log["total_failed_upload"] == len(log["failed_upload_files"])
    assert log["failed_reasons"].keys() == set(log["failed_upload_files"])
    assert not set(log["failed_upload_files"]) & log["uploaded_files"].keys()
    left = [path.name for path in lab.log_path(run).parent.iterdir() if not path.name.endswith(".json")]
    assert [name for name in left if ".corrupt-" not in name] == [f"{run.name}.upload.journal.jsonl"] * journal
    return log


MIB = 1024 * 1024


def independent_etag(content: bytes) -> str:
    """By AWS's description: MD5, or from 8 MiB on the MD5 of the 8 MiB parts' MD5s and their number."""
    if len(content) < 8 * MIB:
        return hashlib.md5(content).hexdigest()
    parts = [content[i : i + 8 * MIB] for i in range(0, len(content), 8 * MIB)]
    return f"{hashlib.md5(b''.join(hashlib.md5(p).digest() for p in parts)).hexdigest()}-{len(parts)}"


def put_order(server: S3Server) -> list[str]:
    """Keys in the order in which they became visible."""
    done = ("PutObject", "CompleteMultipartUpload")
    return [r.key for r in server.requests if r.operation in done and r.status == 200]
