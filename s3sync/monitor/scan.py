"""Scan all runs once: find them, upload what is due in order, remember, and report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from s3sync import logs
from s3sync.config import Config
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, LeaseLostError, Notice, S3SyncError, StateError
from s3sync.inventory import RunStatus, discovery, order, states, statuses
from s3sync.monitor import alerts, problem_log, publish, scan_status, uploads
from s3sync.monitor.context import ConfigFollower, DisplayMaker, ScanContext
from s3sync.monitor.last_scan import Outcome
from s3sync.monitor.messages import Update
from s3sync.monitor.notify import Channels, Notifier
from s3sync.monitor.problems import MONITOR, ONCE_KINDS, Problem
from s3sync.monitor.scan_result import ScanResult
from s3sync.signals import StopRequest
from s3sync.slurm import work_folder
from s3sync.state import lock, log_dir
from s3sync.text import human_seconds, printable

LOG = logging.getLogger(__name__)


def run_scan(
    config: Config,
    environ: Mapping[str, str],
    stop: StopRequest,
    make_display: DisplayMaker,
    load: Callable[[], Config] | None = None,
) -> ScanResult:
    """Upload what is due, and report what happened.

    A long scan follows the edits of the config that `load` returns. If another scan is running, this one only reports
    what cannot wait. Raises StateError if the log directory cannot be used, and StoppedError.
    """
    path = scan_status.lock_path(config.log_dir)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(lock.hold(path, "another scan is running", stop=stop, say=LOG.info))
        except BusyError as error:
            LOG.info("%s; this one ends", error)
            _report_meanwhile(config, path)
            return ScanResult(busy=str(error))
        except StateError as error:
            report_no_start(config, error)
            raise
        context = ScanContext(config=config, environ=environ, stop=stop, make_display=make_display)
        return _run_alone(context, held, ConfigFollower(config, load or (lambda: config)))


def dry_run(config: Config, environ: Mapping[str, str], stop: StopRequest, make_display: DisplayMaker) -> ScanResult:
    """Return what a scan would do. Nothing is sent, written or reported."""
    result = ScanResult()
    context = ScanContext(config=config, environ=environ, stop=stop, make_display=make_display)
    _find_runs(context, result, scanning=False)
    if unwritable := log_dir.unwritable(config.log_dir):
        text = f"a scan by this user would fail: {unwritable}"
        result.problems.append(Problem("log_dir", text, "other", id="monitor.log-dir-not-writable"))
    uploads.for_each(context, result, order.work_list(result.runs), uploads.preview_run)
    return result


def report_no_start(config: Config, error: S3SyncError) -> None:
    """Report that a scan cannot start because `log_dir` cannot be used, wherever that is possible; never raises.

    Nothing is reported if another user runs the scans.
    """
    if not scan_status.is_scanning_user(config):
        return
    text = f"the scan could not start: {printable(str(error))}"
    problem = Problem(MONITOR, text, "other", id=error.id or "monitor.no-start")
    _report_scan_itself(config, problem)
    publish.after_scan(config, Outcome(problems=(problem,)), is_log_dir_reported=True)


def _run_alone(context: ScanContext, held: lock.HeldLock, follower: ConfigFollower) -> ScanResult:
    """Run the scan that holds the lock."""
    config, result, started = context.config, ScanResult(), time.monotonic()
    notifier = _notifier(config)
    logs.rotate(config.log_dir)
    notifier.notify(Update(), "scan itself")  # a scan that seemed to be stuck has ended
    notifier.ping_start()
    try:
        _scan(context, result, follower)
        held.check()
        notifier = _notifier(context.config)
        notifier.notify(result.update())
        notifier.ping_end(result.ok, result.summary())
    except LeaseLostError as error:  # the host that has the lock now reports
        LOG.info("%s; this scan ends", error)
        raise
    except BaseException as error:
        text = f"the scan ended early: {printable(str(error))}"
        result.problems.append(Problem(MONITOR, text, "other", id="monitor.ended-early"))
        notifier.ping_end(False, str(error))
        raise
    finally:
        if not context.stop.has_lost_lease:
            seconds = time.monotonic() - started
            problems = (*result.problems, *result.alerts)
            publish.after_scan(context.config, Outcome(problems=problems, completed=result.counters(), seconds=seconds))
    return result


def _scan(context: ScanContext, result: ScanResult, follower: ConfigFollower) -> None:
    """Fill the result step by step, so that a scan that ends early is reported, too."""
    config, started = context.config, time.monotonic()
    _find_runs(context, result, scanning=True)
    due, to_do = order.upload_order(result.runs), order.work_list(result.runs)
    more = f", {len(to_do) - len(due):,} to stream" if len(to_do) > len(due) else ""
    LOG.info("scan: %s found, %s to upload%s", states.count_runs(result.runs), f"{len(due):,}", more)
    problem_log.log_problems(config.log_dir, "scan", result.problems)
    reporter = _Reporter(context, result)
    on_cluster = _keys_on_cluster(result, config)
    first = order.scan_order(result.runs, config, on_cluster)

    def look() -> list[RunStatus] | None:
        return _look_again(context, result, reporter, follower)

    working = uploads.ScanUploads(context, result, look=look, log=reporter.log_new_problems)
    try:
        working.run(first)
    finally:
        known = {problem.key for problem in result.problems}
        result.problems += [problem for problem in _broken_nodes(context.config) if problem.key not in known]
        reporter.log_new_problems()
    done = result.uploaded
    runs = [replace(run, state="uploaded") if run.key in done else run for run in result.runs]
    result.alerts = alerts.find(runs, context.config)
    _report_alerts(context.config, result.alerts, is_patient=True)
    LOG.info("scan: finished after %s", human_seconds(time.monotonic() - started))


class _Reporter:
    """Logs and notifies of what happens during a scan: people do not wait until the largest run has ended."""

    def __init__(self, context: ScanContext, result: ScanResult) -> None:
        self._context = context
        self._result = result
        self._logged = set(result.problems)
        self._notified: set[Problem] = set()
        self._published = time.monotonic()

    def report(self) -> None:
        """Log new problems, and notify of these and of new uploads while others continue."""
        self.log_new_problems()
        update = self._result.update(is_final=False)
        if update.uploads or not self._notified.issuperset(update.problems):
            self._notified = set(update.problems)
            _notifier(self._context.config).notify(update)
            self._result.reported.update(upload.key for upload in update.uploads)

    def publish(self) -> None:
        """Do now and then what the start of a scan does for one that is busy: a timer starts none, unlike cron."""
        if time.monotonic() - self._published >= DELAYS.scan_repeats:
            self._published = time.monotonic()
            config = self._context.config
            _report_alerts(config, alerts.find(self._result.runs, config), is_patient=False)
            publish.during_scan(config)
            _report_life(config, self._result)

    def log_new_problems(self) -> None:
        """Log the problems that have come up since the last call; the next scan logs what is only noted."""
        for problem in self._result.problems:
            if problem not in self._logged and problem.kind not in ONCE_KINDS:
                LOG.error("%s: %s", problem.key, problem.text_with_id)
        self._logged.update(self._result.problems)


def _look_again(
    context: ScanContext, result: ScanResult, reporter: _Reporter, follower: ConfigFollower
) -> list[RunStatus] | None:
    """Find all runs of the config as it is now, report, and return those to work on beside those at work.

    Returns None if that is not possible; never raises.
    """
    try:
        context.config = follower.latest()
        logs.rotate(context.config.log_dir)
        _find_runs(context, result, scanning=True)
        on_cluster = _keys_on_cluster(result, context.config)
        reporter.report()
        reporter.publish()
        return order.scan_order(result.runs, context.config, on_cluster)
    except Exception as error:
        id_ = error.id if isinstance(error, S3SyncError) else "internal.unexpected-error"
        notice = Notice(f"cannot look for new runs: {error}", id=id_)
        LOG.warning("%s", notice, exc_info=not isinstance(error, S3SyncError))
        return None


def _find_runs(context: ScanContext, result: ScanResult, *, scanning: bool) -> None:
    """Find every run with its state, and the problems that exist whatever is uploaded."""
    config = context.config
    found = discovery.discover(config)
    runs, known = statuses.take_inventory(config, found=found, scanning=scanning)
    problems = [Problem.of_inventory(problem, "other") for problem in known]
    problems += _broken_nodes(config)
    problems += [Problem.of_inventory(note, "note") for note in found.notes]
    if unusable := log_dir.entries_of_others(config.log_dir):
        problems.append(Problem("log_dir", unusable, "other", id="monitor.log-dir-of-others"))
    problems += filter(None, map(_problem_of_status, runs))
    result.replace_found(runs, problems)
    if scanning:
        _remember(found, config)


def _problem_of_status(run: RunStatus) -> Problem | None:
    if run.state in states.BROKEN_STATES:
        return Problem(run.key, f"{run.state}: {run.reason}", "run", id=run.id)
    if run.state in states.SKIPPED_STATES:
        return Problem(run.key, f"will not be uploaded: {run.state}: {run.reason}", "note", id=run.id)
    if run.change and run.state == "uploaded":
        return Problem(run.key, run.reason, "note", id="monitor.run-changed")
    return None


def _broken_nodes(config: Config) -> list[Problem]:
    return [Problem.of_inventory(node, "other") for node in statuses.broken_nodes(config)]


def _remember(found: discovery.Discovery, config: Config) -> None:
    """Remember what is in the directories, so that the next scan notices an empty mount point."""
    try:
        discovery.remember(found, config.log_dir)
    except OSError as error:
        text = f"cannot remember what is in the monitored directories: {error.strerror}"
        LOG.warning("%s", Notice(text, id="monitor.directory-memory-unwritable"))


def _keys_on_cluster(result: ScanResult, config: Config) -> frozenset[str]:
    try:
        return work_folder.active_names(config.log_dir)
    except StateError as error:
        result.problems.append(Problem.of("Slurm", error, "other"))
        return frozenset()


def _report_life(config: Config, result: ScanResult) -> None:
    """Ping that the scan goes on, and whether all is well so far, unless it may be stuck."""
    if not _report_if_too_long(config, scan_status.lock_path(config.log_dir)):
        _notifier(config).ping_end(result.ok, result.summary())


def _report_if_too_long(config: Config, path: Path) -> bool:
    """Report a scan that may be stuck; return whether there is one."""
    problem = scan_status.running_too_long(config, path)
    if problem:
        LOG.error("%s", problem.text_with_id)
        _report_scan_itself(config, problem)
    return problem is not None


def _report_meanwhile(config: Config, path: Path) -> None:
    """Report what cannot wait for the scan that is running, which may take hours."""
    _report_if_too_long(config, path)
    runs = statuses.take_inventory(config, remembering=True).runs
    _report_alerts(config, alerts.find(runs, config), is_patient=False)
    publish.during_scan(config)


def _report_scan_itself(config: Config, problem: Problem) -> None:
    notifier = _notifier(config)
    notifier.notify(Update(problems=(problem,)), "scan itself")
    notifier.ping_end(False, problem.text)


def _report_alerts(config: Config, problems: list[Problem], *, is_patient: bool) -> None:
    """Log alerts, and notify of them; without patience, leave both to another process that does the same now."""
    try:
        problem_log.log_problems(config.log_dir, "alerts", problems, is_patient=is_patient)
        _notifier(config).notify(Update(problems=tuple(problems)), "alerts", is_patient=is_patient)
    except BusyError as error:
        LOG.info("%s", error)
    except StateError as error:
        LOG.warning("%s", Notice(f"cannot report alerts: {error}", id=error.id))


def _notifier(config: Config) -> Notifier:
    return Notifier(Channels.of(config), config.log_dir)
