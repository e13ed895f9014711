"""A stop of everything stops each part; a part whose lock is lost stops alone."""

from __future__ import annotations

import signal

import pytest

from s3sync.errors import InterruptedBySignal, LeaseLostError
from s3sync.signals import StopRequest


def test_a_signal_stops_every_part_with_its_processes() -> None:
    stop, ended = StopRequest(), list[str]()
    with stop.child() as first, stop.child() as second:
        first.on_request(lambda: ended.append("first"))
        second.on_request(lambda: ended.append("second"))
        stop.request(signal.SIGTERM)
        assert ended == ["first", "second"]
        with pytest.raises(InterruptedBySignal) as raised:
            first.raise_if_requested()
    assert raised.value.exit_code == 143


def test_a_part_that_begins_after_the_signal_is_stopped_at_once() -> None:
    stop = StopRequest()
    stop.request(signal.SIGINT)
    with stop.child() as late:
        assert late.is_requested


def test_a_lost_lock_stops_its_part_alone() -> None:
    stop = StopRequest()
    with stop.child() as first, stop.child() as second:
        first.request_for_lost_lease(LeaseLostError("taken over", id="lock.lost"))
        assert (first.has_lost_lease, second.is_requested, stop.is_requested) == (True, False, False)


def test_the_lost_lock_of_the_scan_stops_every_part() -> None:
    stop = StopRequest()
    with stop.child() as part:
        stop.request_for_lost_lease(LeaseLostError("taken over", id="lock.lost"))
        with pytest.raises(LeaseLostError):
            part.raise_if_requested()


def test_a_part_that_has_ended_is_not_kept() -> None:
    stop, ended = StopRequest(), list[str]()
    with stop.child() as part:
        part.on_request(lambda: ended.append("part"))
    stop.request(signal.SIGTERM)
    assert ended == []
