"""The exit code of a command says how it ended, whatever it prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from s3sync.aws.destination import Destination
from s3sync.commands import command_line, monitor, verify
from s3sync.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED
from s3sync.monitor import ScanResult
from s3sync.monitor.problems import Problem
from s3sync.runs import local_files
from s3sync.runs.run_folder import open_run
from s3sync.state import Proof
from s3sync.transfer import verify as comparison
from s3sync.transfer.selection import select_files
from s3sync.transfer.verify.verification import Verification
from tests.helpers.contexts import request_to

FAILED = Problem("Slurm", "no such partition", "other", id="config.no-partition")
NOTE = Problem("RUN", "too old", "note", id="run.too-old")


@pytest.fixture
def same_umask() -> Iterator[None]:
    """Restore the umask that a scan changes."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.usefixtures("same_umask")
@pytest.mark.parametrize(
    ("result", "code"),
    [
        (ScanResult(), EXIT_DONE),
        (ScanResult(problems=[NOTE]), EXIT_DONE),
        (ScanResult(problems=[FAILED]), EXIT_FAILED),
        (ScanResult(problems=[FAILED], of_config={FAILED}), EXIT_CONFIG),
        (ScanResult(problems=[FAILED], of_config={NOTE}), EXIT_FAILED),
    ],
)
def test_monitor(monkeypatch: pytest.MonkeyPatch, result: ScanResult, code: int) -> None:
    config = SimpleNamespace(nice=0, io_priority="")
    monkeypatch.setattr(monitor, "load_config", lambda _path, _environ: config)
    monkeypatch.setattr(monitor, "lower_priority", lambda _nice, _io_priority: None)
    monkeypatch.setattr(monitor, "_scan", lambda _args, _config, _stop: result)
    assert monitor.run(command_line.parse(["monitor", "--config", "/etc/s3sync.yaml"])) == code


@pytest.mark.parametrize(
    ("manifest_error", "differing", "code"),
    [("", {}, EXIT_DONE), ("No space left on device", {}, EXIT_FAILED), ("", {"RunInfo.xml": "other"}, EXIT_FAILED)],
)
def test_verify(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, manifest_error: str, differing: dict[str, str], code: int
) -> None:
    run, to = open_run(tiny_run), Destination("lab-runs", "")
    listing = local_files.list_files(run)
    found = Verification(
        run=run,
        request=request_to(run),
        selection=select_files(run, listing, to, ()),
        verified=[Proof.of(file, "etag", "etag") for file in listing.files],
        differing=differing,
        only_in_s3=[],
        manifest_error=manifest_error,
    )
    monkeypatch.setattr(comparison, "verify", lambda *_args: found)
    assert verify.run(command_line.parse(["verify", str(tiny_run), "--bucket", "lab-runs"])) == code
