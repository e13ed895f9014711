"""Let a Slurm cluster upload the files of a run in place of this machine, and collect the files that its jobs verified.

The classes implement `transfer.upload.handover.Executor`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from s3sync import __version__
from s3sync.errors import BusyError, ConfigError, SlurmError, StateError
from s3sync.runs import LocalFile, Run, analysis_manifest, local_files
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes, job_status, submission
from s3sync.slurm.client import Slurm, SlurmJob, SlurmOptions, summarize
from s3sync.slurm.job_spec import JobSpec
from s3sync.slurm.work_folder import WorkFolder
from s3sync.state import RunState, StateStore, lock
from s3sync.text import parse_iso, printable
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.upload import Handover

_MAX_THREADS = 16  # the lock of a dead node takes a minute to check, so several shards are checked at the same time


class Collector:
    """Collects the results of the jobs of earlier calls, and submits nothing."""

    submits = False
    is_finalizer = False

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def describe_progress(self, request: UploadRequest, store: StateStore) -> str:
        """Return how far the jobs of this run are, for people; empty if there are none."""
        folder = WorkFolder.of(request.log_dir, store)
        return f"handed over to Slurm already: {job_status.describe_progress(folder)}" if folder.is_submitted() else ""

    def collect(
        self, request: UploadRequest, run: Run, store: StateStore, state: RunState | None, stop: StopRequest
    ) -> RunState | None:
        """Save and return the state with the files that jobs have verified, and remove their work folder.

        The caller holds the run's lock. Raises BusyError while jobs run or may run, and StateError, SlurmError,
        StoppedError.
        """
        folder = WorkFolder.of(request.log_dir, store)
        if not folder.exists():
            return state
        spec = folder.spec()
        if not folder.is_finished():
            self._require_no_job(run, spec)
            _require_no_running_task(folder, run, stop)
        if folder.is_submitted() and not (state and state.completed):
            state = _add_results(state or RunState.of(run), folder, spec, run)
            store.save(state)
        store.check()  # a host that took over the lock may need the folder
        broken, working = job_status.find_broken_nodes(folder), job_status.find_working_nodes(folder)
        broken_nodes.remember(request.log_dir, broken, working)
        folder.discard()
        return state

    def submit(self, handover: Handover, files: Sequence[LocalFile]) -> None:
        """Refuse: this executor submits nothing."""
        raise NotImplementedError

    def _require_no_job(self, run: Run, spec: JobSpec) -> None:
        name = printable(run.run_id)
        if jobs := self._jobs(name, spec):
            advice = f"follow them with --executor slurm, or end them: scancel --name={spec.name}"
            raise BusyError(f"{name} is being uploaded by Slurm: {summarize(jobs)} ({advice})", id="slurm.jobs-running")

    def _jobs(self, name: str, spec: JobSpec) -> list[SlurmJob]:
        try:
            return Slurm(self._environ).jobs(spec.name)
        except ConfigError as error:
            raise BusyError(
                f"{name} was handed over to Slurm, which is not installed here (use the host that submitted it)",
                id="slurm.other-host",
            ) from error


class Finalizer(Collector):
    """The executor of the finalizer job, which adds results while other jobs may run, and keeps the folder."""

    is_finalizer = True

    def __init__(self, environ: Mapping[str, str], folder: WorkFolder) -> None:
        super().__init__(environ)
        self._folder = folder

    def collect(
        self,
        request: UploadRequest,  # noqa: ARG002 - as the protocol has it
        run: Run,
        store: StateStore,  # noqa: ARG002
        state: RunState | None,
        stop: StopRequest,  # noqa: ARG002
    ) -> RunState | None:
        """Return the state with the files that tasks have verified. Raises StateError."""
        if not self._folder.exists() or (state and state.completed):
            return state
        return _add_results(state or RunState.of(run), self._folder, self._folder.spec(), run)


class ClusterExecutor(Collector):
    """Submits the files as a job array and a finalizer job."""

    submits = True

    def __init__(self, environ: Mapping[str, str], options: SlurmOptions, folder: WorkFolder, slurm: Slurm) -> None:
        super().__init__(environ)
        self._name = f"s3sync-{uuid.uuid4().hex[:12]}"  # unique, unlike the ids of jobs
        self._options = options
        self._folder = folder
        self._slurm = slurm

    def submit(self, handover: Handover, files: Sequence[LocalFile]) -> None:
        """Submit these files. Raises SlurmError or StateError if nothing was submitted."""
        spec = JobSpec(name=self._name, version=__version__, options=self._options, handover=handover)
        self._folder.create(spec, submission.script_of(self._folder))
        try:
            submission.submit_array(self._folder, spec, files, self._slurm)
        except SlurmError:
            with contextlib.suppress(SlurmError):
                if self._slurm.jobs(self._name):
                    return  # Slurm accepted the array; the process that follows it submits the finalizer job
                self._folder.discard()
            raise
        except StateError:
            with contextlib.suppress(StateError):
                self._folder.discard()
            raise


def _require_no_running_task(folder: WorkFolder, run: Run, stop: StopRequest) -> None:
    """Raise BusyError if a task still runs on a node that Slurm considers down."""
    busy = f"{printable(run.run_id)} is still being uploaded on a node that Slurm considers down"

    def try_lock(number: int) -> None:
        with lock.hold(folder.lock_path(number), busy, stop=stop):
            pass

    unfinished = [number for number in folder.started_shards() if folder.result(number) is None]
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        for _ in pool.map(try_lock, unfinished):
            pass


def _add_results(state: RunState, folder: WorkFolder, spec: JobSpec, run: Run) -> RunState:
    handover, counters = spec.handover, job_status.count_transfers(folder)
    return state.collected(
        folder.proofs(None, spec.request.destination) if _is_as_planned(run, handover) else [],
        sent_files=handover.sent.files + counters.sent_files,
        sent_bytes=handover.sent.size + counters.sent_size,
        seconds=handover.seconds + max(0.0, time.time() - (parse_iso(handover.submitted) or time.time())),
    )


def _is_as_planned(run: Run, handover: Handover) -> bool:
    """Return whether the instrument's manifest, which files were verified against, is still the planned one."""
    return handover.manifest is None or local_files.restat(run, analysis_manifest.MANIFEST_TSV) == handover.manifest
