"""What runs on the nodes of a cluster: a task of the job array sends a shard; the last job settles and completes."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from s3sync import __version__
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, ConfigError, RunError, S3SyncError, SlurmError, StateError
from s3sync.resources import usable_cores
from s3sync.runs import Run, analysis, analysis_manifest, local_files
from s3sync.signals import StopRequest
from s3sync.slurm import submission
from s3sync.slurm.client import Slurm, SlurmOptions
from s3sync.slurm.executor import Finalizer
from s3sync.slurm.shards import LEAST_COST, Shard
from s3sync.slurm.work_folder import FINALIZER, JobSpec, Result, WorkFolder
from s3sync.state import lock
from s3sync.text import printable
from s3sync.transfer import batches, context, passes, progress, request, upload

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

_SHOW_SECONDS = 5.0  # between two words of a task on how far it is
_WAITERS = 16  # shards whose tasks may still be at work are waited for, so many at a time


def run_task(folder: WorkFolder, number: int, environ: Mapping[str, str], stop: StopRequest) -> bool:
    """Upload a shard; return whether all of it is verified. Do nothing if another start of its task has done so.

    Raises S3SyncError, which is in the shard's result, too, and StoppedError, which is not.
    """
    folder.mark_started(environ)
    spec = _given(folder, environ)
    with _alone(folder, number, stop) as locked:
        if locked is None:
            return True
        task = _ShardTask(folder, number, spec, environ, stop)
        try:
            _require_same_version(spec, environ)
            task.run(locked.descriptor)
        except S3SyncError as error:
            if not stop.is_requested:  # Slurm may start it again
                folder.write_result(number, task.result(str(error)))
            raise
        locked.check()
        result = task.result()
        folder.write_result(number, result)
    return not result.failed


class _ShardTask:
    """One start of the task that uploads a shard, as a call on one machine does, but without the markers."""

    def __init__(
        self, folder: WorkFolder, number: int, spec: JobSpec, environ: Mapping[str, str], stop: StopRequest
    ) -> None:
        self._folder = folder
        self._number = number
        self._spec = spec
        self._environ = environ
        self._stop = stop
        self._start = folder.start_name(number)
        self._uploader: passes.FileUploader | None = None

    def run(self, lock_descriptor: int) -> None:
        """Upload the shard. An `aws` that outlives a killed task inherits the descriptor, which keeps the lock."""
        folder, number = self._folder, self._number
        job = _on_this_node(self._spec.job, self._spec.cluster, self._environ)
        run = analysis.open_run_or_analysis(job.local_path, need_run_info=not job.skip_check)
        proofs = folder.proofs(number, job.destination)
        with (
            _Shown(folder, number) as display,
            context.open_context(
                job,
                run,
                self._environ,
                self._stop,
                display,
                expected=_expected(run, self._spec),
                inherited=[lock_descriptor],
            ) as shard_context,
            folder.journal(number, job.destination, self._start) as journal,
            folder.journal(number, job.destination, self._start, found=True) as found,
        ):
            known = {proof.path: proof for proof in proofs}
            self._uploader = passes.FileUploader(shard_context, journal.record, known, record_found=found.record)
            try:
                _upload(self._uploader, folder.shard(number), display, resumed=self._spec.resumed or bool(proofs))
            finally:
                self._uploader.close()

    def result(self, error: str = "") -> Result:
        """Return what came of it so far."""
        uploader = self._uploader
        if uploader is None:
            return Result(_node(self._environ), request.UploadCounters(), {}, "", error, self._start)
        return Result(
            _node(self._environ), uploader.counters, uploader.failed, uploader.aws_version, error, self._start
        )


def _upload(uploader: passes.FileUploader, shard: Shard, display: _Shown, *, resumed: bool) -> None:
    uploader.reader.set_expected_paths(file.path for file in shard)
    remote = uploader.probe_s3(lambda: uploader.reader.list_range(shard))
    before = request.FileTotals.of([file for file in shard if batches.is_proven(file, uploader.proven)])
    total = request.FileTotals.of(shard)
    display.follow("", lambda: uploader.snapshot("uploading", before, total))
    pending = batches.pending(shard, uploader.proven)
    if remote is not None:
        uploader.compare(pending, remote)
    elif resumed:
        uploader.head_large_files(pending)
    order = batches.split_by_phase(batches.pending(shard, uploader.proven))
    uploader.send(order.metadata, order.data)


def run_finalizer(folder: WorkFolder, environ: Mapping[str, str], stop: StopRequest) -> None:
    """Once all tasks have ended: a second array for what is worth one, or else the rest from here, as on one machine.

    Raises S3SyncError where that cannot be done, with that in its result, and InterruptedBySignal, without one.
    """
    folder.mark_started(environ)
    handed = _given(folder, environ)
    if folder.result(FINALIZER):  # Slurm has started this job again, though it had come to its end
        return
    _wait_for_tasks(folder, stop)
    _note_silent_nodes(folder, handed, environ)
    if (
        _is_left_to_others(folder, handed, environ)
        or (folder.array_count() == 1 and _submit_again(folder, handed, environ))
        or _is_passed_on(folder, handed, environ)
    ):
        return
    display = _Shown(folder, FINALIZER)
    try:
        _require_same_version(handed, environ)
        with display:
            job = _on_this_node(replace(handed.job, recheck=False), handed.cluster, environ, share=False)
            report = _upload_rest(folder, job, environ, stop, display)
    except S3SyncError as error:
        if not stop.is_requested:
            folder.write_result(FINALIZER, Result(_node(environ), request.UploadCounters(), {}, "", str(error)))
        raise
    folder.write_result(FINALIZER, Result(_node(environ), report.counters, report.state.failed, report.state.aws))


def _is_left_to_others(folder: WorkFolder, handed: JobSpec, environ: Mapping[str, str]) -> bool:
    """Whether a second array is at work already: this job had submitted it when Slurm started it once more."""
    if folder.array_count() == 1:
        return False
    try:
        slurm = Slurm(environ)
        live = [job for job in slurm.jobs(handed.name) if str(job.job) != environ.get("SLURM_JOB_ID")]
        arrays = {job.job for job in live if job.task is not None and job.state != "COMPLETING"}
        if arrays and all(job.task is not None for job in live) and not folder.has_finalizer(max(arrays)):
            submission.submit_finalizer(folder, handed, slurm, max(arrays))
    except (SlurmError, ConfigError) as error:
        _say(f"{error}; so no other job is expected")
        return False
    return bool(arrays)


def _submit_again(folder: WorkFolder, handed: JobSpec, environ: Mapping[str, str]) -> bool:
    """Whether what is not proven goes to a second array. Where no more can be submitted, it is sent from here."""
    results = folder.results()
    proven = {proof.path: proof for proof in folder.proofs(None, handed.job.destination)}
    left = batches.pending(folder.all_files(), proven)
    if batches.cost_of(left) < LEAST_COST or (results and all(result.error for result in results.values())):
        return False
    try:
        submission.submit(folder, handed, left, Slurm(environ), avoid=_broken_nodes(folder, environ))
    except (SlurmError, ConfigError) as error:
        _say(f"{error}; the rest is sent from here")
        return False
    return True


def _is_passed_on(folder: WorkFolder, handed: JobSpec, environ: Mapping[str, str]) -> bool:
    """Whether another node has to do this, since no task could work here."""
    broken, job = _broken_nodes(folder, environ), environ.get("SLURM_JOB_ID", "")
    if _node(environ) not in broken or not job.isdecimal():
        return False
    try:
        submission.submit_finalizer(folder, handed, Slurm(environ), int(job), avoid=broken)
    except (SlurmError, ConfigError) as error:
        _say(f"{error}; so it is tried here")
        return False
    return True


def _broken_nodes(folder: WorkFolder, environ: Mapping[str, str]) -> list[str]:
    """Return those on which the program could not start, or tasks could not work at all where others could."""
    results = folder.results().values()
    able = {result.node for result in results if not result.error}
    failed = {result.node for result in results if result.error} - able if able else set()
    return sorted(failed | (folder.broken_nodes().keys() - {_node(environ)}))


def _note_silent_nodes(folder: WorkFolder, handed: JobSpec, environ: Mapping[str, str]) -> None:
    with contextlib.suppress(SlurmError, ConfigError):
        folder.note_silent_nodes(Slurm(environ).failed_tasks(handed.name))


def _given(folder: WorkFolder, environ: Mapping[str, str]) -> JobSpec:
    """Raises StateError if the folder is another upload's by now: this job was one of the upload before."""
    handed = folder.spec()
    if environ.get("SLURM_JOB_NAME", handed.name) != handed.name:
        raise StateError(f"this job's upload is over: {printable(str(folder.path))} is another one's by now")
    return handed


def _require_same_version(handed: JobSpec, environ: Mapping[str, str]) -> None:
    """Raises StateError if it is not for this program as it is installed on this node."""
    if handed.version != __version__:
        where = printable(sys.executable)
        raise StateError(
            f"{_node(environ)} has s3sync {__version__} at {where}, the upload is {handed.version}'s"
            " (install the same on all nodes)"
        )


def _on_this_node(
    job: request.UploadRequest, cluster: SlurmOptions, environ: Mapping[str, str], *, share: bool = True
) -> request.UploadRequest:
    """The job with what Slurm gives of this node; of a limit on the bandwidth with a node's `share`."""
    nodes = cluster.nodes if share else 1
    limit = job.max_bandwidth.split(nodes) if job.max_bandwidth else None
    given = environ.get("SLURM_CPUS_ON_NODE", "")
    cores = min(usable_cores(), int(given)) if given.isdecimal() else usable_cores()
    return replace(job, cores=cluster.cores or max(1, cores), max_bandwidth=limit)


def _expected(run: Run, handed: JobSpec) -> analysis_manifest.Checksums:
    """What the instrument's manifest says; raises RunError if it is not the one that the plan was made with."""
    expected = analysis_manifest.read_checksums(run)
    if expected and local_files.restat(run, analysis_manifest.MANIFEST_TSV) != handed.manifest:
        raise RunError(
            f"{analysis_manifest.MANIFEST_TSV} of {printable(run.run_id)} changed during the upload: upload it again"
        )
    return expected


@contextlib.contextmanager
def _alone(folder: WorkFolder, number: int, stop: StopRequest) -> Iterator[lock.Held | None]:
    """The shard's lock, when no other start of its task is at work, on a node that Slurm has given up; None if that
    has come to its end.
    """

    def has_ended() -> bool:
        return folder.result(number) is not None

    with lock.wait_for(folder.lock_path(number), f"shard {number} is being sent", stop, has_ended) as locked:
        yield None if has_ended() else locked


def _wait_for_tasks(folder: WorkFolder, stop: StopRequest) -> None:
    """For those of nodes that Slurm has given up, and which are at work all the same."""

    def wait_for(number: int) -> None:
        with _alone(folder, number, stop):
            pass

    with ThreadPoolExecutor(_WAITERS) as pool:
        for _ in pool.map(wait_for, range(folder.shard_count())):
            pass


def _upload_rest(
    folder: WorkFolder, job: request.UploadRequest, environ: Mapping[str, str], stop: StopRequest, display: _Shown
) -> request.UploadResult:
    """Whoever else holds the run's lock looks at it, finds this job, and leaves."""
    while True:
        try:
            return upload.upload(job, environ, stop, display, Finalizer(environ, folder))
        except BusyError:
            stop.raise_if_requested()
            stop.wait(DELAYS.lock_polls)


def _say(line: str) -> None:
    """Into the job's output."""
    progress.Lines(sys.stderr).say(line)


def _node(environ: Mapping[str, str]) -> str:
    return environ.get("SLURMD_NODENAME") or socket.gethostname()


class _Shown:
    """A display of a job: how far it is goes into the work folder, what it says into Slurm's output."""

    def __init__(self, folder: WorkFolder, who: int | str) -> None:
        self._folder = folder
        self._who = who
        self._watcher = progress.Watcher(_SHOW_SECONDS, self._show)
        self._snapshot: Callable[[], progress.Snapshot] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher.close() and self._snapshot:
            self._show(self._snapshot())

    def follow(self, _title: str, snapshot: Callable[[], progress.Snapshot]) -> None:
        """Begin; once."""
        self._snapshot = snapshot
        self._show(snapshot())
        self._watcher.begin(snapshot)

    def say(self, line: str) -> None:
        """Print a line at once."""
        _say(line)

    def _show(self, now: progress.Snapshot) -> None:
        self._folder.write_progress(self._who, now)
