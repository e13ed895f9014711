"""Which state a run gets, as a table: the facts that a rule needs, and nothing that may be looked up on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from s3sync.config import Config, MonitorEntry
from s3sync.errors import Notice
from s3sync.inventory.candidate import Candidate
from s3sync.inventory.facts import AnalysisFacts, Facts, RunFacts, SampleChecker, StatusContext
from s3sync.inventory.rules import decide_analysis, decide_run
from s3sync.patterns import Pattern
from s3sync.runs import samplesheet
from s3sync.runs.analysis import AnalysisCompletion
from s3sync.runs.completion import Completion
from s3sync.runs.readiness import Readiness
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.runs.samplesheet import SampleCheck
from s3sync.state.identity import OWN, Claim
from s3sync.state.log_head import LogSummary
from s3sync.state.store import StateStore
from s3sync.state.summary import LogStatus
from s3sync.transfer.changes import Change
from s3sync.transfer.request import FileTotals

HOUR = 3600.0
NOW = 1_795_000_000.0
YOUNG, OLD = NOW - HOUR, NOW - 100 * HOUR  # max_age is 72 hours

COMPLETED = LogSummary(
    completed=True,
    total_files=9,
    uploaded_files=9,
    failed_files=0,
    size=1,
    attempts=0,
    finished="2026-11-18T12:00:00+00:00",
    on_complete="",
)
REOPENED = replace(COMPLETED, completed=False, uploaded_files=8, first_completed="2026-11-17T12:00:00+00:00")
STARTED = replace(COMPLETED, completed=False, uploaded_files=8)
FAILED = replace(STARTED, failed_files=1)
CHANGE = Change(2, ("new.txt",))

MARKED, UNMARKED = Completion(is_complete=True, reason=""), Completion(is_complete=False, reason="waits for a marker")
COMPLETE, LATE = (
    Readiness("complete", ""),
    Readiness("complete", "", (Notice("CopyComplete.txt never came", "run.late"),)),
)
SEQUENCING, SETTLING = Readiness("sequencing", "waits"), Readiness("settling", "waits")
INCOMPLETE = Readiness("incomplete", "lacks cycle 3")
MATCH, NO_SHEET = SampleCheck(verdict="match", reason="all"), SampleCheck(verdict="no samplesheet", reason="none")
NO_MATCH = SampleCheck(verdict="samples do not match", reason="S2", failing=("S2",))

NO_JOBS: Any = SimpleNamespace(exists=lambda: False)
HANDOVER = SimpleNamespace(amount=FileTotals(9, 1), verified=FileTotals(0, 0))
JOBS: Any = SimpleNamespace(
    exists=lambda: True,
    spec=lambda: SimpleNamespace(name="s3sync-1", handover=HANDOVER),
    is_submitted=lambda: True,
    shard_count=lambda: 4,
    progress=lambda _job: None,
    results=dict,
)
IN_TIME = {"marker": MARKED, "finished_at": YOUNG}
FINISHED_LONG_AGO = {"marker": MARKED, "finished_at": OLD}
HERE = {"sample_check": MATCH, "work_folder": NO_JOBS}
WRITTEN = {"marker": UNMARKED, "readiness": SEQUENCING, "stream": True}


@dataclass(frozen=True)
class Row:
    """The facts that are looked up, and what follows from them."""

    state: str
    id: str = ""
    head: LogSummary | None = None
    facts: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "its log cannot be read": Row("unreadable", "state.unreadable", facts={"log_error": "Input/output error"}),
    "its RunInfo.xml cannot be read": Row("unreadable", "run.unreadable", facts={"run_error": "Input/output error"}),
    "another folder has its name": Row("duplicate name", facts={"claim": Claim("another", "x")}),
    "an uploaded run that another folder claims": Row(
        "duplicate name", head=COMPLETED, facts={"claim": Claim("another", "x")}
    ),
    "an uploaded run was moved": Row("partial", "run.moved", COMPLETED, {"claim": Claim("moved", "/old")}),
    "a reopened run was moved": Row("partial", "run.moved", REOPENED, {"claim": Claim("moved", "/old")}),
    "the folder has another run now": Row(
        "duplicate name", "run.replaced", COMPLETED, {"change": Change(9, ("RunInfo.xml",), "other bytes")}
    ),
    "files came after the upload": Row("partial", "run.changed", COMPLETED, {"change": CHANGE}),
    "files came, and changes are not uploaded": Row(
        "uploaded", "", COMPLETED, {"change": CHANGE, "upload_changes": False}
    ),
    "uploaded": Row("uploaded", head=COMPLETED),
    "completed once, and not again yet": Row("partial", head=REOPENED, facts={"work_folder": NO_JOBS}),
    "completed once, on Slurm again": Row("partial", "run.on-slurm", REOPENED, {"work_folder": JOBS}),
    "being written": Row("sequencing", facts={"marker": UNMARKED, "readiness": SEQUENCING}),
    "copied, and not quiet yet": Row("settling", facts={"marker": UNMARKED, "readiness": SETTLING}),
    "being written, old, and to be streamed": Row("sequencing", facts={**WRITTEN, "mtime": OLD}),
    "being written, old, and streamed before": Row(
        "streaming", "", STARTED, {**WRITTEN, "mtime": OLD, "sample_check": MATCH, "abandoned": False}
    ),
    "streamed": Row("streaming", facts={**WRITTEN, "sample_check": MATCH, "abandoned": False}),
    "streamed, without a sheet yet": Row(
        "sequencing", "run.not-streamed-yet", facts={**WRITTEN, "sample_check": NO_SHEET}
    ),
    "streamed, with other samples": Row("samples do not match", facts={**WRITTEN, "sample_check": NO_MATCH}),
    "streamed, and abandoned": Row("abandoned", facts={**WRITTEN, "sample_check": MATCH, "abandoned": True}),
    "finished long ago": Row("too old", facts={**FINISHED_LONG_AGO, "arrived_lately": False}),
    "finished long ago, its log corrupt": Row(
        "partial", "state.corrupt", facts={**FINISHED_LONG_AGO, **HERE, "corrupt": True, "readiness": COMPLETE}
    ),
    "finished long ago, and started": Row("partial", "", STARTED, {**FINISHED_LONG_AGO, **HERE, "readiness": COMPLETE}),
    "finished long ago, and seen in time": Row(
        "new", facts={**FINISHED_LONG_AGO, **HERE, "waiting": True, "readiness": COMPLETE}
    ),
    "finished long ago, and copied here lately": Row(
        "new", facts={**FINISHED_LONG_AGO, **HERE, "arrived_lately": True, "readiness": COMPLETE}
    ),
    "with other samples": Row("samples do not match", facts={**IN_TIME, "sample_check": NO_MATCH}),
    "without a sheet": Row("no samplesheet", facts={**IN_TIME, "sample_check": NO_SHEET}),
    "on Slurm": Row("partial", "run.on-slurm", facts={**IN_TIME, "sample_check": MATCH, "work_folder": JOBS}),
    "it lacks base calls": Row("incomplete", facts={**IN_TIME, **HERE, "readiness": INCOMPLETE}),
    "it lacks base calls, and would be streamed": Row(
        "incomplete", facts={**IN_TIME, **HERE, "readiness": INCOMPLETE, "stream": True}
    ),
    "it has its marker, and is still copied": Row("settling", facts={**IN_TIME, **HERE, "readiness": SETTLING}),
    "new": Row("new", facts={**IN_TIME, **HERE, "readiness": COMPLETE}),
    "its last marker never came": Row(
        "new", facts={"marker": UNMARKED, "finished_at": YOUNG, **HERE, "readiness": LATE}
    ),
    "files failed": Row("failed", "", FAILED, {**IN_TIME, **HERE, "readiness": COMPLETE}),
}
FINISHED = AnalysisCompletion(is_complete=True, reason="", marker_time=YOUNG)
ANALYSIS_ROWS = {
    "not finished": Row(
        "analysing", facts={"completion": AnalysisCompletion(is_complete=False, reason="waits", marker_time=OLD)}
    ),
    "finished long ago": Row(
        "too old", facts={"completion": AnalysisCompletion(is_complete=True, reason="", marker_time=OLD)}
    ),
    "its manifest is not there": Row("new", facts={"completion": FINISHED, "work_folder": NO_JOBS}),
    "uploaded": Row("uploaded", head=COMPLETED),
    "another folder has its name": Row("duplicate name", facts={"claim": Claim("another", "x")}),
}


def facts_of(kind: type[Facts], tmp_path: Path, row: Row) -> Any:
    """Facts whose folder is not there, so that only those of the row can be looked up."""
    facts = {"claim": OWN, **({"change": None} if row.head and row.head.completed else {}), **row.facts}
    take = facts.pop
    entry = MonitorEntry(
        monitored_directories=(tmp_path,),
        bucket="lab-runs",
        remote_path="/",
        stream=take("stream", False),
        upload_changes=take("upload_changes", True),
    )
    run = Run(
        path=tmp_path / "RUN", run_id="RUN", info=RunInfo(), parent_run=tmp_path if kind is AnalysisFacts else None
    )
    store = StateStore(tmp_path / "log", run, entry.destination)
    known = LogStatus(store.log_path, row.head, corrupt=take("corrupt", False), unreadable=take("log_error", ""))
    context = StatusContext(Config(log_dir=tmp_path / "log", monitor=(entry,)), now=NOW)
    if take("waiting", False):
        context.watch.waiting.add(store.lock_path.stem)
    candidate = Candidate(run=run, entry=entry, run_info_mtime=take("mtime", YOUNG), unreadable=take("run_error", ""))
    made = kind(candidate, known, store, context)
    for method, name in (("arrived_lately", "arrived_lately"), ("is_abandoned", "abandoned")):
        if name in facts:
            answer = take(name)
            setattr(made, method, lambda answer=answer: answer)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_state_of_a_run(tmp_path: Path, row: Row) -> None:
    decision = decide_run(facts_of(RunFacts, tmp_path, row))
    assert (decision.state, decision.id) == (row.state, row.id), decision.reason


@pytest.mark.parametrize("row", ANALYSIS_ROWS.values(), ids=ANALYSIS_ROWS)
def test_the_state_of_an_analysis(tmp_path: Path, row: Row) -> None:
    (tmp_path / "RUN").mkdir()
    decision = decide_analysis(facts_of(AnalysisFacts, tmp_path, row))
    assert (decision.state, decision.id) == (row.state, row.id), decision.reason


def test_a_run_that_was_found_in_time_is_remembered_and_no_other(tmp_path: Path) -> None:
    for name, is_remembered in (("with other samples", True), ("finished long ago", False), ("being written", False)):
        made = facts_of(RunFacts, tmp_path, ROWS[name])
        decide_run(made)
        assert bool(made.context.watch.waiting) is is_remembered, name


def test_what_may_be_wrong_with_a_complete_run_is_in_its_reason(tmp_path: Path) -> None:
    decision = decide_run(facts_of(RunFacts, tmp_path, ROWS["its last marker never came"]))
    assert "CopyComplete.txt never came" in decision.reason


def test_a_regex_that_takes_too_long_is_tried_with_one_sheet_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def check(path: Path, _regex: Pattern) -> SampleCheck:
        tried.append(path)
        return SampleCheck(verdict="samples do not match", reason="takes too long", timed_out=True)

    monkeypatch.setattr(samplesheet, "check_samples", check)
    checker, regex = SampleChecker(), Pattern("(a+)+$X")
    _, second = (checker.check(Run(path=tmp_path / name, run_id=name, info=RunInfo()), regex) for name in "ab")
    assert tried == [tmp_path / "a"]
    assert "another run" in second.reason
