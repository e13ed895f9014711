"""A scan whose config cannot be used: page, metrics and memory say so, instead of what the scan before had found."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from s3sync.errors import ConfigError
from s3sync.inventory import History
from s3sync.monitor import dashboard, health, last_scan, metrics, publish
from s3sync.monitor.activity import Scans
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.notify import Problem
from s3sync.text import printable

_MAX_BYTES = 1_000_000
_NAMED = 3  # mistakes that are shown
_PLACE = re.compile(
    r"""^\s*["']?(log_dir|report_dir|metrics_file)["']?\s*:\s*["']?(/[^"'#\n,}]*?)["']?\s*}*\s*(?:#.*)?$"""
)


def report(path: Path, error: ConfigError) -> None:
    """Write it where scans have written before, as far as the file still says where that is; never raises."""
    lines = str(error).splitlines()
    more = f"; and {len(lines) - _NAMED:,} more mistakes" if len(lines) > _NAMED else ""
    text = f"the scan could not begin: the config cannot be used: {'; '.join(map(printable, lines[:_NAMED]))}{more}"
    problem = Problem(health.MONITOR, text, "other")
    places = _places(path)
    now = time.time()
    before = LastScan(0, 0, 0)
    if log_dir := places.get("log_dir"):
        before = last_scan.read(log_dir) or before
    last = before._replace(ended=now, seconds=0.0, problems=(problem,))
    known, of_scans = History(now, (), ()), Scans(last)
    if log_dir and _is_ours(last_scan.place(log_dir)):
        publish.attempt("remember this scan", lambda: last_scan.write(log_dir, last))
    if (folder := places.get("report_dir")) and _is_ours(folder / "index.html"):
        publish.attempt("write the page", lambda: publish.write_page(folder, dashboard.view_of(known, of_scans)))
    if (file := places.get("metrics_file")) and _is_ours(file):
        content = metrics.render(known, of_scans, {})
        publish.attempt("write the metrics", lambda: publish.write_for_all(file, content))


def _places(path: Path) -> dict[str, Path]:
    """What the file says of these keys, however little of it can be understood."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            text = stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    found = (_PLACE.match(part) for line in text.splitlines() for part in re.split(r"[{,]", line))
    return {match[1]: Path(match[2]) for match in found if match and "\0" not in match[2]}


def _is_ours(path: Path) -> bool:
    """Whether a scan of this user has written it: nothing is made where a wrong config says so."""
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return False
