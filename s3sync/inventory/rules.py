"""Decide on the state of a run by rules: the first rule that applies decides.

Their order saves work: thousands of uploaded runs cost almost nothing, and runs that are too old, or whose samples do
not match, are never listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from s3sync.errors import Notice, S3SyncError
from s3sync.inventory.facts import AnalysisFacts, Decision, Facts, RunFacts
from s3sync.inventory.log_rules import LOG_RULES, due
from s3sync.runs import analysis_manifest, run_folder
from s3sync.state import summary
from s3sync.text import human_seconds

Rule = Callable[[Any], Decision | None]  # takes a Facts, RunFacts or AnalysisFacts


def decide_run(facts: RunFacts) -> Decision:
    """Return the state of a run. Never raises because of the run or its log."""
    return _decide(facts, (*LOG_RULES, *AGE_RULES), UPLOAD_RULES, ready)


def decide_analysis(facts: AnalysisFacts) -> Decision:
    """Return the state of an analysis. Never raises because of the analysis or its log."""
    return _decide(facts, (*LOG_RULES, *ANALYSIS_AGE_RULES), (), ready_analysis)


def _decide(facts: Any, first: Sequence[Rule], then: Sequence[Rule], otherwise: Callable[[Any], Decision]) -> Decision:
    try:
        if decision := _first(first, facts):
            return decision
        facts.mark_found_in_time()
        return _first(then, facts) or otherwise(facts)
    except S3SyncError as error:
        return Decision(state="unreadable", reason=str(error), id=error.id)
    except OSError as error:
        return Decision(state="unreadable", reason=str(error), id="run.unreadable")


def _first(rules: Sequence[Rule], facts: Facts) -> Decision | None:
    return next((decision for rule in rules if (decision := rule(facts))), None)


# Rules by instrument and age


def too_old_while_written(facts: RunFacts) -> Decision | None:
    """Skip a run that is still being written but too old to be streamed."""
    if _is_still_written(facts) and facts.is_too_old(facts.candidate.run_info_mtime):
        return _unfinished(facts)
    return None


def still_written(facts: RunFacts) -> Decision | None:
    """Wait for a run that is still being written, or stream it if its entry says so."""
    return _streamed_or_unfinished(facts) if _is_still_written(facts) else None


def too_old(facts: RunFacts) -> Decision | None:
    """Skip a run that was finished more than max_age ago, unless it was copied here since."""
    if not facts.is_too_old(facts.finished_at) or facts.arrived_lately():
        return None
    return _too_old(facts, facts.finished_at, run_folder.RUN_INFO)


def _is_still_written(facts: RunFacts) -> bool:
    return not facts.marker.is_complete and facts.readiness.state in ("sequencing", "settling")


def _too_old(facts: Facts, finished: float, marker: str) -> Decision:
    ago = human_seconds(facts.hours_since(finished) * 3600)
    reason = f"finished {ago} ago (max_age {facts.config.max_age:g} h; `touch` its {marker} to upload it)"
    return Decision(state="too old", reason=reason)


# Rules by samples and files, for runs that were found in time


def samples_do_not_match(facts: RunFacts) -> Decision | None:
    """Skip a run whose samples do not match, or that has no usable samplesheet."""
    samples = facts.sample_check
    if samples.verdict == "match":
        return None
    reason = _with_files_in_s3(samples.reason, facts.head)
    return Decision(state=samples.verdict, reason=reason, id=samples.id, failing=samples.failing)


def on_slurm(facts: RunFacts) -> Decision | None:
    """Follow a run that was handed over to Slurm, without checking it again."""
    if not facts.work_folder.exists():
        return None
    return _warned(due(facts), () if facts.marker.is_complete else facts.readiness.warnings)


def lacks_files(facts: RunFacts) -> Decision | None:
    """Wait for the missing files of a run that has its completion marker."""
    return None if facts.readiness.is_complete else _streamed_or_unfinished(facts)


def ready(facts: RunFacts) -> Decision:
    """Upload the complete run."""
    return _warned(due(facts), facts.readiness.warnings)


def _warned(decision: Decision, warnings: Sequence[Notice]) -> Decision:
    return replace(decision, reason="; ".join((decision.reason, *(warning.text for warning in warnings))))


# Rules for runs that are not complete


def _streamed_or_unfinished(facts: RunFacts) -> Decision:
    if not facts.entry.stream or facts.readiness.state == "incomplete":
        return _unfinished(facts)
    return _first(STREAMING_RULES, facts) or streaming(facts)


def _unfinished(facts: RunFacts) -> Decision:
    verdict = facts.readiness
    state = "sequencing" if verdict.state == "complete" else verdict.state
    reason = _with_files_in_s3(verdict.reason, facts.head) if state == "incomplete" else verdict.reason
    return Decision(state=state, reason=reason)


def wrong_samples(facts: RunFacts) -> Decision | None:
    """Do not stream a run whose samples do not match."""
    return samples_do_not_match(facts) if facts.sample_check.verdict == "samples do not match" else None


def no_samples_yet(facts: RunFacts) -> Decision | None:
    """Wait for a samplesheet, which may be added or corrected until the run is complete."""
    if facts.sample_check.verdict == "match":
        return None
    unfinished = _unfinished(facts)
    reason = f"{unfinished.reason}; not streamed yet: {facts.sample_check.reason}"
    return Decision(
        state=unfinished.state, reason=reason, id="run.not-streamed-yet", failing=facts.sample_check.failing
    )


def abandoned(facts: RunFacts) -> Decision | None:
    """Report a run that its instrument stopped writing without finishing it."""
    if not facts.is_abandoned():
        return None
    reason = f"{facts.readiness.reason}, and nothing changed for {facts.config.abandoned_hours:g} h"
    return Decision(state="abandoned", reason=_with_files_in_s3(reason, facts.head))


def streaming(facts: RunFacts) -> Decision:
    """Upload the files that no longer change while the instrument writes the others."""
    files = facts.head.uploaded_files if facts.head else 0
    reason = f"{files:,} files verified so far; {facts.readiness.reason}"
    return Decision(state="streaming", reason=reason)


def _with_files_in_s3(reason: str, head: summary.LogSummary | None) -> str:
    """Mention the files in S3 of a run that will not be uploaded further: its owner may want to delete them."""
    if head is None or not head.uploaded_files:
        return reason
    are = "1 file is" if head.uploaded_files == 1 else f"{head.uploaded_files:,} files are"
    return f"{reason}; {are} already in S3: keep or delete them yourself (`status RUN` lists them)"


# Rules for analyses


def analysing(facts: AnalysisFacts) -> Decision | None:
    """Wait for an analysis that the instrument has not finished."""
    if facts.completion.is_complete:
        return None
    return Decision(state="analysing", reason=facts.completion.reason)


def too_old_analysis(facts: AnalysisFacts) -> Decision | None:
    """Skip an analysis that was finished long ago."""
    if not facts.is_too_old(facts.completion.marker_time):
        return None
    return _too_old(facts, facts.completion.marker_time, "CopyComplete.txt")


def ready_analysis(facts: AnalysisFacts) -> Decision:
    """Upload the complete analysis. Raises S3SyncError if its manifest cannot be read."""
    analysis_manifest.read_checksums(facts.run)
    return _warned(due(facts), facts.completion.warnings)


AGE_RULES: tuple[Rule, ...] = (too_old_while_written, still_written, too_old)
UPLOAD_RULES: tuple[Rule, ...] = (samples_do_not_match, on_slurm, lacks_files)  # otherwise `ready`
STREAMING_RULES: tuple[Rule, ...] = (wrong_samples, no_samples_yet, abandoned)  # otherwise `streaming`
ANALYSIS_AGE_RULES: tuple[Rule, ...] = (analysing, too_old_analysis)  # otherwise `ready_analysis`
