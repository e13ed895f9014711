"""Upload the runs that are due, one by one: a problem of one run does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from s3sync.config import Config
from s3sync.errors import (
    AwsError,
    BusyError,
    ConfigError,
    DeniedError,
    S3SyncError,
    SlurmError,
    StoppedError,
)
from s3sync.inventory import RunStatus, request_for, states, statuses
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_result import ScanResult, one_line
from s3sync.signals import StopRequest
from s3sync.slurm import Collector, coordinator
from s3sync.text import printable
from s3sync.transfer import hook, progress, request, upload

LOG = logging.getLogger(__name__)

DisplayMaker: TypeAlias = Callable[[], progress.Display]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanContext:
    """What all steps of a scan need."""

    config: Config
    environ: Mapping[str, str]
    stop: StopRequest
    make_display: DisplayMaker


Work: TypeAlias = Callable[[ScanContext, ScanResult, RunStatus], None]


def for_each(context: ScanContext, result: ScanResult, runs: Sequence[RunStatus], work: Work) -> None:
    """Do something with each run, and add what goes wrong to the result.

    A bucket that cannot be reached is not tried again, neither is Slurm. Raises StoppedError.
    """
    unreachable_buckets: set[str] = set()
    has_slurm = True
    for run in runs:
        context.stop.raise_if_requested()
        if run.entry.bucket in unreachable_buckets or (run.entry.cluster and not has_slurm):
            continue
        try:
            work(context, result, run)
        except StoppedError:
            raise
        except BusyError as error:
            LOG.info("%s", error)
            result.uploading_elsewhere.add(run.key)
        except Exception as error:  # a bug here must not keep the other runs from being uploaded
            problem = _problem_of(run, error)
            result.problems.append(problem)
            result.is_misconfigured |= isinstance(error, ConfigError)
            has_slurm &= not isinstance(error, (SlurmError, ConfigError))
            if problem.kind == "aws":
                unreachable_buckets.add(run.entry.bucket)


def _problem_of(run: RunStatus, error: Exception) -> Problem:
    if isinstance(error, (SlurmError, ConfigError)):
        return Problem.of("Slurm", error, "other")
    if isinstance(error, AwsError) and not isinstance(error, DeniedError):
        return Problem.of(f"s3://{run.entry.bucket}", error, "aws")
    if isinstance(error, S3SyncError):
        return Problem.of(run.key, error, "run")
    LOG.error("unexpected error with %s", run.key, exc_info=error)
    what = printable(f"{type(error).__name__}: {error}")
    return Problem(run.key, f"unexpected error (please report it): {what}", "run", id="internal.unexpected-error")


def upload_run(context: ScanContext, result: ScanResult, run: RunStatus) -> None:
    """Upload a run; one that is completed while it is streamed is uploaded to its end right away."""
    outcome = _upload(context, run)
    if outcome is None:
        result.uploading_elsewhere.add(run.key)
        return
    result.uploads[run.key] = outcome
    _log_or_add_problem(result, run, outcome)
    if run.state == "streaming":
        _upload_if_completed_meanwhile(context, result, run)


def preview_run(context: ScanContext, result: ScanResult, run: RunStatus) -> None:
    """Find out what an upload of a run would send."""
    with context.make_display() as display:
        upload_request = request_for(run, context.config)
        collector = Collector(context.environ)
        result.previews[run.key] = upload.preview(upload_request, context.environ, context.stop, display, collector)


def _upload(context: ScanContext, run: RunStatus) -> request.UploadResult | None:
    """Return the result; None if the run was handed to a cluster, which has not finished it."""
    config = context.config
    with context.make_display() as display:
        return coordinator.run_upload(
            request_for(run, config),
            config.cluster_of(run.entry),
            context.environ,
            context.stop,
            display,
            follow=False,
        )


def _log_or_add_problem(result: ScanResult, run: RunStatus, outcome: request.UploadResult) -> None:
    if hook.has_failed(outcome.on_complete):
        text = f"{outcome.on_complete} (the run is uploaded; the command is run again at the next scan)"
        result.problems.append(Problem(f"on_complete of {run.key}", text, "other", id="monitor.on-complete-failed"))
    if outcome.already_complete:
        if outcome.on_complete:
            LOG.info("on_complete of %s: %s", run.key, outcome.on_complete)
    elif outcome.state.completed:
        LOG.info("uploaded %s: %s", run.key, one_line(outcome))
    elif outcome.state.failed or run.state != "streaming":
        result.problems.append(Problem(run.key, one_line(outcome), "run", id="monitor.upload-failed"))
    elif outcome.counters.sent_files or outcome.counters.found_files:
        LOG.info("streamed %s: %s", run.key, one_line(outcome))


def _upload_if_completed_meanwhile(context: ScanContext, result: ScanResult, run: RunStatus) -> None:
    again = statuses.refresh(context.config, [run])[0]
    if again.state in states.PENDING_STATES:
        result.replace(run, again)
        upload_run(context, result, again)
