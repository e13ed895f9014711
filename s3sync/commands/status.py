"""`s3sync status`: show all runs, their state and the reason."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from s3sync.commands import locations, options, output, run_argument
from s3sync.commands.overview import Overview, Row, load_overview
from s3sync.commands.run_details import detail_lines, details_json, instrument_name
from s3sync.commands.run_rows import destination_name, run_json, run_name, run_table, to_datetime
from s3sync.config import Config
from s3sync.errors import EXIT_DONE, EXIT_FAILED
from s3sync.inventory import RunStatus, restores, states
from s3sync.text import human_bytes, printable, to_iso

if TYPE_CHECKING:
    from rich.table import Table

USAGE = "[RUN ...] [--config FILE] [--json]"
DESCRIPTION = "Show all runs: their state and the reason."
EXAMPLES = """\
examples:
  s3sync status --config /etc/s3sync.yaml
  s3sync status --config /etc/s3sync.yaml RUN
  s3sync status --config /etc/s3sync.yaml --json
"""
_LEAST_WIDTH = 30


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("run", nargs="*", metavar="RUN", help="show all details of these runs (a name or a path)")
    options.add_config(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state of all runs, or details of the selected ones, and return the exit code."""
    config = locations.config_to_read(args)
    found = load_overview(config, args.run)
    rows = found.rows
    code = EXIT_DONE if found.verdict.ok and not found.unknown else EXIT_FAILED
    if args.json:
        output.print_json({**as_json(found, config, detailed=bool(args.run)), "exit_code": code})
    elif args.run:
        output.print_lines(line for row in rows for line in detail_lines(row, config))
    else:
        output.print_tables([table(rows)] if rows else [])
        output.print_lines([totals(rows), *restore_lines(found), scan_line(found)])
    output.print_messages(problem_lines(found))
    output.print_messages(run_argument.unknown_lines(found.unknown))
    return code


def table(rows: Sequence[Row]) -> Table:
    """Return the table of all runs for a terminal of 80 columns: three or four lines each."""
    from rich.text import Text

    shown = run_table("Run", [row.run for row in rows], "State", "Files", "When")
    shown.columns[0].width = max(shown.columns[0].min_width or 0, _LEAST_WIDTH)  # so that it is the reason that folds
    for row in rows:
        run = row.run
        name = Text(
            f"{run_name(run)}\n  {instrument_name(row.info)}\n  to {printable(destination_name(run))}", overflow="fold"
        )
        state = Text(f"{run.state}\n{row.reason_with_id}", overflow="fold")
        head = run.head
        files = f"{row.verified:,}/{head.total_files:,}\n{human_bytes(head.size)}" if head else ""
        shown.add_row(name, state, Text(files), Text(_when(run), no_wrap=True))
    return shown


def totals(rows: Sequence[Row]) -> str:
    """Return a line with the number of runs in each state."""
    numbers: dict[str, int] = {}
    for row in rows:
        numbers[row.run.state] = numbers.get(row.run.state, 0) + 1
    parts = ", ".join(f"{number:,} {state}" for state, number in sorted(numbers.items()))
    return f"{states.count_runs([row.run for row in rows])}: {parts}" if parts else "no runs"


def scan_line(found: Overview) -> str:
    """Return a line about the last scan and its result, and about a scan that is running."""
    last, began = found.scans.last, found.scans.running_since
    parts = []
    if began is not None:
        where = f" on {found.scans.running_on}" if found.scans.running_on else ""
        parts.append(f"a scan has been running{where} since {_minute(began)}")
    if last:
        how = "ok" if last.ok else "failed"
        parts.append(f"last scan {_minute(last.ended)}: {how}")
    return "; ".join(parts) or next(a.text_with_id for a in found.verdict.alerts if a.id == "monitor.no-scan")


def restore_lines(found: Overview) -> list[str]:
    """Return a line for each restore that waits for frozen objects."""
    return [f"{one.key}: {one.progress}" for one in found.restores]


def _restore_json(pending: restores.PendingRestore) -> dict[str, Any]:
    return {
        "run_id": pending.run_id,
        "run_path": pending.run_path,
        "url": pending.url,
        "requested_at": pending.since,
        "requested_files": pending.requested,
        "thawed_files": pending.thawed,
        "frozen_files": pending.frozen,
        "frozen_bytes": pending.frozen_bytes,
        "ready_at": pending.ready_at,
        "expires_at": pending.expires_at,
        "days": pending.days,
        "problem": pending.problem._asdict() if pending.problem else None,
    }


def problem_lines(found: Overview) -> list[str]:
    """Return the problems and alerts that are not in the states of the runs, and notes."""
    lines = [f"{problem.key}: {problem.text_with_id}" for problem in found.verdict.problems]
    lines += [f"alert: {a.key}: {a.text_with_id}" for a in found.verdict.alerts if a.id != "monitor.no-scan"]
    return [*lines, *(f"note: {note.key} {note.text}" for note in found.notes)]


def _when(run: RunStatus) -> str:
    """Return when a run was uploaded or last tried, in local time, or else when it began, marked as such."""
    try:
        ended = datetime.fromisoformat(run.head.finished).astimezone() if run.head and run.head.finished else None
    except (ValueError, OverflowError):  # no time, or in the year 1
        ended = None
    shown = "%Y-%m-%d\n%H:%M" if ended else "%Y-%m-%d\n%H:%M\n(began)"
    return (ended or to_datetime(run.began).astimezone()).strftime(shown)


def _minute(seconds: float) -> str:
    return to_datetime(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def as_json(found: Overview, config: Config, *, detailed: bool) -> dict[str, Any]:
    """Return the runs as one JSON object; if `detailed`, with failed files and the like."""
    rows, last = found.rows, found.scans.last
    return {
        "runs": [
            {**run_json(row.run), **_row_json(row), **(details_json(row, config) if detailed else {})} for row in rows
        ],
        "restores": [_restore_json(pending) for pending in found.restores],
        "troubles": [problem._asdict() for problem in found.problems],
        "notes": [note._asdict() for note in found.notes],
        "level": found.verdict.level,
        "problems": [problem.as_json() for problem in (*found.verdict.problems, *found.verdict.failing)],
        "alerts": [alert.as_json() for alert in found.verdict.alerts],
        "last_scan": to_iso(last.ended) if last else "",
        "last_scan_ok": last.ok if last else None,
        "scan_began": to_iso(found.scans.running_since) if found.scans.running_since is not None else "",
    }


def _row_json(row: Row) -> dict[str, Any]:
    head, info = row.run.head, row.info
    return {
        "reason": row.reason,
        "uploading_now": row.is_uploading,
        "files_total": head.total_files if head else None,
        "files_proven": row.verified,
        "files_failed": head.failed_files if head else 0,
        "bytes": head.size if head else 0,
        "finished": head.finished if head else "",
        "instrument": info.instrument if info else "",
        "flowcell": info.flowcell if info else "",
        "date": info.date if info else "",
        "cycles": list(info.cycles) if info else [],
    }
