"""One scan: runs found, judged, uploaded in order, reported. Nothing that is wrong with one run stops the others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3sync import files, logs
from s3sync.config import Config
from s3sync.errors import (
    AwsError,
    BusyError,
    ConfigError,
    DeniedError,
    LeaseLostError,
    S3SyncError,
    SlurmError,
    StateError,
    StoppedError,
)
from s3sync.inventory import RunStatus, discovery, order, request_for, states, statuses
from s3sync.monitor import activity, alerts, health, publish
from s3sync.monitor.last_scan import Counters
from s3sync.monitor.notify import Channels, News, Notifier, Problem, Upload
from s3sync.signals import StopRequest
from s3sync.slurm import Collector, coordinator, work_folder
from s3sync.state import lock, log_dir
from s3sync.text import human_bytes, human_seconds, pluralize, printable
from s3sync.transfer import UploadResult, hook, progress, request, upload

LOG = logging.getLogger(__name__)
_SAID_ONCE = ("note", "alert")  # kinds
_NAMED = 3  # so many failed files are named where there is room for one line

DisplayMaker = Callable[[], progress.Display]


@dataclass(slots=True)
class ScanResult:
    """What came of a scan: every run as it was judged, and by key what became of those that were due."""

    runs: list[RunStatus] = field(default_factory=list)
    reports: dict[str, UploadResult] = field(default_factory=dict)
    previews: dict[str, request.Preview] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    alerts: list[Problem] = field(default_factory=list)  # silent trouble, which is told apart and changes no exit code
    elsewhere: set[str] = field(default_factory=set)  # keys of runs that another process uploads
    busy: str = ""  # another scan holds the lock, and who that is
    misconfigured: bool = False  # an entry wants what this host has not

    @property
    def ok(self) -> bool:
        """Whether nothing has to be looked at; notes alone (a run too old) are no reason to."""
        return not health.is_failed(self.problems)

    @property
    def uploaded(self) -> dict[str, UploadResult]:
        """The reports of the runs that were completed."""
        return {key: report for key, report in self.reports.items() if report.state.completed}


def run_scan(config: Config, environ: Mapping[str, str], stop: StopRequest, make_display: DisplayMaker) -> ScanResult:
    """Find, judge, upload, remember, tell. Raises StateError if the log folder cannot be used, InterruptedBySignal."""
    path, begun = activity.lock_path(config.log_dir), False
    try:
        with lock.held(path, "another scan is running", stop=stop, say=lambda line: LOG.info("%s", line)) as held:
            begun = True
            logs.rotate(config.log_dir)
            _busy_notifier(config).tell(News())  # if a scan was told to be stuck, it is over
            result, started = ScanResult(), time.monotonic()
            try:
                return _tell_about(config, held, lambda: _scan(result, config, environ, stop, make_display))
            except LeaseLostError as error:
                LOG.info("%s; this scan leaves", error)
                raise
            except BaseException as error:
                result.problems.append(Problem("monitor", f"the scan ended early: {printable(str(error))}", "other"))
                raise
            finally:
                if not stop.has_lost_lease:  # else this is for another host to tell
                    counted, seconds = _counted(result), time.monotonic() - started
                    publish.refresh(config, [*result.problems, *result.alerts], counted, seconds, ok=result.ok)
    except BusyError as error:
        LOG.info("%s; this scan leaves", error)
        _tell_if_stuck(config, path)
        runs = statuses.take_inventory(config, remembering=True).runs  # what comes meanwhile waits for that scan
        _alert(config, runs, patient=False)
        publish.refresh_meanwhile(config)
        return ScanResult(busy=str(error))
    except StateError as error:
        if not begun:
            report_no_start(config, error)
        raise


def report_no_start(config: Config, error: S3SyncError) -> None:
    """Tell of a scan that cannot begin, since `log_dir` cannot be used, wherever that is possible; never raises.

    Not of one that a user started whose scans these are not.
    """
    if not activity.are_ours(config):
        return
    problem = Problem(health.MONITOR, f"the scan could not begin: {printable(str(error))}", "other")
    notifier = _busy_notifier(config)
    notifier.tell(News((), (problem,)))
    notifier.end(ok=False, summary=problem.text)
    publish.refresh(config, [problem], Counters(), 0.0, ok=False, said=True)


def dry_run(config: Config, environ: Mapping[str, str], stop: StopRequest, make_display: DisplayMaker) -> ScanResult:
    """What a scan would do: everything but the transfer, and nothing is written or told."""
    result = ScanResult()
    _judge(result, config, scanning=False)
    if unwritable := log_dir.unwritable(config.log_dir):
        result.problems.append(Problem("log_dir", f"a scan by this user would fail: {unwritable}", "other"))
    due = order.work_list(result.runs)
    _for_each(due, result, stop, lambda run: _preview(result, run, config, environ, stop, make_display))
    return result


def _tell_about(config: Config, held: lock.Held, work: Callable[[], ScanResult]) -> ScanResult:
    """The scan, with those who want to know told of its start, what came of it, and its end."""
    notifier = Notifier(_channels(config), config.log_dir / "notified.json")
    notifier.begin()
    try:
        result = work()
        held.check()
    except LeaseLostError:  # the host that has the lock tells
        raise
    except BaseException as error:
        notifier.end(ok=False, summary=str(error))
        raise
    uploads = tuple(
        Upload(key, _one_line(report)) for key, report in result.uploaded.items() if not report.already_complete
    )
    looked_at = frozenset(run.key for run in result.runs) - result.elsewhere
    notifier.tell(News(uploads, tuple(result.problems), looked_at))
    notifier.end(result.ok, "\n".join(f"{p.key}: {p.text}" for p in result.problems) or "all is well")
    return result


def _scan(
    result: ScanResult, config: Config, environ: Mapping[str, str], stop: StopRequest, make_display: DisplayMaker
) -> ScanResult:
    """Fill `result` step by step, so that a scan that ends early is reported, too."""
    started = time.monotonic()
    _remember(_judge(result, config, scanning=True), config)
    due, to_do = order.upload_order(result.runs), order.work_list(result.runs)
    more = f", {len(to_do) - len(due):,} to stream" if len(to_do) > len(due) else ""
    LOG.info("scan: %s found, %s to upload%s", states.count_runs(result.runs), f"{len(due):,}", more)
    _say(result.problems, config.log_dir / "noted.json")
    before = len(result.problems)
    in_order = order.scan_order(result.runs, config, _under_way(result, config))
    _for_each(in_order, result, stop, lambda run: _upload(result, run, config, environ, stop, make_display))
    told = {problem.key for problem in result.problems}
    nodes = (node for node in statuses.broken_nodes(config) if node.key not in told)
    result.problems += [Problem(node.key, node.text, "other") for node in nodes]
    for problem in result.problems[before:]:
        LOG.error("%s: %s", problem.key, problem.text)
    done = result.uploaded
    result.alerts = _alert(config, [replace(run, state="uploaded") if run.key in done else run for run in result.runs])
    LOG.info("scan: done after %s", human_seconds(time.monotonic() - started))
    return result


def _alert(config: Config, runs: Sequence[RunStatus], *, patient: bool = True) -> list[Problem]:
    """Log and tell what is silent trouble by now. A scan that finds another one at work does so, too: what is late may
    wait for that one. With a memory of their own, which both use, one after the other: who finds it in use leaves it.
    """
    found = [*alerts.late_runs(runs, config), *alerts.full_disks(config)]
    problems = [Problem(alert.key, alert.text, "note" if alert.lasting else "alert") for alert in found]
    noted, told = (config.log_dir / f"{name}.alerts.json" for name in ("noted", "notified"))
    if not problems and not _noted(noted) and not told.exists():
        return problems
    path = config.log_dir / "locks" / "alerts.lock"
    try:
        with lock.held(path, "alerts are being told", patient=patient):
            _say(problems, noted)
            Notifier(_channels(config), told).tell(News((), tuple(problems)))
    except BusyError as error:
        LOG.info("%s", error)
    except StateError as error:
        LOG.warning("cannot tell the alerts: %s", error)
    return problems


def _remember(found: discovery.Discovery, config: Config) -> None:
    """What is in the directories, so that the next scan notices an empty mount point."""
    try:
        discovery.remember(found, config.log_dir)
    except OSError as error:
        LOG.warning("cannot remember what is in the monitored directories: %s", error.strerror)


def _under_way(result: ScanResult, config: Config) -> frozenset[str]:
    try:
        return work_folder.active_names(config.log_dir)
    except StateError as error:
        result.problems.append(Problem("Slurm", str(error), "other"))
        return frozenset()


def _counted(result: ScanResult) -> Counters:
    states = [report.state for report in result.uploaded.values() if not report.already_complete]
    return Counters(len(states), sum(state.sent_files for state in states), sum(state.sent_bytes for state in states))


def _judge(result: ScanResult, config: Config, *, scanning: bool) -> discovery.Discovery:
    """Every run with its state, and the problems that stand before anything is uploaded."""
    found = discovery.discover(config)
    result.runs, problems = statuses.take_inventory(config, found=found, scanning=scanning)
    result.problems = [Problem(known.key, known.text, "other") for known in problems]
    result.problems += [Problem(node.key, node.text, "other") for node in statuses.broken_nodes(config)]
    result.problems += [Problem(note.key, note.text, "note") for note in found.notes]
    if unusable := log_dir.entries_of_others(config.log_dir):
        result.problems.append(Problem("log_dir", unusable, "other"))
    for run in result.runs:
        if run.state in states.BROKEN_STATES:
            result.problems.append(Problem(run.key, f"{run.state}: {run.reason}", "run"))
        elif run.state in states.SKIPPED_STATES:
            result.problems.append(Problem(run.key, f"will not be uploaded: {run.state}: {run.reason}", "note"))
        elif run.change and run.state == "uploaded":
            result.problems.append(Problem(run.key, run.reason, "note"))
    return found


def _for_each(
    runs: Sequence[RunStatus], result: ScanResult, stop: StopRequest, work: Callable[[RunStatus], None]
) -> None:
    """Do `work` for each of these runs. A bucket or a cluster that cannot be reached is not tried again."""
    unreachable: set[str] = set()
    has_slurm = True
    for run in runs:
        stop.raise_if_requested()
        if run.entry.bucket in unreachable or (run.entry.cluster and not has_slurm):
            continue
        try:
            work(run)
        except StoppedError:
            raise
        except BusyError as error:
            LOG.info("%s", error)
            result.elsewhere.add(run.key)
        except (SlurmError, ConfigError) as error:
            has_slurm = False
            result.misconfigured |= isinstance(error, ConfigError)
            result.problems.append(Problem("Slurm", str(error), "other"))
        except DeniedError as error:
            result.problems.append(Problem(run.key, str(error), "run"))
        except AwsError as error:
            unreachable.add(run.entry.bucket)
            result.problems.append(Problem(f"s3://{run.entry.bucket}", str(error), "aws"))
        except S3SyncError as error:
            result.problems.append(Problem(run.key, str(error), "run"))
        except Exception as error:  # a bug here must not keep the other runs from being uploaded
            LOG.exception("unexpected error with %s", run.key)
            what = printable(f"{type(error).__name__}: {error}")
            result.problems.append(Problem(run.key, f"unexpected error, please report it: {what}", "run"))


def _upload(
    result: ScanResult,
    run: RunStatus,
    config: Config,
    environ: Mapping[str, str],
    stop: StopRequest,
    make_display: DisplayMaker,
) -> None:
    with make_display() as display:
        report = coordinator.run_upload(
            request_for(run, config), config.cluster_of(run.entry), environ, stop, display, follow=False
        )
    if report is None:
        result.elsewhere.add(run.key)
        return
    result.reports[run.key] = report
    if hook.has_failed(report.on_complete):
        text = f"{report.on_complete} (the run is uploaded; it is run again at the next scan)"
        result.problems.append(Problem(f"on_complete of {run.key}", text, "other"))
    if report.already_complete:
        if report.on_complete:
            LOG.info("on_complete of %s: %s", run.key, report.on_complete)
    elif report.state.completed:
        LOG.info("uploaded %s: %s", run.key, _one_line(report))
    elif report.state.failed or run.state != "streaming":
        result.problems.append(Problem(run.key, _one_line(report), "run"))
    elif report.counters.sent_files or report.counters.found_files:
        LOG.info("streamed %s: %s", run.key, _one_line(report))
    if run.state == "streaming":
        _finish(result, run, config, environ, stop, make_display)


def _finish(
    result: ScanResult,
    run: RunStatus,
    config: Config,
    environ: Mapping[str, str],
    stop: StopRequest,
    make_display: DisplayMaker,
) -> None:
    """A run that was completed while it was streamed does not wait for the next scan."""
    again = statuses.refresh(config, [run])[0]
    if again.state in states.PENDING_STATES:
        result.runs[result.runs.index(run)] = again
        _upload(result, again, config, environ, stop, make_display)


def _preview(
    result: ScanResult,
    run: RunStatus,
    config: Config,
    environ: Mapping[str, str],
    stop: StopRequest,
    make_display: DisplayMaker,
) -> None:
    with make_display() as display:
        result.previews[run.key] = upload.preview(request_for(run, config), environ, stop, display, Collector(environ))


def _one_line(report: UploadResult) -> str:
    state, tally = report.state, report.counters
    proven = f"{len(state.proven):,} of {pluralize(state.total_local_files, 'file')} proven"
    if state.completed or not state.failed:
        return f"{proven}, {human_bytes(tally.sent_size)} sent in {human_seconds(tally.seconds)}"
    named = [f"{printable(path)}: {reason}" for path, reason in list(state.failed.items())[:_NAMED]]
    more = f"; and {len(state.failed) - _NAMED:,} more" if len(state.failed) > _NAMED else ""
    return f"not completed, {proven}, {len(state.failed):,} failed: {'; '.join(named)}{more} (tried again next scan)"


def _say(problems: Sequence[Problem], memory: Path) -> None:
    """Log problems at every scan, notes and alerts once as long as they stand."""
    notes = {problem.key for problem in problems if problem.kind in _SAID_ONCE}
    known = _noted(memory)
    for problem in problems:
        if problem.kind not in _SAID_ONCE:
            LOG.error("%s: %s", problem.key, problem.text)
        elif problem.key not in known:
            LOG.warning("%s%s %s", problem.key, ":" if problem.kind == "alert" else "", problem.text)
    if notes != known:
        try:
            files.atomic_write(memory, json.dumps(sorted(notes), indent=1).encode() + b"\n")
        except OSError as error:
            LOG.warning("cannot write %s, so these may be told again: %s", printable(str(memory)), error.strerror)


def _noted(memory: Path) -> set[str]:
    """The keys of the notes that were logged; none if the memory cannot be read: better told twice than not."""
    try:
        known = json.loads(memory.read_bytes())
        return {str(key) for key in known} if isinstance(known, list) else set()
    except (OSError, ValueError, RecursionError):
        return set()


def _tell_if_stuck(config: Config, path: Path) -> None:
    """An alert if the scan that holds the lock has held it for too long: it signed the lock file when it began."""
    try:
        seconds = time.time() - path.stat().st_mtime
    except OSError:
        return
    if text := activity.why_too_long(config, seconds):
        LOG.error("%s", text)
        notifier = _busy_notifier(config)
        notifier.tell(News((), (Problem(health.MONITOR, text, "other"),)))
        notifier.end(ok=False, summary=text)


def _busy_notifier(config: Config) -> Notifier:
    """With a memory of its own: whoever does not hold the lock must not touch that of the scan that does."""
    return Notifier(_channels(config), config.log_dir / "notified.busy.json")


def _channels(config: Config) -> Channels:
    secrets = (config.slack_log_webhook, config.slack_alert_webhook, config.webhook, config.ping_url)
    return Channels(*(secret.get_secret_value() if secret else "" for secret in secrets))
