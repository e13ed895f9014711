"""Batches into S3: each one `aws s3 cp --recursive` over its staged links."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import Destination, argv, causes, client, diagnosis, etag
from s3sync.aws import multipart as aws_multipart
from s3sync.runs import Run
from s3sync.transfer.bandwidth import Ahead, Throttle
from s3sync.transfer.batches import Batch
from s3sync.transfer.staging import staged

_GIVE_UP = 20  # files that fail one after the other end a batch: each may have cost minutes of timeouts
_GIVE_UP_WITHOUT_A_WAY = 4  # for want of a way to S3, which is one for all of them
_KEPT = 20  # complaints of a batch that are looked at for a cause
_NOT_SENT = "not sent: the call was being ended"
_INTERRUPTED = "was interrupted"
_START_UP_BYTES = 25_000_000  # what the CLI reads of itself before it reads a file


class BatchResult(NamedTuple):
    """A batch whose process has ended. Whether its files arrived is for the read-back to say.

    `complaints` are the CLI's words on single files, by path in the run; `general` its last word on
    the rest; `cause` is set where sending more is no use; `in_vain` says why it had to be
    ended before it had sent a file: one such batch may be chance, many are not. `lost` if the last that was heard is
    that there is no way to S3.
    """

    batch: Batch
    complaints: Mapping[str, str]
    general: str
    cause: causes.Cause | None
    in_vain: causes.Cause | None = None
    lost: bool = False
    said: str = ""  # of the cause, or of the way that was lost


class TransferProgress(NamedTuple):
    """How far the batches are, as far as can be seen from outside: an estimate for people."""

    files: int
    size: int  # bytes
    processes: int


class BatchSender:
    """Sends batches of one run to one destination; `send` may be called from several threads at once."""

    def __init__(
        self,
        aws: client.AwsCli,
        run: Run,
        destination: Destination,
        work: Path,
        multipart: etag.Multipart = etag.DEFAULT_MULTIPART,
        storage: argv.Storage = argv.BUCKET_DEFAULTS,
        owner: str = "",
        throttle: Throttle | None = None,
    ) -> None:
        self.habits = aws_multipart.ServerBehavior()
        self.unswept = ""  # why parts may be left in S3; empty if there are none
        self._aws = aws
        self._run = run
        self._destination = destination
        self._work = work
        self._multipart = multipart
        self._storage = storage
        self._bucket = argv.BucketRef(destination.bucket, owner)
        self._throttle = throttle
        self._sharing = threading.Lock()
        self._given: dict[int, int | None] = {}  # shares of the bandwidth, by the number of the batch
        self._shares: dict[int, int | None] = {}  # of the bandwidth, by process id
        self._flow = _Flow()
        self._over = threading.Event()  # nothing more is to be started
        self._no_way = False  # to S3

    def begin(self) -> None:
        """Send again after an `abort`."""
        self._over.clear()
        self._no_way = False

    def send(self, batch: Batch, ahead: Ahead | None = None) -> BatchResult:
        """Run one process to its end; raises AwsError if it cannot start, StateError, InterruptedBySignal."""
        with self._sharing:
            share = self._throttle.share_beside(self._given.values(), ahead) if self._throttle else None
            self._given[batch.number] = share
        try:
            return self._send(batch, share)
        finally:
            with self._sharing:
                del self._given[batch.number]

    def _send(self, batch: Batch, share: int | None) -> BatchResult:
        heard = _Complaints(self._destination, self._run.run_id, batch, self._aws.sanitize)
        if self._over.is_set():
            return BatchResult(batch, {}, _NOT_SENT, None)
        pid = 0
        config = self._throttle.config(share) if self._throttle and share is not None else None

        def on_start(started: int) -> None:
            nonlocal pid
            pid = started
            self._shares[pid] = share
            self._flow.started(batch, pid)
            if self._over.is_set():  # since the look at it above: whoever ends all may not have seen this one
                self._aws.terminate(pid, _INTERRUPTED)

        def on_line(line: str) -> None:
            if line.startswith("upload: "):
                self._flow.file_done(batch.number)
                heard.succeeded()
            elif heard.take(line) and (in_a_row := heard.gives_up()):
                self._aws.terminate(pid, f"failed with {in_a_row} files in a row")

        with staged(self._work, self._run, batch) as folder:
            url = self._destination.url(self._run.run_id)
            checksums = argv.checksum_options(self._aws.version_text, few=self._aws.wants_few_checksums)
            words = argv.s3_cp_argv(str(folder), url, self._storage, checksums)
            ended = self._aws.run_streaming(words, on_line, on_start, config)
        self._shares.pop(pid, None)
        done = self._flow.ended(batch)
        if not ended.succeeded:
            self._sweep(batch, was_killed=ended.returncode < 0)
        self._aws.check_stop()
        cause, said = self._cause(heard) if ended.returncode else (None, "")
        in_vain = _why_in_vain(ended, heard) if ended.killed_reason and not done else None
        if cause and self._aws.has_lost_credentials(ended):
            cause, in_vain = None, None if done else cause
        return BatchResult(
            batch, heard.by_path, heard.general(ended), cause, in_vain, bool(heard.lost), said or heard.lost
        )

    def _cause(self, heard: _Complaints) -> tuple[causes.Cause | None, str]:
        cause, said = diagnosis.fatal_error(heard.said)
        if not cause and heard.all_say(diagnosis.CHECKSUM_MISMATCH):
            return causes.CHECKSUMS, heard.said[-1].text
        return cause, said

    def _sweep(self, batch: Batch, *, was_killed: bool) -> None:
        """The parts that an ended process may have left; what an orderly end has aborted is not there any more."""
        prefix = self._destination.run_prefix(self._run.run_id)
        keys = {prefix + file.path for file in batch.files if self._multipart.part_size_for(file.size)}
        habits = self.habits if was_killed else None
        if keys and self._no_way:
            self.unswept = causes.UNREACHABLE.what
        elif keys:
            swept = aws_multipart.abort_incomplete_uploads(
                self._aws, self._bucket, prefix, keys, "", habits, self._storage
            )
            self.unswept = swept.trouble or self.unswept

    @property
    def share(self) -> int | None:
        """What a process that starts now may send, bytes a second; None: there is no limit."""
        return self._throttle.share() if self._throttle else None

    def keep_to_limit(self) -> None:
        """End what is faster than it may be by now; to be called now and then."""
        if self._throttle:
            for pid in self._throttle.too_fast(dict(self._shares)):
                self._aws.terminate(pid, "was faster than max_bandwidth allows at this time")

    def abort(self, *, no_way: bool = False) -> None:
        """End what is being sent, and start nothing more; if there is `no_way` to S3, it is not asked for parts."""
        self._no_way = no_way
        self._over.set()
        self._aws.terminate_all()

    @property
    def uploaded(self) -> int:
        """Files that went up so far, as the CLI says."""
        return self._flow.uploaded

    @property
    def not_compared(self) -> int:
        """Those of them that nobody has compared with S3 yet."""
        return self._flow.not_compared

    def compared(self, batches: Iterable[Batch]) -> None:
        """These have been."""
        self._flow.compared(batches)

    def moved(self) -> TransferProgress:
        """Files and bytes of all batches sent so far, those under way included."""
        return self._flow.moved(self._aws.bytes_read())


class _Complaints:
    """Finds the CLI's `upload failed: FILE to s3://BUCKET/KEY REASON` lines for the files of a batch.

    A line is taken as it was printed, since names are; `readable` makes of its reason what may be shown. `said` are the
    last complaints, those about files without their names.
    """

    def __init__(self, destination: Destination, run_id: str, batch: Batch, readable: Callable[[str], str]) -> None:
        self.by_path: dict[str, str] = {}
        self.said: deque[diagnosis.ErrorLine] = deque(maxlen=_KEPT)
        self.lost = ""  # what was said of a way to S3 that was lost, and not found again since
        self.in_a_row = 0  # since the last file that went up
        self._denied_in_a_row = 0  # of these those that S3 may deny by their keys
        self._last = ""
        self._readable = readable
        self._paths = {file.path for file in batch.files}
        # The CLI prints a name with a line break as it is: what follows may look like anything.
        self._torn = tuple(part for path in self._paths if "\n" in path for part in path.split("\n")[1:] if part)
        url = re.escape(destination.url(run_id))
        self._line = re.compile(rf"upload failed: .* to {url}(?P<rest>.*)")

    def succeeded(self) -> None:
        """A file went up."""
        self.lost = ""
        self.in_a_row = self._denied_in_a_row = 0

    def take(self, line: str) -> bool:
        """Whether it is one."""
        match = self._line.match(line)
        if not match:
            if not line.startswith(self._torn):
                self._hear(diagnosis.parse_line(self._readable(line)), of_a_file=False)
            return False
        self.in_a_row += 1
        rest = match["rest"]
        ends = (m.start() for m in re.finditer(" ", rest))
        end = max((end for end in ends if rest[:end] in self._paths), default=None)
        if end is not None:
            self._last = self.by_path[rest[:end]] = self._readable(rest[end + 1 :])
            self._hear(diagnosis.parse_text(diagnosis.strip_prefix(self._last)))
        return True

    def all_say(self, pattern: re.Pattern[str]) -> bool:
        """Whether this is said of each of the files, and they are several."""
        said = self.by_path.values()
        return len(said) == len(self._paths) > 1 and all(pattern.search(reason) for reason in said)

    def gives_up(self) -> int:
        """How many files failed in a row, if that is enough; else 0. What is denied costs little, and says nothing of
        the files behind it."""
        most = _GIVE_UP_WITHOUT_A_WAY if self.lost else _GIVE_UP
        return self.in_a_row if self.in_a_row - self._denied_in_a_row >= most else 0

    def general(self, ended: client.AwsResult) -> str:
        """The last word on the files that no complaint names; if files failed until it was ended, why the last did."""
        return f"{ended.reason}: {self._last}" if ended.killed_reason and self._last else ended.reason

    def _hear(self, complaint: diagnosis.ErrorLine | None, *, of_a_file: bool = True) -> None:
        """A line about no file may be anything: it is no sign of a way to S3."""
        if complaint:
            self.said.append(complaint)
            cause, _ = diagnosis.fatal_error([complaint])
            if not cause and diagnosis.is_unreachable(complaint):
                self.lost = complaint.text
            elif of_a_file:
                self.lost = ""
            self._denied_in_a_row += bool(of_a_file and cause and cause.may_be_one_key)


def _why_in_vain(ended: client.AwsResult, heard: _Complaints) -> causes.Cause:
    """It stalled, or file after file failed, for want of a way to S3 or because S3 took none."""
    if heard.lost or diagnosis.unreachable_cause(ended.errors):
        return causes.UNREACHABLE
    return causes.ALL_REJECTED if heard.in_a_row >= _GIVE_UP else causes.NO_RESPONSE


class _Flow:
    """Counts what the live processes have done: their `upload: ` lines, and the bytes they have read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[int, tuple[Batch, int]] = {}  # number -> batch, pid
        self._lines: dict[int, int] = {}
        self._uncompared: dict[int, int] = {}  # files that went up, by the number of their batch
        self._done = TransferProgress(0, 0, 0)
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
        """How many of its files the CLI says went up."""
        with self._lock:
            self._batches.pop(batch.number, None)
            self._done = TransferProgress(self._done.files + len(batch.files), self._done.size + batch.size, 0)
            return self._lines.pop(batch.number, 0)

    def moved(self, bytes_read: Mapping[int, int]) -> TransferProgress:
        with self._lock:
            files, size = self._done.files, self._done.size
            for number, (batch, pid) in self._batches.items():
                lines = min(self._lines[number], len(batch.files))
                by_lines = batch.size * lines // len(batch.files)
                by_reads = min(bytes_read.get(pid, 0) - _START_UP_BYTES, batch.size)
                files, size = files + lines, size + max(by_lines, by_reads, 0)
            return TransferProgress(files, size, len(self._batches))
