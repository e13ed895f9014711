"""Finish the upload of a run on a node of the cluster, once all tasks of the job array have ended."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum

from s3sync.delays import DELAYS
from s3sync.errors import BusyError, ConfigError, S3SyncError, SlurmError
from s3sync.runs import LocalFile
from s3sync.signals import StopRequest
from s3sync.slurm import job_status, submission
from s3sync.slurm.client import Slurm
from s3sync.slurm.executor import Finalizer
from s3sync.slurm.job_spec import JobSpec, Result
from s3sync.slurm.node import JobDisplay, load_spec, node_name, print_line, request_for_node, require_same_version
from s3sync.slurm.shards import LEAST_COST
from s3sync.slurm.task import hold_shard
from s3sync.slurm.work_folder import FINALIZER, WorkFolder
from s3sync.transfer import batches, upload
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import UploadRequest, UploadResult

_MAX_THREADS = 16  # shards that are waited for at the same time


class NextStep(Enum):
    """A step of the finalizer job; the value says what it does if Slurm refuses that step."""

    LEAVE = "no other job is expected"  # the work to the second array, which is running
    SUBMIT_ARRAY = "the rest is sent from here"  # a second one, for files that are not verified
    MOVE = "it is tried here"  # moves to another node, since no task worked on this one
    UPLOAD = ""  # the rest from here


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The facts that decide the next step."""

    array_count: int = 1
    running_array: int | None = None  # another array of this upload
    pending: tuple[LocalFile, ...] = ()  # not verified after the first array
    any_node_works: bool = True  # a task came to its end without an error, or none has a result
    is_node_broken: bool = False  # this one
    refused: frozenset[NextStep] = frozenset()  # the steps that Slurm refused


def next_step(situation: Situation) -> NextStep:
    """Return the next step of the finalizer job."""
    steps = []
    if situation.running_array is not None:
        steps.append(NextStep.LEAVE)
    is_worth_an_array = batches.cost_of(situation.pending) >= LEAST_COST and situation.any_node_works
    if situation.array_count == 1 and is_worth_an_array:
        steps.append(NextStep.SUBMIT_ARRAY)
    if situation.is_node_broken:
        steps.append(NextStep.MOVE)
    return next((step for step in steps if step not in situation.refused), NextStep.UPLOAD)


def run_finalizer(folder: WorkFolder, environ: Mapping[str, str], stop: StopRequest) -> None:
    """Finish the upload: with a second array if enough files are left, otherwise from here, as on one machine.

    Raises S3SyncError, which is in the result as well, and StoppedError, which is not.
    """
    folder.starts.mark_started(environ)
    spec = load_spec(folder, environ)
    if folder.result(FINALIZER):  # Slurm started this job again after its end
        return
    _wait_for_tasks(folder, stop)
    job = _FinalizerJob(folder, spec, environ)
    situation = job.assess()
    while (step := next_step(situation)) is not NextStep.UPLOAD:
        try:
            job.perform(step, situation)
        except (SlurmError, ConfigError) as error:
            print_line(f"{error}; so {step.value}")
            situation = replace(situation, refused=situation.refused | {step})
        else:
            return
    job.upload(stop)


class _FinalizerJob:
    """The finalizer job of an upload on this node."""

    def __init__(self, folder: WorkFolder, spec: JobSpec, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._spec = spec
        self._environ = environ
        self._node = node_name(environ)
        self._job_id = environ.get("SLURM_JOB_ID", "")

    def assess(self) -> Situation:
        """Return the situation of the tasks and other jobs of this upload. Raises StateError."""
        with contextlib.suppress(SlurmError, ConfigError):
            failed = Slurm(self._environ).failed_tasks(self._spec.name)
            self._folder.starts.mark_silent_nodes(failed, self._folder.started_shards())
        array_count = self._folder.array_count()
        errors = [result.error for result in self._folder.results().values()]
        return Situation(
            array_count=array_count,
            running_array=self._running_array() if array_count > 1 else None,
            pending=self._pending() if array_count == 1 else (),
            any_node_works=not errors or not all(errors),
            is_node_broken=self._node in self._broken_nodes() and self._job_id.isdecimal(),
        )

    def perform(self, step: NextStep, situation: Situation) -> None:
        """Perform any step but the upload. Raises SlurmError, ConfigError, StateError."""
        slurm = Slurm(self._environ)
        if step is NextStep.LEAVE:
            array = situation.running_array
            if array is not None and not self._has_finalizer(slurm, array):
                submission.submit_finalizer(self._folder, self._spec, slurm, array)
        elif step is NextStep.SUBMIT_ARRAY:
            submission.submit_array(self._folder, self._spec, situation.pending, slurm, self._broken_nodes())
        elif step is NextStep.MOVE:
            submission.submit_finalizer(self._folder, self._spec, slurm, int(self._job_id), self._broken_nodes())

    def upload(self, stop: StopRequest) -> None:
        """Upload the remaining files from here, and write the result."""
        try:
            require_same_version(self._spec, self._environ)
            with JobDisplay(self._folder, FINALIZER) as display:
                request = request_for_node(self._spec, self._environ, share_bandwidth=False)
                done = self._upload_rest(replace(request, recheck=False), stop, display)
        except S3SyncError as error:
            if not stop.is_requested:
                result = Result.of_error(self._node, error)
                self._folder.write_result(FINALIZER, result)
            raise
        state = done.state
        result = Result(node=self._node, counters=done.counters, failed=state.failed, aws=state.aws)
        self._folder.write_result(FINALIZER, result)

    def _upload_rest(self, request: UploadRequest, stop: StopRequest, display: JobDisplay) -> UploadResult:
        """Upload as soon as the run's lock is free: another call that holds it will find this job, and end."""
        while True:
            try:
                return upload.upload(
                    request, Runtime(self._environ, stop, display), Finalizer(self._environ, self._folder)
                )
            except BusyError:
                stop.raise_if_requested()
                stop.wait(DELAYS.lock_polls)

    def _running_array(self) -> int | None:
        """Return the newest array that runs: this job may have submitted one before Slurm restarted it."""
        try:
            jobs = Slurm(self._environ).jobs(self._spec.name)
        except (SlurmError, ConfigError) as error:
            print_line(f"{error}; so {NextStep.LEAVE.value}")
            return None
        arrays = [job.job for job in jobs if job.task is not None and job.state != "COMPLETING"]
        return max(arrays, default=None)

    def _has_finalizer(self, slurm: Slurm, array: int) -> bool:
        others = [job for job in slurm.jobs(self._spec.name) if str(job.job) != self._job_id]
        return self._folder.has_finalizer(array) or any(job.task is None for job in others)

    def _pending(self) -> tuple[LocalFile, ...]:
        verified = {proof.path: proof for proof in self._folder.proofs(None, self._spec.request.destination)}
        return tuple(batches.pending(self._folder.all_files(), verified))

    def _broken_nodes(self) -> list[str]:
        """Return the nodes on which the program did not start, or all tasks failed that worked on other nodes."""
        results = self._folder.results().values()
        working = {result.node for result in results if not result.error}
        failing = {result.node for result in results if result.error} - working if working else set()
        return sorted(failing | (job_status.find_broken_nodes(self._folder).keys() - {self._node}))


def _wait_for_tasks(folder: WorkFolder, stop: StopRequest) -> None:
    """Wait for tasks that still run on nodes that Slurm considers down."""

    def wait_for(number: int) -> None:
        with hold_shard(folder, number, stop):
            pass

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        for _ in pool.map(wait_for, range(folder.shard_count())):
            pass
