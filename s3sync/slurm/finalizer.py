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
from s3sync.transfer import batches, request, upload
from s3sync.transfer.request import UploadRequest, UploadResult
from s3sync.transfer.runtime import Runtime

_MAX_THREADS = 16  # shards whose tasks may still run are waited for at the same time


class NextStep(Enum):
    """What the finalizer job does; the value says what it does if Slurm refuses that."""

    LEAVE = "no other job is expected"  # to the second array, which runs already
    SUBMIT_ARRAY = "the rest is sent from here"  # a second array for what is not verified
    MOVE = "it is tried here"  # to another node, since none of the tasks worked on this one
    UPLOAD = ""  # the rest, from here


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What decides about the next step."""

    array_count: int = 1
    running_array: int | None = None  # of this upload, besides this job
    pending: tuple[LocalFile, ...] = ()  # not verified after the first array
    any_node_works: bool = True  # a task came to its end without an error, or none has a result
    is_node_broken: bool = False  # this one
    refused: frozenset[NextStep] = frozenset()  # by Slurm


def next_step(situation: Situation) -> NextStep:
    """Return what the finalizer job has to do."""
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
    """Finish the upload: with a second array for what is worth one, or else from here, as on one machine.

    Raises S3SyncError, which is in the result, too, and StoppedError, which is not.
    """
    folder.starts.mark_started(environ)
    spec = load_spec(folder, environ)
    if folder.result(FINALIZER):  # Slurm has started this job again after its end
        return
    _wait_for_tasks(folder, stop)
    job = _FinalizerJob(folder, spec, environ)
    situation = job.look()
    while (step := next_step(situation)) is not NextStep.UPLOAD:
        try:
            job.take(step, situation)
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

    def look(self) -> Situation:
        """Find out about the tasks, and about other jobs of this upload. Raises StateError."""
        with contextlib.suppress(SlurmError, ConfigError):
            failed = Slurm(self._environ).failed_tasks(self._spec.name)
            self._folder.starts.note_silent_nodes(failed, self._folder.started_shards())
        array_count = self._folder.array_count()
        errors = [result.error for result in self._folder.results().values()]
        return Situation(
            array_count=array_count,
            running_array=self._running_array() if array_count > 1 else None,
            pending=self._pending() if array_count == 1 else (),
            any_node_works=not errors or not all(errors),
            is_node_broken=self._node in self._broken_nodes() and self._job_id.isdecimal(),
        )

    def take(self, step: NextStep, situation: Situation) -> None:
        """Do what the step says, but for the upload. Raises SlurmError, ConfigError, StateError."""
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
        """Upload the rest from here, and write the result."""
        try:
            require_same_version(self._spec, self._environ)
            with JobDisplay(self._folder, FINALIZER) as display:
                ours = request_for_node(self._spec, self._environ, share_bandwidth=False)
                done = self._upload_rest(replace(ours, recheck=False), stop, display)
        except S3SyncError as error:
            if not stop.is_requested:
                nothing = request.UploadCounters()
                result = Result(node=self._node, counters=nothing, failed={}, error=str(error), error_id=error.id)
                self._folder.write_result(FINALIZER, result)
            raise
        state = done.state
        result = Result(node=self._node, counters=done.counters, failed=state.failed, aws=state.aws)
        self._folder.write_result(FINALIZER, result)

    def _upload_rest(self, ours: UploadRequest, stop: StopRequest, display: JobDisplay) -> UploadResult:
        """Upload as soon as the run's lock is free: another call that holds it finds this job, and leaves."""
        while True:
            try:
                return upload.upload(
                    ours, Runtime(self._environ, stop, display), Finalizer(self._environ, self._folder)
                )
            except BusyError:
                stop.raise_if_requested()
                stop.wait(DELAYS.lock_polls)

    def _running_array(self) -> int | None:
        """Return the newest array that runs: this job may have submitted it before Slurm started the job again."""
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
        proven = {proof.path: proof for proof in self._folder.proofs(None, self._spec.request.destination)}
        return tuple(batches.pending(self._folder.all_files(), proven))

    def _broken_nodes(self) -> list[str]:
        """Return the nodes on which the program did not start, or all tasks failed while they worked on others."""
        results = self._folder.results().values()
        working = {result.node for result in results if not result.error}
        failing = {result.node for result in results if result.error} - working if working else set()
        return sorted(failing | (job_status.find_broken_nodes(self._folder).keys() - {self._node}))


def _wait_for_tasks(folder: WorkFolder, stop: StopRequest) -> None:
    """Wait for tasks on nodes that Slurm has given up, but which still run."""

    def wait_for(number: int) -> None:
        with hold_shard(folder, number, stop):
            pass

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        for _ in pool.map(wait_for, range(folder.shard_count())):
            pass
