"""The finalizer job decides what to do from what it knows of the other jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from s3sync.runs.local_files import LocalFile
from s3sync.signals import StopRequest
from s3sync.slurm import finalizer
from s3sync.slurm.finalizer import NextStep, Situation, next_step

LEAVE, SUBMIT_ARRAY, MOVE, UPLOAD = NextStep.LEAVE, NextStep.SUBMIT_ARRAY, NextStep.MOVE, NextStep.UPLOAD
LARGE = (LocalFile("Data/large", 10**12, 1),)
SMALL = (LocalFile("RunInfo.xml", 1, 1),)


@pytest.mark.parametrize(
    ("known", "step"),
    [
        ({}, UPLOAD),
        ({"pending": SMALL}, UPLOAD),
        ({"pending": LARGE}, SUBMIT_ARRAY),
        ({"pending": LARGE, "array_count": 2}, UPLOAD),
        ({"pending": LARGE, "any_node_works": False}, UPLOAD),
        ({"pending": LARGE, "is_node_broken": True}, SUBMIT_ARRAY),
        ({"is_node_broken": True}, MOVE),
        ({"array_count": 2, "running_array": 7}, LEAVE),
        ({"array_count": 2, "running_array": 7, "is_node_broken": True}, LEAVE),
        ({"pending": LARGE, "refused": {SUBMIT_ARRAY}}, UPLOAD),
        ({"pending": LARGE, "is_node_broken": True, "refused": {SUBMIT_ARRAY}}, MOVE),
        ({"pending": LARGE, "is_node_broken": True, "refused": {SUBMIT_ARRAY, MOVE}}, UPLOAD),
        ({"array_count": 2, "running_array": 7, "is_node_broken": True, "refused": {LEAVE}}, MOVE),
        ({"is_node_broken": True, "refused": {MOVE}}, UPLOAD),
    ],
)
def test_next_step(known: dict[str, Any], step: NextStep) -> None:
    known["refused"] = frozenset(known.get("refused", ()))
    assert next_step(Situation(**known)) is step


def test_it_waits_for_every_task_that_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm may have given up a node on which a task still sends: its files must not be sent from here, too."""
    happened: list[object] = []

    class Folder:
        starts = SimpleNamespace(mark_started=lambda _environ: None)

        def result(self, _who: str) -> None:
            """None: this job has not come to its end before."""

        def shard_count(self) -> int:
            return 2

    class Job:
        def __init__(self, *_args: object) -> None:
            happened.append("begins")

        def assess(self) -> Situation:
            return Situation()

        def upload(self, _stop: StopRequest) -> None:
            happened.append("uploads")

    @contextlib.contextmanager
    def hold_shard(_folder: object, number: int, _stop: StopRequest) -> Iterator[None]:
        happened.append(number)
        yield

    monkeypatch.setattr(finalizer, "load_spec", lambda _folder, _environ: None)
    monkeypatch.setattr(finalizer, "hold_shard", hold_shard)
    monkeypatch.setattr(finalizer, "_FinalizerJob", Job)
    finalizer.run_finalizer(cast(Any, Folder()), {}, StopRequest())
    assert (set(happened[:2]), happened[2:]) == ({0, 1}, ["begins", "uploads"])
