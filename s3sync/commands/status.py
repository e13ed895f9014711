"""`s3sync status`: show all runs, their state and the reason."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from s3sync.commands import locations, options, output
from s3sync.commands.overview import Overview, Row, load_overview
from s3sync.commands.run_details import details, details_json, instrument
from s3sync.commands.run_rows import destination_name, moment, run_json, run_name, run_table
from s3sync.config import Config
from s3sync.errors import EXIT_DONE, EXIT_FAILED
from s3sync.inventory import RunStatus, states
from s3sync.text import human_bytes, printable, to_iso

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
    parser.add_argument("run", nargs="*", metavar="RUN", help="all there is to know of these runs")
    options.add_config(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state of all runs, or of those that were asked for, and return the exit code."""
    config = locations.config_to_read(args)
    found = load_overview(config, args.run)
    rows = found.rows
    code = EXIT_DONE if found.verdict.ok and not found.unknown else EXIT_FAILED
    if args.json:
        output.print_json({**as_json(found, config, detailed=bool(args.run)), "exit_code": code})
    elif args.run:
        output.print_lines(line for row in rows for line in details(row, config))
    else:
        output.print_tables([table(rows)] if rows else [])
        output.print_lines([totals(rows), scan_line(found)])
    output.print_messages(problem_lines(found))
    output.print_messages(f"no run {printable(name)} in the monitored directories" for name in found.unknown)
    return code


def table(rows: Sequence[Row]) -> Table:
    """For people, at 80 columns: two to four lines a run."""
    shown = run_table("Run", [row.run for row in rows], "State", "Files", "When")
    shown.columns[0].width = max(shown.columns[0].min_width or 0, _LEAST_WIDTH)  # so that it is the reason that folds
    for row in rows:
        run = row.run
        name = Text(
            f"{run_name(run)}\n  {instrument(row.info)}\n  to {printable(destination_name(run))}", overflow="fold"
        )
        state = Text(f"{run.state}\n{row.reason}", overflow="fold")
        head = run.head
        files = f"{row.proven:,}/{head.total_files:,}\n{human_bytes(head.size)}" if head else ""
        shown.add_row(name, state, Text(files), Text("\n".join(_when(run).split(" ")), no_wrap=True))
    return shown


def totals(rows: Sequence[Row]) -> str:
    """One line: how many runs in each state."""
    numbers: dict[str, int] = {}
    for row in rows:
        numbers[row.run.state] = numbers.get(row.run.state, 0) + 1
    parts = ", ".join(f"{number:,} {state}" for state, number in sorted(numbers.items()))
    return f"{states.count_runs([row.run for row in rows])}: {parts}" if parts else "no runs"


def scan_line(found: Overview) -> str:
    """When the last scan was, and how it went; whether one is at work."""
    last, began = found.scans.last, found.scans.running_since
    said = []
    if began is not None:
        where = f" on {found.scans.running_on}" if found.scans.running_on else ""
        said.append(f"a scan has been running{where} since {_minute(began)}")
    if last:
        how = "ok" if last.ok else "failed"
        said.append(f"last scan {_minute(last.ended)}: {how}")
    return "; ".join(said) or next(a.text_with_id for a in found.verdict.alerts if a.id == "monitor.no-scan")


def problem_lines(found: Overview) -> list[str]:
    """What has to be looked at besides the states of the runs, and what is only to be known."""
    lines = [f"{problem.key}: {problem.text_with_id}" for problem in found.verdict.problems]
    lines += [f"alert: {a.key}: {a.text_with_id}" for a in found.verdict.alerts if a.id != "monitor.no-scan"]
    return [*lines, *(f"note: {note.key} {note.text}" for note in found.notes)]


def _when(run: RunStatus) -> str:
    """Return when a run was uploaded or tried, else when it began; local time to the minute."""
    try:
        ended = datetime.fromisoformat(run.head.finished).astimezone() if run.head and run.head.finished else None
    except (ValueError, OverflowError):  # no time, or in the year 1
        ended = None
    return (ended or moment(run.began).astimezone()).strftime("%Y-%m-%d %H:%M")


def _minute(seconds: float) -> str:
    return moment(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def as_json(found: Overview, config: Config, *, detailed: bool) -> dict[str, Any]:
    """Return the runs as one JSON object; it names failed files only where single runs were asked for."""
    rows, last = found.rows, found.scans.last
    return {
        "runs": [
            {**run_json(row.run), **_row_json(row), **(details_json(row, config) if detailed else {})} for row in rows
        ],
        "troubles": [trouble._asdict() for trouble in found.troubles],
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
        "uploading_now": row.working,
        "files_total": head.total_files if head else None,
        "files_proven": row.proven,
        "files_failed": head.failed_files if head else 0,
        "bytes": head.size if head else 0,
        "finished": head.finished if head else "",
        "instrument": info.instrument if info else "",
        "flowcell": info.flowcell if info else "",
        "date": info.date if info else "",
        "cycles": list(info.cycles) if info else [],
    }
