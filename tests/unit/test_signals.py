"""Requests to stop, and loops that wait for one."""

from __future__ import annotations

import signal

import pytest

from s3sync.errors import EXIT_BUSY, InterruptedBySignal, LeaseLostError
from s3sync.signals import StopRequest
from tests.helpers.errors import raises_error


def test_only_the_first_request_counts() -> None:
    stop = StopRequest()
    asked: list[str] = []
    stop.on_request(lambda: asked.append("a"))
    stop.on_request(lambda: asked.append("b"))
    stop.raise_if_requested()
    assert (stop.is_requested, stop.signum, stop.wait(0)) == (False, None, False)
    stop.request(signal.SIGTERM)
    stop.request(signal.SIGINT)
    assert (stop.is_requested, stop.signum, stop.wait(120)) == (True, signal.SIGTERM, True)
    assert asked == ["a", "b"]


def test_removed_actions_are_not_called() -> None:
    stop = StopRequest()
    asked: list[str] = []

    def action() -> None:
        asked.append("called")

    stop.on_request(action)
    stop.remove_action(action)
    stop.remove_action(action)
    stop.request(signal.SIGTERM)
    assert asked == []


def test_polling_ends_with_the_request() -> None:
    stop = StopRequest()
    turns = 0
    for _ in stop.poll(every=0.0):
        turns += 1
        if turns == 3:
            stop.request(signal.SIGTERM)
    assert turns == 3
    assert list(stop.poll(every=0.0)) == [], "it was requested before"


def test_polling_ends_after_its_time_with_one_last_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    clock = [0.0]
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        clock[0] += seconds
        return False

    monkeypatch.setattr("s3sync.signals.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(stop, "wait", wait)
    assert len(list(stop.poll(every=2.0, timeout=5.0))) == 4
    assert pauses == [2.0, 2.0, 1.0]
    assert len(list(stop.poll(every=2.0, timeout=0.0))) == 1


def test_a_lost_lease_is_raised_again_with_its_id() -> None:
    stop = StopRequest()
    stop.request_for_lost_lease(LeaseLostError("lost to host-2", id="lock.lost"))
    assert (stop.is_requested, stop.has_lost_lease, stop.signum) == (True, True, None)
    with pytest.raises(LeaseLostError, match="lost to host-2") as caught:
        stop.raise_if_requested()
    assert (caught.value.id, caught.value.exit_code) == ("lock.lost", EXIT_BUSY)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_raised_with_the_exit_code_of_the_shell(signum: signal.Signals, code: int) -> None:
    stop = StopRequest()
    stop.request(signum)
    with raises_error(InterruptedBySignal, "run.interrupted", signum.name) as caught:
        stop.raise_if_requested()
    assert caught.value.exit_code == code
