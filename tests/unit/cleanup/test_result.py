"""When a cleanup counts as complete, and what is said of files that stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3sync.cleanup.candidates import CleanupCandidate
from s3sync.cleanup.reasons import Reason
from s3sync.cleanup.result import CleanupResult, RunResult, describe_kept, describe_not_deleted
from s3sync.inventory import Problem

YOUNG = Reason(id="cleanup.too-young", text="not old enough")


def result(keep: Reason | None = None, **keys: Any) -> RunResult:
    candidate = CleanupCandidate(folder=Path("/data/RUN"), units=(), keep=keep, completed="", age=None)
    return RunResult(candidate=candidate, **{"outcome": "deleted", **keys})


def done(*runs: RunResult, problems: tuple[Problem, ...] = (), unknown: tuple[str, ...] = ()) -> CleanupResult:
    return CleanupResult(runs, (), problems, unknown)


@pytest.mark.parametrize(
    ("cleanup", "names", "delete", "expected"),
    [
        (done(), [], True, True),
        (done(result()), [], True, True),
        (done(result(outcome="may be deleted")), [], False, True),
        (done(result(outcome="kept")), [], True, False),
        (done(result(outcome="kept")), [], False, True),
        (done(result(YOUNG, outcome="kept")), [], True, True),
        (done(result(YOUNG, outcome="kept")), ["RUN"], True, False),
        (done(result(has_failed=True)), [], True, False),
        (done(result(has_failed=True)), [], False, False),
        (done(unknown=("nothing",)), ["nothing"], False, False),
        (done(problems=(Problem("directory", "unreadable"),)), [], False, False),
    ],
)
def test_a_cleanup_is_complete(cleanup: CleanupResult, names: list[str], delete: bool, expected: bool) -> None:
    assert cleanup.is_complete(names, delete=delete) is expected


def test_files_that_stay_are_counted_and_the_first_named() -> None:
    assert describe_kept(["a"]) == "1 file not in S3 is kept, with its folder: a"
    assert describe_kept(["a", "b", "c", "d"]) == "4 files not in S3 are kept, with their folders: a, b, c, and 1 more"
    assert describe_not_deleted({}) == ""
    assert describe_not_deleted({"a\n": "changed"}) == r"a\n: changed (fix that, and run the same command again)"
    assert describe_not_deleted({"a": "changed", "b": "gone"}).startswith("a: changed, and 1 more (")
