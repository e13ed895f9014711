"""What a listing says of objects in archives, and when it is not relied on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from s3sync.aws import thaw, way_back
from s3sync.aws.client import AwsResult
from s3sync.aws.destination import BucketRef
from s3sync.errors import AwsError

PATHS = ["a", "b", "c"]
EXPIRY = "2029-12-21T00:00:00"


class Aws:
    """A CLI that answers a listing with these rows, or fails, and each head-object with the same state."""

    def __init__(self, rows: Sequence[Sequence[Any]] | None, restore: str | None = None, error: str = "") -> None:
        self.asked: list[str] = []
        self._rows = rows
        self._restore = restore
        self._error = error

    def run(self, argv: Sequence[str]) -> AwsResult:
        self.asked.append(argv[1])
        if self._error:
            if " " in self._error:
                return AwsResult(tuple(argv), 255, b"", (self._error,))
            return AwsResult(tuple(argv), 254, b"", (f"An error occurred ({self._error}) when calling it: no",))
        if argv[1] == "head-object":
            return AwsResult(tuple(argv), 0, json.dumps(["GLACIER", self._restore, None]).encode(), ())
        if self._rows is None:
            return AwsResult(tuple(argv), 252, b"", ("Unknown options: --optional-object-attributes",))
        return AwsResult(tuple(argv), 0, json.dumps(self._rows).encode(), ())


def listed(aws: Aws) -> dict[str, thaw.ListedState] | None:
    return thaw.Thawing(cast(Any, aws), BucketRef("lab-runs"), "RUN/", 1).listed_states(PATHS)


@pytest.mark.parametrize("zone", [".000Z", "+00:00"])
def test_each_object_has_the_state_that_the_listing_says(zone: str) -> None:
    aws = Aws(
        [["RUN/a", None, None], ["RUN/b", True, None], ["RUN/c", False, f"{EXPIRY}{zone}"], ["RUN/d", None, None]]
    )
    found = listed(aws) or {}
    assert {path: item.state for path, item in found.items()} == {"a": "frozen", "b": "ongoing", "c": "thawed"}
    assert (found["b"].expires, found["c"].expires) == (0.0, 1_892_505_600.0)
    assert aws.asked == ["list-objects-v2"]


@pytest.mark.parametrize(("restore", "is_relied_on"), [(None, True), ('ongoing-request="true"', False)])
def test_a_listing_that_names_none_as_thawed_is_checked(restore: str | None, is_relied_on: bool) -> None:
    """A server that does not know the question answers so, too."""
    aws = Aws([[f"RUN/{path}", None, None] for path in PATHS], restore)
    assert (listed(aws) is not None) == is_relied_on
    assert "head-object" in aws.asked


@pytest.mark.parametrize("rows", [None, [], [["RUN/a", None, None]], [[1, 2], [3]], [["RUN/a"]]])
def test_no_state_is_guessed(rows: list[list[Any]] | None) -> None:
    assert listed(Aws(rows)) is None


@pytest.mark.parametrize(
    ("error", "storage_class", "obstacle"),
    [
        ("InvalidObjectState", "GLACIER", None),  # frozen, and the request was rejected for that alone
        ("InvalidRange", "STANDARD", None),  # without a byte
        ("AccessDenied", "STANDARD", False),
        ("NoSuchKey", "STANDARD", False),
    ],
)
def test_what_keeps_an_object_from_being_restored(error: str, storage_class: str, obstacle: bool | None) -> None:
    asking = way_back.WayBack(cast(Any, Aws(None, error=error)), BucketRef("lab-runs"), "RUN/", 1)
    found = asking.find_obstacles([("a", storage_class)])
    assert [each.is_frozen for each in found] == ([] if obstacle is None else [obstacle])


@pytest.mark.parametrize(("storage_class", "is_asked"), [("GLACIER", True), ("CLOUDTIER", False), ("", False)])
def test_a_class_that_is_none_of_the_archives_of_s3_is_not_asked_for(storage_class: str, is_asked: bool) -> None:
    """Ceph thaws an object of a cloud tier for ever if no days are given, so the question would be no question."""
    aws = Aws(None, error="InvalidObjectState")
    asking = way_back.WayBack(cast(Any, aws), BucketRef("lab-runs"), "RUN/", 1)
    assert asking.find_obstacles([("a", storage_class)]) == []
    assert ("restore-object" in aws.asked) == is_asked


@pytest.mark.parametrize("error", ["SlowDown", "InternalError", "Could not connect to the endpoint URL: no"])
def test_what_may_pass_says_nothing_of_the_permission_to_read(error: str) -> None:
    asking = way_back.WayBack(cast(Any, Aws(None, error=error)), BucketRef("lab-runs"), "RUN/", 1)
    with pytest.raises(AwsError) as raised:
        asking.find_obstacles([("a", "STANDARD")])
    assert raised.value.id in ("s3.throttled", "s3.server-error", "s3.unreachable")
