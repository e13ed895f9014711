"""The processes of one upload are ended when a stop is requested, whatever is scarce."""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync import process_tree
from s3sync.aws import process_set
from s3sync.aws.process_set import ProcessSet
from s3sync.delays import DELAYS
from s3sync.signals import StopRequest


class Running(contextlib.AbstractContextManager[None]):
    """A process that runs until the test is over."""

    returncode = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __exit__(self, *_exception: object) -> None:
        pass


class NoThread:
    def __init__(self, **_options: object) -> None:
        pass

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_stop_without_a_further_thread_kills_the_processes_of_all_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, signals = StopRequest(), list[tuple[int, int]]()
    sets = [ProcessSet(stop, 600), ProcessSet(stop, 600)]
    monkeypatch.setattr(process_tree, "send_signal", lambda pid, signum: signals.append((pid, signum)))
    with contextlib.ExitStack() as stack:
        for number, each in enumerate(sets):
            stack.enter_context(each.running(functools.partial(cast(Any, Running), number)))
        monkeypatch.setattr(process_set, "threading", SimpleNamespace(Thread=NoThread))
        stop.request(signal.SIGTERM)
        monkeypatch.undo()
    assert signals == [(0, signal.SIGKILL), (1, signal.SIGKILL)]
    assert sets[0].pop_killed_reason(0) == "was interrupted"


def test_only_processes_with_multipart_uploads_get_time_to_abort_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
    monkeypatch.setattr(process_tree, "terminate", lambda pid, _has_ended, grace: ended.put((pid, grace)))
    stop = StopRequest()
    processes = ProcessSet(stop, 600)
    with (
        processes.running(lambda: cast(Any, Running)(1)),
        processes.running(lambda: cast(Any, Running)(2), has_parts=False),
    ):
        stop.request(signal.SIGINT)
        assert sorted(ended.get(timeout=60) for _ in range(2)) == [
            (1, math.inf),
            (2, DELAYS.signal_grace_without_parts),
        ]
