"""Report that a scan could not start because of its config, in the files that earlier scans have written."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

from s3sync import files
from s3sync.errors import ConfigError
from s3sync.inventory import History
from s3sync.monitor import dashboard, last_scan, metrics, publish
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.problems import MONITOR, Problem
from s3sync.monitor.scan_status import ScanStatus
from s3sync.text import printable

_MAX_BYTES = 1_000_000
_MAX_MISTAKES = 3  # mistakes to show
_PATH = re.compile(
    r"""^\s*["']?(log_dir|report_dir|metrics_file)["']?\s*:\s*["']?(/[^"'#\n,}]*?)["']?\s*}*\s*(?:#.*)?$"""
)


def report(path: Path, error: ConfigError) -> None:
    """Write the failure to dashboard, metrics and memory, if the file says where they are; never raises.

    No notifications are sent, since their addresses are in the config.
    """
    lines = str(error).splitlines()
    more = f"; and {len(lines) - _MAX_MISTAKES:,} more mistakes" if len(lines) > _MAX_MISTAKES else ""
    mistakes = "; ".join(map(printable, lines[:_MAX_MISTAKES]))
    text = f"the scan could not start: the config cannot be used: {mistakes}{more}"
    problem = Problem(MONITOR, text, "other", id="monitor.config-unusable")
    paths = _paths_in(path)
    log_dir, folder, file = paths.get("log_dir"), paths.get("report_dir"), paths.get("metrics_file")
    now = time.time()
    before = (last_scan.read(log_dir) if log_dir else None) or LastScan()
    last = replace(before, ended=now, seconds=0.0, problems=(problem,))
    no_runs, scans = History(now, (), ()), ScanStatus(last=last)
    # Only what this user has written is replaced: an invalid config creates nothing.
    if log_dir and files.is_own(last_scan.path_of(log_dir)):
        publish.log_errors("remember this scan", lambda: last_scan.write(log_dir, last))
    if folder and files.is_own(folder / "index.html"):
        view = dashboard.build_view(no_runs, scans)
        publish.log_errors("write the dashboard", lambda: publish.write_dashboard(folder, view))
    if file and files.is_own(file):
        content = metrics.render(no_runs, scans, {})
        publish.log_errors("write the metrics", lambda: publish.write_for_all(file, content))


def _paths_in(path: Path) -> dict[str, Path]:
    """Return the paths that the file has for the three keys, even if the rest of it cannot be parsed."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            text = stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    found = (_PATH.match(part) for line in text.splitlines() for part in re.split(r"[{,]", line))
    return {match[1]: Path(match[2]) for match in found if match and "\0" not in match[2]}
