"""The output of an `aws` process as JSON: parsed at once, or element by element."""

from __future__ import annotations

import json

import pytest

from s3sync.aws.result import AwsResult
from s3sync.errors import AwsError
from tests.helpers.errors import raises_error


def printed(text: bytes) -> AwsResult:
    return AwsResult(("s3api", "x"), 0, text, ())


@pytest.mark.parametrize("value", [None, [], [1], [["a,]", "ü\n", None], {"b": [2]}, "]"]])
@pytest.mark.parametrize("indent", [None, 4])
def test_the_elements_of_a_list_are_those_of_the_whole(value: object, indent: int | None) -> None:
    result = printed(b" \n" + json.dumps(value, indent=indent).encode() + b"\n")
    assert list(result.iterate_json()) == (result.json() or [])


def test_no_output_has_no_elements() -> None:
    assert list(printed(b"").iterate_json()) == []


@pytest.mark.parametrize(
    "text", [b"[1,]", b"[1 2]", b"[1", b"[", b"[,1]", b"[1]x", b"[1]]", b"{", b"x", b'["\xff"]', b"[" * 100_000]
)
def test_what_is_not_json_is_an_error_in_both_ways(text: bytes) -> None:
    with raises_error(AwsError, "aws.bad-output"):
        printed(text).json()
    with raises_error(AwsError, "aws.bad-output"):
        list(printed(text).iterate_json())
