"""What happens to the state of a run: one row for each event, with the fields that it changes, and no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import CallResult, Completion, Proof, RunState

RUN = Run(path=Path("/data/RUN"), run_id="RUN", info=RunInfo())
A, B = LocalFile("a", 5, 1), LocalFile("b", 6, 2)
PROOF_A, PROOF_B = Proof.of(A, "e", "etag"), Proof.of(B, "f", "etag")
OLD_A = replace(PROOF_A, mtime_ns=0)  # of the file before it changed
UNDATED_A = Proof(path="a", size=-1, mtime_ns=-1, etag="e", verified_by="predecessor")
NOW = "2026-11-23T01:02:03+00:00"
BEFORE = "2026-11-22T01:02:03+00:00"
NEW = RunState.of(RUN)
BOTH = {"a": PROOF_A, "b": PROOF_B}
COMPLETED = replace(NEW, completed=True, verified=BOTH, finished=BEFORE, sent_files=2, sent_bytes=11, seconds=3.0)

Event = Callable[[RunState], RunState]


def starts(*files: LocalFile, total: int = 2, streamed_until_ns: int = 0) -> Event:
    return lambda state: state.started_call(files, total=total, streamed_until_ns=streamed_until_ns, now=NOW)


def ends(**result: Any) -> Event:
    usual = CallResult(files=(A, B), verified={}, failed={}, sent_files=0, sent_bytes=0, seconds=1.5)
    return lambda state: state.finished_call(replace(usual, **result), NOW)


def collects(*proofs: Proof) -> Event:
    return lambda state: state.collected(proofs, sent_files=4, sent_bytes=40, seconds=9.0)


STARTED: dict[str, Any] = {"started": NOW, "attempts": 1, "total_local_files": 2}
ENDED: dict[str, Any] = {"finished": NOW, "seconds": 1.5}


@pytest.mark.parametrize(
    ("before", "event", "changed"),
    [
        # A call begins
        (NEW, starts(A, B), STARTED),
        (replace(NEW, attempts=3, finished=BEFORE), starts(A, B), {**STARTED, "attempts": 4, "finished": ""}),
        (replace(NEW, failed={"a": "gone"}), starts(A, B), {**STARTED, "failed": {}}),
        (
            replace(NEW, ended_cleanly=True),
            starts(A, B, streamed_until_ns=7),
            {**STARTED, "ended_cleanly": False, "streamed_until_ns": 7},
        ),
        (replace(NEW, verified=BOTH), starts(A, B), STARTED),
        (replace(NEW, verified=BOTH), starts(A), STARTED),  # b may be gone: the end will show
        (replace(NEW, verified={"a": OLD_A, "b": PROOF_B}), starts(A, B), {**STARTED, "verified": {"b": PROOF_B}}),
        (replace(NEW, verified={"a": UNDATED_A}), starts(A, B), STARTED),
        (
            replace(NEW, verified=BOTH, failed={"a": "?"}),
            starts(A, B),
            {**STARTED, "verified": {"b": PROOF_B}, "failed": {}},
        ),
        (
            COMPLETED,
            starts(A, B),
            {
                **STARTED,
                "completed": False,
                "finished": "",
                "first_completed": BEFORE,
                "sent_files": 0,
                "sent_bytes": 0,
                "seconds": 0.0,
            },
        ),
        (
            replace(NEW, completion_object="e", on_complete="done", manifest_checked_files=1),
            starts(A, B),
            {**STARTED, "completion_object": "", "on_complete": "", "manifest_checked_files": 0},
        ),
        # Parts of multipart uploads may be left from now on
        (NEW, lambda state: state.sending(NOW), {"stale_parts_since": NOW}),
        (replace(NEW, stale_parts_since=BEFORE), lambda state: state.sending(NOW), {}),
        # The journal of a call that was killed
        (NEW, lambda state: state.resumed([PROOF_A]), {"verified": {"a": PROOF_A}}),
        (replace(NEW, verified={"a": OLD_A}), lambda state: state.resumed([PROOF_A]), {"verified": {"a": PROOF_A}}),
        (COMPLETED, lambda state: state.resumed([PROOF_A]), {"completed": False}),
        # The jobs of a cluster
        (NEW, collects(PROOF_A), {"verified": {"a": PROOF_A}, "sent_files": 4, "sent_bytes": 40, "seconds": 9.0}),
        (
            replace(NEW, attempts=2, verified={"a": PROOF_A}),
            collects(OLD_A, PROOF_B),
            {"verified": BOTH, "sent_files": 4, "sent_bytes": 40, "seconds": 9.0, "attempts": 0},
        ),
        (
            replace(NEW, attempts=2, verified={"a": UNDATED_A}),
            collects(PROOF_A),
            {"verified": {"a": PROOF_A}, "sent_files": 4, "sent_bytes": 40, "seconds": 9.0, "attempts": 0},
        ),
        (replace(NEW, attempts=2), collects(), {"sent_files": 4, "sent_bytes": 40, "seconds": 9.0}),
        # A call ends
        (replace(NEW, attempts=1), ends(), ENDED),
        (
            replace(NEW, attempts=2, sent_files=1, sent_bytes=1, seconds=1.0),
            ends(verified=BOTH, sent_files=2, sent_bytes=11),
            {"finished": NOW, "verified": BOTH, "sent_files": 3, "sent_bytes": 12, "seconds": 2.5, "attempts": 0},
        ),
        (replace(NEW, attempts=2), ends(is_streaming=True), {**ENDED, "attempts": 0}),
        (replace(NEW, attempts=2, stale_parts_since=BEFORE), ends(is_handed_over=True), {**ENDED, "attempts": 1}),
        (replace(NEW, stale_parts_since=BEFORE), ends(), {**ENDED, "stale_parts_since": ""}),
        (replace(NEW, stale_parts_since=BEFORE), ends(may_leave_parts=True), ENDED),
        (NEW, ends(verified=BOTH, failed={"b": "?", "a": "!"}), {**ENDED, "failed": {"a": "!", "b": "?"}}),
        (NEW, ends(verified={"a": OLD_A, "b": PROOF_B}), {**ENDED, "verified": {"b": PROOF_B}}),
        (replace(NEW, skipped={"x": "a link"}), ends(), ENDED),
        (replace(NEW, skipped={"x": "a link"}), ends(skipped={}), {**ENDED, "skipped": {}}),
        (
            NEW,
            ends(ended_cleanly=True, opaque_etags=("multipart",)),
            {**ENDED, "ended_cleanly": True, "opaque_etags": ("multipart",)},
        ),
        (
            replace(NEW, attempts=1),
            ends(
                verified=BOTH,
                completion=Completion(manifest_checked_files=1, completion_object="e", on_complete="pending"),
            ),
            {
                **ENDED,
                "attempts": 0,
                "completed": True,
                "first_completed": NOW,
                "verified": BOTH,
                "manifest_checked_files": 1,
                "completion_object": "e",
                "on_complete": "pending",
            },
        ),
        (
            replace(NEW, first_completed=BEFORE),
            ends(verified=BOTH, completion=Completion()),
            {**ENDED, "completed": True, "verified": BOTH},
        ),
    ],
)
def test_an_event_changes_these_fields_and_no_other(before: RunState, event: Event, changed: dict[str, Any]) -> None:
    after = event(before)
    assert {
        field.name: getattr(after, field.name)
        for field in fields(RunState)
        if getattr(after, field.name) != getattr(before, field.name)
    } == changed


def test_failed_files_are_in_the_order_of_their_paths() -> None:
    assert list(ends(failed={"b": "?", "a": "!"})(NEW).failed) == ["a", "b"]


def test_collecting_twice_is_collecting_once() -> None:
    once = collects(PROOF_A, PROOF_B)(replace(NEW, verified={"a": OLD_A}))
    assert collects(PROOF_A, PROOF_B)(once) == once


def test_a_state_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        NEW.completed = True  # type: ignore[misc]


def test_the_size_leaves_out_what_is_not_known() -> None:
    assert replace(NEW, verified={"a": UNDATED_A, "b": PROOF_B}).size == 6
