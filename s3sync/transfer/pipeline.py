"""Run one pass: send batches with several processes at once, hash them, and read back what arrived in S3."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from s3sync.aws import causes
from s3sync.delays import DELAYS
from s3sync.transfer import receipt_check
from s3sync.transfer.batch_sender import BatchResult, BatchSender
from s3sync.transfer.batches import Batch, BatchQueue, cost_of
from s3sync.transfer.file_verifier import Failure, FileVerifier, PassResult, Retry
from s3sync.transfer.sharing import UploadConcurrency
from s3sync.transfer.throttle import Forecast

_MAX_READBACK_COST_RATIO = 0.05  # cost of reading back compared with sending, while there is more to send
_POLL_SECONDS = 0.5  # between two checks whether more processes would help
_IDLE_POLL_SECONDS = 15.0  # between two checks of the bandwidth when nothing more is to be sent
_MAX_FUTILE_BATCHES = 3  # for each process: if this many in a row upload no file, S3 counts as not answering


@dataclass(frozen=True, slots=True, kw_only=True)
class _Readback:
    """Sent batches that are being compared with S3."""

    batches: tuple[Batch, ...]
    result: Future[PassResult]


class Pipeline:
    """Sends files of one run, and yields the results of verifying them as they come."""

    def __init__(self, sender: BatchSender, verifier: FileVerifier, concurrency: UploadConcurrency) -> None:
        self.cause: causes.Cause | None = None  # why sending more is futile, in the last pass
        self.cli_message = ""  # the CLI's message about that
        self.denied: causes.Cause | None = None  # why S3 denied some files; it may accept others
        self._sender = sender
        self._verifier = verifier
        self._reader = verifier.reader
        self._hasher = verifier.hasher
        self._choice = verifier.choice
        self._concurrency = concurrency
        self._under_way: dict[int, float] = {}  # number of each batch that is being sent -> its cost
        self._futile_batches = 0  # in a row, through all passes
        self._denied_batches = 0  # batches with a file that was denied
        self._is_s3_lost = False
        self._is_over = threading.Event()  # set once no more batches may start

    def run(self, queue: BatchQueue) -> Generator[PassResult, None, None]:
        """Send all files in the queue once, and yield results as they are verified.

        Raises AwsError, StateError, StoppedError; results that were yielded before remain valid.
        """
        self.cause, self.denied, self.cli_message = None, None, ""
        self._denied_batches, self._is_s3_lost = 0, False
        self._is_over.clear()
        self._sender.begin()
        senders = ThreadPoolExecutor(self._concurrency.max_size, thread_name_prefix="send")
        readers = ThreadPoolExecutor(1, thread_name_prefix="read")
        try:
            yield from self._send_and_read_back(queue, senders, readers)
        except BaseException:  # also when this generator is closed
            self._is_over.set()
            senders.shutdown(wait=False, cancel_futures=True)
            self._sender.abort()
            raise
        finally:
            senders.shutdown(cancel_futures=True)
            readers.shutdown(cancel_futures=True)
            self._under_way.clear()
            self._concurrency.note_running(0)

    def _send_and_read_back(
        self, queue: BatchQueue, senders: ThreadPoolExecutor, readers: ThreadPoolExecutor
    ) -> Iterator[PassResult]:
        """Keep as many processes busy as are allowed, and one reader; yield the results."""
        sending: set[Future[BatchResult]] = set()
        sent: list[BatchResult] = []  # to be read back
        readback: _Readback | None = None
        self._concurrency.reset()
        while queue or sending or sent or readback:
            if self._is_s3_lost and sent:  # nothing can be read back
                yield _fail_unreachable(sent)
                sent = []
            sending |= self._start_batches(queue, senders, len(sending))
            if readback is None and sent and (not sending or self._is_worth_reading_back(sent)):
                readback = self._start_readback(sent, readers)
                sent = []
            self._sender.enforce_bandwidth()
            futures: list[Future[Any]] = [*sending, *([readback.result] if readback else [])]
            wait(futures, _POLL_SECONDS if queue else _IDLE_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in [future for future in sending if future.done()]:
                sending.discard(future)
                self._handle_finished_batch(future.result(), queue)
                sent.append(future.result())
            if readback and readback.result.done():
                yield readback.result.result()
                self._sender.mark_compared(readback.batches)
                readback = None

    def _start_batches(self, queue: BatchQueue, senders: ThreadPoolExecutor, running: int) -> set[Future[BatchResult]]:
        """Start as many more processes as are allowed."""
        started: set[Future[BatchResult]] = set()
        queue.use_file_cost(self._sender.file_cost)
        allowed = self._concurrency.update(
            running,
            has_work=queue.has_work_for(running + 1),
            left=queue.left + sum(self._under_way.values()),
            is_waiting=bool(queue),
        )
        while queue and running + len(started) < allowed:
            batch = queue.take(allowed, self._concurrency.expected_size, self._concurrency.pace.most_bytes)
            forecast = _forecast(batch, queue, allowed - running - len(started) - 1)
            self._under_way[batch.number] = queue.cost(batch)
            started.add(senders.submit(self._send, batch, forecast))
        self._concurrency.note_running(running + len(started))
        return started

    def _start_readback(self, sent: Sequence[BatchResult], readers: ThreadPoolExecutor) -> _Readback:
        files = [file for result in sent for file in result.batch.files]
        result = readers.submit(self._verifier.verify, files, tuple(sent))
        return _Readback(batches=tuple(result.batch for result in sent), result=result)

    def _send(self, batch: Batch, forecast: Forecast) -> BatchResult:
        if self._is_over.is_set():
            return BatchResult(batch=batch)
        if self._hasher.has_expected_crc:
            return self._send_checked(batch, forecast)
        if self._choice.compares_bytes:
            self._hasher.start(batch.files)  # while sending brings the bytes into the page cache anyway
        return self._send_timed(batch, forecast)

    def _send_timed(self, batch: Batch, forecast: Forecast) -> BatchResult:
        began = time.monotonic()
        result = self._sender.send(batch, forecast)
        self._concurrency.pace.note(batch.size, time.monotonic() - began)
        return result

    def _send_checked(self, batch: Batch, forecast: Forecast) -> BatchResult:
        """Read the batch first, which brings its bytes into the page cache; corrupted files are not sent."""
        corrupted = self._hasher.find_corrupted(batch.files)
        intact = tuple(file for file in batch.files if file.path not in corrupted)
        if not intact or self._is_over.is_set():
            return BatchResult(batch=batch)
        return replace(self._send_timed(batch._replace(files=intact), forecast), batch=batch)

    def _handle_finished_batch(self, result: BatchResult, queue: BatchQueue) -> None:
        """Decide from the result of a batch whether sending more can succeed; if not, clear the queue."""
        self._under_way.pop(result.batch.number, None)
        if receipt_check.reports_checksums_of_parts(result.stored):
            self._choice.note_reported()
        self._verifier.note_sent(result)
        cause = result.cause or self._cause_of_futility(result)
        if result.lost_s3 and not self._is_s3_lost and (cause := self._why_unreachable() or cause):
            self._is_s3_lost = True
            self._sender.abort(is_s3_lost=True)
        if cause:
            self.cli_message = self.cli_message or result.cli_message
        if cause and cause.may_be_one_key:
            self.denied = self.denied or cause
            self._denied_batches += 1
            cause = cause if self._are_all_keys_denied() else None
        if cause:
            self.cause = self.cause or cause
            queue.clear()

    def _cause_of_futility(self, result: BatchResult) -> causes.Cause | None:
        """Return why batches end without an uploaded file, if that has happened too often in a row."""
        self._futile_batches = self._futile_batches + 1 if result.futile_cause else 0
        is_too_often = self._futile_batches >= self._most_futile_batches
        return result.futile_cause if is_too_often else None

    def _are_all_keys_denied(self) -> bool:
        """Return whether S3 seems to deny every key, since a policy may deny only some."""
        return not self._sender.uploaded and self._denied_batches >= self._most_futile_batches

    @property
    def _most_futile_batches(self) -> int:
        """Return after how many such batches S3 counts as failing: more than one file that stalls in each pass has."""
        return _MAX_FUTILE_BATCHES * max(self._concurrency.size, self._concurrency.usual_size)

    def _why_unreachable(self) -> causes.Cause | None:
        """Return why S3 still cannot be reached after a few tries; None if it can."""
        for seconds in (*DELAYS.connection_retries, None):
            why = self._reader.why_unreachable()
            if not why or seconds is None:
                return why
            self._reader.pause(seconds)
        return None

    def _is_worth_reading_back(self, sent: Sequence[BatchResult]) -> bool:
        files = [file for result in sent for file in result.batch.files]
        return self._reader.cost(files) <= _MAX_READBACK_COST_RATIO * cost_of(files)


def _forecast(batch: Batch, queue: BatchQueue, free: int) -> Forecast:
    """Return the forecast for the process of a batch, if `free` more may start beside it."""
    coming = next((number for number in range(free, 0, -1) if queue.has_work_for(number)), min(free, int(bool(queue))))
    cost = queue.cost(batch)
    return Forecast(max(0, coming), cost / (cost + queue.left) if cost else 0.0)


def _fail_unreachable(sent: Sequence[BatchResult]) -> PassResult:
    """Return a failure for each file that was sent: it may have arrived, but S3 cannot be asked."""
    failures = []
    for result in sent:
        for file in result.batch.files:
            why = result.errors_by_path.get(file.path)
            reason = f"not compared: {causes.UNREACHABLE.what}{f'; {why}' if why else ''}"
            failures.append(Failure(path=file.path, reason=reason, file=file, retry=Retry.VERIFY))
    return PassResult((), tuple(failures))
