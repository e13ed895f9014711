"""`s3sync monitor`: scan all runs once, and upload those that are complete."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from s3sync import logs
from s3sync.commands import locations, options, output
from s3sync.commands.run_rows import destination_name, run_json, run_name, run_table
from s3sync.commands.upload_text import as_json as upload_json
from s3sync.commands.upload_text import preview_json, size_text, summary
from s3sync.config import Config, load_config
from s3sync.errors import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, ConfigError, StateError
from s3sync.inventory import RunStatus, order, states
from s3sync.monitor import ScanResult, config_failure, reporting, scan
from s3sync.resources import lower_priority
from s3sync.signals import StopRequest, stop_on_signals
from s3sync.state import log_dir
from s3sync.text import printable
from s3sync.transfer import displays

if TYPE_CHECKING:
    from rich.table import Table

USAGE = "[--config FILE] [--dry-run] [--json]"
DESCRIPTION = "Upload every new run that is complete. This is what cron runs."
EXAMPLES = """\
examples:
  s3sync monitor --config /etc/s3sync.yaml
  s3sync monitor --config /etc/s3sync.yaml --dry-run
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    options.add_config(parser)
    options.adder(parser)(
        "--dry-run", action="store_true", help="show what would be uploaded, and why other runs would not"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Scan once, and return the exit code."""
    os.umask(0o077)  # files that a scan writes are for its user only
    path = locations.config_path(args)
    try:
        config = locations.config_to_read(args) if args.dry_run else load_config(path, os.environ)
    except ConfigError as error:
        if not args.dry_run:
            config_failure.report(path, error)
        raise
    lower_priority(config.nice, config.io_priority)
    stop = StopRequest()
    with stop_on_signals(stop):
        if args.dry_run:
            output.print_messages(locations.warn_of_unwritable(config.log_dir, path))
            result = scan.dry_run(config, os.environ, stop, lambda _name: displays.for_stream(sys.stderr))
        else:
            result = _scan(args, config, stop)
    code = EXIT_CONFIG if result.is_misconfigured else EXIT_DONE if result.ok else EXIT_FAILED
    if args.json:
        output.print_json({**result_json(result), "exit_code": code})
    elif args.dry_run:
        output.print_tables(dry_run_tables(result))
        output.print_lines(f"s3sync: {p.key}: {p.text_with_id}" for p in result.problems if p.kind in ("other", "aws"))
    elif sys.stderr.isatty():
        output.print_lines(result_lines(result))
    return code


def _scan(args: argparse.Namespace, config: Config, stop: StopRequest) -> ScanResult:
    try:
        log_dir.require_writable(config.log_dir, locations.config_path(args))
        logs.configure(config.log_dir, config.log_level)
    except StateError as error:
        reporting.report_no_start(config, error)
        raise

    def load() -> Config:
        return load_config(locations.config_path(args), os.environ)

    if sys.stderr.isatty():
        return scan.run_scan(config, os.environ, stop, displays.live_board(sys.stderr).display, load)
    lines = logs.LogStream(scan.LOG)
    return scan.run_scan(config, os.environ, stop, lambda name: displays.Lines(lines, name=name), load)


def dry_run_tables(result: ScanResult) -> list[Table]:
    """Return a table of the runs that a scan would upload, and one of the others with the reasons."""
    from rich.text import Text

    due = run_table("Would upload", result.runs, "To", "Files", "Size")
    rest = run_table("Would not", result.runs, "Why")
    to_do = order.work_list(result.runs)
    for run in [*to_do, *(run for run in result.runs if run not in to_do)]:
        name = Text(run_name(run), overflow="fold")
        if planned := result.previews.get(run.key):
            where = Text(printable(destination_name(run)), overflow="fold")
            due.add_row(name, where, f"{len(planned.pending):,}", size_text(planned))
        else:
            why = next((p.text for p in result.problems if p.key in (run.key, f"s3://{run.entry.bucket}")), run.reason)
            has_state = why.startswith(("will not", f"{run.state}: "))
            why = printable(why if has_state else f"{run.state}: {why}")
            rest.add_row(name, Text(why, overflow="fold"))
    return [shown for shown in (due, rest) if shown.row_count]


def result_lines(result: ScanResult) -> list[str]:
    """Return lines about what a scan did, for a terminal. Problems have been printed on stderr already."""
    if result.busy:
        return [result.busy]
    lines = [line for report in result.uploads.values() for line in summary(report)]
    return lines or [f"nothing to upload: {states.count_runs(result.runs)} checked (`status` shows them)"]


def result_json(result: ScanResult) -> dict[str, Any]:
    """Return what a scan did, or would do, as one JSON object."""
    return {
        "busy": bool(result.busy),
        "runs": [{**run_json(run), **_outcome(result, run)} for run in result.runs],
        "problems": [problem.as_json() for problem in result.problems],
        "alerts": [alert.as_json() for alert in result.alerts],
    }


def _outcome(result: ScanResult, run: RunStatus) -> dict[str, Any]:
    if report := result.uploads.get(run.key):
        return {"upload": upload_json(report)}
    if planned := result.previews.get(run.key):
        return {"upload": preview_json(planned)}
    return {}
