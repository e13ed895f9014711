"""`s3sync report`: write the dashboard, a page that shows all runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.commands import locations, options, output
from s3sync.errors import EXIT_DONE, EXIT_FAILED, UsageError
from s3sync.inventory import history
from s3sync.monitor import View, dashboard, health, publish, scan_status
from s3sync.runs import off_limits
from s3sync.text import human_bytes, pluralize, printable, to_iso

USAGE = "--output DIR [--config FILE] [--json]"
DESCRIPTION = "Write the dashboard: all runs with their states, and recent uploads."
EXAMPLES = """\
examples:
  s3sync report --config /etc/s3sync.yaml --output /var/www/html/s3sync
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    options.add_config(parser)
    parser.add_argument(
        "--output",
        type=options.path,
        required=True,
        metavar="DIR",
        help="the folder for index.html, which all users can read",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page, and return the exit code."""
    config = locations.config_to_read(args)
    folder = Path(os.path.abspath(args.output))
    if around := off_limits.find_enclosing_folder(folder, config.monitored_directories):
        where = f"{printable(str(folder))} is inside {printable(around)}, whose files are uploaded"
        raise UsageError(f"--output {where} (give another folder)", id="usage.output-in-run")
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            f"--output {printable(str(folder))} is a file (give a folder, which gets index.html)",
            id="usage.output-is-file",
        )
    known = history.load_history(config)
    of_scans = scan_status.read_status(config)
    view = dashboard.build_view(known, of_scans)
    written = publish.write_dashboard(folder, view)
    code = EXIT_FAILED if known.problems else EXIT_DONE
    closed = files.first_untraversable_parent(written)
    facts = {**as_json(view, known, of_scans, written), "closed": str(closed or "")}
    output.show(args, summary_lines(view, written), facts, code)
    output.print_messages(f"{problem.key}: {problem.text_with_id}" for problem in known.problems)
    if closed:
        advice = "so a web server of another user cannot read the page (chmod o+x it, or choose another folder)"
        output.print_messages([f"note: {closed} is closed to other users, {advice}"])
    return code


def summary_lines(view: View, written: Path) -> list[str]:
    """Return in a few lines what was written, and what it says."""
    states = ", ".join(f"{count.number} {count.state}" for count in view.counts)
    size = human_bytes(written.stat().st_size)
    return [
        f"written: {written} ({pluralize(len(view.rows), 'run')}, {size}; open it in a browser)",
        f"  {view.verdict}",
        *([f"  {states}"] if states else []),
        f"  {view.waiting}",
    ]


def as_json(view: View, known: history.History, of_scans: scan_status.ScanStatus, written: Path) -> dict[str, Any]:
    """Return the result as a JSON object."""
    oldest = known.oldest_waiting
    return {
        "page": str(written),
        "bytes": written.stat().st_size,
        "verdict": view.verdict,
        "level": health.verdict_of(known, of_scans).level,
        "runs": known.counts,
        "needs_attention": [{"what": issue.title, "text": issue.text} for issue in view.issues],
        "oldest_waiting": {"run_id": oldest.run_id, "instrument_done": to_iso(oldest.done)} if oldest else None,
    }
