"""What keeps a verification from finding a run identical."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from s3sync.aws.destination import Destination
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.objects import RemoteObject
from s3sync.patterns import Pattern
from s3sync.runs import LocalFile, local_files
from s3sync.runs.run_folder import open_run
from s3sync.signals import StopRequest
from s3sync.state import Proof
from s3sync.transfer.context import Runtime
from s3sync.transfer.displays import Lines
from s3sync.transfer.file_digests import FileDigests
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import select_files
from s3sync.transfer.verify import run
from s3sync.transfer.verify.comparison import Comparison
from s3sync.transfer.verify.verification import Verification
from tests.helpers.contexts import request_to
from tests.helpers.promise import independent_etag


@pytest.mark.parametrize(("new", "is_identical"), [(None, True), ("Data/new.cbcl", False), ("Data/new.tmp", True)])
def test_a_file_that_came_during_the_comparison_is_a_difference_unless_it_is_excluded(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, new: str | None, is_identical: bool
) -> None:
    def compare_all(found: Verification, *_others: Any) -> None:
        found.remote, found.only_in_s3 = {}, []
        found.verified += [Proof.of(file, "etag", "etag") for file in found.selection.files]
        if new:
            (tiny_run / new).write_text("new")

    monkeypatch.setattr(run, "_compare_all", compare_all)
    monkeypatch.setattr(run, "open_context", lambda *_args: contextlib.nullcontext())
    request = UploadRequest(
        local_path=tiny_run,
        destination=Destination("lab-runs", ""),
        log_dir=tmp_path / "log",
        cores=1,
        excludes=(Pattern(r"\.tmp$"),),
    )
    found = run.verify(request, Runtime({}, StopRequest(), Lines(io.StringIO())))
    assert found.ok == is_identical
    assert list(found.differing) == ([] if is_identical else [new])


@pytest.mark.parametrize("field", ["verified", "only_in_s3", "size_only", "differing"])
def test_disk_and_s3_are_identical_only_if_nothing_speaks_against_it(tiny_run: Path, field: str) -> None:
    run = open_run(tiny_run)
    listing = local_files.list_files(run)
    to = Destination("lab-runs", "")
    verified = [Proof.of(file, "etag", "etag") for file in listing.files]
    found = Verification(
        run, request_to(run), select_files(run, listing, to, ()), verified=verified, only_in_s3=[], remote={}
    )
    against = {
        "verified": [],
        "only_in_s3": ["more"],
        "size_only": verified[:1],
        "differing": {"Data/first.cbcl": "not in S3"},
    }
    assert found.identical
    setattr(found, field, against[field])
    assert not found.identical


def test_a_manifest_that_could_not_be_written_is_a_failure(tiny_run: Path) -> None:
    run = open_run(tiny_run)
    listing = local_files.list_files(run)
    to = Destination("lab-runs", "")
    verified = [Proof.of(file, "etag", "etag") for file in listing.files]
    found = Verification(
        run, request_to(run), select_files(run, listing, to, ()), verified=verified, only_in_s3=[], remote={}
    )
    assert found.ok
    found.manifest_error = "/out/manifest.tsv is not written: No space left on device"
    assert found.identical
    assert not found.ok


class TouchingHasher(Hasher):
    """After it has read the files, somebody writes one of them anew, with the same size."""

    def hashed(self, files: Sequence[LocalFile]) -> dict[str, FileHashes]:
        found = super().hashed(files)
        os.utime(self.touched, ns=(0, 0))
        return found

    touched: Path


def test_a_file_that_changed_while_it_was_compared_is_no_proof(tiny_run: Path) -> None:
    run = open_run(tiny_run)
    chosen = select_files(run, local_files.list_files(run), Destination("lab-runs", ""), ())
    stored = {file.path: independent_etag((tiny_run / file.path).read_bytes()) for file in chosen.files}
    found = Verification(run, request_to(run), chosen, only_in_s3=[])
    found.remote = {file.path: RemoteObject(file.size, stored[file.path], listed=True) for file in chosen.files}
    hasher = TouchingHasher(FileDigests(run, DEFAULT_MULTIPART, StopRequest()), 1)
    hasher.touched = tiny_run / "Data" / "first.cbcl"
    with contextlib.closing(hasher):
        Comparison(found, cast(Any, None), hasher).run(StopRequest())
    assert found.differing == {"Data/first.cbcl": "changed while it was compared"}
    assert len(found.verified) == len(chosen.files) - 1
