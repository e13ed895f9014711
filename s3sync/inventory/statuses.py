"""The status of every run and analysis that the config refers to, those that are gone included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s3sync.config import Config
from s3sync.errors import RunError
from s3sync.inventory import discovery, missing
from s3sync.inventory.candidate import Candidate
from s3sync.inventory.case import AnalysisCase, Case, Context, Decision, RunCase
from s3sync.inventory.discovery import Discovery
from s3sync.inventory.problems import Problem
from s3sync.inventory.problems import broken_nodes as broken_nodes
from s3sync.inventory.rules import decide_analysis, decide_run
from s3sync.inventory.states import SKIPPED_STATES, STATE_IDS, RunStatus
from s3sync.runs import Run, analysis, run_folder
from s3sync.state import StateStore, summary, waiting
from s3sync.text import printable
from s3sync.transfer import changes


class Inventory(NamedTuple):
    """Every run and analysis with its status, and the problems of directories and logs."""

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
    """Return all runs, or those with these names; the name of a run includes its analyses.

    With `scanning` what is found of completed runs is remembered, with `remembering` only which runs wait.
    """
    wanted = {name.partition("/")[0] for name in names}
    found = found or discovery.discover(config)
    candidates = [c for c in found.distinct if not wanted or c.run.run_id in wanted]
    watch = changes.Watch(config.log_dir, config.recheck_days, scanning=scanning)
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
    config: Config, candidates: Iterable[Candidate], watch: changes.Watch | None = None, now: float | None = None
) -> list[RunStatus]:
    """Return the status of every run, and after it those of its analyses. Never raises for what is wrong with one.

    `now` is in seconds since the epoch.
    """
    context = Context(config, watch, now)
    runs = (_run_status(candidate, context) for candidate in candidates)
    return [status for run in runs for status in (run, *_analyses_of(run, context))]


def refresh(config: Config, runs: Iterable[RunStatus]) -> list[RunStatus]:
    """Return the statuses of these runs as they are now, and those of their analyses."""
    again = (Candidate(run=run.run, entry=run.entry, run_info_mtime=run.began) for run in runs)
    return run_statuses(config, again)


def _still_waiting(config: Config, runs: Iterable[RunStatus], watch: changes.Watch) -> set[str]:
    """Return the names of what waits; what cannot be seen now may come back, or belong to another config."""
    by_name = {run.store(config.log_dir).lock_path.stem: run for run in runs}
    waits = {
        name for name, run in by_name.items() if run.head is None and run.state not in ("uploaded", *SKIPPED_STATES)
    }
    return (watch.waiting - by_name.keys()) | (waits & watch.waiting)


def _unreadable_log(path: Path, why: str) -> Problem:
    text = f"cannot read {printable(str(path))}: {why} (make it readable)"
    return Problem(f"log {printable(path.name)}", text, id="state.log-unreadable")


def _run_status(candidate: Candidate, context: Context) -> RunStatus:
    store = StateStore(context.config.log_dir, candidate.run, candidate.entry.destination)
    case = RunCase(candidate, summary.look(store), store, context)
    return _status(case, decide_run(case), candidate.run_info_mtime)


def _status(case: Case, decision: Decision, began: float) -> RunStatus:
    return RunStatus(
        run=case.known_run,
        entry=case.entry,
        began=began,
        state=decision.state,
        reason=printable(decision.reason),
        id=decision.id or STATE_IDS[decision.state],
        head=case.head,
        log_path=case.known.log_path,
        failing=decision.failing,
        change=decision.change,
    )


def _analyses_of(run: RunStatus, context: Context) -> list[RunStatus]:
    """Return the analyses in the folder of an uploaded run; none before that, or where the entry excludes them."""
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


def _analysis_status(unit: Run, run: RunStatus, context: Context) -> RunStatus:
    store = StateStore(context.config.log_dir, unit, run.entry.destination)
    candidate = Candidate(run=unit, entry=run.entry, run_info_mtime=0.0)
    case = AnalysisCase(candidate, summary.look(store), store, context)
    decision = decide_analysis(case)
    return _status(case, decision, case.began)


def _unreadable_analyses(run: RunStatus, error: RunError) -> RunStatus:
    path, name = run.run.path / run_folder.ANALYSIS_FOLDER, f"{run.run.run_id}/{run_folder.ANALYSIS_FOLDER}"
    unit = replace(run.run, path=path, run_id=name, parent_run=run.run.path)
    return replace(run, run=unit, state="unreadable", reason=str(error), id="run.unreadable", head=None, change=None)


def _makes_analyses(run: Run) -> bool:
    """Return whether the analyses of a run are uploaded, or reported, for themselves; true if that is unknown."""
    try:
        return analysis.instrument_makes_analyses(run.path, run_folder.read_instrument(run.path / run_folder.RUN_INFO))
    except (RunError, FileNotFoundError):
        return True
