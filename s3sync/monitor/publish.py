"""The page and the metrics onto the disk, for all to read: at the end of each scan, or when somebody asks."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from s3sync import files
from s3sync.config import Config
from s3sync.errors import StateError
from s3sync.inventory import History, history
from s3sync.monitor import activity, dashboard, last_scan, metrics
from s3sync.monitor.activity import Scans
from s3sync.monitor.dashboard import View
from s3sync.monitor.last_scan import Counters, LastScan
from s3sync.monitor.notify import Problem
from s3sync.state import log_dir as state_log_dir
from s3sync.text import printable

LOG = logging.getLogger(__name__)
_MOST_TRIES = 3  # to replace a page while the scan that it is about comes to its end
_FOR_ALL = 0o644  # a web server and node_exporter are other users


def refresh(
    config: Config, problems: Sequence[Problem], counted: Counters, seconds: float, *, ok: bool, said: bool = False
) -> None:
    """What a scan leaves for people and for Prometheus, as far as the config wants it; never raises.

    `counted` is what this scan completed, `seconds` how long it took, `ok` whether nothing has to be looked at.
    With `said` one of the problems is that the log directory cannot be used: a second line would say nothing new.
    """
    now = time.time()
    before = last_scan.read(config.log_dir) or LastScan(0, 0, 0)
    succeeded = now if ok else before.succeeded
    last = LastScan(now, seconds, succeeded, tuple(problems), before.counted.plus(counted))
    if not state_log_dir.unwritable(config.log_dir):  # else that is the problem, which has been said
        if said:
            with contextlib.suppress(OSError):
                last_scan.write(config.log_dir, last)
        else:
            attempt("remember this scan", lambda: last_scan.write(config.log_dir, last))
    _refresh(config, lambda: Scans(last))


def refresh_meanwhile(config: Config) -> None:
    """The same, by a scan that finds another one at work: that one may take hours. Never raises."""
    for _ in range(_MOST_TRIES):
        before = last_scan.read(config.log_dir)
        _refresh(config, lambda: activity.look(config))
        if last_scan.read(config.log_dir) == before:
            return  # else the other one has ended meanwhile, and its page may be replaced by an older one


def _refresh(config: Config, known: Callable[[], Scans]) -> None:
    if _is_wanted(config):
        attempt("write the page or the metrics", lambda: _write(config, known()))


def write_page(folder: Path, view: View) -> Path:
    """Write the page into a folder, which is made if it is not there, and replace the old one; raises StateError."""
    path = folder / "index.html"
    content = dashboard.render(view)
    try:
        files.make_public_folder(folder)
        files.atomic_write(path, content, mode=_FOR_ALL)
    except OSError as error:
        raise StateError(
            f"cannot write {printable(str(path))}: {error.strerror} (give a folder to write to)"
        ) from error
    return path


def _is_wanted(config: Config) -> bool:
    return config.report_dir is not None or config.metrics_file is not None


def _write(config: Config, of_scans: Scans) -> None:
    known = history.load_history(config)  # judged anew: this scan has changed the runs
    if folder := config.report_dir:
        attempt("write the page", lambda: write_page(folder, dashboard.view_of(known, of_scans)))
    if path := config.metrics_file:
        attempt("write the metrics", lambda: _write_metrics(path, known, of_scans, config.log_dir))


def _write_metrics(path: Path, known: History, of_scans: Scans, log_dir: Path) -> None:
    """Raises StateError."""
    try:
        content = metrics.render(known, of_scans, _free(log_dir))
        files.make_public_folder(path.parent)
        files.atomic_write(path, content, mode=_FOR_ALL)
    except OSError as error:
        raise StateError(f"cannot write {printable(str(path))}: {error.strerror} (mend metrics_file)") from error


def _free(folder: Path) -> dict[Path, int]:
    try:
        return {folder: shutil.disk_usage(folder).free}
    except OSError:
        return {}  # what needs it says so


def write_for_all(path: Path, content: bytes) -> None:
    """Replace a file that other users read; raises OSError."""
    files.atomic_write(path, content, mode=_FOR_ALL)


def attempt(what: str, work: Callable[[], object]) -> None:
    """Whatever goes wrong with the telling must not fail the scan: the runs are in S3."""
    try:
        work()
    except (OSError, StateError) as error:
        LOG.warning("cannot %s: %s", what, error)
    except Exception:
        LOG.warning("cannot %s; please report this", what, exc_info=True)
