"""Upload runs on a cluster, a double or a real one, and check what it leaves."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from s3sync.slurm.work_folder import FOLDER
from tests.helpers.lab import BUCKET, Lab, Result
from tests.helpers.promise import is_verified
from tests.helpers.s3server import S3Server


def on_slurm(lab: Lab, run: Path, aws: str, *more: str) -> tuple[str, ...]:
    """Return the argv of an upload over two nodes."""
    return lab.upload_argv(run, "--aws_command", aws, "--executor", "slurm", "--nodes", "2", *more)


def end_of(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate(timeout=240)
    return Result(process.returncode, out, err)


class Cluster(Protocol):
    """A real one, or its double."""

    def tmp(self, node: str) -> Path:
        """TMPDIR of the jobs there."""


def puts(server: S3Server) -> Counter[str]:
    """How often each key was stored."""
    return Counter(r.key for r in server.requests if r.operation == "PutObject" and r.status == 200)


def work_folders(lab: Lab) -> list[Path]:
    """Those that nobody has collected."""
    return list((lab.log_dir / FOLDER).glob("*"))


def is_all_done(
    lab: Lab, run: Path, server: S3Server, cluster: Cluster, again: Collection[str] = (), gone: str = ""
) -> None:
    """The run is verified, nothing but the keys `again` was sent twice, and nothing is left, but on a node that is
    `gone`.
    """
    is_verified(lab, run, server)
    assert {key for key, times in puts(server).items() if times > 1} <= set(again)
    assert server.uploads(BUCKET) == []
    assert work_folders(lab) == []
    staged = [path for node in ("n1", "n2") if node != gone for path in cluster.tmp(node).glob("*")]
    assert staged == []


def wait_for_line(process: subprocess.Popen[str], part: str) -> None:
    """Until it has said that."""
    assert process.stderr is not None
    assert any(part in line for line in process.stderr), part
