"""Follow the jobs of one upload from the host that submitted them: show their progress, and cancel them."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace

from s3sync.delays import DELAYS
from s3sync.errors import BusyError, InterruptedBySignal, LeaseLostError, SlurmError, StateError, StoppedError
from s3sync.runs import Run
from s3sync.signals import StopRequest
from s3sync.slurm import job_status
from s3sync.slurm.client import Slurm, SlurmJob, summarize
from s3sync.slurm.executor import Collector
from s3sync.slurm.submission import submit_finalizer
from s3sync.slurm.work_folder import FINALIZER, WorkFolder
from s3sync.state import StateStore
from s3sync.text import pluralize
from s3sync.transfer import progress, request
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import UploadRequest

_CANCEL_SECONDS = 60.0  # how long cancelled jobs may take to end
_SUBMITTING = "its finalizer job is being submitted"  # what the process that holds the lock is doing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterUpload:
    """An upload on the cluster: its request, its run, its state log and its work folder."""

    request: UploadRequest
    run: Run
    store: StateStore
    folder: WorkFolder

    @property
    def target(self) -> str:
        """Return the run and where it goes, for people."""
        return request.describe_target(self.run, self.request.destination)


class JobFollower:
    """Follows the jobs of one upload by its work folder and by Slurm's queue."""

    def __init__(self, uploading: ClusterUpload, slurm: Slurm, runtime: Runtime) -> None:
        self._upload = uploading
        self._folder = uploading.folder
        self._spec = uploading.folder.spec()
        self._slurm = slurm
        self._display = runtime.display
        self._environ = runtime.environ
        self._stop = runtime.stop
        self._jobs: list[SlurmJob] = []  # in Slurm's queue, as last seen
        self._array_count = self._shard_count = 0
        self._is_slurm_down = False
        handover = self._spec.handover
        self.snapshot = self._make_snapshot("queued", handover.verified, 0)

    def is_over(self) -> bool:
        """Return whether the finalizer job has ended, or no job is left that could finish the upload.

        Submit a finalizer job if there is none. Raises SlurmError, StateError, StoppedError.
        """
        if not self._folder.exists() or self._folder.is_finished():
            return True
        self._jobs = self._slurm.jobs(self._spec.name)
        if self._jobs:
            self._ensure_finalizer()
            return False
        return not self._move_finalizer()

    def describe_progress(self) -> str:
        """Return how far the jobs are, for people."""
        return f"{summarize(self._jobs)}; {job_status.describe_progress(self._folder)}"

    def wait(self) -> None:
        """Show the progress of the jobs until they have ended.

        Raises InterruptedBySignal, after it has cancelled the jobs if that was SIGINT, and LeaseLostError, StateError.
        """
        self.update()
        self._display.follow(f"uploading {self._upload.target} on Slurm", lambda: self.snapshot)
        asked = 0.0
        while self._folder.exists() and not self._folder.result(FINALIZER):
            if time.monotonic() - asked >= DELAYS.slurm_polls:
                asked = time.monotonic()
                if self._is_over_if_known():
                    return
            if self._stop.wait(DELAYS.work_folder_polls):
                self.end_interrupted()
            self.update()

    def update(self) -> None:
        """Read the progress from the work folder, and from Slurm's queue which jobs run: the folder outlives them."""
        running = {job.task for job in self._jobs if not job.is_pending and job.state != "COMPLETING"}
        if finalizer := self._folder.progress(FINALIZER):
            is_running = None in running
            self.snapshot = finalizer if is_running else replace(finalizer, activity="waiting", processes=0)
            return
        if (array_count := self._folder.array_count()) != self._array_count:
            self._array_count, self._shard_count = array_count, self._folder.shard_count()
        known = ((number, self._folder.progress(number)) for number in range(self._shard_count))
        tasks = {number: task for number, task in known if task}
        before = self._spec.handover.verified
        done = request.FileTotals(
            before.files + sum(task.files for task in tasks.values()),
            before.size + sum(task.size for task in tasks.values()),
        )
        processes = sum(task.processes or 0 for number, task in tasks.items() if number in running)
        activity = "uploading" if processes else "queued" if not tasks else "waiting"
        self.snapshot = self._make_snapshot(activity, done, processes)

    def end_interrupted(self) -> None:
        """Cancel the jobs if the user interrupted the upload; otherwise leave them running.

        Raises InterruptedBySignal, which describes what happened to the jobs, or LeaseLostError.
        """
        if self._stop.has_lost_lease:
            self._stop.raise_if_requested()
        signum, name = self._stop.signum or signal.SIGTERM, self._spec.name
        if signum != signal.SIGINT:
            outcome = f": Slurm's jobs continue (squeue --name={name}); the same command follows them again"
        else:
            outcome = self._cancel_and_collect()
        text = f"interrupted by {signal.Signals(signum).name}{outcome}"
        raise InterruptedBySignal(signum, text, id="slurm.interrupted") from None

    def _cancel_and_collect(self) -> str:
        """Cancel the jobs, and save the files that they have verified; describe what happened to the jobs."""
        try:
            self._cancel()
            verified = self._collect()
        except (SlurmError, BusyError) as error:
            return f", but Slurm's jobs may continue: {error} (scancel --name={self._spec.name})"
        except (StateError, LeaseLostError) as error:
            return f", but what Slurm's jobs have verified is not in the log: {error}; run the same command to continue"
        total = pluralize(self._spec.handover.amount.files, "file")
        return f": Slurm's jobs cancelled, {verified:,} of {total} verified; run the same command to continue"

    def _cancel(self) -> None:
        jobs = self._slurm.jobs(self._spec.name)
        self._display.print(f"cancelling Slurm's jobs {', '.join(map(str, sorted({job.job for job in jobs})))}")
        self._slurm.cancel(job.job for job in jobs)
        for _ in StopRequest().poll(DELAYS.work_folder_polls, _CANCEL_SECONDS):  # a second stop does not end this
            if not self._slurm.jobs(self._spec.name):
                return

    def _collect(self) -> int:
        """Save the files that the jobs have verified; return how many verified files the log has."""
        store, stop = self._upload.store, StopRequest()
        with store.locked("the finalizer job ends", stop=stop):
            store.prepare()
            known = store.load().state
            state = Collector(self._environ).collect(self._upload.request, self._upload.run, store, known, stop)
        return len(state.verified) if state else 0

    def _is_over_if_known(self) -> bool:
        """Return `is_over()`, or False while Slurm does not answer: it may be restarting while the jobs continue."""
        try:
            is_over = self.is_over()
        except SlurmError as error:
            if not self._is_slurm_down:
                self._display.print(f"{error}; waiting for it")
            self._is_slurm_down = True
            return False
        except LeaseLostError:
            raise
        except StoppedError:  # raised while waiting for a lock: the caller notices the stop
            return False
        self._is_slurm_down = False
        return is_over

    def _ensure_finalizer(self) -> None:
        """Submit the finalizer job if a process was killed before it did so.

        One that was submitted, and is gone while its array runs, was cancelled on purpose.
        """
        arrays = [job.job for job in self._jobs if job.task is not None]
        has_finalizer = len(arrays) < len(self._jobs)
        if not arrays or has_finalizer or self._folder.has_finalizer(max(arrays)):
            return
        try:
            with self._upload.store.locked(_SUBMITTING, stop=self._stop) as held:
                jobs = self._slurm.jobs(self._spec.name)  # another process may have submitted it meanwhile
                if all(job.task is not None for job in jobs):
                    held.check()
                    submit_finalizer(self._folder, self._spec, self._slurm, max(arrays))
        except BusyError:
            return

    def _move_finalizer(self) -> bool:
        """Submit the finalizer job again if it could not start on its node; return whether it was submitted."""
        self._folder.starts.mark_silent_nodes(self._slurm.failed_tasks(self._spec.name), self._folder.started_shards())
        nodes = [start.node for start in self._folder.starts.failed_starts() if start.is_finalizer]
        has_failed_twice = len(set(nodes)) < len(nodes)  # on one node
        if not nodes or has_failed_twice or self._folder.is_finished():
            return False
        broken = job_status.find_broken_nodes(self._folder)
        if not self._slurm.usable_nodes(self._spec.options, broken):
            return False
        try:
            with self._upload.store.locked(_SUBMITTING, stop=self._stop) as held:
                if not self._slurm.jobs(self._spec.name) and self._folder.exists():
                    held.check()
                    submit_finalizer(self._folder, self._spec, self._slurm, None, sorted(broken))
        except BusyError:  # another process that follows the jobs submits it
            return True
        return True

    def _make_snapshot(self, activity: str, done: request.FileTotals, processes: int) -> progress.Snapshot:
        total = self._spec.handover.amount
        return progress.Snapshot(
            activity=activity,
            files=min(done.files, total.files),
            files_total=total.files,
            size=min(done.size, total.size),
            size_total=total.size,
            processes=processes,
        )
