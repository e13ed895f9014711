"""The finalizer job decides what to do from what it knows of the other jobs."""

from __future__ import annotations

from typing import Any

import pytest

from s3sync.runs.local_files import LocalFile
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
