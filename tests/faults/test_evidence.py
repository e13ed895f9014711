"""What proves a file: its ETag or a checksum, by `verify`; and objects that are right in one of the two only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.lab import Lab, tree
from tests.helpers.promise import is_verified
from tests.helpers.s3server import MIB, Fault, FaultKind, S3Server

SMALL, LARGE = "Data/s.bcl", "Data/l.cbcl"
OPERATIONS = {SMALL: "PutObject", LARGE: "CompleteMultipartUpload"}


@pytest.fixture
def run(tiny_run: Path) -> Path:
    """With a file in one PUT, and one in three parts."""
    (tiny_run / SMALL).write_bytes(b"small")
    (tiny_run / LARGE).write_bytes(bytes(range(256)) * (20 * MIB // 256) + b"x")
    return tiny_run


@pytest.fixture
def aws(quick_aws: Callable[..., str]) -> tuple[str, str]:
    """Options: the quick double of the CLI."""
    return "--aws_command", quick_aws()


def ways(lab: Lab, run: Path) -> set[str]:
    """What verified the files, as the log has it."""
    log = lab.log(run)
    return {log["verified_by"], *log["verified_by_exceptions"].values()}


@pytest.mark.parametrize(
    ("verify", "kind", "what", "path"),
    [
        ("checksum", "wrong_checksum", "CRC32", SMALL),
        ("checksum", "wrong_checksum", "CRC32", LARGE),
        ("etag", "wrong_etag", "ETag", SMALL),
        ("auto", "wrong_etag", "ETag", SMALL),
    ],
)
def test_an_object_with_the_right_size_and_other_evidence_is_no_proof(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], verify: str, kind: FaultKind, what: str, path: str
) -> None:
    wrong = Fault(kind, method=None, operation=OPERATIONS[path], key_contains=path, count=None)
    server.add_fault(wrong)
    result = lab.upload(run, "--verify", verify, *aws)
    assert result.code == 1
    assert [Path(failed).name for failed in lab.log(run)["failed_reasons"]] == [Path(path).name]
    assert "S3 has other bytes" in result.out
    assert what in result.out
    wrong.count = 0
    assert lab.upload(run, "--verify", verify, *aws).code == 0
    is_verified(lab, run, server)


def test_a_checksum_proves_all_files_and_the_log_has_their_etags(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str]
) -> None:
    assert lab.upload(run, "--verify", "checksum", *aws).code == 0
    assert ways(lab, run) == {"checksum"}
    is_verified(lab, run, server)
    assert server.counters["HeadObject"] <= len(tree(run))


@pytest.mark.parametrize("verify", ["auto", "checksum"])
def test_without_checksums_etags_are_compared(
    lab: Lab, server: S3Server, run: Path, aws: tuple[str, str], verify: str
) -> None:
    server.dialect.checksums = "ignored"
    result = lab.upload(run, "--verify", verify, *aws)
    assert result.code == 0
    assert ways(lab, run) == {"etag"}
    assert ("stores no checksums" in result.err) == (verify == "checksum")
    is_verified(lab, run, server)
