"""What a listing says of objects in archives, and when it is not relied on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from s3sync.aws import thaw
from s3sync.aws.access import RestoreAccess
from s3sync.aws.client import AwsResult, RemoteFolder
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


def run_in_s3(aws: object) -> RemoteFolder:
    return RemoteFolder(cast(Any, aws), BucketRef("lab-runs"), "RUN/")


def listed(aws: Aws) -> dict[str, thaw.ListedState] | None:
    return thaw.Thawing(run_in_s3(aws), 1).listed_states(PATHS)


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


class Server:
    """A server that answers each command with a state, or with an error."""

    def __init__(self, errors: Mapping[str, str], *, thawed: bool = False, may_be_other: bool = True) -> None:
        """`errors` are by command; those about a key that does not exist are `missing `, and the command."""
        self.may_have_other_server = may_be_other
        self.asked: list[tuple[str, str]] = []
        self._errors = {"missing head-object": "404", "missing restore-object": "NoSuchKey", **errors}
        self._state = ["GLACIER", 'ongoing-request="false"' if thawed else None, None]

    def run(self, argv: Sequence[str]) -> AwsResult:
        key = next(option.partition("=")[2] for option in argv if option.startswith("--key="))
        self.asked.append((argv[1], key))
        code = self._errors.get(argv[1] if key == "RUN/Data/a" else f"missing {argv[1]}")
        if code:
            return AwsResult(tuple(argv), 254, b"", (f"An error occurred ({code}) when calling it: no",))
        return AwsResult(tuple(argv), 0, json.dumps(self._state).encode(), ())

    def obstacles(self, storage_class: str) -> list[bool]:
        access = RestoreAccess(run_in_s3(self), 1)
        return [each.is_frozen for each in access.find_obstacles([("Data/a", storage_class)])]

    @property
    def changed(self) -> list[str]:
        """What might have changed an object."""
        return [command for command, key in self.asked if key == "RUN/Data/a" and command == "restore-object"]


@pytest.mark.parametrize(
    ("errors", "storage_class", "obstacle"),
    [
        ({"get-object": "InvalidRange"}, "STANDARD", None),  # without a byte
        ({"get-object": "AccessDenied"}, "STANDARD", False),
        ({"get-object": "NoSuchKey"}, "STANDARD", False),
        ({"get-object": "KMS.DisabledException"}, "STANDARD", False),
        ({"head-object": "403"}, "GLACIER", False),
        ({"head-object": "403"}, "CLOUDTIER", False),
        ({}, "GLACIER", None),
        ({"missing restore-object": "AccessDenied"}, "GLACIER", True),
        ({"missing restore-object": "NotImplemented"}, "GLACIER", None),  # and the object can be read
        ({"missing restore-object": "NotImplemented", "get-object": "InvalidObjectState"}, "GLACIER", True),
        ({"get-object": "InvalidObjectState"}, "INTELLIGENT_TIERING", None),
        ({"get-object": "InvalidObjectState", "missing restore-object": "AccessDenied"}, "INTELLIGENT_TIERING", True),
        ({"missing restore-object": "AccessDenied"}, "INTELLIGENT_TIERING", None),  # none of its archive tiers
    ],
)
def test_reasons_why_an_object_cannot_be_restored(
    errors: dict[str, str], storage_class: str, obstacle: bool | None
) -> None:
    server = Server(errors)
    assert server.obstacles(storage_class) == ([] if obstacle is None else [obstacle])
    assert server.changed == []


def test_a_thawed_copy_can_be_read_and_must_be_thawed_again_when_it_expires() -> None:
    assert Server({"missing restore-object": "AccessDenied"}, thawed=True).obstacles("GLACIER") == [True]
    assert Server({"get-object": "AccessDenied"}, thawed=True).obstacles("GLACIER") == [False]
    assert Server({}, thawed=True).obstacles("GLACIER") == []


@pytest.mark.parametrize(("storage_class", "is_read"), [("GLACIER", False), ("CLOUDTIER", False), ("", True)])
def test_what_may_be_in_a_tier_of_ceph_is_not_read(storage_class: str, is_read: bool) -> None:
    """Ceph fetches such an object if it is read, and thaws it for ever without days, whatever its tier is called."""
    server = Server({"missing head-object": "403", "missing restore-object": "AccessDenied"})
    assert server.obstacles(storage_class) == []
    assert ("get-object" in dict(server.asked)) == is_read
    assert server.changed == []


@pytest.mark.parametrize(("error", "obstacle"), [("MalformedXML", []), ("AccessDenied", [True])])
def test_amazon_is_asked_about_the_object_itself_where_it_does_not_say_which_keys_exist(
    error: str, obstacle: list[bool]
) -> None:
    hidden = {"missing head-object": "403", "missing restore-object": "AccessDenied", "restore-object": error}
    assert Server(hidden, may_be_other=False).obstacles("DEEP_ARCHIVE") == obstacle


@pytest.mark.parametrize("error", ["SlowDown", "InternalError", "Could not connect to the endpoint URL: no"])
def test_a_temporary_failure_says_nothing_about_the_permission_to_read(error: str) -> None:
    access = RestoreAccess(run_in_s3(Aws(None, error=error)), 1)
    with pytest.raises(AwsError) as raised:
        access.find_obstacles([("a", "STANDARD")])
    assert raised.value.id in ("s3.throttled", "s3.server-error", "s3.unreachable")


@pytest.mark.parametrize(("count", "limit"), [(0, 4), (4, 4), (5, 4), (15, 8), (150, 100)])
def test_a_sample_comes_from_all_over_the_run(count: int, limit: int) -> None:
    paths = [f"Data/{number:03}" for number in range(count)]
    sample = thaw.choose_sample(paths, limit)
    assert len(set(sample)) == min(count, limit)
    assert (sample[:1], sample[-1:]) == (paths[:1], paths[-1:])
