"""Send batches to S3, each with one `aws s3 cp --recursive` of a staging folder or a list of files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from s3sync.aws import causes, client
from s3sync.aws.client import RemoteFolder
from s3sync.aws.destination import Storage
from s3sync.aws.multipart import IncompleteUploads
from s3sync.aws.receipts import FellBack, Hello, ObjectStored, PartStored, Receipt
from s3sync.runs import Run
from s3sync.transfer.batch_progress import HTTP_READS, TLS_READS, ProgressCounter, TransferProgress
from s3sync.transfer.batches import Batch
from s3sync.transfer.context import UploadContext
from s3sync.transfer.cp_output import FailureLines
from s3sync.transfer.process_configs import ProcessConfigs
from s3sync.transfer.request.storage_classes import WARM
from s3sync.transfer.staging import staging_folder
from s3sync.transfer.thread_choice import ThreadChoice
from s3sync.transfer.throttle import Forecast

_NOT_SENT = "not sent: the upload was being stopped"
_INTERRUPTED = "was interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The report of a process about its batch. Only reading back shows which files arrived."""

    batch: Batch
    errors_by_path: Mapping[str, str] = field(default_factory=dict)  # the CLI's error for each file that it named
    last_error: str = ""  # the one for the other files
    cause: causes.Cause | None = None  # set if sending more is futile
    futile_cause: causes.Cause | None = None  # why it was ended before it sent a file: once may be chance
    lost_s3: bool = False  # S3 could not be reached any more
    cli_message: str = ""  # the CLI's message about the cause, or that S3 is unreachable
    stored: Mapping[str, ObjectStored] = field(default_factory=dict)  # path -> S3's answer, if it is reported

    def error_of(self, path: str) -> str:
        """Return the CLI's error for a file of the batch, with a storage class that not every server has."""
        error, name = self.errors_by_path.get(path, self.last_error), self.batch.storage_class
        return f"{error} (storage class {name})" if error and name not in ("", WARM) else error


class BatchSender:
    """Sends batches of one run to one destination; `send` may be called from several threads at once."""

    def __init__(self, context: UploadContext, run: Run) -> None:
        """`run` is the run of the context, or the folder of a completion object."""
        prefix = context.request.destination.run_prefix(run.run_id)
        remote = RemoteFolder(context.aws, context.request.bucket, prefix)
        self.incomplete_uploads = IncompleteUploads(remote, context.request.storage)
        self.leftover_warning = ""  # why parts may be left in S3; empty if none are
        self._context = context
        self._request = context.request
        self._aws = context.aws
        self._run = run
        self._throttle = context.share.throttle(context.request.max_bandwidth, context.request.cores)
        self._counter = ProgressCounter(prefix, HTTP_READS if context.aws.uses_http else TLS_READS)
        self._threads = ThreadChoice(
            context.request.multipart, context.request.threads, is_fast=context.aws.may_be_fast
        )
        self._configs = ProcessConfigs(context.environ, context.request.settings, context.temp_folder)
        self._can_list: bool | None = None  # whether processes can read a list of files; None until one has reported it
        self._is_ending = threading.Event()  # set while no process may start
        self._is_s3_lost = False

    def begin(self) -> None:
        """Allow processes to start again after an `abort`."""
        self._is_ending.clear()
        self._is_s3_lost = False

    def send(self, batch: Batch, forecast: Forecast | None = None) -> BatchResult:
        """Run one process until it ends; raises AwsError if it cannot start, StateError, StoppedError."""
        share = self._throttle.begin(batch.number, forecast)
        try:
            if self._is_ending.is_set():
                return BatchResult(batch=batch, last_error=_NOT_SENT)
            return self._run_process(batch, share)
        finally:
            self._throttle.end(batch.number)

    def _run_process(self, batch: Batch, share: int | None) -> BatchResult:
        lines = FailureLines(self._request.destination, self._run.run_id, batch, self._aws.sanitize)
        process = _BatchProcess(self, batch, share, lines)
        config = self._config_for(batch, share)
        ended = self._run_aws(batch, process, config)
        self._note_if_slow()
        self.note_end(process.pid)
        count = self._counter.ended(batch, succeeded=ended.succeeded)
        uploaded = count.lines
        if not ended.succeeded:
            self._abort_parts(batch, was_killed=ended.returncode < 0)
        self._aws.check_stop()
        cause, message = lines.fatal_cause() if ended.returncode else (None, "")
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
            cli_message=message or lines.unreachable,
            stored=count.stored,
        )

    def _storage_of(self, batch: Batch) -> Storage:
        storage = self._request.storage
        return replace(storage, storage_class=batch.storage_class or storage.storage_class)

    def _run_aws(self, batch: Batch, process: _BatchProcess, config: Path | None) -> client.AwsResult:
        """Run the process with a list of the files, if it can read one; else with a folder of links.

        With a list the CLI prints the path of the run, whose line feeds would tear the lines about its files.
        """
        takes_list = self._can_list if self._can_list is not None else self._aws.may_take_lists
        takes_list = takes_list and "\n" not in str(self._run.path)
        if takes_list and self._aws.may_be_fast:
            ended = self._run_staged(batch, process, config, as_list=True)
            if process.has_sent or not ended.succeeded:
                return ended
            ended = self._run_staged(batch, process, config, as_list=False)
            if process.has_sent:  # else all files have changed since they were listed, and the list was empty
                self._can_list = False
            return ended
        return self._run_staged(batch, process, config, as_list=False)

    def _run_staged(
        self, batch: Batch, process: _BatchProcess, config: Path | None, *, as_list: bool
    ) -> client.AwsResult:
        with staging_folder(self._context.temp_folder, self._run, batch, as_list=as_list) as staged:
            url = self._request.destination.url(self._run.run_id)
            argv = self._aws.upload_argv(str(staged.folder), url, self._storage_of(batch))
            has_parts = bool(self._keys_with_parts(batch))
            return self._aws.run_streaming(argv, process, config, staged.file_list, has_parts=has_parts)

    def _config_for(self, batch: Batch, share: int | None) -> Path | None:
        """Return the AWS config of a process; None for the usual one. Raises AwsError."""
        if share is not None:
            return self._configs.with_bandwidth(share)
        threads = self._threads.threads_for(batch)
        return self._configs.with_threads(threads) if threads else None

    def _abort_parts(self, batch: Batch, *, was_killed: bool) -> None:
        """Abort the multipart uploads that an ended process may have left: the CLI aborts them unless it is killed."""
        keys = self._keys_with_parts(batch)
        if keys and self._is_s3_lost:
            self.leftover_warning = causes.UNREACHABLE.what
        elif keys:
            result = self.incomplete_uploads.abort(keys, probe_server=was_killed)
            self.leftover_warning = result.problem or self.leftover_warning

    def _keys_with_parts(self, batch: Batch) -> set[str]:
        """Return the keys that are uploaded in parts."""
        request = self._request
        prefix = request.destination.run_prefix(self._run.run_id)
        return {prefix + file.path for file in batch.files if request.multipart.part_size_for(file.size)}

    def note_start(self, batch: Batch, pid: int, share: int | None) -> None:
        """Note that the process of a batch runs; end it if all processes are being ended."""
        self._throttle.note_start(pid, share)
        self._counter.started(batch, pid)
        if self._is_ending.is_set():  # `abort` may not have seen this process
            self._aws.processes.terminate(pid, _INTERRUPTED)

    def note_end(self, pid: int) -> None:
        """Note that a process has ended."""
        self._throttle.note_end(pid)

    def note_uploaded_file(self, batch: Batch) -> None:
        """Note that a file of a batch was uploaded."""
        self._counter.file_done(batch.number)

    @property
    def file_cost(self) -> float:
        """Return the CPU-seconds that a small file takes, as measured so far."""
        return self._threads.file_cost

    def note_receipt(self, batch: Batch, receipt: Receipt) -> None:
        """Note what the process of a batch reports about itself, or about S3's answers."""
        self._threads.note(receipt)
        if isinstance(receipt, ObjectStored | PartStored):
            self._counter.add_receipt(batch.number, receipt)
        elif isinstance(receipt, Hello):
            self._counter.begin_receipts(batch.number)
            self._can_list = receipt.can_list if self._can_list is None else self._can_list
            self._note_if_slow("" if receipt.is_fast else receipt.reason)
        elif isinstance(receipt, FellBack):
            self._note_if_slow(receipt.reason)

    def _note_if_slow(self, reason: str = "") -> None:
        if problem := self._aws.report_plugin_problem(reason):
            self._context.display.print(f"note: the AWS CLI sends small files in its own, slower way: {problem}")

    def give_up(self, pid: int, failures: int) -> None:
        """End a process that failed with this number of files in a row."""
        self._aws.processes.terminate(pid, f"failed with {failures} files in a row")

    @property
    def share(self) -> int | None:
        """Return the bytes a second that a process may send if it starts now; None without a limit."""
        return self._throttle.share()

    def enforce_bandwidth(self) -> None:
        """End the processes that send faster than the schedule allows now. Call it regularly."""
        for pid in self._throttle.over_limit():  # each upload ends only its own processes
            self._aws.processes.terminate(pid, "was faster than max_bandwidth allows at this time")

    def abort(self, *, is_s3_lost: bool = False) -> None:
        """End all processes, and start no more. If S3 cannot be reached, parts of uploads are not looked for."""
        self._is_s3_lost = is_s3_lost
        self._is_ending.set()
        self._aws.processes.terminate_all()

    @property
    def uploaded(self) -> int:
        """Return how many files the CLI reported as uploaded."""
        return self._counter.uploaded

    @property
    def not_compared(self) -> int:
        """Return how many of those files were not compared with S3 yet."""
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
        self.has_sent = False
        self._sender = sender
        self._batch = batch
        self._share = share
        self._lines = lines

    def started(self, pid: int) -> None:
        """Note the id of the process."""
        if self.pid:  # the CLI is run again without the plugin
            self._sender.note_end(self.pid)
        self.pid = pid
        self._sender.note_start(self._batch, pid, self._share)

    def printed(self, line: str) -> None:
        """Parse a line of output."""
        if line.startswith("upload: "):
            self.has_sent = True
            self._sender.note_uploaded_file(self._batch)
            self._lines.note_success()
        elif self._lines.parse(line) and self._lines.is_hopeless:
            self._sender.give_up(self.pid, self._lines.in_a_row)

    def received(self, receipt: Receipt) -> None:
        """Pass a receipt on."""
        self._sender.note_receipt(self._batch, receipt)
