"""Report what a scan finds, and the state of the scan itself: main log, notifications, heartbeat and dashboard."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from s3sync.config import Config
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, Notice, S3SyncError, StateError
from s3sync.inventory import statuses
from s3sync.monitor import alerts, problem_log, publish, scan_status
from s3sync.monitor.context import ScanContext
from s3sync.monitor.last_scan import Outcome
from s3sync.monitor.messages import Update
from s3sync.monitor.notify import Channels, Notifier
from s3sync.monitor.problems import MONITOR, ONCE_KINDS, Problem
from s3sync.monitor.scan_result import ScanResult
from s3sync.text import printable

LOG = logging.getLogger(__name__)


class ScanReporter:
    """Reports problems and uploads while a scan runs: people do not wait until the largest run has ended."""

    def __init__(self, context: ScanContext, result: ScanResult) -> None:
        self._context = context
        self._result = result
        self._logged = set(result.problems)
        self._notified: set[Problem] = set()
        self._published = time.monotonic()

    def report(self) -> None:
        """Log new problems, and send notifications of them and of new uploads."""
        self.log_new_problems()
        update = self._result.update(is_final=False)
        if update.uploads or not self._notified.issuperset(update.problems):
            self._notified = set(update.problems)
            notifier_for(self._context.config).notify(update)
            self._result.reported.update(upload.key for upload in update.uploads)

    def publish(self) -> None:
        """Update alerts, dashboard and heartbeat if that is due.

        A scan that finds another one running does the same, but a systemd timer starts none, unlike cron.
        """
        if time.monotonic() - self._published >= DELAYS.scan_repeats:
            self._published = time.monotonic()
            config = self._context.config
            report_alerts(config, alerts.find(self._result.runs, config), wait=False)
            publish.during_scan(config)
            report_progress(config, self._result)

    def log_new_problems(self) -> None:
        """Log the problems since the last call, but no notes: the next scan logs those."""
        for problem in self._result.problems:
            if problem not in self._logged and problem.kind not in ONCE_KINDS:
                LOG.error("%s: %s", problem.key, problem.text_with_id)
        self._logged.update(self._result.problems)


def notifier_for(config: Config) -> Notifier:
    """Return the notifier of a config."""
    return Notifier(Channels.of(config), config.log_dir)


def report_no_start(config: Config, error: S3SyncError) -> None:
    """Report that a scan cannot start because `log_dir` cannot be used, wherever that is possible; never raises.

    Nothing is reported if another user runs the scans.
    """
    if not scan_status.is_scanning_user(config):
        return
    text = f"the scan could not start: {printable(str(error))}"
    problem = Problem(MONITOR, text, "other", id=error.id or "monitor.no-start")
    _report_scan_itself(config, problem)
    found = (problem, *alerts.full_disks(config))
    publish.after_scan(config, Outcome(problems=found), is_log_dir_reported=True)


def report_beside_scan(config: Config, path: Path) -> None:
    """Report urgent problems while another scan, which may take hours, holds the lock `path`."""
    _report_if_stuck(config, path)
    runs = statuses.take_inventory(config, remembering=True).runs
    report_alerts(config, alerts.find(runs, config), wait=False)
    publish.during_scan(config)


def report_progress(config: Config, result: ScanResult) -> None:
    """Ping that the scan is running, and whether all is well so far; report a scan that may be stuck instead."""
    if not _report_if_stuck(config, scan_status.lock_path(config.log_dir)):
        notifier_for(config).ping_end(result.ok, result.summary())


def report_alerts(config: Config, problems: list[Problem], *, wait: bool) -> None:
    """Log alerts and send notifications of them; without `wait`, leave that to another process that is doing it now."""
    try:
        problem_log.log_problems(config.log_dir, "alerts", problems, wait=wait)
        notifier_for(config).notify(Update(problems=tuple(problems)), "alerts", wait=wait)
    except BusyError as error:
        LOG.info("%s", error)
    except StateError as error:
        LOG.warning("%s", Notice(f"cannot report alerts: {error}", id=error.id))


def _report_if_stuck(config: Config, path: Path) -> bool:
    """Report a scan that may be stuck; return whether it may be."""
    problem = scan_status.running_too_long(config, path)
    if problem:
        LOG.error("%s", problem.text_with_id)
        _report_scan_itself(config, problem)
    return problem is not None


def _report_scan_itself(config: Config, problem: Problem) -> None:
    notifier = notifier_for(config)
    notifier.notify(Update(problems=(problem,)), "scan itself")
    notifier.ping_end(False, problem.text)
