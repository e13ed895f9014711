"""Whether a run may be deleted, once every destination was compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync.aws.access import Obstacle
from s3sync.aws.destination import Destination
from s3sync.aws.objects import RemoteObject
from s3sync.cleanup import verdict
from s3sync.inventory import statuses
from s3sync.patterns import Pattern
from s3sync.runs import local_files, readiness
from s3sync.runs.run_folder import Run, open_run
from s3sync.state import Proof
from s3sync.transfer.selection import select_files
from s3sync.transfer.verify.verification import Verification
from tests.helpers.contexts import request_to

TO = Destination("lab-runs", "")


def identical(run: Run) -> Verification:
    """What a comparison finds if S3 has every file of the run."""
    listing = local_files.list_files(run)
    found = {file.path: local_files.read_identity(run, file.path) for file in listing.files}
    return Verification(
        run=run,
        request=request_to(run),
        selection=select_files(run, listing, TO, ()),
        verified=[Proof.of(file, "etag", "etag") for file in listing.files],
        only_in_s3=[],
        remote={file.path: RemoteObject(file.size, "etag") for file in listing.files},
        identities={path: one for path, one in found.items() if one},
    )


def _no_obstacles(_run: object, _found: Verification) -> list[Obstacle]:
    return []


@pytest.mark.parametrize(
    ("missing", "require_whole_runs", "kept"),
    [("", True, ""), ("3 files missing", True, "cleanup.incomplete"), ("3 files missing", False, "")],
)
def test_a_run_that_lacks_base_calls_here_and_in_s3_is_kept(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, require_whole_runs: bool, kept: str
) -> None:
    run = open_run(tiny_run)
    asked: list[tuple[Run, list[Pattern]]] = []

    def describe(of_run: Run, excludes: Sequence[Pattern]) -> str:
        asked.append((of_run, [*excludes]))
        return missing

    monkeypatch.setattr(readiness, "describe_missing_base_calls", describe)
    monkeypatch.setattr(statuses, "refresh", lambda _config, _runs: ())
    uploaded = SimpleNamespace(run=run, entry=SimpleNamespace(excludes=(Pattern("x$"),)))
    candidate = SimpleNamespace(folder=tiny_run, units=(), runs=(), uploaded=(uploaded,))
    config = SimpleNamespace(log_dir=tmp_path / "log", require_whole_runs=require_whole_runs)

    decided = verdict.decide(cast(Any, candidate), cast(Any, config), lambda _run: identical(run), _no_obstacles)

    assert (decided.keep.id if decided.keep else "") == kept
    assert decided.verified.files.keys() == {file.path for file in local_files.list_files(run).files}
    assert asked == ([(run, [Pattern("x$")])] if require_whole_runs else [])


def test_a_run_whose_status_has_changed_meanwhile_is_kept_without_a_comparison(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (SimpleNamespace(state=state, head=None) for state in ("uploaded", "partial"))
    monkeypatch.setattr(statuses, "refresh", lambda _config, _runs: (after,))
    candidate = SimpleNamespace(folder=tiny_run, units=(before,), runs=(before,), uploaded=(before,))
    config = SimpleNamespace(log_dir=tmp_path / "log", require_whole_runs=True)
    decided = verdict.decide(cast(Any, candidate), cast(Any, config), cast(Any, None), _no_obstacles)
    assert decided.keep
    assert decided.keep.id == "cleanup.changed-meanwhile"
