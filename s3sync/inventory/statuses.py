"""Determine the status of every run and analysis that the config refers to, including those that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import RunError
from s3sync.inventory import discovery, missing
from s3sync.inventory.candidate import Candidate
from s3sync.inventory.discovery import Discovery
from s3sync.inventory.facts import AnalysisFacts, Decision, Facts, RunFacts, StatusContext
from s3sync.inventory.problems import Problem
from s3sync.inventory.problems import broken_nodes as broken_nodes
from s3sync.inventory.rules import decide_analysis, decide_run
from s3sync.inventory.states import SKIPPED_STATES, STATE_IDS, RunStatus
from s3sync.runs import Run, analysis, run_folder
from s3sync.state import StateStore, summary, waiting
from s3sync.text import printable
from s3sync.transfer import changes


class Inventory(NamedTuple):
    """The status of every run and analysis, and the problems of directories and logs."""

    runs: list[RunStatus]
    problems: list[Problem]


def take_inventory(
    config: Config,
    names: Iterable[str] = (),
    *,
    found: Discovery | None = None,
    scanning: bool = False,
    remembering: bool = False,
) -> Inventory:
    """Return the status of all runs, or of those with these names; the name of a run includes its analyses.

    With `scanning`, completed runs are checked for changes, and the result and the waiting runs are remembered. With
    `remembering`, only the waiting runs are. `found` saves looking for the runs.
    """
    wanted = {name.partition("/")[0] for name in names}
    found = found or discovery.discover(config)
    candidates = [c for c in found.distinct if not wanted or c.run.run_id in wanted]
    watch = changes.ChangeWatch(config.log_dir, config.recheck_days, scanning=scanning)
    runs = run_statuses(config, candidates, watch)
    watch.save()
    if (scanning or remembering) and not wanted:
        waiting.save(config.log_dir, _still_waiting(config, runs, watch))
    logs = {run.log_path for run in runs}
    not_readable = [directory.path for directory in found.directories if directory.problems]
    lost = [run for run in missing.lost_runs(config, logs, not_readable) if not wanted or run.run.root.name in wanted]
    unreadable = [] if wanted else summary.list_other_unreadable(config.log_dir, logs)
    return Inventory([*runs, *lost], [*found.problems, *(_unreadable_log(path, why) for path, why in unreadable)])


def run_statuses(
    config: Config, candidates: Iterable[Candidate], watch: changes.ChangeWatch | None = None, now: float | None = None
) -> list[RunStatus]:
    """Return the status of every run, each followed by its analyses; `now` is in seconds since the epoch.

    A run that cannot be read is `unreadable`; it raises nothing.
    """
    context = StatusContext(config, watch, now)
    runs = (_run_status(candidate, context) for candidate in candidates)
    return [status for run in runs for status in (run, *_analyses_of(run, context))]


def refresh(config: Config, runs: Iterable[RunStatus]) -> list[RunStatus]:
    """Return the statuses of these runs as they are now, each followed by its analyses."""
    candidates = (Candidate(run=run.run, entry=run.entry, run_info_mtime=run.began) for run in runs)
    return run_statuses(config, candidates)


def _still_waiting(config: Config, runs: Iterable[RunStatus], watch: changes.ChangeWatch) -> set[str]:
    """Return the names of waiting runs without those that need not wait any longer.

    Runs that are not visible now are kept: they may come back, or belong to another config.
    """
    by_name = {run.store(config.log_dir).lock_path.stem: run for run in runs}
    ended = {name for name, run in by_name.items() if run.head or run.state in ("uploaded", *SKIPPED_STATES)}
    return watch.waiting - ended


def _unreadable_log(path: Path, why: str) -> Problem:
    text = f"cannot read {printable(str(path))}: {why} (make it readable)"
    return Problem(f"log {printable(path.name)}", text, id="state.log-unreadable")


def _run_status(candidate: Candidate, context: StatusContext) -> RunStatus:
    store = StateStore(context.config.log_dir, candidate.run, candidate.entry.destination)
    facts = RunFacts(candidate, summary.read_status(store), store, context)
    return _status(facts, decide_run(facts), candidate.run_info_mtime)


def _status(facts: Facts, decision: Decision, began: float) -> RunStatus:
    return RunStatus(
        run=facts.known_run,
        entry=facts.entry,
        began=began,
        state=decision.state,
        reason=printable(decision.reason),
        id=decision.id or STATE_IDS[decision.state],
        head=facts.head,
        log_path=facts.log.log_path,
        failing=decision.failing,
        change=decision.change,
    )


def _analyses_of(run: RunStatus, context: StatusContext) -> list[RunStatus]:
    """Return the analyses in the folder of an uploaded run that the entry does not exclude; of other runs none."""
    if not (run.state == "uploaded" or run.change) or run.run.parent_run:
        return []
    try:
        units = [unit for unit in analysis.list_analyses(run.run) if not analysis.is_excluded(unit, run.entry.excludes)]
    except RunError as error:
        return [_unreadable_analyses(run, error)]
    analyses = [_analysis_status(unit, run, context) for unit in units]
    if all(each.state == "uploaded" for each in analyses) or _makes_analyses(run.run):
        return analyses
    return [each for each in analyses if each.state == "uploaded"]


def _analysis_status(unit: Run, run: RunStatus, context: StatusContext) -> RunStatus:
    store = StateStore(context.config.log_dir, unit, run.entry.destination)
    candidate = Candidate(run=unit, entry=run.entry, run_info_mtime=0.0)
    facts = AnalysisFacts(candidate, summary.read_status(store), store, context)
    decision = decide_analysis(facts)
    return _status(facts, decision, facts.began)


def _unreadable_analyses(run: RunStatus, error: RunError) -> RunStatus:
    path, name = run.run.path / run_folder.ANALYSIS_FOLDER, f"{run.run.run_id}/{run_folder.ANALYSIS_FOLDER}"
    unit = replace(run.run, path=path, run_id=name, parent_run=run.run.path)
    return replace(run, run=unit, state="unreadable", reason=str(error), id="run.unreadable", head=None, change=None)


def _makes_analyses(run: Run) -> bool:
    """Return whether the instrument makes analyses, which then need their own uploads; true if that is unknown."""
    try:
        return analysis.instrument_makes_analyses(run.path, run_folder.read_instrument(run.path / run_folder.RUN_INFO))
    except (RunError, FileNotFoundError):
        return True
