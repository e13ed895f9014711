"""What is remembered survives whatever comes: crashes, torn lines, full disks, garbage, and a second destination."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from s3sync.aws.destination import Destination
from s3sync.errors import StateError
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.journal import parse_journal
from s3sync.state.lock import hold
from s3sync.state.log_format import CorruptError, parse_log
from s3sync.state.log_head import destination_of_log, read_head
from s3sync.state.log_paths import JOURNAL_SUFFIX, LOG_SUFFIX
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.text import printable
from tests.helpers.dying import Death, Died, Disk
from tests.helpers.errors import error_ids, raises_error
from tests.helpers.state_logs import (
    ARCHIVE,
    CONTRACT,
    LAB,
    MANY,
    OURS,
    finish_locked,
    finished,
    proofs_of,
    put_log,
    run_at,
    state_of,
    store_for,
)
from tests.helpers.unprivileged import run_unprivileged


def uploads(root: Path) -> Path:
    return root / "log" / "uploads"


def begun(store: StateStore, state: RunState, *paths: str) -> StateStore:
    """As far as an upload that was killed after it had recorded these paths."""
    store.prepare()
    store.begin(state)
    store.record(proofs_of(*paths).values())
    store.close()
    return store


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Round trips


def test_nothing_is_known_of_a_new_run(tmp_path: Path) -> None:
    store = store_for(tmp_path)
    assert store.load() == (None, ())
    assert not uploads(tmp_path).exists(), "reading makes no folder"
    assert store.log_path == uploads(tmp_path) / f"RUN{LOG_SUFFIX}"
    assert store.journal_path == uploads(tmp_path) / f"RUN{JOURNAL_SUFFIX}"
    assert store.lock_path == tmp_path / "log" / "locks" / f"RUN.{LAB.tag}.lock"


def test_everything_that_was_saved_is_loaded_again(tmp_path: Path) -> None:
    state = state_of(tmp_path, "Data/a", "b\nc", "Zoë", "\x1b[31m", completed=True)
    state = replace(
        state,
        verified={
            **state.verified,
            **(proofs_of("heavy", verified_by="checksum", etag="abc-2") | proofs_of("kms", verified_by="size")),
        },
    )
    state = replace(
        state,
        verified={
            **state.verified,
            "old": Proof(path="old", size=-1, mtime_ns=-1, etag="abc", verified_by="predecessor"),
        },
    )
    state = replace(state, started="2026-11-23T01:02:03+00:00", finished="2026-11-23T02:02:03+00:00", aws="/aws: 1")
    state = replace(state, total_local_files=7, attempts=3, instrument_done="2026-11-23T00:02:03+00:00")
    state = replace(state, sent_files=6, sent_bytes=12, seconds=1.5)
    finished(store_for(tmp_path), state)
    assert store_for(tmp_path).load() == (state, ())
    assert names_in(uploads(tmp_path)) == [f"RUN{LOG_SUFFIX}"]


def test_failures_are_reported_and_tried_again(tmp_path: Path) -> None:
    """They are for people: what has failed is pending the next time."""
    state = state_of(tmp_path, "a")
    state = replace(state, failed={"b\x1b": "not in S3", "c": "gone"})
    finished(store_for(tmp_path), state)
    log = json.loads(store_for(tmp_path).log_path.read_text())
    run_path = run_at(tmp_path).path
    assert log["failed_upload_files"] == [rf"{run_path}/b\x1b", f"{run_path}/c"]
    assert log["failed_reasons"] == {rf"{run_path}/b\x1b": "not in S3", f"{run_path}/c": "gone"}
    assert log["total_failed_upload"] == 2
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert (loaded.failed, loaded.completed) == ({r"b\x1b": "not in S3", "c": "gone"}, False)
    assert loaded.verified.keys() == {"a"}


@pytest.mark.parametrize("moment", ["begun", "saved", "finished"])
def test_any_program_reads_the_log_at_any_moment(tmp_path: Path, moment: str) -> None:
    store, state = store_for(tmp_path, ARCHIVE), state_of(tmp_path, "Data/a", "b", completed=moment == "finished")
    state = replace(
        state,
        verified={**state.verified, "c": Proof(path="c", size=-1, mtime_ns=-1, etag="e", verified_by="predecessor")},
    )
    store.prepare()
    store.begin(state)
    if moment == "saved":
        store.save(state)
    elif moment == "finished":
        store.finish(state)
    store.close()
    with store.log_path.open() as stream:
        log = json.load(stream)
    assert {key: type(value) for key, value in log.items()} == CONTRACT | OURS
    run_path = run_at(tmp_path).path
    assert log["run_id"] == "RUN"
    assert log["run_path"] == str(run_path)
    assert log["completed"] is (moment == "finished")
    assert (log["total_local_files"], log["total_uploaded_files"], log["total_failed_upload"]) == (2, 3, 0)
    etag = "0" * 32
    assert log["uploaded_files"] == {f"{run_path}/Data/a": etag, f"{run_path}/b": etag, f"{run_path}/c": "e"}
    assert (log["bucket"], log["remote_path"], log["bytes"]) == ("archive", "/2026/cold", 6)
    assert (log["verified_by"], log["verified_by_exceptions"]) == ("etag", {"c": "predecessor"})
    assert store.log_path.read_bytes().isascii()


def test_a_run_that_was_moved_keeps_its_proofs(tmp_path: Path) -> None:
    finished(store_for(tmp_path), state_of(tmp_path, "a", completed=True))
    moved = Run(path=tmp_path / "elsewhere" / "RUN", run_id="RUN", info=RunInfo())
    store = StateStore(tmp_path / "log", moved, LAB)
    loaded = store.load().state
    assert loaded is not None
    assert loaded.verified == proofs_of("a")
    store.save(loaded)
    assert json.loads(store.log_path.read_text())["uploaded_files"] == {str(moved.path / "a"): "0" * 32}


# The journal


def test_what_a_killed_upload_recorded_is_remembered(tmp_path: Path) -> None:
    begun(store_for(tmp_path), state_of(tmp_path, "a"), "b", "c")
    begun(store_for(tmp_path), state_of(tmp_path, "a", "b", "c"), "d")
    loaded = store_for(tmp_path).load()
    assert loaded.warnings == ()
    assert loaded.state is not None
    assert loaded.state.verified == proofs_of("a", "b", "c", "d")
    assert loaded.state.completed is False


def test_the_last_word_on_a_file_counts(tmp_path: Path) -> None:
    store = store_for(tmp_path)
    store.prepare()
    store.begin(state_of(tmp_path, "a"))
    for etag in ("first", "second"):
        store.record(proofs_of("a", etag=etag).values())
    store.close()
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.verified == proofs_of("a", etag="second")


def test_a_lost_log_is_not_a_loss_while_its_journal_is_there(tmp_path: Path) -> None:
    begun(store_for(tmp_path), state_of(tmp_path), "a").log_path.unlink()
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.verified == proofs_of("a")


def test_a_journal_makes_a_completed_log_doubtful(tmp_path: Path) -> None:
    """Killed between the new log and the end of the journal: asking S3 once more costs little."""
    store = begun(store_for(tmp_path), state_of(tmp_path), "a")
    store.save(state_of(tmp_path, "a", completed=True))
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.completed is False


@pytest.mark.parametrize("cut", [1, 2, 10, 40])
def test_a_torn_last_line_costs_only_its_file_and_is_not_reported(tmp_path: Path, cut: int) -> None:
    journal = begun(store_for(tmp_path), state_of(tmp_path), "a", "b").journal_path
    journal.write_bytes(journal.read_bytes()[:-cut])
    loaded = store_for(tmp_path).load()
    assert loaded.warnings == ()
    assert loaded.state is not None
    assert loaded.state.verified == (proofs_of("a", "b") if cut == 1 else proofs_of("a"))  # 1: the line's end alone

    begun(store_for(tmp_path), loaded.state, "c")
    again = store_for(tmp_path).load().state
    assert again is not None
    assert again.verified == {**loaded.state.verified, **proofs_of("c")}, "the next line is not glued to the torn one"


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"\xff\xfe", b"\0" * 100, b"x", b"{", b"[]", b"null", b"7", b"9" * 5000, b"[" * 100_000, b'["journal of'),
        *(
            b'{"path":"a"}',
            b'["a",1,2,"e"]',
            b'["a",1,2,"e","etag",6]',
            b'["a","1",2,"e","etag"]',
            b'["a",1,2.5,"",""]',
        ),
        *(b'["a",' + b"9" * 4300 + b',2,"e","etag"]', b'["a",1,-9223372036854775808,"e","etag"]'),
        *(b'[null,1,2,"e","etag"]', b'["a",1,2,["e"],"etag"]', b'["a",1,2,"e",{}]'),
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_a_garbage_line_costs_nothing_else_and_is_reported(tmp_path: Path, garbage: bytes) -> None:
    journal = begun(store_for(tmp_path), state_of(tmp_path), "a", "b").journal_path
    *head, last = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join((*head, garbage, b"\n", last)))
    loaded = store_for(tmp_path).load()
    assert loaded.state is not None
    assert loaded.state.verified == proofs_of("a", "b")
    assert loaded.warnings == ((f"1 unreadable line in {journal}: not counted", "state.journal-damaged"),)


@pytest.mark.parametrize("destination", [ARCHIVE, Destination("lab-runs", "2026"), Destination("lab-runs-2", "")])
def test_the_journal_of_another_destination_is_not_believed(tmp_path: Path, destination: Destination) -> None:
    """It lies beside the plain log, which was lost; so the next destination takes the place."""
    begun(store_for(tmp_path, destination), state_of(tmp_path), "theirs").log_path.unlink()
    store = store_for(tmp_path)
    assert store.load() == (None, ())
    begun(store, state_of(tmp_path), "ours")
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.verified == proofs_of("ours")


def test_a_journal_without_its_first_line_is_not_believed(tmp_path: Path) -> None:
    journal = begun(store_for(tmp_path), state_of(tmp_path), "a").journal_path
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[-1])
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.verified == {}


def test_finishing_drops_the_journal(tmp_path: Path) -> None:
    begun(store_for(tmp_path), state_of(tmp_path), "a")
    finished(store_for(tmp_path), state_of(tmp_path, "a", "b", completed=True))
    assert names_in(uploads(tmp_path)) == [f"RUN{LOG_SUFFIX}"]


# Corrupt logs


def valid_log(**changes: Any) -> bytes:
    log = {"run_id": "RUN", "run_path": "/runs/RUN", "completed": True, "total_local_files": 1, "version": 1}
    log |= {"uploaded_files": {"/runs/RUN/a": "e"}, "local_files": {"a": [1, 2]}, "verified_by": "etag", **changes}
    return json.dumps({key: value for key, value in log.items() if value is not ...}).encode()


CORRUPT = [
    *(b"", b" \n", b"{", b"}", b"[]", b"null", b"7", b'"text"', b"{}", b"\xff", b"\0" * 4096, b"[" * 100_000),
    *(b'{"a":' * 100_000, b"9" * 5000, b'{"run_id": ' + b"9" * 5000 + b"}", valid_log()[:-1], valid_log() + b"}"),
    *(valid_log(**{key: ...}) for key in ("run_id", "run_path", "completed", "total_local_files", "uploaded_files")),
    *(valid_log(completed=value) for value in ("true", 1, None, [True])),
    *(valid_log(uploaded_files=value) for value in (None, [], ["/runs/RUN/a"], {"a": None}, {"a": ["e"]}, {"a": 1})),
    *(valid_log(total_local_files=value) for value in ("1", None, 1.5, 10**400)),
    *(valid_log(run_id=1), valid_log(run_path=None), valid_log(run_path=["/runs"])),
    *(valid_log(version=value) for value in (0, 2, "1", None)),
    *(valid_log(local_files=[]), valid_log(verified_by_exceptions="a"), valid_log(verified_by=None)),
    valid_log(verified_by_exceptions={"a": 1}),
]


@pytest.mark.parametrize("content", CORRUPT, ids=lambda content: repr(content[:40]))
def test_a_corrupt_log_is_set_aside_and_counts_as_none(tmp_path: Path, content: bytes) -> None:
    path = put_log(tmp_path, content)
    untouched = store_for(tmp_path).load(set_aside=False)
    assert (untouched.state, names_in(path.parent)) == (None, [path.name])

    loaded = store_for(tmp_path).load()

    assert loaded.state is None
    (warning,) = loaded.warnings
    assert warning.id == "state.corrupt"
    assert warning.text.endswith("every file is compared with S3 again")
    assert warning.text.isprintable()
    (aside,) = path.parent.iterdir()
    assert f"kept as {aside};" in warning.text
    assert aside.read_bytes() == content
    assert aside.name.startswith(f"{path.name}.corrupt-20")
    finished(store_for(tmp_path), state_of(tmp_path, "a", completed=True))
    assert store_for(tmp_path).load() == (state_of(tmp_path, "a", completed=True), ())


def test_two_corrupt_logs_in_one_second_are_both_kept(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        path = put_log(tmp_path, content)
        store_for(tmp_path).load()
    assert sorted(aside.read_bytes() for aside in path.parent.iterdir()) == [b"first", b"second"]


def test_the_journal_beside_a_corrupt_log_still_counts(tmp_path: Path) -> None:
    begun(store_for(tmp_path), state_of(tmp_path, "a"), "b").log_path.write_bytes(b"{")
    loaded = store_for(tmp_path).load()
    assert loaded.state is not None
    assert loaded.state.verified == proofs_of("b")
    assert len(loaded.warnings) == 1


@pytest.mark.parametrize(
    "odd",
    [{"local_files": {"a": value}} for value in (None, [], [1], [1, 2, 3], ["1", 2], {"size": 1})]
    + [{"local_files": ...}, {"local_files": {"b": [1, 2]}}],
    ids=repr,
)
def test_a_proof_without_size_and_mtime_is_kept_but_of_no_known_file(tmp_path: Path, odd: dict[str, Any]) -> None:
    put_log(tmp_path, valid_log(**odd))
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert loaded.verified == {"a": Proof(path="a", size=-1, mtime_ns=-1, etag="e", verified_by="etag")}


@pytest.mark.parametrize("obstacle", ["folder", "unreadable"])
@pytest.mark.parametrize("what", ["log", "journal"])
def test_what_cannot_be_read_is_neither_believed_nor_overwritten(tmp_path: Path, obstacle: str, what: str) -> None:
    store = begun(store_for(tmp_path), state_of(tmp_path), "a")
    path = store.log_path if what == "log" else store.journal_path
    if obstacle == "folder":
        path.unlink()
        path.mkdir()
        reason = "Is a directory"
    else:
        path.chmod(0)
        reason = "Permission denied"
    said = run_unprivileged(LOAD, tmp_path)
    assert (error_ids(said), said.count("\n")) == (["state.unreadable"], 1), said
    assert f" {path}: {reason} (" in said


LOAD = """
import sys
from pathlib import Path
from s3sync.errors import StateError
from tests.helpers.state_logs import store_for
try:
    print(store_for(Path(sys.argv[1])).load())
except StateError as error:
    print(f"{error} [{error.id}]")
"""


# Logs of the predecessor


def predecessors_log(run: Path, etags: dict[str, str], *, completed: bool, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run.name,
        "run_path": str(run),
        "completed": completed,
        "total_local_files": len(etags),
        "total_uploaded_files": len(etags),
        "total_failed_upload": 0,
        "failed_upload_files": [],
        "uploaded_files": {str(run / path): etag for path, etag in etags.items()},
        **more,
    }


@pytest.mark.parametrize("completed", [True, False])
@pytest.mark.parametrize("etag", ["abc", '"abc"', ""])
@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_log_of_the_predecessor_is_read(tmp_path: Path, completed: bool, etag: str, indent: int | None) -> None:
    run = run_at(tmp_path).path
    log = predecessors_log(run, {"a": etag, "Data/b": etag}, completed=completed, something="else")
    path = put_log(tmp_path, json.dumps(log, indent=indent).encode())
    loaded = store_for(tmp_path).load()
    verified = {
        path: Proof(path=path, size=-1, mtime_ns=-1, etag=etag.strip('"'), verified_by="predecessor")
        for path in ("a", "Data/b")
    }
    assert loaded.state == RunState(
        run_id="RUN",
        run_path=str(run),
        completed=completed,
        verified=verified,
        total_local_files=2,
        is_from_predecessor=True,
    )
    assert loaded.warnings == ()
    assert destination_of_log(path) is None


@pytest.mark.parametrize("run_path", ["/data/runs/RUN/", "/data/runs/RUN"])
def test_its_paths_become_relative_to_its_run_path(tmp_path: Path, run_path: str) -> None:
    log = predecessors_log(Path("/data/runs/RUN"), {"Data/a": "e"}, completed=True) | {"run_path": run_path}
    put_log(tmp_path, json.dumps(log).encode())
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert list(loaded.verified) == ["Data/a"]


def test_proofs_of_other_destinations_do_not_count(tmp_path: Path) -> None:
    log = predecessors_log(Path("/data/runs/RUN"), {"a": "e", "../RUN_2/a": "e", "/tmp/b": "e"}, completed=False)
    log["uploaded_files"] = {"/data/runs/RUN/a": "e", "/data/runs/RUN_2/a": "e", "/tmp/b": "e"}
    put_log(tmp_path, json.dumps(log).encode())
    loaded = store_for(tmp_path).load().state
    assert loaded is not None
    assert list(loaded.verified) == ["a", "/data/runs/RUN_2/a", "/tmp/b"]


# The head of a log


def test_the_head_of_our_log_is_read_without_the_rest(tmp_path: Path) -> None:
    path = finished(store_for(tmp_path, ARCHIVE), state_of(tmp_path, "a", completed=True)).log_path
    head, key, _ = path.read_bytes().partition(b'\n "failed_upload_files":')
    path.write_bytes(head + key + b"\xff\0 garbage {" * 100_000)
    read = read_head(path)
    assert (read["run_id"], read["completed"], read["bucket"], read["remote_path"]) == (
        "RUN",
        True,
        "archive",
        "/2026/cold",
    )
    assert "uploaded_files" not in read
    assert destination_of_log(path) == ARCHIVE


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("run", ["/runs/R", "/" + "ü" * 20_000 + "/R"], ids=["short", "long"])
def test_the_head_of_a_log_of_the_predecessor_is_read(tmp_path: Path, ensure_ascii: bool, shift: int, run: str) -> None:
    """However long, with letters of two bytes that begin at even places, or at odd ones."""
    log = predecessors_log(Path(run + "R" * shift), {"ü" * 20_000: "e", "b": "e"}, completed=True)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log, indent=4, ensure_ascii=ensure_ascii), encoding="utf-8")
    light = {key: value for key, value in log.items() if key not in ("failed_upload_files", "uploaded_files")}
    assert {key: value for key, value in read_head(path).items() if key in light} == light
    assert destination_of_log(path) is None


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("sort_keys", [False, True])
def test_the_summary_of_a_log_agrees_with_the_log(tmp_path: Path, indent: int | None, sort_keys: bool) -> None:
    """Whatever the order of its keys."""
    log = predecessors_log(run_at(tmp_path).path, {"a": "e", "b": "e"}, completed=True)
    put_log(tmp_path, json.dumps(log, indent=indent, sort_keys=sort_keys).encode())
    head = store_for(tmp_path).head()
    assert head is not None
    assert (head.completed, head.total_files, head.uploaded_files, head.failed_files) == (True, 2, 2, 0)


def test_our_log_in_short(tmp_path: Path) -> None:
    assert store_for(tmp_path).head() is None
    state = state_of(tmp_path, "a", "b", completed=True)
    state = replace(
        state, finished="2026-11-23T01:02:03+00:00", attempts=2, instrument_done="2026-11-23T00:02:03+00:00"
    )
    state = replace(state, sent_bytes=4, seconds=0.5)
    store = finished(store_for(tmp_path), state)
    head = store.head()
    assert head is not None
    assert astuple(head)[:11] == (True, 2, 2, 0, 6, 2, state.finished, "", state.instrument_done, 4, 0.5)
    assert store.count_journaled() == 0
    begun(store_for(tmp_path), state_of(tmp_path), "a", "b", "c")
    assert store_for(tmp_path).count_journaled() == 3
    resumed = store_for(tmp_path).load().state
    assert resumed is not None
    store = begun(store_for(tmp_path), resumed, "d")
    head = store.head()
    assert head is not None
    assert (head.uploaded_files, store.count_journaled()) == (3, 1), "a to c are in the log and in the journal"


@pytest.mark.parametrize("seconds", ["1", True, None, -1, [], 10**400])
def test_an_invalid_duration_is_not_believed(tmp_path: Path, seconds: object) -> None:
    store = finished(store_for(tmp_path), state_of(tmp_path, "a"))
    log = json.loads(store.log_path.read_text())
    store.log_path.write_text(json.dumps({**log, "seconds": seconds, "instrument_done": seconds}))
    head = store.head()
    assert head is not None
    assert (head.seconds, head.instrument_done) == (0.0, "")
    loaded = store.load().state
    assert loaded is not None
    assert (loaded.seconds, loaded.instrument_done) == (0.0, "")


def test_the_first_failures_are_read_without_the_rest_of_the_log(tmp_path: Path) -> None:
    store = store_for(tmp_path)
    assert store.failures(20) == {}, "there is no log"
    state = state_of(tmp_path, *(f"verified {number}" for number in range(50)))
    state = replace(
        state, failed={name: f"why not {name}" for name in ['a"b', "Data/ü\x1b", ' "uploaded_files": {', "last"]}
    )
    finished(store, state)
    shown = {printable(name): printable(reason) for name, reason in state.failed.items()}
    assert store.failures(20) == shown
    assert list(store.failures(3)) == list(shown)[:3]
    head, _, _ = store.log_path.read_text().partition(' "uploaded_files"')
    store.log_path.write_text(head + " no JSON")
    assert store.failures(20) == shown
    log = predecessors_log(run_at(tmp_path).path, {"a": "e"}, completed=False)
    store.log_path.write_text(json.dumps(log, indent=4))
    assert store.failures(20) == {}, "the predecessor gave no reasons"


def test_a_long_head_of_ours_is_read_whole(tmp_path: Path) -> None:
    deep = Run(path=tmp_path / ("ü" * 3000) / "RUN", run_id="RUN", info=RunInfo())
    store = StateStore(tmp_path / "log", deep, LAB)
    finished(store, state_of(tmp_path, "a"))
    assert read_head(store.log_path)["run_path"] == str(deep.path)
    assert destination_of_log(store.log_path) == LAB


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff"])
def test_what_has_no_head_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".+"):
        read_head(path)


# Two destinations of one run


@pytest.mark.parametrize(("first", "second"), [(LAB, ARCHIVE), (ARCHIVE, LAB)])
def test_the_first_destination_has_the_plain_name(tmp_path: Path, first: Destination, second: Destination) -> None:
    for destination, path in ((first, "a"), (second, "b")):
        assert store_for(tmp_path, destination).load() == (None, ())
        begun(store_for(tmp_path, destination), state_of(tmp_path), path)
    stem = f"RUN.{second.tag}"
    expected = {f"RUN{LOG_SUFFIX}", f"RUN{JOURNAL_SUFFIX}", f"{stem}{LOG_SUFFIX}", f"{stem}{JOURNAL_SUFFIX}"}
    assert set(names_in(uploads(tmp_path))) == expected
    assert store_for(tmp_path, first).lock_path != store_for(tmp_path, second).lock_path
    for destination, path in ((first, "a"), (second, "b")):
        loaded = store_for(tmp_path, destination).load().state
        assert loaded is not None
        assert loaded.verified == proofs_of(path)
        finished(store_for(tmp_path, destination), state_of(tmp_path, path, completed=True))
        assert destination_of_log(store_for(tmp_path, destination).log_path) == destination
    assert set(names_in(uploads(tmp_path))) == {f"RUN{LOG_SUFFIX}", f"{stem}{LOG_SUFFIX}"}


def test_a_tagged_log_stays_where_it_is_when_the_plain_one_goes(tmp_path: Path) -> None:
    for destination in (LAB, ARCHIVE):
        finished(store_for(tmp_path, destination), state_of(tmp_path, destination.bucket, completed=True))
    (uploads(tmp_path) / f"RUN{LOG_SUFFIX}").unlink()
    loaded = store_for(tmp_path, ARCHIVE).load().state
    assert loaded is not None
    assert list(loaded.verified) == ["archive"]
    assert store_for(tmp_path).load() == (None, ())


def test_a_corrupt_untagged_log_is_left_to_its_owner(tmp_path: Path) -> None:
    plain = finished(store_for(tmp_path), state_of(tmp_path, "a", completed=True)).log_path
    plain.write_bytes(plain.read_bytes()[:-20])
    assert store_for(tmp_path, ARCHIVE).load() == (None, ())
    finished(store_for(tmp_path, ARCHIVE), state_of(tmp_path, "b", completed=True))
    loaded = store_for(tmp_path).load()
    assert (loaded.state, len(loaded.warnings)) == (None, 1)
    assert store_for(tmp_path).log_path == plain


def test_a_corrupt_plain_log_does_not_touch_the_tagged_one(tmp_path: Path) -> None:
    for destination in (LAB, ARCHIVE):
        finished(store_for(tmp_path, destination), state_of(tmp_path, destination.bucket, completed=True))
    put_log(tmp_path, b"{")
    theirs = store_for(tmp_path, ARCHIVE).load()
    assert (theirs.state and list(theirs.state.verified), theirs.warnings) == (["archive"], ())
    assert store_for(tmp_path).load().state is None
    assert store_for(tmp_path, ARCHIVE).load() == theirs


def test_a_log_of_the_predecessor_belongs_to_the_first_destination_that_writes(tmp_path: Path) -> None:
    log = predecessors_log(run_at(tmp_path).path, {"a": "e"}, completed=False)
    plain = put_log(tmp_path, json.dumps(log).encode())
    for destination in (LAB, ARCHIVE):
        loaded = store_for(tmp_path, destination).load().state
        assert loaded is not None
        assert loaded.is_from_predecessor
    finished(store_for(tmp_path, ARCHIVE), state_of(tmp_path, "b", completed=True))
    assert destination_of_log(plain) == ARCHIVE
    assert store_for(tmp_path).load() == (None, ())


def check_many(root: Path) -> None:
    """Each of MANY finished with one file, named by its tag."""
    for destination in MANY:
        loaded = store_for(root, destination).load()
        assert (loaded.state and list(loaded.state.verified), loaded.warnings) == ([destination.tag], ())
    assert len(names_in(uploads(root))) == len(MANY)


@pytest.mark.parametrize("attempt", range(10))
def test_destinations_that_begin_at_the_same_moment_keep_apart(tmp_path: Path, attempt: int) -> None:
    barrier = threading.Barrier(len(MANY))
    errors: list[Exception] = []

    def upload(destination: Destination) -> None:
        barrier.wait(120)
        try:
            finish_locked(tmp_path, destination)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=upload, args=(destination,)) for destination in MANY]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    check_many(tmp_path)


# Names


LONG_NAMES = ["R" * 200, "R" * 201, "R" * 255, "é" * 127 + "x", "💥" * 63 + "xyz", "x" + "é" * 127]


@pytest.mark.parametrize("name", [*LONG_NAMES, "Zoë run [x] 'y' \"z\"", "new\nline", "-rf", "..."])
def test_runs_of_any_name_are_remembered(tmp_path: Path, name: str) -> None:
    """At two destinations, begun, killed, finished, and corrupt in the end."""
    for destination in (LAB, ARCHIVE):
        begun(store_for(tmp_path, destination, name), state_of(tmp_path, name=name), "a")
        lock_path = store_for(tmp_path, destination, name).lock_path
        assert len(os.fsencode(lock_path.name)) <= 255
        finished(store_for(tmp_path, destination, name), state_of(tmp_path, "a", name=name, completed=True))
        store = store_for(tmp_path, destination, name)
        assert store.load() == (state_of(tmp_path, "a", name=name, completed=True), ())
    for destination in (ARCHIVE, LAB):
        path = store_for(tmp_path, destination, name).log_path
        path.write_bytes(path.read_bytes()[:-10])
        assert store_for(tmp_path, destination, name).load().state is None


def test_long_names_that_differ_at_the_end_do_not_collide(tmp_path: Path) -> None:
    names = ["R" * 254 + "1", "R" * 254 + "2", "R" * 200, "R" * 191]
    for name in names:
        finished(store_for(tmp_path, LAB, name), state_of(tmp_path, name[-5:], name=name, completed=True))
    for name in names:
        loaded = store_for(tmp_path, LAB, name).load().state
        assert loaded is not None
        assert loaded.run_id == name
    assert len({store_for(tmp_path, LAB, name).lock_path for name in names}) == len(names)


# Modes


def test_all_files_are_private_with_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for destination in (LAB, ARCHIVE):
            begun(store_for(tmp_path, destination), state_of(tmp_path), "a")
    finally:
        os.umask(before)
    assert len(names_in(uploads(tmp_path))) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in uploads(tmp_path).iterdir()} == {0o600}
    assert stat.S_IMODE(uploads(tmp_path).stat().st_mode) == 0o700
    assert stat.S_IMODE(uploads(tmp_path).parent.stat().st_mode) == 0o700


def test_the_predecessors_readable_log_becomes_private(tmp_path: Path) -> None:
    path = put_log(tmp_path, json.dumps(predecessors_log(run_at(tmp_path).path, {}, completed=False)).encode())
    path.chmod(0o644)
    finished(store_for(tmp_path), state_of(tmp_path, "a"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_journal_is_in_its_folder_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was synced may be gone if its folder was not."""
    synced: list[bool] = []
    fsync = os.fsync
    store = store_for(tmp_path)
    store.prepare()

    def note(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(store.journal_path.exists())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store.begin(RunState(run_id="RUN", run_path=str(tmp_path)))
    store.close()
    assert synced[-1] is True


def test_a_link_in_the_place_of_the_journal_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    store = store_for(tmp_path)
    store.prepare()
    store.journal_path.symlink_to(precious)
    with raises_error(StateError, "state.log-unwritable"):
        store.begin(state_of(tmp_path))
    assert precious.read_text() == "precious"


# Writes that fail

WRITE = """
import resource, sys
from pathlib import Path
from s3sync.errors import StateError
from tests.helpers.state_logs import state_of, store_for
root, step, obstacle = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store, small, big = store_for(root), state_of(root, "a"), state_of(root, *map(str, range(1000)))
if step in ("record", "save", "finish") and obstacle == "full":
    store.begin(small)
if obstacle == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3) if step == "prepare" else (3000, 3000))
try:
    if step == "prepare":
        store.prepare()
    elif step == "begin":
        store.begin(big)
    elif step == "record":
        store.record(big.verified.values())
    elif step == "save":
        store.save(big)
    else:
        store.finish(big)
except StateError as error:
    print(f"{error} [{error.id}]")
"""


@pytest.mark.parametrize("there", ["a log", "nothing"])
@pytest.mark.parametrize("step", ["prepare", "begin", "record", "save", "finish"])
def test_a_full_disk_leaves_the_old_log_and_nothing_half_written(tmp_path: Path, step: str, there: str) -> None:
    store = store_for(tmp_path)
    store.prepare()
    if there == "a log":
        finished(store, state_of(tmp_path, "a", "b"))
    begins = step in ("record", "save", "finish")
    before = store.log_path.read_bytes() if there == "a log" and not begins else None

    said = run_unprivileged(WRITE, tmp_path, step, "full")

    assert (error_ids(said), said.count("\n")) == (["state.log-unwritable"], 1), said
    assert ("File too large" in said, "ulimit -f" in said) == (True, True), said
    expected = [store.log_path.name] if there == "a log" or begins else []
    assert names_in(uploads(tmp_path)) == ([store.journal_path.name] if begins else []) + expected
    if before is not None:
        assert store.log_path.read_bytes() == before
    if begins:
        assert json.loads(store.log_path.read_bytes())["total_uploaded_files"] == 1
        loaded = store_for(tmp_path).load().state
        assert loaded is not None
        assert loaded.verified.keys() >= {"a"}


@pytest.mark.parametrize("step", ["prepare", "begin", "save", "finish"])
def test_a_read_only_folder_is_reported_and_left_as_it_is(tmp_path: Path, step: str) -> None:
    store = finished(store_for(tmp_path), state_of(tmp_path, "a"))
    before = store.log_path.read_bytes()
    uploads(tmp_path).chmod(0o500)
    try:
        said = run_unprivileged(WRITE, tmp_path, step, "read-only")
    finally:
        uploads(tmp_path).chmod(0o700)
    assert (error_ids(said), said.count("\n")) == (["state.log-unwritable"], 1), said
    assert ("Permission denied" in said, "--log-dir" in said) == (True, True), said
    assert store.log_path.read_bytes() == before
    assert names_in(uploads(tmp_path)) == [store.log_path.name]


@pytest.mark.parametrize("obstacle", ["a file", "a file above"])
def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path, obstacle: str) -> None:
    place = uploads(tmp_path) if obstacle == "a file" else tmp_path / "log"
    place.parent.mkdir(exist_ok=True)
    place.write_text("precious")
    with raises_error(StateError, "state.log-unwritable", "--log-dir"):
        store_for(tmp_path).prepare()
    assert place.read_text() == "precious"


# Crashes at any moment

paths = st.sampled_from(["Data/a", "b", "Zoë\n", "-c", "💥"])
proofs = st.builds(
    Proof,
    path=paths,
    size=st.integers(0, 2**50),
    mtime_ns=st.integers(-(2**62), 2**62),
    etag=st.text("0123456789abcdef-", max_size=5),
    verified_by=st.sampled_from(["etag", "checksum", "size"]),
)


def deaths(steps: int) -> st.SearchStrategy[Death]:
    """Die before or within one of the first steps."""
    return st.builds(
        Death,
        step=st.integers(0, steps - 1),
        part=st.floats(0, 1),
        power=st.sampled_from(["", "", "lost", "zeros"]),
    )


class Logged(NamedTuple):
    """What a log says."""

    verified: dict[str, Proof]
    completed: bool
    failed: int


def test_only_the_thread_that_dies_takes_steps(tmp_path: Path) -> None:
    """A heartbeat in another thread neither dies nor counts."""
    with Disk(tmp_path).process(Death(1)):
        other = threading.Thread(target=lambda: os.mkdir(tmp_path / "beat"))
        other.start()
        other.join()
        (tmp_path / "first").mkdir()
        with pytest.raises(Died):
            (tmp_path / "second").mkdir()
    assert sorted(os.listdir(tmp_path)) == ["beat", "first"]


class OnDisk(NamedTuple):
    """What log and journal have; `log` is None where there is none, and bytes where it is corrupt."""

    log: Logged | bytes | None
    journal: list[Proof]

    @property
    def known(self) -> dict[str, Proof]:
        """The facts that an upload knows."""
        verified = self.log.verified if isinstance(self.log, Logged) else {}
        return verified | {proof.path: proof for proof in self.journal}

    @classmethod
    def read(cls, root: Path) -> OnDisk:
        store = store_for(root)
        journal, _ = parse_journal(read(store.journal_path) or b"", LAB)
        content = read(store.log_path)
        if content is None:
            return cls(None, journal)
        try:
            state = parse_log(content)
        except CorruptError:
            return cls(content, journal)
        log = json.loads(content)
        assert {key: type(value) for key, value in log.items()} == CONTRACT | OURS
        return cls(Logged(dict(state.verified), log["completed"], log["total_failed_upload"]), journal)


def read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


class Crashes(RuleBasedStateMachine):
    """Uploads that die at any step to the disk, against a model: what the disk may have then.

    What it has becomes the model's: a death has more than one outcome.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.disk = Disk(self.root)
        self.disk_has = OnDisk(None, [])
        self.store = store_for(self.root)
        self.state = state_of(self.root)
        self.alive = False
        self.deaths = 0
        self.synced = 0  # lines of the journal that not even a power cut can take
        self.corrupt: list[bytes] = []  # what was ever found so
        self.others: Path | None = None

    def attempt(self, death: Death | None, act: Callable[[], None], *may_have: OnDisk) -> None:
        """Do something, on which the disk `may_have` one thing after the other, the last when all is done."""
        try:
            with self.disk.process(death):
                act()
        except Died:
            assert death
            self.die(death, *may_have)
        else:
            self.disk_has = may_have[-1]
            self.synced = min(self.synced, len(self.disk_has.journal))

    def die(self, death: Death, *may_have: OnDisk) -> None:
        self.store.close()  # as the kernel does it
        self.alive = False
        self.deaths += 1
        self.disk.bury(death)
        found = OnDisk.read(self.root)
        assert any(found in self.left_of(one, death) for one in may_have)
        if death.power:
            self.synced = len(found.journal)
        self.disk_has = found

    def left_of(self, one: OnDisk, death: Death) -> list[OnDisk]:
        """A power cut takes lines off the end of the journal that were not synced."""
        lines = len(one.journal)
        least = min(self.synced, lines) if death.power else lines
        return [one._replace(journal=one.journal[:number]) for number in range(least, lines + 1)]

    @initialize(other=st.booleans())
    def another_destination_was_there_first(self, other: bool) -> None:
        if other:
            self.others = finished(store_for(self.root, ARCHIVE), state_of(self.root, "x", completed=True)).log_path
            self.others_content = self.others.read_bytes()

    @precondition(lambda self: not self.alive)
    @rule(death=st.none() | deaths(23))
    def begin(self, death: Death | None) -> None:
        log, journal = self.disk_has
        known = self.disk_has.known

        def act() -> None:
            self.store.prepare()
            self.state = self.store.load().state or state_of(self.root)
            assert self.state.verified == known
            self.state = replace(self.state, completed=False, failed={})
            self.store.begin(self.state)

        self.store, self.alive = store_for(self.root), True
        aside = [OnDisk(None, journal)] if isinstance(log, bytes) else []
        self.attempt(death, act, self.disk_has, *aside, OnDisk(Logged(known, False, 0), journal))

    @precondition(lambda self: self.alive)
    @rule(new=st.lists(proofs, max_size=3), death=st.none() | deaths(2))
    def verify(self, new: list[Proof], death: Death | None) -> None:
        log, journal = self.disk_has
        prefixes = (new[:number] for number in range(len(new) + 1))
        self.attempt(death, lambda: self.store.record(new), *(OnDisk(log, journal + prefix) for prefix in prefixes))
        if self.alive:
            self.synced = len(self.disk_has.journal)
        self.state = self.state.resumed(new)

    @precondition(lambda self: self.alive)
    @rule(path=paths)
    def fail(self, path: str) -> None:
        self.state = replace(self.state, failed={**self.state.failed, path: "not in S3"})

    @precondition(lambda self: self.alive)
    @rule(death=st.none() | deaths(6))
    def save(self, death: Death | None) -> None:
        self.attempt(
            death, lambda: self.store.save(self.state), self.disk_has, OnDisk(self.logged(), self.disk_has.journal)
        )

    @precondition(lambda self: self.alive)
    @rule(completed=st.booleans(), death=st.none() | deaths(7))
    def finish(self, completed: bool, death: Death | None) -> None:
        if completed:
            self.state = replace(self.state, failed={})
        self.state = replace(self.state, completed=completed)
        logged = OnDisk(self.logged(), self.disk_has.journal)
        self.attempt(death, lambda: self.store.finish(self.state), self.disk_has, logged, logged._replace(journal=[]))
        self.alive = False

    @precondition(lambda self: self.alive)
    @rule(death=deaths(1))  # at no step
    def crash_between(self, death: Death) -> None:
        self.die(death, self.disk_has)

    @precondition(lambda self: not self.alive and isinstance(self.disk_has.log, Logged))
    @rule(kept=st.sampled_from([0, 0.3, 0.99]), zeros=st.booleans())
    def corrupt_the_log(self, kept: float, zeros: bool) -> None:
        """Corrupt the log, as nothing of ours does."""
        path = store_for(self.root).log_path
        content = path.read_bytes()
        rest = content[: int(len(content) * kept)]
        path.write_bytes(rest.ljust(len(content), b"\0") if zeros else rest)
        self.corrupt.append(path.read_bytes())
        self.disk_has = self.disk_has._replace(log=path.read_bytes())

    def logged(self) -> Logged:
        return Logged(dict(self.state.verified), self.state.completed, len(self.state.failed))

    @invariant()
    def the_disk_has_what_it_must(self) -> None:
        assert OnDisk.read(self.root) == self.disk_has

    @invariant()
    def nothing_verified_is_forgotten(self) -> None:
        """Completed is said where a call that was completed has said so, and nothing was recorded since."""
        loaded = store_for(self.root).load(set_aside=False)
        assert (loaded.state.verified if loaded.state else {}) == self.disk_has.known
        said = isinstance(self.disk_has.log, Logged) and self.disk_has.log.completed and not self.disk_has.journal
        assert (loaded.state is not None and loaded.state.completed) is said

    @invariant()
    def nothing_else_is_touched(self) -> None:
        if self.others:
            assert self.others.read_bytes() == self.others_content
        if not uploads(self.root).exists():
            return
        kept = [path.read_bytes() for path in uploads(self.root).glob("*.corrupt-*")]
        still = [self.disk_has.log] if isinstance(self.disk_has.log, bytes) else []
        assert sorted(kept + still) == sorted(self.corrupt)
        ours = {path.name for path in (store_for(self.root).log_path, store_for(self.root).journal_path)}
        names = {name for name in names_in(uploads(self.root)) if ".corrupt-" not in name}
        rest = names - ours - ({self.others.name} if self.others else set())
        assert len(rest) <= (0 if self.alive else 1), "a temporary file stays no longer than to the next call"

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    def check(self) -> None:
        self.the_disk_has_what_it_must()
        self.nothing_verified_is_forgotten()
        self.nothing_else_is_touched()


def upload(machine: Crashes, stage: str = "", death: Death | None = None) -> bool:
    """Run a whole upload, which may die in a stage; return whether it survived."""
    new = [*proofs_of("a", "b").values()]
    stages: dict[str, Callable[[Death | None], None]] = {
        "begin": lambda death: machine.begin(death=death),
        "prove": lambda death: machine.verify(new=new, death=death),
        "finish": lambda death: machine.finish(completed=True, death=death),
    }
    deaths_before = machine.deaths
    for name, act in stages.items():
        act(death if name == stage else None)
        machine.check()
        if machine.deaths > deaths_before:
            return False
    return True


def nothing(machine: Crashes) -> None:
    """A run that was never begun."""


def interrupted(machine: Crashes) -> None:
    """Killed when all was verified."""
    upload(machine, "finish", Death(0))


def corrupted(machine: Crashes) -> None:
    """The same, and the log is torn."""
    interrupted(machine)
    machine.corrupt_the_log(kept=0.3, zeros=False)


def completed(machine: Crashes) -> None:
    """A run that has grown since."""
    upload(machine)


@pytest.mark.parametrize("found", [nothing, interrupted, corrupted, completed], ids=lambda found: found.__name__)
@pytest.mark.parametrize("stage", ["begin", "prove", "finish"])
def test_an_upload_that_dies_at_any_step_is_repeated(stage: str, found: Callable[[Crashes], None]) -> None:
    """What test_crashes.py takes minutes to show of the real program, and power cuts as well."""
    for step in itertools.count():
        survived = set()
        for death in (Death(step), Death(step, 0.5), Death(step, 0, "lost"), Death(step, 0.5, "zeros")):
            machine = Crashes()
            try:
                found(machine)
                survived.add(upload(machine, stage, death))
                assert upload(machine)
            finally:
                machine.teardown()
        if True in survived:
            break
    assert survived == {True}
    assert step > 1


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_an_empty_log_leaves_the_plain_name(tmp_path: Path) -> None:
    """The bucket was misspelt at first: the right one gets the name that everybody expects."""
    finished(store_for(tmp_path, ARCHIVE), state_of(tmp_path))
    assert store_for(tmp_path, ARCHIVE).log_path.name == "RUN.upload.log.json"

    finished(store_for(tmp_path), state_of(tmp_path, "a", completed=True))

    assert store_for(tmp_path).log_path.name == "RUN.upload.log.json"
    theirs = store_for(tmp_path, ARCHIVE)
    owner = destination_of_log(theirs.log_path)
    assert (theirs.log_path.name, owner) == (
        f"RUN.{ARCHIVE.tag}.upload.log.json",
        ARCHIVE,
    )
    assert theirs.load().state is not None


def test_a_log_that_is_being_written_keeps_the_plain_name(tmp_path: Path) -> None:
    theirs = begun(store_for(tmp_path, ARCHIVE), state_of(tmp_path))
    theirs.close()
    with hold(theirs.lock_path, "busy"):
        theirs.journal_path.unlink()
        finished(store_for(tmp_path), state_of(tmp_path, "a", completed=True))
    assert destination_of_log(theirs.log_path) == ARCHIVE
    assert (theirs.log_path.name, store_for(tmp_path).log_path.name) == (
        "RUN.upload.log.json",
        f"RUN.{LAB.tag}.upload.log.json",
    )


def test_without_room_for_the_log_nothing_is_begun(tmp_path: Path) -> None:
    store = store_for(tmp_path)
    store.prepare(1000)
    facts = ("No space left on device", "700.0 TB needed for 1,000,000,000,000 files", "--log-dir")
    with raises_error(StateError, "state.log-unwritable", *facts):
        store.prepare(10**12)
