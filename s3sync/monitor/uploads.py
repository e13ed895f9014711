"""Upload the runs that are due, several at once: a problem of one run does not stop the others."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from s3sync.config import Config
from s3sync.delays import DELAYS
from s3sync.errors import (
    AwsError,
    BusyError,
    ConfigError,
    DeniedError,
    InterruptedBySignal,
    LeaseLostError,
    S3SyncError,
    SlurmError,
    StoppedError,
    explain_machine,
)
from s3sync.inventory import RunStatus, request_for, states, statuses
from s3sync.monitor.context import ScanContext
from s3sync.monitor.problems import Problem
from s3sync.monitor.restores import PendingRestores
from s3sync.monitor.scan_result import ScanResult, one_line
from s3sync.monitor.schedule import Obstacles, Schedule
from s3sync.monitor.workers import Outcome, Workers
from s3sync.resources import usable_cores
from s3sync.runs import local_files
from s3sync.slurm import Collector, coordinator
from s3sync.text import pluralize, printable
from s3sync.transfer import batches, hook, request, upload
from s3sync.transfer.runtime import Runtime
from s3sync.transfer.sharing import SharedMachine

LOG = logging.getLogger(__name__)
_LOOK_COST = 10  # looking for new runs may take a tenth of the time


Work: TypeAlias = Callable[[ScanContext, ScanResult, RunStatus], None]


def for_each(context: ScanContext, result: ScanResult, runs: Sequence[RunStatus], work: Work) -> None:
    """Do something with each run, one by one, and add what goes wrong to the result.

    A bucket that cannot be reached is not tried again, neither is Slurm. Raises StoppedError.
    """
    obstacles = Obstacles()
    for run in runs:
        context.stop.raise_if_requested()
        if obstacles.concern(run):
            continue
        try:
            work(context, result, run)
        except StoppedError:
            raise
        except Exception as error:  # a bug here must not keep the other runs from being uploaded
            _add_error(result, run, error, obstacles)


class ScanUploads:
    """The uploads of one scan, several at once. New runs that are found meanwhile are uploaded, too."""

    def __init__(
        self,
        context: ScanContext,
        result: ScanResult,
        *,
        look: Callable[[], Iterable[RunStatus] | None],
        log: Callable[[], None],
    ) -> None:
        """`look` adds new runs to the result and returns those to work on; `log` logs what has come up.

        If `look` returns None, those that wait are kept.
        """
        self._context = context
        self._result = result
        self._look = look
        self._log = log
        self._machine = _shared_machine(context.config)
        self._restores = PendingRestores(context, result, self._machine)
        self._schedule = Schedule(context.config.max_runs_at_once, DELAYS.scan_repeats, is_small=self._is_small)
        self._costs: dict[str, float] = {}  # of uploading runs that wait, in seconds, by key
        self._second: set[str] = set()  # keys of runs that began while they were uploaded to another destination
        self._has_listed = False  # one of them, since uploads were last waited for
        self._workers = Workers(self._upload)
        self._next_look = time.monotonic() + DELAYS.scan_looks
        self._stopped: list[StoppedError] = []

    def run(self, runs: Iterable[RunStatus]) -> None:
        """Upload these runs and those that are found meanwhile. Raises StoppedError when all have saved their state."""
        self._schedule.offer(runs)
        self._restores.begin_next()
        try:
            while self._start_workers() or self._restores.at_work:
                self._workers.beside = self._restores.at_work
                self._handle(self._workers.wait(self._patience()))
                self._handle_restores()
                self._log()
                self._look_for_runs()
        finally:
            self._workers.close()
            self._restores.close()
        if self._stopped:
            raise _all_in_one(self._stopped)
        self._context.stop.raise_if_requested()

    def _patience(self) -> float | None:
        """Return how long to wait for the uploads; None after a stop, when there are no more looks."""
        if self._context.stop.is_requested:
            return None
        return 0.0 if self._has_listed else max(0.0, self._next_look - time.monotonic())

    def _start_workers(self) -> bool:
        """Begin to work on as many runs as is allowed; return whether any is being worked on."""
        self._has_listed = False
        while not self._context.stop.is_requested and (run := self._schedule.take(self._workers.runs)):
            self._result.forget_problems(run)
            self._note_namesakes(run)
            self._workers.start(run)
        return bool(self._workers.runs)

    def _note_namesakes(self, run: RunStatus) -> None:
        """Note whether the run goes to another destination already: then that one gets the untagged log.

        Both may begin at once, and then the order of the config decides, in which they wait.
        """
        self._second.discard(run.key)
        if any(other.run.run_id == run.run.run_id for other in self._workers.runs):
            self._second.add(run.key)

    def _upload(self, run: RunStatus) -> Outcome:
        """Return the result of a run; None if it was handed to a cluster, which has not finished it."""
        context, config = self._context, self._context.config
        with context.stop.child() as stop, context.make_display(self._name_of(run)) as display:
            return coordinator.run_upload(
                request_for(run, config, leaves_untagged_log=run.key in self._second),
                config.cluster_of(run.entry),
                Runtime(context.environ, stop, display, self._machine),
                follow=False,
            )

    def _is_small(self, run: RunStatus) -> bool:
        """Return whether a run has at most half as much to send as each of those that are being uploaded.

        Listing hundreds of runs may take hours: one at a time, so that stops and ended uploads do not wait for it.
        """
        least = self._machine.processes.least_left()
        if least and run.key not in self._costs and not self._has_listed:
            self._has_listed = True
            try:
                self._costs[run.key] = batches.cost_of(local_files.list_files(run.run).files)
            except S3SyncError:
                self._costs[run.key] = math.inf
        return self._costs.get(run.key, math.inf) <= least / 2

    def _name_of(self, run: RunStatus) -> str:
        """Return the id of a run, with its destination if another run has that id."""
        namesakes = [other for other in self._result.runs if other.run.run_id == run.run.run_id]
        return printable(run.run.run_id) if len(namesakes) <= 1 else run.key

    def _handle(self, ended: Iterable[tuple[RunStatus, Future[Outcome]]]) -> None:
        for run, future in ended:
            self._schedule.note_end(run)
            try:
                self._add_outcome(run, future.result())
            except LeaseLostError as error:
                if self._context.stop.has_lost_lease:
                    self._stopped.append(error)
                elif error.id == "lock.not-renewed":  # nobody may have taken it over
                    _add_error(self._result, run, error, self._schedule.obstacles)
                else:  # of this run alone: another host uploads it
                    LOG.info("%s", error)
                    self._result.uploading_elsewhere.add(run.key)
            except StoppedError as error:
                self._stopped.append(error)
            except Exception as error:  # a bug here must not keep the other runs from being uploaded
                _add_error(self._result, run, error, self._schedule.obstacles)

    def _handle_restores(self) -> None:
        try:
            self._restores.handle_ended()
        except StoppedError as error:
            self._stopped.append(error)

    def _add_outcome(self, run: RunStatus, outcome: Outcome) -> None:
        """Add the result of a run; a run that is completed while it is streamed is uploaded to its end right away."""
        if outcome is None:
            self._result.uploading_elsewhere.add(run.key)
            return
        self._result.add_upload(run, outcome)
        _log_or_add_problem(self._result, run, outcome)
        known = next((other for other in self._result.runs if other.key == run.key), None)
        if run.state == "streaming" and known:  # else the config was edited, and does not want it there any more
            again = statuses.refresh(self._context.config, [known])[0]
            if again.state in states.PENDING_STATES:
                self._result.replace(known, again)
                self._schedule.put_first(again)

    def _look_for_runs(self) -> None:
        """Look for new runs and thawed restores if that is due, and something is at work anyway."""
        now = time.monotonic()
        is_at_work = self._workers.runs or self._restores.at_work
        if now < self._next_look or not is_at_work or self._context.stop.is_requested:
            return
        if (runs := self._look()) is not None:
            self._schedule.offer(runs)
        self._restores.begin_next()
        ended = time.monotonic()
        self._next_look = ended + max(DELAYS.scan_looks, _LOOK_COST * (ended - now))


def _shared_machine(config: Config) -> SharedMachine:
    cores = config.max_cores or usable_cores()
    return SharedMachine(cores, max(cores, config.max_processes or 4 * cores), config.max_bandwidth)


def _all_in_one(stopped: Sequence[StoppedError]) -> StoppedError:
    """Return the error that says of all uploads that they were stopped."""
    first = stopped[0]
    if len(stopped) == 1 or not isinstance(first, InterruptedBySignal):
        return first
    for each in stopped:
        LOG.info("%s", each)
    what = f"work on {pluralize(len(stopped), 'run')} interrupted; the same command continues from there"
    return InterruptedBySignal(first.exit_code - 128, what, id=first.id)


def _add_error(result: ScanResult, run: RunStatus, error: Exception, obstacles: Obstacles) -> None:
    """Add what went wrong with a run to the result."""
    if isinstance(error, BusyError):
        LOG.info("%s", error)
        result.uploading_elsewhere.add(run.key)
        return
    problem = _problem_of(run, error)
    result.add_problem(run, problem)
    if isinstance(error, ConfigError):
        result.of_config.add(problem)
    obstacles.note(run, error, problem)


def _problem_of(run: RunStatus, error: Exception) -> Problem:
    if isinstance(error, (SlurmError, ConfigError)):
        return Problem.of("Slurm", error, "other")
    if isinstance(error, AwsError) and not isinstance(error, DeniedError):
        return Problem.of(f"s3://{run.entry.bucket}", error, "aws")
    if isinstance(error, S3SyncError):
        return Problem.of(run.key, error, "run")
    if known := explain_machine(error):
        return Problem.of(run.key, known, "run")
    what = printable(f"{type(error).__name__}: {error}")
    text = f"unexpected error (please report it): {what}"
    problem = Problem(run.key, text, "run", id="internal.unexpected-error")
    LOG.error("%s: %s", problem.key, problem.text_with_id, exc_info=error)
    return problem


def preview_run(context: ScanContext, result: ScanResult, run: RunStatus) -> None:
    """Find out what an upload of a run would send."""
    with context.make_display("") as display:
        upload_request = request_for(run, context.config)
        runtime = Runtime(context.environ, context.stop, display)
        result.previews[run.key] = upload.preview(upload_request, runtime, Collector(context.environ))


def _log_or_add_problem(result: ScanResult, run: RunStatus, outcome: request.UploadResult) -> None:
    if hook.has_failed(outcome.on_complete):
        text = f"{outcome.on_complete} (the run is uploaded; the command is run again at the next scan)"
        problem = Problem(f"on_complete of {run.key}", text, "other", id="monitor.on-complete-failed")
        result.add_problem(run, problem)
    if outcome.already_complete:
        if outcome.on_complete:
            LOG.info("on_complete of %s: %s", run.key, outcome.on_complete)
    elif outcome.state.completed:
        LOG.info("uploaded %s: %s", run.key, one_line(outcome))
    elif outcome.state.failed or run.state != "streaming":
        result.add_problem(run, Problem(run.key, one_line(outcome), "run", id="monitor.upload-failed"))
    elif outcome.counters.sent_files or outcome.counters.found_files:
        LOG.info("streamed %s: %s", run.key, one_line(outcome))
