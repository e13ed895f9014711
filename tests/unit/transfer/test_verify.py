"""What keeps a verification from finding a run identical."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.destination import Destination
from s3sync.patterns import Pattern
from s3sync.runs import local_files
from s3sync.runs.run_folder import open_run
from s3sync.signals import StopRequest
from s3sync.state import Proof
from s3sync.transfer import verify
from s3sync.transfer.progress import Lines
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import select_files


@pytest.mark.parametrize(("new", "is_identical"), [(None, True), ("Data/new.cbcl", False), ("Data/new.tmp", True)])
def test_a_file_that_came_during_the_comparison_is_a_difference_unless_it_is_excluded(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, new: str | None, is_identical: bool
) -> None:
    def compare_all(found: verify.Verification, *_others: Any) -> None:
        found.remote, found.extra = {}, []
        found.proven += [Proof.of(file, "etag", "etag") for file in found.selection.files]
        if new:
            (tiny_run / new).write_text("new")

    monkeypatch.setattr(verify, "_compare_all", compare_all)
    monkeypatch.setattr(verify, "open_context", lambda *_args: contextlib.nullcontext())
    request = UploadRequest(
        local_path=tiny_run,
        destination=Destination("lab-runs", ""),
        log_dir=tmp_path / "log",
        cores=1,
        excludes=(Pattern(r"\.tmp$"),),
    )
    found = verify.verify(request, {}, StopRequest(), Lines(io.StringIO()))
    assert found.ok == is_identical
    assert list(found.differing) == ([] if is_identical else [new])


def test_a_manifest_that_could_not_be_written_is_a_failure(tiny_run: Path) -> None:
    run = open_run(tiny_run)
    listing = local_files.list_files(run)
    to = Destination("lab-runs", "")
    proven = [Proof.of(file, "etag", "etag") for file in listing.files]
    found = verify.Verification(run, to, select_files(run, listing, to, ()), proven=proven, extra=[], remote={})
    assert found.ok
    found.manifest_error = "/out/manifest.tsv is not written: No space left on device"
    assert found.identical
    assert not found.ok
