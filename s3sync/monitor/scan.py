"""Scan all runs once: find them, upload those that are due, and report."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from s3sync import logs
from s3sync.config import Config
from s3sync.errors import BusyError, LeaseLostError, Notice, S3SyncError, StateError
from s3sync.inventory import RunStatus, discovery, order, states, statuses
from s3sync.monitor import alerts, problem_log, publish, reporting, scan_status, uploads
from s3sync.monitor.config_follower import ConfigFollower
from s3sync.monitor.context import DisplayMaker, ScanContext
from s3sync.monitor.last_scan import Outcome
from s3sync.monitor.messages import Update
from s3sync.monitor.problems import MONITOR, Problem
from s3sync.monitor.reporting import ScanReporter
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
    """Upload the runs that are due, and report the result.

    A long scan uses edits of the config, which `load` reads again. If another scan is running, this one only reports
    what cannot wait. Raises StateError if the log directory cannot be used, and StoppedError.
    """
    path = scan_status.lock_path(config.log_dir)
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(lock.hold(path, "another scan is running", stop=stop, show=LOG.info))
        except BusyError as error:
            LOG.info("%s; this one ends", error)
            reporting.report_beside_scan(config, path)
            return ScanResult(busy=str(error))
        except StateError as error:
            reporting.report_no_start(config, error)
            raise
        context = ScanContext(config=config, environ=environ, stop=stop, make_display=make_display)
        return _run_alone(context, held, ConfigFollower(config, load or (lambda: config)))


def dry_run(config: Config, environ: Mapping[str, str], stop: StopRequest, make_display: DisplayMaker) -> ScanResult:
    """Return what a scan would do. Sends, writes and reports nothing."""
    result = ScanResult()
    context = ScanContext(config=config, environ=environ, stop=stop, make_display=make_display)
    _find_runs(context, result, scanning=False)
    if why := scan_status.why_not_startable(config.log_dir):
        text = f"a scan by this user would fail: {why}"
        result.problems.append(Problem("log_dir", text, "other", id="monitor.log-dir-not-writable"))
    uploads.for_each(context, result, order.work_list(result.runs), uploads.preview_run)
    return result


def _run_alone(context: ScanContext, held: lock.HeldLock, follower: ConfigFollower) -> ScanResult:
    """Run the scan that holds the lock."""
    config, result, started = context.config, ScanResult(), time.monotonic()
    notifier = reporting.notifier_for(config)
    logs.rotate(config.log_dir)
    notifier.notify(Update(), "scan itself")  # resolves the problem of a scan that seemed to be stuck
    notifier.ping_start()
    try:
        _scan(context, result, follower)
        held.check()
        notifier = reporting.notifier_for(context.config)
        notifier.notify(result.update())
        notifier.ping_end(result.ok, result.summary())
    except LeaseLostError as error:  # the host that now has the lock reports
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
    """Fill in the result step by step, so that a scan that ends early is reported as well."""
    config, started = context.config, time.monotonic()
    _find_runs(context, result, scanning=True)
    due, to_do = order.upload_order(result.runs), order.work_list(result.runs)
    more = f", {len(to_do) - len(due):,} to stream" if len(to_do) > len(due) else ""
    LOG.info("scan: %s found, %s to upload%s", states.count_runs(result.runs), f"{len(due):,}", more)
    problem_log.log_problems(config.log_dir, "scan", result.problems)
    reporter = ScanReporter(context, result)
    runs = order.scan_order(result.runs, config, _slurm_folders(result, config))

    def find_more() -> list[RunStatus] | None:
        return _find_more_runs(context, result, reporter, follower)

    scan_uploads = uploads.ScanUploads(context, result, find_more=find_more, log_problems=reporter.log_new_problems)
    try:
        scan_uploads.run(runs)
    finally:
        known = {problem.key for problem in result.problems}
        result.problems += [problem for problem in _broken_nodes(context.config) if problem.key not in known]
        reporter.log_new_problems()
    done = result.uploaded
    runs = [replace(run, state="uploaded") if run.key in done else run for run in result.runs]
    result.alerts = alerts.find(runs, context.config)
    reporting.report_alerts(context.config, result.alerts, wait=True)
    LOG.info("scan: finished after %s", human_seconds(time.monotonic() - started))


def _find_more_runs(
    context: ScanContext, result: ScanResult, reporter: ScanReporter, follower: ConfigFollower
) -> list[RunStatus] | None:
    """Find all runs of the config as it is now, report, and return those to work on.

    Returns None if that is not possible; never raises.
    """
    try:
        context.config = follower.latest()
        logs.rotate(context.config.log_dir)
        _find_runs(context, result, scanning=True)
        folders = _slurm_folders(result, context.config)
        reporter.report()
        reporter.publish()
        return order.scan_order(result.runs, context.config, folders)
    except Exception as error:
        id_ = error.id if isinstance(error, S3SyncError) else "internal.unexpected-error"
        notice = Notice(f"cannot look for new runs: {error}", id=id_)
        LOG.warning("%s", notice, exc_info=not isinstance(error, S3SyncError))
        return None


def _find_runs(context: ScanContext, result: ScanResult, *, scanning: bool) -> None:
    """Find every run with its state, and the problems that do not depend on uploads."""
    config = context.config
    found = discovery.discover(config)
    runs, inventory_problems = statuses.take_inventory(config, found=found, scanning=scanning)
    problems = [Problem.of_inventory(problem, "other") for problem in inventory_problems]
    problems += _broken_nodes(config)
    problems += [Problem.of_inventory(note, "note") for note in found.notes]
    if unusable := log_dir.entries_of_others(config.log_dir):
        problems.append(Problem("log_dir", unusable, "other", id="monitor.log-dir-of-others"))
    problems += filter(None, map(_problem_of_status, runs))
    result.replace_found(runs, problems)
    if scanning:
        _remember_directories(found, config)


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


def _remember_directories(found: discovery.Discovery, config: Config) -> None:
    """Remember the contents of the directories, so that the next scan notices an empty mount point."""
    try:
        discovery.remember(found, config.log_dir)
    except OSError as error:
        text = f"cannot remember the contents of the monitored directories: {error.strerror}"
        LOG.warning("%s", Notice(text, id="monitor.directory-memory-unwritable"))


def _slurm_folders(result: ScanResult, config: Config) -> frozenset[str]:
    """Return the names of Slurm's work folders; if they cannot be read, none, and a problem in the result."""
    try:
        return work_folder.active_names(config.log_dir)
    except StateError as error:
        result.problems.append(Problem.of_error("Slurm", error, "other"))
        return frozenset()
