"""Upload one shard on a node of the cluster, as a task of the job array."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from s3sync.errors import RunError, S3SyncError
from s3sync.runs import Run, analysis, analysis_manifest, local_files
from s3sync.signals import StopRequest
from s3sync.slurm.job_spec import JobSpec, Result
from s3sync.slurm.node import JobDisplay, load_spec, node_name, request_for_node, require_same_version
from s3sync.slurm.shards import Shard
from s3sync.slurm.work_folder import WorkFolder
from s3sync.state import lock
from s3sync.text import printable
from s3sync.transfer import batches, context, passes
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import FileTotals, UploadCounters


def run_task(folder: WorkFolder, number: int, environ: Mapping[str, str], stop: StopRequest) -> bool:
    """Upload a shard unless another start of its task has done so; return whether all of it is verified.

    Raises S3SyncError, which is in the shard's result as well, and StoppedError, which is not.
    """
    folder.starts.mark_started(environ)
    spec = load_spec(folder, environ)
    with hold_shard(folder, number, stop) as locked:
        if locked is None:
            return True
        task = _ShardTask(folder, number, spec, environ, stop)
        try:
            require_same_version(spec, environ)
            task.run(locked.descriptor)
        except S3SyncError as error:
            if not stop.is_requested:  # Slurm may start it again
                folder.write_result(number, task.result(error))
            raise
        locked.check()
        result = task.result()
        folder.write_result(number, result)
    return not result.failed


@contextlib.contextmanager
def hold_shard(folder: WorkFolder, number: int, stop: StopRequest) -> Iterator[lock.HeldLock | None]:
    """Hold the lock of a shard; yield None if it has a result, written by another start of its task.

    Such a start may run on a node that Slurm considers down, so this waits for it.
    """

    def has_result() -> bool:
        return folder.result(number) is not None

    with lock.wait_for(folder.lock_path(number), f"shard {number} is being sent", stop, has_result) as locked:
        yield None if has_result() else locked


class _ShardTask:
    """One start of the task that uploads a shard: like a call on one machine, but without the markers."""

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
        """Upload the shard. `aws` processes inherit the descriptor: if the task is killed, they keep the lock."""
        folder, number = self._folder, self._number
        request = request_for_node(self._spec, self._environ, share_bandwidth=True)
        run = analysis.open_run_or_analysis(request.local_path, need_run_info=not request.skip_check)
        expected, proofs = _read_checksums(run, self._spec), folder.proofs(number, request.destination)
        with (
            JobDisplay(folder, number) as display,
            context.open_context(
                request,
                run,
                Runtime(self._environ, self._stop, display),
                expected=expected,
                inherited=[lock_descriptor],
            ) as shard_context,
            folder.journal(number, request.destination, self._start) as journal,
            folder.journal(number, request.destination, self._start, found=True) as found,
        ):
            known = {proof.path: proof for proof in proofs}
            self._uploader = passes.FileUploader(shard_context, journal.record, known, record_found=found.record)
            is_resumed = self._spec.handover.resumed or bool(proofs)
            try:
                _upload(self._uploader, folder.shard(number), display, is_resumed=is_resumed)
            finally:
                self._uploader.close()

    def result(self, error: S3SyncError | None = None) -> Result:
        """Return the result so far, with the error that ended it."""
        uploader = self._uploader
        return Result(
            node=node_name(self._environ),
            counters=uploader.counters if uploader else UploadCounters(),
            failed=uploader.failed if uploader else {},
            aws=uploader.aws_version if uploader else "",
            error=str(error) if error else "",
            error_id=error.id if error else "",
            start=self._start,
        )


def _upload(uploader: passes.FileUploader, shard: Shard, display: JobDisplay, *, is_resumed: bool) -> None:
    uploader.reader.set_expected_paths(file.path for file in shard)
    remote = uploader.probe_s3(lambda: uploader.reader.list_range(shard))
    before = FileTotals.of([file for file in shard if batches.is_verified(file, uploader.verified)])
    total = FileTotals.of(shard)
    display.follow("", lambda: uploader.snapshot("uploading", before, total))
    pending = batches.pending(shard, uploader.verified)
    if remote is not None:
        uploader.compare(pending, remote)
    elif is_resumed:
        uploader.head_large_files(pending)
    order = batches.split_by_phase(batches.pending(shard, uploader.verified))
    uploader.send(order.metadata, order.data)


def _read_checksums(run: Run, spec: JobSpec) -> analysis_manifest.Checksums:
    """Return the checksums of the instrument's manifest. Raises RunError if that changed since the plan was made."""
    expected = analysis_manifest.read_checksums(run)
    manifest = analysis_manifest.MANIFEST_TSV
    if expected and local_files.restat(run, manifest) != spec.handover.manifest:
        raise RunError(
            f"{manifest} of {printable(run.run_id)} changed during the upload: upload it again",
            id="slurm.manifest-changed",
        )
    return expected
