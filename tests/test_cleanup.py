"""`cleanup`: which runs may be deleted here, and that nothing else ever is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from s3sync.removal import Removal, identity_of, remove
from s3sync.runfolder import Identity
from tests.conftest import BUCKET, Lab, Result, skip_or_fail, tree
from tests.s3server import Fault, S3Server
from tests.unprivileged import without_override

SECOND = "second-bucket"


def as_if_uploaded(lab: Lab, server: S3Server, run: Path, bucket: str = BUCKET, **keys: Any) -> Path:
    """The run in S3, and its log, as an upload long ago left them; `keys` are more of the log. Gives the log's path."""
    files = tree(run)
    for path, content in files.items():
        server.put(bucket, f"{run.name}/{path}", content)
    return write_log(lab, run, bucket, **{"bytes": sum(map(len, files.values())), "total_uploaded_files": len(files), **keys})


def write_log(lab: Lab, run: Path, bucket: str = BUCKET, **keys: Any) -> Path:
    log = {
        "run_id": run.name,
        "run_path": str(run),
        "completed": True,
        "total_local_files": keys.get("total_uploaded_files", 0),
        "total_uploaded_files": 0,
        "total_failed_upload": 0,
        "version": 1,
        "bucket": bucket,
        "remote_path": "/",
        "finished": "2026-01-02T03:04:05+00:00",
        "failed_upload_files": [],
        "uploaded_files": {},
        **keys,
    }
    path = lab.log_path(run)
    if path.exists():
        path = path.with_name(f"{run.name}.0{path.name.removeprefix(run.name)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(log))
    return path


@pytest.fixture
def stored(lab: Lab, server: S3Server, tiny_run: Path) -> Path:
    as_if_uploaded(lab, server, tiny_run)
    return tiny_run


def cleanup(lab: Lab, run: Path, *words: str, entry: Mapping[str, Any] | None = None, **options: Any) -> Result:
    return lab.run("cleanup", "--config", lab.config_for(run, entry), *words, **options)


def record_of(lab: Lab, run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((lab.log_dir / "cleanups" / f"{run.name}.cleanup.json").read_text())
    return loaded


def test_try(lab: Lab, server: S3Server, stored: Path) -> None:
    (stored / "Empty").mkdir()
    r = cleanup(lab, stored)
    print(r.code, r.out, r.err)
    r = cleanup(lab, stored, "--delete", "--yes")
    print(r.code, r.out, r.err)
    print((lab.log_dir / "cleanups" / f"{stored.name}.cleanup.json").read_text())
    print((lab.log_dir / "s3_upload.log").read_text())
    assert 0
