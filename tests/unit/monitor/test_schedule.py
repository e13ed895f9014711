"""Which runs a scan works on at once, and in which order it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from s3sync.errors import AwsError, SlurmError
from s3sync.inventory import RunStatus
from s3sync.monitor.problems import Kind, Problem
from s3sync.monitor.schedule import Schedule


@dataclass(frozen=True)
class Entry:
    bucket: str
    cluster: str = ""


@dataclass(frozen=True)
class FakeRun:
    key: str
    entry: Entry
    state: str


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def runs_of(names: str, state: str = "new", cluster: str = "", bucket: str = "one") -> list[RunStatus]:
    return [cast(RunStatus, FakeRun(name, Entry(bucket, cluster), state)) for name in names]


def begin_all(schedule: Schedule, working: list[RunStatus]) -> str:
    """Begin what may begin, and return it."""
    before = len(working)
    while run := schedule.take(working):
        working.append(run)
    return "".join(run.key for run in working[before:])


def test_several_are_uploaded_at_once_and_as_many_streamed() -> None:
    schedule, working = Schedule(2, 600), list[RunStatus]()
    schedule.offer([*runs_of("ABC"), *runs_of("DEF", "streaming"), *runs_of("GH", "uploaded")])
    assert begin_all(schedule, working) == "ABDEG"
    del working[0]
    assert begin_all(schedule, working) == "C"


def test_work_of_seconds_comes_first_and_one_by_one() -> None:
    schedule, working = Schedule(2, 600), list[RunStatus]()
    schedule.offer([*runs_of("AB", cluster="slurm"), *runs_of("C")])
    assert begin_all(schedule, working) == "A"
    working.clear()
    assert begin_all(schedule, working) == "B"
    working.clear()
    assert begin_all(schedule, working) == "C"


def test_a_small_run_waits_for_no_large_ones() -> None:
    schedule, working = Schedule(2, 600, is_small=lambda run: run.key == "S"), list[RunStatus]()
    schedule.offer(runs_of("ABCS"))
    assert begin_all(schedule, working) == "ABS"


def test_a_run_is_worked_on_once_at_a_time_and_again_after_a_while() -> None:
    clock = Clock()
    schedule, working = Schedule(4, 600, clock), list[RunStatus]()
    schedule.offer(runs_of("AB"))
    assert begin_all(schedule, working) == "AB"
    schedule.mark_tried(working.pop(0))
    schedule.offer(runs_of("ABC"))
    assert begin_all(schedule, working) == "C"
    clock.now = 599.0
    schedule.offer(runs_of("A"))
    assert begin_all(schedule, working) == ""
    clock.now = 600.0
    schedule.offer(runs_of("A"))
    assert begin_all(schedule, working) == "A"


def test_a_run_that_was_found_again_while_it_was_worked_on_does_not_begin_again_at_once() -> None:
    clock = Clock()
    schedule, working = Schedule(1, 600, clock), list[RunStatus]()
    schedule.offer(runs_of("A"))
    assert begin_all(schedule, working) == "A"
    clock.now = 660.0  # a look for new runs finds it once more: it is not uploaded yet
    schedule.offer(runs_of("AB"))
    schedule.mark_tried(working.pop())
    assert begin_all(schedule, working) == "B"


def test_a_streamed_run_that_is_complete_keeps_its_turn_when_others_are_found() -> None:
    schedule, working = Schedule(1, 600, Clock()), runs_of("A")
    (streamed,), (complete,) = runs_of("S", "streaming"), runs_of("S")
    schedule.mark_tried(streamed)
    schedule.put_first(complete)
    assert begin_all(schedule, working) == ""  # A takes the only place
    schedule.offer(runs_of("SB"))
    assert begin_all(schedule, []) == "S"


@pytest.mark.parametrize(
    ("error", "kind", "left"),
    [
        (AwsError("no bucket", id="s3.no-bucket"), "aws", "C"),
        (SlurmError("no answer", id="slurm.no-answer"), "other", "AB"),
    ],
)
def test_unreachable_buckets_are_tried_again_after_a_while(error: Exception, kind: Kind, left: str) -> None:
    clock = Clock()
    schedule = Schedule(4, 600, clock)
    runs = [*runs_of("AB"), *runs_of("C", bucket="two", cluster="slurm")]
    tried = runs[0] if kind == "aws" else runs[2]
    schedule.offer(runs)
    schedule.obstacles.add(tried, error, Problem("", "", kind))
    assert {run.key for run in runs if not schedule.obstacles.block(run)} == set(left)
    clock.now = 600.0
    schedule.offer(runs)
    assert not any(schedule.obstacles.block(run) for run in runs)
