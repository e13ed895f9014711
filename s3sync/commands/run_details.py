"""Show all details of one run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from s3sync.commands.overview import Row
from s3sync.commands.run_rows import to_clamped_iso
from s3sync.config import Config
from s3sync.inventory import RunStatus, states
from s3sync.runs import completion, run_folder
from s3sync.state import RunState
from s3sync.text import human_bytes, indented_list, list_by_reason, printable

_LABELS = {"flowcell_type": "cell type"}


def detail_lines(row: Row, config: Config) -> list[str]:
    """Return lines with all details of a run, or of an analysis."""
    run = row.run
    lines = [
        printable(run.run.run_id),
        f"  state       {run.state}: {row.reason_with_id}",
        f"  folder      {printable(str(run.run.path))}",
        f"  to          {printable(run.url)}",
    ]
    if not run.run.parent_run:
        lines += _instrument_lines(row)
    state = _load_state(run, config)
    in_s3 = _uploaded_keys(run, state)
    if run.head:
        lines.append(
            f"  files       {row.verified:,} of {run.head.total_files:,} verified, {human_bytes(run.head.size)}"
        )
        lines.append(f"  log         {printable(str(run.log_path))}")
    if run.failing:
        lines += ["  samples that do not match:", *indented_list([printable(name) for name in run.failing])]
    if state and state.failed:
        lines += ["  failed files:", *list_by_reason(state.failed, ", in the log")]
    if in_s3:
        lines += [
            "  already in S3, to keep or to delete:",
            *indented_list([printable(key) for key in in_s3], ", in the log"),
        ]
    return lines


def _instrument_lines(row: Row) -> list[str]:
    """Return what the instrument wrote about a run."""
    run, info = row.run, row.info
    lines = [f"  began       {to_clamped_iso(run.began)}"]
    if info:
        lines += [f"  instrument  {instrument_name(info)}", f"  flow cell   {printable(info.flowcell)}"]
        lines += [f"  date        {printable(info.date)}", f"  cycles      {', '.join(map(str, info.cycles))}"]
    facts = asdict(run_folder.read_run_parameters(run.run.root)).items()
    return [*lines, *(f"  {_LABELS.get(name, name):<11} {printable(value)}" for name, value in facts if value)]


def details_json(row: Row, config: Config) -> dict[str, Any]:
    """Return the details that `status RUN --json` adds to each run."""
    state = _load_state(row.run, config)
    failed = {printable(path): reason for path, reason in state.failed.items()} if state else {}
    parameters = asdict(run_folder.read_run_parameters(row.run.run.root))
    in_s3 = [printable(key) for key in _uploaded_keys(row.run, state)]
    return {**parameters, "failed": failed, "samples_that_do_not_match": list(row.run.failing), "in_s3": in_s3}


def instrument_name(info: run_folder.RunInfo | None) -> str:
    """Return the instrument of a run, with its family if that is known."""
    return (completion.instrument_label(info.instrument) if info else "") or "unknown instrument"


def _load_state(run: RunStatus, config: Config) -> RunState | None:
    if run.head is None or run.head.completed:
        return None
    return run.store(config.log_dir).load(set_aside=False).state


def _uploaded_keys(run: RunStatus, state: RunState | None) -> list[str]:
    """Return the keys in S3 of a run that will not be completed. s3sync never deletes them."""
    if state is None or run.state not in states.SKIPPED_STATES:
        return []
    prefix = run.entry.destination.run_prefix(run.run.run_id)
    return sorted(prefix + path for path in state.verified)
