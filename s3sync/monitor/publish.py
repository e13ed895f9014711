"""Write dashboard and metrics for all users: after each scan, during a long one, or on request."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from s3sync import files
from s3sync.config import Config
from s3sync.errors import Notice, StateError, explained
from s3sync.inventory import History, history
from s3sync.monitor import dashboard, last_scan, metrics, scan_status
from s3sync.monitor.last_scan import LastScan, Outcome
from s3sync.monitor.problems import has_failed
from s3sync.monitor.scan_status import ScanStatus
from s3sync.monitor.view import View
from s3sync.state import log_dir as state_log_dir

LOG = logging.getLogger(__name__)
_MAX_TRIES = 3  # attempts to write the dashboard while the scan that it shows is ending
_FOR_ALL = 0o644  # a web server and node_exporter are other users


def after_scan(config: Config, outcome: Outcome, *, is_log_dir_reported: bool = False) -> None:
    """Remember a scan that has ended, and write the dashboard and metrics of the config; never raises.

    With `is_log_dir_reported`, one of the problems is that the log directory cannot be used; it is not logged again.
    """
    now = time.time()
    before = last_scan.read(config.log_dir) or LastScan()
    last = LastScan(
        ended=now,
        seconds=outcome.seconds,
        succeeded=before.succeeded if has_failed(outcome.problems) else now,
        problems=outcome.problems,
        counted=before.counted + outcome.completed,
    )
    if not state_log_dir.unwritable(config.log_dir):  # otherwise the problem has been reported already
        if is_log_dir_reported:
            with contextlib.suppress(OSError):
                last_scan.write(config.log_dir, last)
        else:
            log_errors("remember this scan", lambda: last_scan.write(config.log_dir, last))
    _refresh(config, lambda: ScanStatus(last=last))


def during_scan(config: Config) -> None:
    """Write the dashboard and metrics of the config while a scan runs, which may take hours; never raises."""
    for _ in range(_MAX_TRIES):
        before = last_scan.read(config.log_dir)
        _refresh(config, lambda: scan_status.read_status(config))
        if last_scan.read(config.log_dir) == before:
            return  # otherwise the scan has ended, and this may have replaced its newer dashboard


def write_dashboard(folder: Path, view: View) -> Path:
    """Write the dashboard to a folder, which is created if necessary, and return its path; raises StateError."""
    path = folder / "index.html"
    content = dashboard.render(view)
    with explained("write", path, "give a folder to write to", id="monitor.dashboard-not-writable"):
        files.make_public_folder(folder)
        write_for_all(path, content)
    return path


def write_for_all(path: Path, content: bytes) -> None:
    """Replace a file, readable for all users; raises OSError."""
    files.atomic_write(path, content, mode=_FOR_ALL)


def log_errors(what: str, work: Callable[[], object]) -> None:
    """Do work whose errors must not fail a scan, since the runs are in S3: log them."""
    try:
        work()
    except (OSError, StateError) as error:
        LOG.warning("%s", Notice(f"cannot {what}: {error}", id="monitor.cannot-publish"))
    except Exception:
        LOG.warning("%s", Notice(f"cannot {what}; please report this", id="internal.unexpected-error"), exc_info=True)


def _refresh(config: Config, status: Callable[[], ScanStatus]) -> None:
    if config.report_dir is not None or config.metrics_file is not None:
        log_errors("write the dashboard or the metrics", lambda: _write(config, status()))


def _write(config: Config, scans: ScanStatus) -> None:
    runs = history.load_history(config)  # read again, since the scan has changed the runs
    if folder := config.report_dir:
        log_errors("write the dashboard", lambda: write_dashboard(folder, dashboard.build_view(runs, scans)))
    if path := config.metrics_file:
        log_errors("write the metrics", lambda: _write_metrics(path, runs, scans, config.log_dir))


def _write_metrics(path: Path, runs: History, scans: ScanStatus, log_dir: Path) -> None:
    """Write the metrics; raises StateError."""
    with explained("write", path, "make it writable, or fix metrics_file", id="monitor.metrics-not-writable"):
        content = metrics.render(runs, scans, _free_bytes(log_dir))
        files.make_public_folder(path.parent)
        write_for_all(path, content)


def _free_bytes(folder: Path) -> dict[Path, int]:
    try:
        return {folder: shutil.disk_usage(folder).free}
    except OSError:
        return {}  # the code that needs the folder reports this
