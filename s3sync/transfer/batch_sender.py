"""Send batches to S3, each with one `aws s3 cp --recursive` over a staging folder of links."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from s3sync.aws import causes
from s3sync.aws.multipart import IncompleteUploads
from s3sync.runs import Run
from s3sync.transfer.bandwidth import Ahead, Throttle
from s3sync.transfer.batches import Batch
from s3sync.transfer.context import UploadContext
from s3sync.transfer.cp_output import FailureLines
from s3sync.transfer.staging import staging_folder

_NOT_SENT = "not sent: the call was being ended"
_INTERRUPTED = "was interrupted"
_START_UP_BYTES = 25_000_000  # what the CLI reads of itself before it reads a file


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What a process said about its batch. Only reading back shows which files arrived."""

    batch: Batch
    errors_by_path: Mapping[str, str] = field(default_factory=dict)  # the CLI's words on single files
    last_error: str = ""  # its last words on the others
    cause: causes.Cause | None = None  # set if sending more is of no use
    futile_cause: causes.Cause | None = None  # why it was ended before it had sent a file: once may be chance
    lost_s3: bool = False  # S3 was out of reach at last
    said: str = ""  # the CLI's words on the cause, or on S3 being out of reach

    def error_of(self, path: str) -> str:
        """Return what the CLI said about a file of the batch."""
        return self.errors_by_path.get(path, self.last_error)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far all batches are, as far as that can be seen from outside: an estimate for people."""

    files: int
    size: int  # bytes
    processes: int


class BatchSender:
    """Sends batches of one run to one destination; `send` may be called from several threads at once."""

    def __init__(self, context: UploadContext, run: Run, throttle: Throttle | None = None) -> None:
        """`run` is that of the context, or the folder of a completion object."""
        prefix = context.request.destination.run_prefix(run.run_id)
        self.incomplete_uploads = IncompleteUploads(
            context.aws, context.request.bucket, prefix, context.request.storage
        )
        self.leftover_warning = ""  # why parts may be left in S3; empty if there are none
        self._context = context
        self._request = context.request
        self._aws = context.aws
        self._run = run
        self._throttle = throttle
        self._counter = _ProgressCounter()
        self._is_ending = threading.Event()  # nothing more is to be started
        self._is_s3_lost = False

    def begin(self) -> None:
        """Send again after an `abort`."""
        self._is_ending.clear()
        self._is_s3_lost = False

    def send(self, batch: Batch, ahead: Ahead | None = None) -> BatchResult:
        """Run one process to its end; raises AwsError if it cannot start, StateError, StoppedError."""
        share = self._throttle.begin(batch.number, ahead) if self._throttle else None
        try:
            if self._is_ending.is_set():
                return BatchResult(batch=batch, last_error=_NOT_SENT)
            return self._run_process(batch, share)
        finally:
            if self._throttle:
                self._throttle.end(batch.number)

    def _run_process(self, batch: Batch, share: int | None) -> BatchResult:
        lines = FailureLines(self._request.destination, self._run.run_id, batch, self._aws.sanitize)
        process = _BatchProcess(self, batch, share, lines)
        config = self._throttle.config(share) if self._throttle and share is not None else None
        with staging_folder(self._context.work, self._run, batch) as folder:
            url = self._request.destination.url(self._run.run_id)
            argv = self._aws.upload_argv(str(folder), url, self._request.storage)
            ended = self._aws.run_streaming(argv, process.on_line, process.on_start, config)
        if self._throttle:
            self._throttle.note_end(process.pid)
        uploaded = self._counter.ended(batch)
        if not ended.succeeded:
            self._abort_parts(batch, was_killed=ended.returncode < 0)
        self._aws.check_stop()
        cause, said = lines.fatal_cause() if ended.returncode else (None, "")
        futile_cause = lines.futile_cause(ended) if ended.killed_reason and not uploaded else None
        if cause and self._aws.has_lost_credentials(ended):
            cause, futile_cause = None, None if uploaded else cause
        return BatchResult(
            batch=batch,
            errors_by_path=lines.by_path,
            last_error=lines.last_error(ended),
            cause=cause,
            futile_cause=futile_cause,
            lost_s3=bool(lines.unreachable),
            said=said or lines.unreachable,
        )

    def _abort_parts(self, batch: Batch, *, was_killed: bool) -> None:
        """Abort the parts that an ended process may have left; after an orderly end the CLI has done so."""
        request = self._request
        prefix = request.destination.run_prefix(self._run.run_id)
        keys = {prefix + file.path for file in batch.files if request.multipart.part_size_for(file.size)}
        if keys and self._is_s3_lost:
            self.leftover_warning = causes.UNREACHABLE.what
        elif keys:
            result = self.incomplete_uploads.abort(keys, probe_server=was_killed)
            self.leftover_warning = result.problem or self.leftover_warning

    def has_started(self, batch: Batch, pid: int, share: int | None) -> None:
        """Note that the process of a batch runs; end it if everything is being ended."""
        if self._throttle:
            self._throttle.note_start(pid, share)
        self._counter.started(batch, pid)
        if self._is_ending.is_set():  # `abort` may not have seen this process
            self._aws.processes.terminate(pid, _INTERRUPTED)

    def has_uploaded(self, batch: Batch) -> None:
        """Note that a file of a batch was uploaded."""
        self._counter.file_done(batch.number)

    def give_up(self, pid: int, failures: int) -> None:
        """End a process that has failed with so many files in a row."""
        self._aws.processes.terminate(pid, f"failed with {failures} files in a row")

    @property
    def share(self) -> int | None:
        """Return what a process that starts now may send, bytes a second; None without a limit."""
        return self._throttle.share() if self._throttle else None

    def enforce_bandwidth(self) -> None:
        """End the processes that send faster than is allowed now; to be called now and then."""
        if self._throttle:
            for pid in self._throttle.over_limit():  # those of other uploads are theirs to end
                self._aws.processes.terminate(pid, "was faster than max_bandwidth allows at this time")

    def abort(self, *, is_s3_lost: bool = False) -> None:
        """End all processes, and start no more. If S3 is out of reach it is not asked for parts of uploads."""
        self._is_s3_lost = is_s3_lost
        self._is_ending.set()
        self._aws.processes.terminate_all()

    @property
    def uploaded(self) -> int:
        """Return the number of files that were uploaded, as the CLI says."""
        return self._counter.uploaded

    @property
    def not_compared(self) -> int:
        """Return how many of them were not compared with S3 yet."""
        return self._counter.not_compared

    def mark_compared(self, batches: Iterable[Batch]) -> None:
        """Note that the files of these batches were compared with S3."""
        self._counter.compared(batches)

    def progress(self) -> TransferProgress:
        """Return the files and bytes of all batches so far, including those that are being sent."""
        return self._counter.progress(self._aws.processes.bytes_read())


class _BatchProcess:
    """The `aws` process of a batch while it runs."""

    def __init__(self, sender: BatchSender, batch: Batch, share: int | None, lines: FailureLines) -> None:
        self.pid = 0
        self._sender = sender
        self._batch = batch
        self._share = share
        self._lines = lines

    def on_start(self, pid: int) -> None:
        self.pid = pid
        self._sender.has_started(self._batch, pid, self._share)

    def on_line(self, line: str) -> None:
        if line.startswith("upload: "):
            self._sender.has_uploaded(self._batch)
            self._lines.note_success()
        elif self._lines.parse(line) and self._lines.is_hopeless:
            self._sender.give_up(self.pid, self._lines.in_a_row)


class _ProgressCounter:
    """Counts what the live processes have done: their `upload: ` lines, and the bytes they have read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[int, tuple[Batch, int]] = {}  # number -> batch, pid
        self._lines: dict[int, int] = {}
        self._uncompared: dict[int, int] = {}  # number of a batch -> its uploaded files
        self._ended_files = 0
        self._ended_size = 0
        self.uploaded = 0

    def started(self, batch: Batch, pid: int) -> None:
        with self._lock:
            self._batches[batch.number] = (batch, pid)
            self._lines[batch.number] = 0

    def file_done(self, number: int) -> None:
        with self._lock:
            self._lines[number] += 1
            self._uncompared[number] = self._uncompared.get(number, 0) + 1
            self.uploaded += 1

    @property
    def not_compared(self) -> int:
        with self._lock:
            return sum(self._uncompared.values())

    def compared(self, batches: Iterable[Batch]) -> None:
        with self._lock:
            for batch in batches:
                self._uncompared.pop(batch.number, None)

    def ended(self, batch: Batch) -> int:
        """Return how many of its files the CLI says were uploaded."""
        with self._lock:
            self._batches.pop(batch.number, None)
            self._ended_files += len(batch.files)
            self._ended_size += batch.size
            return self._lines.pop(batch.number, 0)

    def progress(self, bytes_read: Mapping[int, int]) -> TransferProgress:
        with self._lock:
            files, size = self._ended_files, self._ended_size
            for number, (batch, pid) in self._batches.items():
                lines = min(self._lines[number], len(batch.files))
                by_lines = batch.size * lines // len(batch.files)
                by_reads = min(bytes_read.get(pid, 0) - _START_UP_BYTES, batch.size)
                files, size = files + lines, size + max(by_lines, by_reads, 0)
            return TransferProgress(files=files, size=size, processes=len(self._batches))
