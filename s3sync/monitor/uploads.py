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
from s3sync.transfer import batches, request, upload
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import hook
from s3sync.transfer.sharing import SharedMachine

LOG = logging.getLogger(__name__)
_FIND_COST = 10  # finding new runs may take up to a tenth of the time

Work: TypeAlias = Callable[[ScanContext, ScanResult, RunStatus], None]


def for_each(context: ScanContext, result: ScanResult, runs: Sequence[RunStatus], work: Work) -> None:
    """Call `work` for each run, one by one, and add errors to the result. Raises StoppedError.

    After an error of a bucket, or of Slurm, the other runs that need it are skipped.
    """
    obstacles = Obstacles()
    for run in runs:
        context.stop.raise_if_requested()
        if obstacles.block(run):
            continue
        try:
            work(context, result, run)
        except StoppedError:
            raise
        except Exception as error:  # a bug here must not keep the other runs from being uploaded
            _add_error(result, run, error, obstacles)


class ScanUploads:
    """The uploads of one scan, several at once, including runs that are found while it runs."""

    def __init__(
        self,
        context: ScanContext,
        result: ScanResult,
        *,
        find_more: Callable[[], Iterable[RunStatus] | None],
        log_problems: Callable[[], None],
    ) -> None:
        """Prepare the uploads. `find_more` adds new runs to the result, and returns all runs to work on.

        If it returns None, the runs that are waiting stay the same. `log_problems` logs new problems of the result.
        """
        self._context = context
        self._result = result
        self._find_more = find_more
        self._log_problems = log_problems
        self._machine = _shared_machine(context.config)
        self._restores = PendingRestores(context, result, self._machine)
        self._schedule = Schedule(context.config.max_runs_at_once, DELAYS.scan_repeats, is_small=self._is_small)
        self._costs: dict[str, float] = {}  # seconds that the upload of a waiting run will take, by key
        self._second: set[str] = set()  # keys of runs that began during their upload to another destination
        self._has_listed = False  # whether a waiting run was listed since the last wait for uploads
        self._workers = Workers(self._upload)
        self._next_search = time.monotonic() + DELAYS.scan_looks
        self._stopped: list[StoppedError] = []

    def run(self, runs: Iterable[RunStatus]) -> None:
        """Upload these runs and those that are found later. Raises StoppedError when all have saved their state."""
        self._schedule.offer(runs)
        self._restores.start_next()
        try:
            while self._start_workers() or self._restores.running:
                self._workers.others = self._restores.running
                self._handle(self._workers.wait(self._seconds_to_wait()))
                self._handle_restores()
                self._log_problems()
                self._search_if_due()
        finally:
            self._workers.close()
            self._restores.close()
        if self._stopped:
            raise _all_in_one(self._stopped)
        self._context.stop.raise_if_requested()

    def _seconds_to_wait(self) -> float | None:
        """Return for how long to wait for uploads; None (until one ends) after a stop, since no search is due then."""
        if self._context.stop.is_requested:
            return None
        return 0.0 if self._has_listed else max(0.0, self._next_search - time.monotonic())

    def _start_workers(self) -> bool:
        """Start work on as many runs as are allowed at once; return whether work on any run is in progress."""
        self._has_listed = False
        while not self._context.stop.is_requested and (run := self._schedule.take(self._workers.runs)):
            self._result.forget_problems(run)
            self._note_namesakes(run)
            self._workers.start(run)
        return bool(self._workers.runs)

    def _note_namesakes(self, run: RunStatus) -> None:
        """Note whether the run is being uploaded to another destination: then that upload gets the untagged log.

        If both could begin at once, the order of the config decides, since they wait in that order.
        """
        self._second.discard(run.key)
        if any(other.run.run_id == run.run.run_id for other in self._workers.runs):
            self._second.add(run.key)

    def _upload(self, run: RunStatus) -> Outcome:
        """Upload a run and return the result; None if it was handed to a cluster that has not finished it."""
        context, config = self._context, self._context.config
        with context.stop.child() as stop, context.make_display(self._name_of(run)) as display:
            return coordinator.run_upload(
                request_for(run, config, leaves_untagged_log=run.key in self._second),
                config.cluster_of(run.entry),
                Runtime(context.environ, stop, display, self._machine),
                follow=False,
            )

    def _is_small(self, run: RunStatus) -> bool:
        """Return whether a run has at most half as much to send as each run that is being uploaded.

        Listing hundreds of runs may take hours, so only one is listed before ended uploads are handled again.
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
            self._schedule.mark_tried(run)
            try:
                self._add_outcome(run, future.result())
            except LeaseLostError as error:
                if self._context.stop.has_lost_lease:
                    self._stopped.append(error)
                elif error.id == "lock.not-renewed":  # perhaps no other host has taken it over
                    _add_error(self._result, run, error, self._schedule.obstacles)
                else:  # another host uploads this run
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
        """Add the result of a run. The rest of a run that was completed while it was streamed is uploaded next."""
        if outcome is None:
            self._result.uploading_elsewhere.add(run.key)
            return
        self._result.add_upload(run, outcome)
        _log_or_add_problem(self._result, run, outcome)
        known = next((other for other in self._result.runs if other.key == run.key), None)
        if run.state == "streaming" and known:  # not if an edited config no longer sends it there
            again = statuses.refresh(self._context.config, [known])[0]
            if again.state in states.PENDING_STATES:
                self._result.replace(known, again)
                self._schedule.put_first(again)

    def _search_if_due(self) -> None:
        """Find new runs and thawed restores if that is due, and work is in progress anyway."""
        now = time.monotonic()
        is_working = self._workers.runs or self._restores.running
        if now < self._next_search or not is_working or self._context.stop.is_requested:
            return
        if (runs := self._find_more()) is not None:
            self._schedule.offer(runs)
        self._restores.start_next()
        ended = time.monotonic()
        self._next_search = ended + max(DELAYS.scan_looks, _FIND_COST * (ended - now))


def _shared_machine(config: Config) -> SharedMachine:
    cores = config.max_cores or usable_cores()
    return SharedMachine(cores, max(cores, config.max_processes or 4 * cores), config.max_bandwidth)


def _all_in_one(stopped: Sequence[StoppedError]) -> StoppedError:
    """Return one error for all uploads that were stopped."""
    first = stopped[0]
    if len(stopped) == 1 or not isinstance(first, InterruptedBySignal):
        return first
    for each in stopped:
        LOG.info("%s", each)
    what = f"work on {pluralize(len(stopped), 'run')} interrupted; the same command continues from there"
    return InterruptedBySignal(first.exit_code - 128, what, id=first.id)


def _add_error(result: ScanResult, run: RunStatus, error: Exception, obstacles: Obstacles) -> None:
    """Add the problem that an error of a run causes to the result."""
    if isinstance(error, BusyError):
        LOG.info("%s", error)
        result.uploading_elsewhere.add(run.key)
        return
    problem = _problem_of(run, error)
    result.add_problem(run, problem)
    if isinstance(error, ConfigError):
        result.of_config.add(problem)
    obstacles.add(run, error, problem)


def _problem_of(run: RunStatus, error: Exception) -> Problem:
    if isinstance(error, (SlurmError, ConfigError)):
        return Problem.of_error("Slurm", error, "other")
    if isinstance(error, AwsError) and not isinstance(error, DeniedError):
        return Problem.of_error(f"s3://{run.entry.bucket}", error, "aws")
    return Problem.of_error(run.key, error, "run")


def preview_run(context: ScanContext, result: ScanResult, run: RunStatus) -> None:
    """Add to the result what an upload of a run would send."""
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
