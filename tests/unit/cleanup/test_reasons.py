"""Why a run is kept: each rule by itself, and that one that is not met is enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.access import Obstacle
from s3sync.aws.objects import RemoteObject
from s3sync.cleanup import reasons
from s3sync.cleanup.reasons import reasons_to_keep
from s3sync.cleanup.record import Record, RecordedFile, Target
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state import Proof
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.verify.verification import Verification
from tests.helpers.contexts import request_to

NAME = "261123_A01234_0007_AHFAULTDRX7"
URL = f"s3://lab-runs/{NAME}/"
LOG_DIR = Path("/log")


def proof(path: str) -> Proof:
    return Proof(path=path, size=3, mtime_ns=1, etag=f"etag of {path}", verified_by="etag")


def found(**keys: Any) -> Verification:
    """A run of two files that is identical in S3, but for `keys`."""
    paths = ("Data/a.cbcl", "RunInfo.xml")
    selection = UploadSelection(
        files=tuple(LocalFile(path, 3, 1) for path in paths), rejected=(), excluded=0, warnings=()
    )
    run = Run(path=Path("/data") / NAME, run_id=NAME, info=RunInfo())
    verification = Verification(
        run=run,
        request=request_to(run, log_dir=LOG_DIR),
        selection=selection,
        verified=[proof(path) for path in paths],
        only_in_s3=[],
        remote={path: RemoteObject(3, f"etag of {path}") for path in paths},
    )
    return replace(verification, **keys)


def record(*paths: str) -> Record:
    """An interrupted cleanup that had verified these files."""
    target = Target(url=URL, state="uploaded", reason="", log="", completed="", verdict="identical")
    return Record(
        run_id=NAME,
        run_path=f"/data/{NAME}",
        device=1,
        inode=2,
        user="lab",
        host="host",
        older_than_seconds=0,
        begun="2026-01-02T03:04:05+00:00",
        targets=(target,),
        kept=(),
        files={path: RecordedFile(3, 1, (f"etag of {path}",)) for path in paths},
    )


def ids(verification: Verification, of_record: Record | None = None) -> list[str]:
    return [reason.id for reason in reasons_to_keep(verification, of_record)]


def test_a_run_that_is_identical_in_s3_is_not_kept() -> None:
    assert ids(found()) == []
    assert ids(found(), record("Data/a.cbcl", "RunInfo.xml")) == []


GONE = "Data/gone.cbcl"
KEPT: dict[str, tuple[Verification, Record | None, list[str]]] = {
    "a bucket that may not be listed": (found(remote=None, only_in_s3=None), None, ["cleanup.not-listed"]),
    "a listing without what only S3 has": (found(only_in_s3=None), None, ["cleanup.not-listed"]),
    "another content": (found(differing={"RunInfo.xml": "S3 has other bytes"}), None, ["cleanup.differs"]),
    "a size alone": (found(size_only=[proof("RunInfo.xml")]), None, ["cleanup.size-only"]),
    "a file that only S3 has": (found(only_in_s3=[GONE]), None, ["cleanup.only-in-s3"]),
    "a file that only S3 has, beside one that was deleted here": (
        found(only_in_s3=["other", GONE], remote={**(found().remote or {}), GONE: RemoteObject(3, f"etag of {GONE}")}),
        record(GONE),
        ["cleanup.only-in-s3"],
    ),
    "a deleted file that S3 has lost": (found(), record(GONE), ["cleanup.changed-since-deleted"]),
    "a deleted file that S3 has with another content": (
        found(only_in_s3=[GONE], remote={**(found().remote or {}), GONE: RemoteObject(3, "another")}),
        record(GONE),
        ["cleanup.changed-since-deleted"],
    ),
    "a run of which S3 has nothing": (found(verified=[]), None, ["cleanup.nothing-in-s3"]),
    "several reasons, the most important first": (
        found(verified=[], differing={"x": "not in S3"}, only_in_s3=[GONE]),
        None,
        ["cleanup.differs", "cleanup.only-in-s3", "cleanup.nothing-in-s3"],
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_run_is_kept_for_this_reason(case: str) -> None:
    verification, of_record, expected = KEPT[case]
    assert ids(verification, of_record) == expected


def test_a_file_that_an_interrupted_cleanup_deleted_is_no_reason() -> None:
    remote = {**(found().remote or {}), GONE: RemoteObject(3, f"etag of {GONE}")}
    assert ids(found(only_in_s3=[GONE], remote=remote), record(GONE)) == []


OBSTACLES = {"cleanup.not-readable": False, "cleanup.not-thawable": True}


@pytest.mark.parametrize(("expected", "is_frozen"), OBSTACLES.items())
def test_a_run_is_kept_that_could_not_be_restored(expected: str, is_frozen: bool) -> None:
    obstacle = Obstacle(path="Data/a.cbcl", reason="AccessDenied", is_frozen=is_frozen)
    (reason,) = reasons_to_keep(found(), None, [obstacle])
    assert reason.id == expected
    assert "Data/a.cbcl: AccessDenied" in reason.text
    assert "`verify` names" not in reason.text, "it tries no object"
    assert "of the few objects that were tried" in reason.text, "the others are not known"


def test_every_rule_has_a_case() -> None:
    covered = {name for _, _, expected in KEPT.values() for name in expected} | OBSTACLES.keys()
    assert len(covered) == len(reasons.RULES)


def test_a_reason_names_a_file_the_others_and_the_command_that_uploads_them() -> None:
    differing = {"Analysis/1/x.fastq.gz": "not in S3", "Data/b.cbcl": "not in S3"}
    (reason,) = reasons_to_keep(found(differing=differing), None)
    assert reason.text.startswith(f"2 files not identical with {URL}: Analysis/1/x.fastq.gz: not in S3, and 1 more")
    assert "; 1 of it in Analysis/: the instrument's own analysis" in reason.text
    assert "--log-dir /log --recheck` uploads what differs" in reason.text
