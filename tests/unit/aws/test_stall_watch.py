"""The thread that watches the processes of one upload for stalls."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, cast

import pytest

from s3sync.aws.process_set import ProcessSet
from s3sync.signals import StopRequest


class Running(contextlib.AbstractContextManager["Running"]):
    """A process that runs until the test is over."""

    returncode = None
    pid = 2**30

    def __exit__(self, *_exception: object) -> None:
        pass


def test_a_process_that_no_thread_can_watch_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been started, so an error would leave it behind, at work and unknown."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    processes = ProcessSet(StopRequest(), 600)
    monkeypatch.setattr(threading.Thread, "start", fail)
    with processes.running(cast(Any, Running)):
        assert processes.pids() == [Running.pid]
    assert processes.pids() == []
    monkeypatch.undo()
    with processes.running(cast(Any, Running)):
        assert "stalls" in {thread.name for thread in threading.enumerate()}
