"""The rules that give a run its state: the first that applies decides.

The order saves work: thousands of runs that are uploaded cost next to nothing, and a run that is too old, or does not
match, is never listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from s3sync.errors import Notice, S3SyncError
from s3sync.inventory.case import AnalysisCase, Case, Decision, RunCase
from s3sync.inventory.log_rules import LOG_RULES, due
from s3sync.runs import analysis_manifest, run_folder
from s3sync.state import summary
from s3sync.text import human_seconds

Rule = Callable[[Any], Decision | None]  # of a Case, RunCase or AnalysisCase


def decide_run(case: RunCase) -> Decision:
    """Return the state of a run. Never raises for what is wrong with the run or its log."""
    return _decide(case, (*LOG_RULES, *AGE_RULES), UPLOAD_RULES, ready)


def decide_analysis(case: AnalysisCase) -> Decision:
    """Return the state of an analysis. Never raises for what is wrong with it or its log."""
    return _decide(case, (*LOG_RULES, *ANALYSIS_AGE_RULES), (), ready_analysis)


def _decide(case: Any, first: Sequence[Rule], then: Sequence[Rule], otherwise: Callable[[Any], Decision]) -> Decision:
    try:
        if decision := _first(first, case):
            return decision
        case.remember_in_time()
        return _first(then, case) or otherwise(case)
    except S3SyncError as error:
        return Decision(state="unreadable", reason=str(error), id=error.id)
    except OSError as error:
        return Decision(state="unreadable", reason=str(error), id="run.unreadable")


def _first(rules: Sequence[Rule], case: Case) -> Decision | None:
    return next((decision for rule in rules if (decision := rule(case))), None)


# By the instrument and the age


def too_old_while_written(case: RunCase) -> Decision | None:
    """Skip a run that is still being written, and too old to be streamed."""
    if _is_still_written(case) and case.is_too_old(case.candidate.run_info_mtime):
        return _unfinished(case)
    return None


def still_written(case: RunCase) -> Decision | None:
    """Stream a run without its completion marker if its entry wants that."""
    return _streamed_or_unfinished(case) if _is_still_written(case) else None


def too_old(case: RunCase) -> Decision | None:
    """Skip a run that was finished long ago, unless it has just been copied here."""
    if not case.is_too_old(case.finished) or case.arrived_lately():
        return None
    return _too_old(case, case.finished, run_folder.RUN_INFO)


def _is_still_written(case: RunCase) -> bool:
    return not case.marked.is_complete and case.readiness.state in ("sequencing", "settling")


def _too_old(case: Case, finished: float, marker: str) -> Decision:
    ago = human_seconds(case.hours_since(finished) * 3600)
    reason = f"finished {ago} ago (max_age {case.config.max_age:g} h; `touch` its {marker} to upload it)"
    return Decision(state="too old", reason=reason)


# By the samples and the files of a run that was found in time


def samples_do_not_match(case: RunCase) -> Decision | None:
    """Skip a run whose samples do not match, or that has no samplesheet."""
    samples = case.samples
    if samples.verdict == "match":
        return None
    reason = _with_files_in_s3(samples.reason, case.head)
    return Decision(state=samples.verdict, reason=reason, id=samples.id, failing=samples.failing)


def on_slurm(case: RunCase) -> Decision | None:
    """Follow a run that was handed over to Slurm, without checking it again."""
    if not case.work_folder.exists():
        return None
    return _warned(due(case), () if case.marked.is_complete else case.readiness.warnings)


def lacks_files(case: RunCase) -> Decision | None:
    """Wait for the files of a run that has its marker, but not all of them."""
    return None if case.readiness.is_complete else _streamed_or_unfinished(case)


def ready(case: RunCase) -> Decision:
    """Upload the complete run."""
    return _warned(due(case), case.readiness.warnings)


def _warned(decision: Decision, warnings: Sequence[Notice]) -> Decision:
    return replace(decision, reason="; ".join((decision.reason, *(warning.text for warning in warnings))))


# Runs that are not complete


def _streamed_or_unfinished(case: RunCase) -> Decision:
    if not case.entry.stream or case.readiness.state == "incomplete":
        return _unfinished(case)
    return _first(STREAMING_RULES, case) or streaming(case)


def _unfinished(case: RunCase) -> Decision:
    verdict = case.readiness
    state = "sequencing" if verdict.state == "complete" else verdict.state
    reason = _with_files_in_s3(verdict.reason, case.head) if state == "incomplete" else verdict.reason
    return Decision(state=state, reason=reason)


def wrong_samples(case: RunCase) -> Decision | None:
    """Skip a run whose samples do not match, as without streaming."""
    return samples_do_not_match(case) if case.samples.verdict == "samples do not match" else None


def no_samples_yet(case: RunCase) -> Decision | None:
    """Wait for a samplesheet, which may come or be corrected until the run is complete."""
    if case.samples.verdict == "match":
        return None
    unfinished = _unfinished(case)
    reason = f"{unfinished.reason}; not streamed yet: {case.samples.reason}"
    return Decision(state=unfinished.state, reason=reason, id="run.not-streamed-yet", failing=case.samples.failing)


def abandoned(case: RunCase) -> Decision | None:
    """Report a run that its instrument has stopped writing, and has not finished."""
    if not case.is_abandoned():
        return None
    reason = f"{case.readiness.reason}, and nothing changed for {case.config.abandoned_hours:g} h"
    return Decision(state="abandoned", reason=_with_files_in_s3(reason, case.head))


def streaming(case: RunCase) -> Decision:
    """Upload the files that no longer change while the instrument writes the others."""
    files = case.head.uploaded_files if case.head else 0
    reason = f"{files:,} files proven so far; {case.readiness.reason}"
    return Decision(state="streaming", reason=reason)


def _with_files_in_s3(reason: str, head: summary.LogSummary | None) -> str:
    """Mention what is in S3 of a run that will not be uploaded: its owner may want to delete it."""
    if head is None or not head.uploaded_files:
        return reason
    are = "1 file is" if head.uploaded_files == 1 else f"{head.uploaded_files:,} files are"
    return f"{reason}; {are} already in S3: keep or delete them yourself (`status RUN` lists them)"


# Analyses


def analysing(case: AnalysisCase) -> Decision | None:
    """Wait for an analysis that the instrument has not finished."""
    if case.finish.is_complete:
        return None
    return Decision(state="analysing", reason=case.finish.reason)


def too_old_analysis(case: AnalysisCase) -> Decision | None:
    """Skip an analysis that was finished long ago."""
    if not case.is_too_old(case.finish.marker_time):
        return None
    return _too_old(case, case.finish.marker_time, "CopyComplete.txt")


def ready_analysis(case: AnalysisCase) -> Decision:
    """Upload the complete analysis. Raises S3SyncError if its manifest cannot be read."""
    analysis_manifest.read_checksums(case.run)
    return _warned(due(case), case.finish.warnings)


AGE_RULES: tuple[Rule, ...] = (too_old_while_written, still_written, too_old)
UPLOAD_RULES: tuple[Rule, ...] = (samples_do_not_match, on_slurm, lacks_files)  # else it is `ready`
STREAMING_RULES: tuple[Rule, ...] = (wrong_samples, no_samples_yet, abandoned)  # else it is `streaming`
ANALYSIS_AGE_RULES: tuple[Rule, ...] = (analysing, too_old_analysis)  # else it is `ready_analysis`
