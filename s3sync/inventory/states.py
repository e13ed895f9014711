"""Hold the status of a run at a destination: its state, the reason, and the progress of its upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3sync.config import MonitorEntry
from s3sync.runs import Run
from s3sync.state import StateStore, summary
from s3sync.text import pluralize, printable
from s3sync.transfer import changes

State = Literal[
    "sequencing",
    "streaming",
    "abandoned",
    "settling",
    "incomplete",
    "analysing",
    "new",
    "partial",
    "uploaded",
    "failed",
    "too old",
    "no samplesheet",
    "ambiguous samplesheet",
    "samples do not match",
    "duplicate name",
    "unreadable",
    "gone",
]
PENDING_STATES: tuple[State, ...] = ("partial", "new", "failed")  # not yet uploaded
SKIPPED_STATES: tuple[State, ...] = ("too old", "no samplesheet", "samples do not match", "abandoned")
BROKEN_STATES: tuple[State, ...] = ("unreadable", "ambiguous samplesheet", "incomplete", "duplicate name", "gone")

STATE_IDS: Mapping[State, str] = {  # the id of the usual reason for each state
    "sequencing": "run.sequencing",
    "streaming": "run.streaming",
    "abandoned": "run.abandoned",
    "settling": "run.settling",
    "incomplete": "run.incomplete",
    "analysing": "run.analysing",
    "new": "run.new",
    "partial": "run.partial",
    "uploaded": "run.uploaded",
    "failed": "run.failed",
    "too old": "run.too-old",
    "no samplesheet": "run.no-samplesheet",
    "ambiguous samplesheet": "run.ambiguous-samplesheet",
    "samples do not match": "run.samples-do-not-match",
    "duplicate name": "run.duplicate-name",
    "unreadable": "run.unreadable",
    "gone": "run.gone",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """The status of a run, or of an analysis of one, at a destination."""

    run: Run
    entry: MonitorEntry
    began: float  # when RunInfo.xml, or the newest marker of an analysis, was written: seconds since the epoch
    state: State
    reason: str  # for people; printable
    id: str  # the id of the reason, such as `run.too-old`: stays the same when the reason is reworded
    head: summary.LogSummary | None  # the summary of its state log
    log_path: Path
    failing: tuple[str, ...] = ()  # names of samples in which sample_regex is not found
    change: changes.Change | None = None  # changes since the upload

    @property
    def key(self) -> str:
        """The run and its destination, for people; unique among all runs."""
        where = f" in {printable(str(self.run.path.parent))}" if self.state == "duplicate name" else ""
        return f"{printable(self.run.run_id)}{where} to {printable(self.url)}"

    @property
    def url(self) -> str:
        """The destination of the run: `s3://bucket/prefix/run_id/`."""
        return self.entry.destination.url(self.run.run_id)

    def store(self, log_dir: Path) -> StateStore:
        """Return the store of its state log."""
        return StateStore(log_dir, self.run, self.entry.destination)


def count_runs(runs: Sequence[RunStatus]) -> str:
    """Return `3 runs`, or `3 runs and 1 analysis`."""
    analyses = sum(run.run.parent_run is not None for run in runs)
    text = pluralize(len(runs) - analyses, "run")
    return f"{text} and {analyses:,} {'analysis' if analyses == 1 else 'analyses'}" if analyses else text
