"""Delays are data: tests set them, and what makes no sense changes nothing."""

from __future__ import annotations

import pytest

from s3sync.delays import Delays, parse_delays


def test_delays_of_users_hold_unless_others_are_set() -> None:
    assert parse_delays("") == Delays()
    changed = parse_delays('{"upload_retries": [0, 0.5], "lock_polls": 0}')
    assert parse_delays("0.5, 2") == Delays(upload_retries=(0.5, 2.0))
    assert changed == Delays(upload_retries=(0.0, 0.5), lock_polls=0)
    assert Delays().upload_retries == Delays().connection_retries == (1.0, 4.0)


@pytest.mark.parametrize(
    "text",
    [
        "x,1",
        "1",
        "-1,1",
        "NaN,1",
        "1,2,3",
        "[]",
        '{"lock_polls": "1"}',
        '{"lock_polls": -1}',
        '{"lock_polls": [1]}',
        '{"lock_polls": NaN}',
        '{"upload_retries": [1]}',
        '{"upload_retries": [1, Infinity]}',
        '{"upload_retries": 1}',
        '{"unknown": 1}',
    ],
)
def test_invalid_delays_are_ignored(text: str) -> None:
    assert parse_delays(text) == Delays()
