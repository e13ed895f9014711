"""An upload on a cluster, seen from the host that asks for it: submitted once, followed, cancelled, collected.

The jobs need nobody who follows them; whoever comes later finds them by the work folder and their name.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from s3sync.delays import DELAYS
from s3sync.errors import BusyError, InterruptedBySignal, LeaseLostError, RunError, SlurmError, StateError, StoppedError
from s3sync.runs import Run, analysis, local_files
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes as slurm_broken_nodes
from s3sync.slurm import gathering
from s3sync.slurm.client import Slurm, SlurmJob, SlurmOptions, summarize
from s3sync.slurm.executor import ClusterExecutor, Collector
from s3sync.slurm.submission import submit_finalizer
from s3sync.slurm.work_folder import FINALIZER, JobSpec, WorkFolder
from s3sync.state import RunState, StateStore, lock
from s3sync.text import pluralize
from s3sync.transfer import progress, request, upload

_CANCEL_SECONDS = 60.0  # that cancelled jobs are given to end
_LAST_WORDS = 3  # of jobs that said nothing else


class Place(NamedTuple):
    """A run at a destination, and where what is known of it lies."""

    run: Run
    store: StateStore
    folder: WorkFolder


def run_upload(
    job: request.UploadRequest,
    cluster: SlurmOptions | None,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: progress.Display,
    *,
    follow: bool = True,
) -> request.UploadResult | None:
    """`upload`, on the cluster if one is given. Without `follow` it submits, or looks at what was submitted: None
    means that the jobs are at work. Raises as `upload` does, and SlurmError, ConfigError where there is no Slurm.
    """
    if cluster is None or job.is_streaming:
        return upload.upload(job, environ, stop, display, Collector(environ))
    slurm = Slurm(environ)
    place = _place(job)
    is_known = place.folder.is_submitted()
    if not place.folder.exists() or ((follow or not is_known) and _is_over(place, slurm)):
        try:
            report = upload.upload(job, environ, stop, display, ClusterExecutor(environ, cluster, place.folder, slurm))
        except BusyError:
            if not place.folder.exists() or not (follow or is_known):  # another one submits it at the moment
                raise
        else:
            if not report.handed_over:
                return report
    following = _Following(job, place, slurm, display, environ, stop)
    if follow:
        following.to_the_end()
    elif not following.is_over():
        display.say(f"{request.describe_target(place.run, job.destination)}: on Slurm, {following.where()}")
        return None
    broken = following.broken_nodes()
    report = collect(job, place.folder, environ, stop)
    for node, why in broken.items():
        display.say(f"warning: {slurm_broken_nodes.message(node, why)}")
    return report


def collect(
    job: request.UploadRequest, folder: WorkFolder, environ: Mapping[str, str], stop: StopRequest
) -> request.UploadResult:
    """What came of an upload whose jobs have ended: it is in the log, the user's command is run, the folder goes.

    Raises RunError with what ended the last job, if something did, or if it never came to its end.
    """
    inputs = upload.inspect_run(job, environ)
    run = inputs.run
    store = StateStore(job.log_dir, run, job.destination)
    busy = f"{request.describe_target(run, job.destination)} is being uploaded already"
    with lock.wait_for(store.lock_path, busy, stop, lambda: not folder.exists()) as held:
        if held:
            store.guard(held.check)
            store.prepare()
        if not held or not folder.exists():
            return _collected_by_another(
                request.UploadResult(
                    run=run,
                    destination=job.destination,
                    log_path=store.log_path,
                    state=_logged(store, run),
                    selection=inputs.selection,
                )
            )
        handed, last, tally, words = folder.spec(), folder.result(FINALIZER), folder.tally(), folder.last_output_lines()
        broken = folder.broken_nodes()
        state = gathering.collect_results(job, run, store, store.load().state, environ, stop)
        assert state is not None, "who hands over begins a log"
        tally = replace(tally, seconds=state.seconds - handed.seconds)
        after = upload.run_hook(job, run, store, state, environ, stop)
    if not state.completed and (last is None or last.error):
        raise RunError(
            last.error if last else _never_ended(request.describe_target(run, job.destination), words, broken)
        )
    return request.UploadResult(
        run=run,
        destination=job.destination,
        log_path=store.log_path,
        state=state,
        selection=inputs.selection,
        counters=tally,
        on_complete=after,
    )


def _logged(store: StateStore, run: Run) -> RunState:
    return store.load(set_aside=False).state or RunState.of(run)


def _collected_by_another(report: request.UploadResult) -> request.UploadResult:
    """A scan of the monitor, or another call, was there first; raises RunError if there is more to do."""
    if not report.state.completed:
        where = request.describe_target(report.run, report.destination)
        raise RunError(
            f"{where} is not completed, and another call has seen to it (the same command goes on from there)"
        )
    return replace(report, already_complete=True)


def _never_ended(run: str, words: Sequence[str], broken: Mapping[str, str]) -> str:
    if broken:
        nodes = "; ".join(slurm_broken_nodes.message(node, why) for node, why in broken.items())
        return f"{run}: Slurm's jobs ended before the upload was over: {nodes}; the same command goes on from there"
    said = f"; their last words: {' / '.join(words[-_LAST_WORDS:])}" if words else ""
    advice = "the same command goes on from there; is the log directory shared with the nodes? `check --submit` tells"
    return f"{run}: Slurm's jobs ended before the upload was over{said} ({advice})"


def _place(job: request.UploadRequest) -> Place:
    run = analysis.open_run_or_analysis(job.local_path, need_run_info=not job.skip_check)
    store = StateStore(job.log_dir, run, job.destination)
    folder = WorkFolder.of(job.log_dir, store)
    if folder.exists():  # it may be that of another folder of this name
        upload.require_claim(run, store.load(set_aside=False).state, lambda: local_files.list_files(run))
    return Place(run, store, folder)


def _is_over(place: Place, slurm: Slurm) -> bool:
    """Whether no job of an upload that was handed over lives, and it did not complete the run."""
    return not slurm.jobs(place.folder.spec().name)


class _Following:
    """The jobs of one upload, as they are told by the work folder and by Slurm."""

    def __init__(
        self,
        job: request.UploadRequest,
        place: Place,
        slurm: Slurm,
        display: progress.Display,
        environ: Mapping[str, str],
        stop: StopRequest,
    ) -> None:
        self._stop = stop
        self._job = job
        self._place = place
        self._slurm = slurm
        self._display = display
        self._environ = environ
        self._folder = place.folder
        self._handed: JobSpec = self._folder.spec()
        self._live: list[SlurmJob] = []
        self._seen = progress.Snapshot("queued", *self._handed.proven, *self._handed.amount, 0)
        self._trouble = ""
        self._rounds = self._shards = 0

    def is_over(self) -> bool:
        """Whether the last job came to its end, or no job is left that could."""
        if not self._folder.exists() or self._folder.is_finished():
            return True
        self._live = self._slurm.jobs(self._handed.name)
        self._ensure_finalizer()
        return not self._live and not self._is_passed_on()

    def where(self) -> str:
        """How far the jobs are, for people."""
        return f"{summarize(self._live)}; {self._folder.progress_text()}"

    def to_the_end(self) -> None:
        """Show how far they are until they have ended. Raises InterruptedBySignal; SIGINT cancels them."""
        title = f"uploading {request.describe_target(self._place.run, self._job.destination)} on Slurm"
        self._look()
        self._display.follow(title, lambda: self._seen)
        asked = 0.0
        while self._folder.exists() and not self._folder.result(FINALIZER):
            if time.monotonic() - asked >= DELAYS.slurm_polls:
                asked = time.monotonic()
                if self._asked_is_over():
                    return
            if self._stop.wait(DELAYS.work_folder_polls):
                self._interrupted()
            self._look()

    def _asked_is_over(self) -> bool:
        try:
            over, self._trouble = self.is_over(), ""
        except SlurmError as error:  # it may be restarted: the jobs go on
            if not self._trouble:
                self._display.say(f"{error}; waiting for it")
            self._trouble = str(error)
            return False
        except LeaseLostError:
            raise
        except StoppedError:  # while a lock was waited for: the next look at `stop` sees it
            return False
        return over

    def _look(self) -> None:
        """Look at what the jobs said of themselves, which stays when they are dead: Slurm knows whether they run."""
        alive = {job.task for job in self._live if not job.is_pending and job.state != "COMPLETING"}
        if last := self._folder.progress(FINALIZER):
            self._seen = last if None in alive else last._replace(activity="waiting", processes=0)
            return
        before, total = self._handed.proven, self._handed.amount
        if (rounds := self._folder.array_count()) != self._rounds:
            self._rounds, self._shards = rounds, self._folder.shard_count()
        seen = ((number, self._folder.progress(number)) for number in range(self._shards))
        tasks = {number: task for number, task in seen if task}
        files = before.files + sum(task.files for task in tasks.values())
        size = before.size + sum(task.size for task in tasks.values())
        processes = sum(task.processes or 0 for number, task in tasks.items() if number in alive)
        activity = "uploading" if processes else "queued" if not tasks else "waiting"
        self._seen = progress.Snapshot(
            activity, min(files, total.files), total.files, min(size, total.size), total.size, processes
        )

    def _ensure_finalizer(self) -> None:
        """Whoever was killed between the two submissions left an array without a job that comes after it. One that
        was submitted, and is gone before its array, was cancelled: then it was meant to end.
        """
        arrays = {job.job for job in self._live if job.task is not None}
        if not arrays or any(job.task is None for job in self._live) or self._folder.has_finalizer(max(arrays)):
            return
        try:
            with lock.held(self._place.store.lock_path, "it is being submitted", stop=self._stop) as held:
                live = self._slurm.jobs(self._handed.name)  # another one who follows may have been quicker
                if all(job.task is not None for job in live):
                    held.check()
                    submit_finalizer(self._folder, self._handed, self._slurm, max(arrays))
        except BusyError:
            return

    def _is_passed_on(self) -> bool:
        """Whether the last job was submitted again, since this program cannot start on the node where it was."""
        self._folder.note_silent_nodes(self._slurm.failed_tasks(self._handed.name))
        lasts = [unstarted.node for unstarted in self._folder.failed_starts() if unstarted.is_last_job]
        broken = self._folder.broken_nodes()
        if not lasts or len(set(lasts)) < len(lasts) or self._folder.is_finished():  # the same one again: no use
            return False
        if not self._slurm.usable_nodes(self._handed.cluster, broken):
            return False
        try:
            with lock.held(self._place.store.lock_path, "it is being submitted", stop=self._stop) as held:
                if not self._slurm.jobs(self._handed.name) and self._folder.exists():
                    held.check()
                    submit_finalizer(self._folder, self._handed, self._slurm, None, sorted(broken))
        except BusyError:
            return True  # by another one who follows
        return True

    def broken_nodes(self) -> dict[str, str]:
        """Return the nodes on which this program could not start, and what was printed there."""
        return self._folder.broken_nodes()

    def _interrupted(self) -> None:
        """Raises InterruptedBySignal, LeaseLostError."""
        if self._stop.has_lost_lease:
            self._stop.raise_if_requested()
        signum = self._stop.signum or signal.SIGTERM
        name = signal.Signals(signum).name
        if signum != signal.SIGINT:
            jobs = f"Slurm's jobs go on (squeue --name={self._handed.name})"
            raise InterruptedBySignal(signum, f"interrupted by {name}: {jobs}; the same command follows them again")
        try:
            self._cancel()
            proven = self._gather()
        except (SlurmError, BusyError) as error:
            jobs = f"Slurm's jobs may go on: {error} (scancel --name={self._handed.name})"
            raise InterruptedBySignal(signum, f"interrupted by {name}, but {jobs}") from None
        except (StateError, LeaseLostError) as error:
            jobs = f"what Slurm's jobs have proven is not in the log: {error}; the same command goes on from there"
            raise InterruptedBySignal(signum, f"interrupted by {name}, but {jobs}") from None
        so_far = f"{proven:,} of {pluralize(self._handed.amount.files, 'file')} proven"
        jobs = f"Slurm's jobs cancelled, {so_far}; the same command goes on from there"
        raise InterruptedBySignal(signum, f"interrupted by {name}: {jobs}")

    def _cancel(self) -> None:
        """Raises SlurmError."""
        live = self._slurm.jobs(self._handed.name)
        self._display.say(f"cancelling Slurm's jobs {', '.join(map(str, sorted({job.job for job in live})))}")
        self._slurm.cancel(job.job for job in live)
        self._wait_for_the_end()

    def _gather(self) -> int:
        """Add what the jobs have proven to the log; give the number of files that it has then.

        Raises BusyError, SlurmError, StateError, LeaseLostError.
        """
        run, store, _ = self._place
        stop = StopRequest()  # the other one has been asked already
        with lock.held(store.lock_path, "the last job ends", stop=stop) as held:
            store.guard(held.check)
            store.prepare()
            state = gathering.collect_results(self._job, run, store, store.load().state, self._environ, stop)
        return len(state.proven) if state else 0

    def _wait_for_the_end(self) -> None:
        """Of jobs that were cancelled: their processes get some time to end."""
        pause, until = threading.Event(), time.monotonic() + _CANCEL_SECONDS
        while time.monotonic() < until and self._slurm.jobs(self._handed.name):
            pause.wait(DELAYS.work_folder_polls)
