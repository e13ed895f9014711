"""Upload a run on the cluster from the host that requests it: submit once, follow, cancel, collect.

The jobs do not depend on the process that submitted them: a later call finds them by the work folder and their name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from s3sync.errors import BusyError, Notice, RunError
from s3sync.runs import analysis, local_files
from s3sync.slurm import broken_nodes, job_status
from s3sync.slurm.client import Slurm, SlurmOptions
from s3sync.slurm.executor import ClusterExecutor, Collector
from s3sync.slurm.follower import ClusterUpload, JobFollower
from s3sync.slurm.work_folder import FINALIZER, WorkFolder
from s3sync.state import RunState, StateStore, lock
from s3sync.transfer import upload
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import UploadRequest, UploadResult

_LAST_LINES = 3  # to show of the jobs' output
_CONTINUE = "run the same command to continue"


def run_upload(
    request: UploadRequest, options: SlurmOptions | None, runtime: Runtime, *, follow: bool = True
) -> UploadResult | None:
    """Upload a run, on the cluster if there are options for it, and return the result.

    Without `follow` it only submits the jobs, or collects their results if they have ended: it returns None while they
    run. Raises what `upload` does, SlurmError, and ConfigError without Slurm.
    """
    if options is None or request.is_streaming:
        return upload.upload(request, runtime, Collector(runtime.environ))
    cluster = _Cluster(runtime=runtime, slurm=Slurm(runtime.environ), options=options)
    uploading = _open_upload(request)
    if result := cluster.submit_if_needed(uploading, follow=follow):
        return result
    return cluster.finish(uploading, follow=follow)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """The cluster that one call uses."""

    runtime: Runtime
    slurm: Slurm
    options: SlurmOptions

    def submit_if_needed(self, uploading: ClusterUpload, *, follow: bool) -> UploadResult | None:
        """Submit the upload unless its jobs are running; return the result if there was nothing to submit."""
        folder = uploading.folder
        is_submitted = folder.is_submitted()
        if folder.exists() and not ((follow or not is_submitted) and self._have_all_ended(folder)):
            return None
        executor = ClusterExecutor(self.runtime.environ, self.options, folder, self.slurm)
        try:
            result = upload.upload(uploading.request, self.runtime, executor)
        except BusyError:
            if not folder.exists() or not (follow or is_submitted):  # another process is submitting it
                raise
            return None
        return None if result.handed_over else result

    def finish(self, uploading: ClusterUpload, *, follow: bool) -> UploadResult | None:
        """Wait for the jobs, if `follow`, and collect their results; return None while they run."""
        follower = JobFollower(uploading, self.slurm, self.runtime)
        if follow:
            follower.wait()
        elif not follower.is_over():
            self.runtime.display.print(f"{uploading.target}: on Slurm, {follower.describe_progress()}")
            return None
        broken = job_status.find_broken_nodes(uploading.folder)
        result = collect(uploading.request, uploading.folder, self.runtime)
        for node, reason in broken.items():
            self.runtime.display.print(Notice(broken_nodes.message(node, reason), id="slurm.broken-node").line)
        return result

    def _have_all_ended(self, folder: WorkFolder) -> bool:
        return not self.slurm.jobs(folder.spec().name)


def collect(request: UploadRequest, folder: WorkFolder, runtime: Runtime) -> UploadResult:
    """Return the result of an upload whose jobs have ended: save it in the state log, and run the user's command.

    Raises RunError with the error of the finalizer job, or if that never ended; also StateError, StoppedError.
    """
    inputs = upload.inspect_run(request, runtime.environ)
    run, store = inputs.run, StateStore(request.log_dir, inputs.run, request.destination)
    uploading = ClusterUpload(request=request, run=run, store=store, folder=folder)

    def to_result(state: RunState) -> UploadResult:
        return UploadResult(
            run=run, destination=request.destination, log_path=store.log_path, state=state, selection=inputs.selection
        )

    busy = f"{uploading.target} is already being uploaded"
    with lock.wait_for(store.lock_path, busy, runtime.stop, lambda: not folder.exists()) as held:
        if held:
            store.set_lock_check(held.check)
            store.prepare()
        if not held or not folder.exists():
            result = to_result(store.load(set_aside=False).state or RunState.of(run))
            return replace(_require_completed(result, uploading), already_complete=True)
        failure = _failure_of(uploading)
        counters, seconds_before = job_status.count_transfers(folder), folder.spec().handover.seconds
        collector = Collector(runtime.environ)
        collected = collector.collect(request, run, store, store.load().state, runtime.stop)
        assert collected is not None, "an upload that was handed over has begun a log"
        on_complete = upload.run_hook_if_due(request, run, store, collected, runtime)
    if failure and not collected.completed:
        raise failure
    counters = replace(counters, seconds=collected.seconds - seconds_before)
    return replace(to_result(collected), counters=counters, on_complete=on_complete)


def _require_completed(result: UploadResult, uploading: ClusterUpload) -> UploadResult:
    """Return the result that another call has collected. Raises RunError if the run is not completed."""
    if not result.state.completed:
        raise RunError(
            f"{uploading.target} is not completed; another process has collected its results ({_CONTINUE})",
            id="slurm.collected-elsewhere",
        )
    return result


def _failure_of(uploading: ClusterUpload) -> RunError | None:
    """Return the error of the finalizer job, or the probable reason why it never ended; None if it succeeded."""
    folder = uploading.folder
    finalizer = folder.result(FINALIZER)
    if finalizer and finalizer.error:
        return RunError(finalizer.error, id=finalizer.error_id or "slurm.finalizer-failed")
    if finalizer:
        return None
    ended = f"{uploading.target}: Slurm's jobs ended before the upload was complete"
    if broken := job_status.find_broken_nodes(folder):
        nodes = "; ".join(broken_nodes.message(node, reason) for node, reason in broken.items())
        return RunError(f"{ended}: {nodes}; {_CONTINUE}", id="slurm.nodes-broken")
    lines = folder.output_lines(_LAST_LINES)[-_LAST_LINES:]
    output = f"; their last output: {' / '.join(lines)}" if lines else ""
    advice = f"{_CONTINUE}; `s3sync check --submit` shows whether the log directory is shared with the nodes"
    return RunError(f"{ended}{output} ({advice})", id="slurm.jobs-ended")


def _open_upload(request: UploadRequest) -> ClusterUpload:
    run = analysis.open_run_or_analysis(request.local_path, need_run_info=not request.skip_check)
    store = StateStore(request.log_dir, run, request.destination)
    folder = WorkFolder.of(request.log_dir, store)
    if folder.exists():  # it may belong to another run folder of this name
        upload.require_claim(run, store.load(set_aside=False).state, lambda: local_files.list_files(run))
    return ClusterUpload(request=request, run=run, store=store, folder=folder)
