"""Count what `aws` processes have sent: exactly if they report S3's answers, else as an estimate."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from s3sync.aws.receipts import ObjectStored, PartStored
from s3sync.runs import LocalFile
from s3sync.transfer.batches import Batch

_START_UP_BYTES = 14_000_000  # bytes of code that the CLI reads first; 17 million in old versions 2
# How often the CLI reads each byte of a file. Over http it signs the content and computes a checksum before it sends;
# over TLS, versions before 2.23 compute an MD5 first.
HTTP_READS, TLS_READS = 3.0, 2.0
_MIN_MEASURED = 50_000_000  # bytes of a batch that are enough to measure how often this CLI reads them
_LINEAR_PART = 0.9  # beyond that part of a batch an estimate may be wrong, and approaches the end without reaching it


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """The progress of all batches: what S3 has accepted if that is reported, else an estimate for people."""

    files: int
    size: int  # bytes
    processes: int


class BatchCount:
    """Counts what one process has sent. `stored` has S3's answer for each file, by path."""

    def __init__(self, batch: Batch, pid: int, prefix: str) -> None:
        self.batch = batch
        self.pid = pid
        self.lines = 0  # `upload: ` lines
        self.stored: dict[str, ObjectStored] = {}
        self.has_receipts = False
        self.size = 0  # bytes that S3 has accepted, if there are receipts
        self.bytes_read = 0  # bytes of files that the process has read
        self._prefix = prefix
        self._files: dict[str, LocalFile] = {}  # by path, once there are receipts
        self._accepted: dict[str, int] = {}  # bytes of each file
        self._estimate = 0.0

    def begin_receipts(self) -> None:
        """Note that this process reports S3's answers."""
        self.has_receipts = True
        self._files = {file.path: file for file in self.batch.files}

    def add_receipt(self, receipt: ObjectStored | PartStored) -> None:
        """Count a receipt; ignore one about an object that is not a file of the batch."""
        path = receipt.key.removeprefix(self._prefix)
        file = self._files.get(path)
        if file is None or receipt.key == path:
            return
        before = self._accepted.get(path, 0)
        if isinstance(receipt, ObjectStored):
            self.stored[file.path] = replace(receipt, key="", seconds=0.0)  # many wait until they are read back
            now = file.size
        else:
            now = min(file.size, before + receipt.size)
        self._accepted[file.path] = now
        self.size += now - before

    def files_done(self) -> int:
        """Return how many files were sent."""
        if self.has_receipts:
            return len(self.stored)
        return min(self.lines, len(self.batch.files))

    def bytes_done(self, reads: float) -> int:
        """Return how many bytes were sent, if the CLI reads each of them `reads` times. The number never shrinks."""
        if self.has_receipts:
            return self.size
        size, lines = self.batch.size, self.files_done()
        by_lines = size * lines // len(self.batch.files)
        self._estimate = max(self._estimate, by_lines, _approach(self.bytes_read / reads, size))
        return int(self._estimate)


class ProgressCounter:
    """Counts what the processes of one run have sent. All methods can be called from any thread."""

    def __init__(self, prefix: str, reads: float) -> None:
        """`prefix` begins all keys; `reads` is how often the CLI probably reads each byte."""
        self.uploaded = 0  # files that the CLI reported as uploaded
        self._prefix = prefix
        self._reads = reads
        self._lock = threading.Lock()
        self._running: dict[int, BatchCount] = {}  # by batch number
        self._uncompared: dict[int, int] = {}  # batch number -> its uploaded files
        self._ended_files = 0
        self._ended_size = 0

    def started(self, batch: Batch, pid: int) -> None:
        """Note that the process of a batch has started."""
        with self._lock:
            self._running[batch.number] = BatchCount(batch, pid, self._prefix)

    def begin_receipts(self, number: int) -> None:
        """Note that the process of a batch reports S3's answers."""
        with self._lock:
            self._running[number].begin_receipts()

    def add_receipt(self, number: int, receipt: ObjectStored | PartStored) -> None:
        """Count what S3 has accepted of a batch."""
        with self._lock:
            self._running[number].add_receipt(receipt)

    def file_done(self, number: int) -> None:
        """Count a file that the CLI reported as uploaded."""
        with self._lock:
            self._running[number].lines += 1
            self._uncompared[number] = self._uncompared.get(number, 0) + 1
            self.uploaded += 1

    @property
    def not_compared(self) -> int:
        """Return how many uploaded files were not compared with S3 yet."""
        with self._lock:
            return sum(self._uncompared.values())

    def compared(self, batches: Iterable[Batch]) -> None:
        """Note that the files of these batches were compared with S3."""
        with self._lock:
            for batch in batches:
                self._uncompared.pop(batch.number, None)

    def ended(self, batch: Batch, *, succeeded: bool) -> BatchCount:
        """Note that the process of a batch has ended; return its counts."""
        with self._lock:
            count = self._running.pop(batch.number)
            is_exact = count.has_receipts and not succeeded
            self._ended_files += count.files_done() if is_exact else len(batch.files)
            self._ended_size += count.size if is_exact else batch.size
            if succeeded and batch.size >= _MIN_MEASURED and count.bytes_read > batch.size / 2:
                self._reads = max(1.0, count.bytes_read / batch.size)
            return count

    def progress(self, bytes_read: Mapping[int, int]) -> TransferProgress:
        """Return the progress of all batches; `bytes_read` are the bytes that each process has read, by process id."""
        with self._lock:
            files, size = self._ended_files, self._ended_size
            for count in self._running.values():
                count.bytes_read = max(count.bytes_read, bytes_read.get(count.pid, 0) - _START_UP_BYTES)
                files, size = files + count.files_done(), size + count.bytes_done(self._reads)
            return TransferProgress(files=files, size=size, processes=len(self._running))


def _approach(estimate: float, size: int) -> float:
    """Return an estimate of bytes that grows with the given one, but stays below `size`."""
    done = max(0.0, estimate) / size if size else 0.0
    if done <= _LINEAR_PART:
        return done * size
    rest = 1 - _LINEAR_PART
    # A hyperbola, since an exponential function would show no movement after twice the size.
    return size * (1 - rest * rest / (rest + done - _LINEAR_PART))
