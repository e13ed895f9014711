"""Batches into S3: each one `aws s3 cp --recursive` over its staged links."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync import awswords, leftovers
from s3sync.awscli import Aws, Ended
from s3sync.awserrors import CHECKSUM_MISMATCH, CHECKSUMS, REFUSING, UNANSWERED, Cause, cause_of, unreachable
from s3sync.awswords import AS_THE_BUCKET_HAS_IT, OwnedBucket, Storage
from s3sync.destination import Destination
from s3sync.etag import DEFAULT_MULTIPART, Multipart
from s3sync.plan import Batch
from s3sync.runfolder import Run
from s3sync.staging import staged
from s3sync.throttle import Throttle

_GIVE_UP = 20  # files that fail one after the other end a batch: each may have cost minutes of timeouts
_START_UP_BYTES = 25_000_000  # what the CLI reads of itself before it reads a file


class Sent(NamedTuple):
    """A batch whose process has ended. Whether its files arrived is for the read-back to say.

    `complaints` are the CLI's words on single files, by path in the run; `general` its last word on
    the rest; `cause` is set where sending more is no use; `in_vain` says why it had to be
    ended before it had sent a file: one such batch may be chance, many are not.
    """

    batch: Batch
    complaints: Mapping[str, str]
    general: str
    cause: Cause | None
    in_vain: Cause | None = None


class Moved(NamedTuple):
    """How far the batches are, as far as can be seen from outside: an estimate for people."""

    files: int
    size: int  # bytes
    processes: int


class Transfer:
    """Sends batches of one run to one destination; `send` may be called from several threads at once."""

    def __init__(
        self,
        aws: Aws,
        run: Run,
        destination: Destination,
        work: Path,
        multipart: Multipart = DEFAULT_MULTIPART,
        storage: Storage = AS_THE_BUCKET_HAS_IT,
        owner: str = "",
        throttle: Throttle | None = None,
    ) -> None:
        self.habits = leftovers.Habits()
        self.unswept = ""  # why parts may be left in S3; empty if there are none
        self._aws = aws
        self._run = run
        self._destination = destination
        self._work = work
        self._multipart = multipart
        self._storage = storage
        self._bucket = OwnedBucket(destination.bucket, owner)
        self._throttle = throttle
        self._shares: dict[int, int | None] = {}  # of the bandwidth, by process id
        self._flow = _Flow()

    def send(self, batch: Batch) -> Sent:
        """Run one process to its end; raises AwsError if it cannot start, StateError, InterruptedBySignal."""
        complaints = _Complaints(self._destination, self._run.run_id, batch, self._aws.readable)
        pid = 0
        share = self.share
        config = self._throttle.config(share) if self._throttle and share is not None else None

        def on_start(started: int) -> None:
            nonlocal pid
            pid = started
            self._shares[pid] = share
            self._flow.started(batch, pid)

        def on_line(line: str) -> None:
            if line.startswith("upload: "):
                self._flow.file_done(batch.number)
                complaints.in_a_row = 0
            elif complaints.take(line) and complaints.in_a_row == _GIVE_UP:
                self._aws.end(pid, f"failed with {_GIVE_UP} files in a row")

        with staged(self._work, self._run, batch) as folder:
            url = self._destination.url(self._run.run_id)
            checksums = awswords.checksum_words(self._aws.said_version, few=self._aws.few_checksums)
            words = awswords.cp_words(str(folder), url, self._storage, checksums)
            ended = self._aws.follow(words, on_line, on_start, config)
        self._shares.pop(pid, None)
        done = self._flow.ended(batch)
        if not ended.succeeded:
            self._sweep(batch, was_killed=ended.returncode < 0)
        self._aws.check_stop()
        cause = self._cause(ended, complaints) if ended.returncode else None
        in_vain = _why_in_vain(ended, complaints) if ended.ended_by_us and not done else None
        if cause and self._aws.lost_credentials(ended):
            cause, in_vain = None, None if done else cause
        return Sent(batch, complaints.by_path, complaints.general(ended), cause, in_vain)

    def _cause(self, ended: Ended, complaints: _Complaints) -> Cause | None:
        return cause_of(ended.errors) or (CHECKSUMS if complaints.all_say(CHECKSUM_MISMATCH) else None)

    def _sweep(self, batch: Batch, *, was_killed: bool) -> None:
        """The parts that an ended process may have left; what an orderly end has aborted is not there any more."""
        prefix = self._destination.run_prefix(self._run.run_id)
        keys = {prefix + file.path for file in batch.files if self._multipart.part_size_for(file.size)}
        habits = self.habits if was_killed else None
        if keys:
            swept = leftovers.sweep(self._aws, self._bucket, prefix, keys, "", habits, self._storage)
            self.unswept = swept.trouble or self.unswept

    @property
    def share(self) -> int | None:
        """What a process that starts now may send, bytes a second; None: there is no limit."""
        return self._throttle.share() if self._throttle else None

    def keep_to_limit(self) -> None:
        """End what is faster than it may be by now; to be called now and then."""
        if self._throttle:
            for pid in self._throttle.too_fast(dict(self._shares)):
                self._aws.end(pid, "was faster than max_bandwidth allows at this time")

    def abort(self) -> None:
        """End what is being sent."""
        self._aws.end_all()

    def moved(self) -> Moved:
        """Files and bytes of all batches sent so far, those under way included."""
        return self._flow.moved(self._aws.bytes_read())


class _Complaints:
    """Finds the CLI's `upload failed: FILE to s3://BUCKET/KEY REASON` lines for the files of a batch.

    A line is taken as it was printed, since names are; `readable` makes of its reason what may be shown.
    """

    def __init__(self, destination: Destination, run_id: str, batch: Batch, readable: Callable[[str], str]) -> None:
        self.by_path: dict[str, str] = {}
        self.in_a_row = 0  # since the last file that went up
        self._last = ""
        self._readable = readable
        self._paths = {file.path for file in batch.files}
        url = re.escape(destination.url(run_id))
        self._line = re.compile(rf"upload failed: .* to {url}(?P<rest>.*)")

    def take(self, line: str) -> bool:
        """Whether it is one."""
        match = self._line.match(line)
        if not match:
            return False
        self.in_a_row += 1
        rest = match["rest"]
        for space in (m.start() for m in re.finditer(" ", rest)):
            if rest[:space] in self._paths:
                self._last = self.by_path[rest[:space]] = self._readable(rest[space + 1 :])
                break
        return True

    def all_say(self, pattern: re.Pattern[str]) -> bool:
        """Whether this is said of each of the files, and they are several."""
        said = self.by_path.values()
        return len(said) == len(self._paths) > 1 and all(pattern.search(reason) for reason in said)

    def general(self, ended: Ended) -> str:
        """The last word on the files that no complaint names; if files failed until it was ended, why the last did."""
        return f"{ended.reason}: {self._last}" if ended.ended_by_us and self._last else ended.reason


def _why_in_vain(ended: Ended, complaints: _Complaints) -> Cause:
    """It stalled, or file after file failed, for want of a way to S3 or because S3 took none."""
    if complaints.in_a_row < _GIVE_UP:
        return UNANSWERED
    return unreachable(ended.errors) or REFUSING


class _Flow:
    """Counts what the live processes have done: their `upload: ` lines, and the bytes they have read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[int, tuple[Batch, int]] = {}  # number -> batch, pid
        self._lines: dict[int, int] = {}
        self._done = Moved(0, 0, 0)

    def started(self, batch: Batch, pid: int) -> None:
        with self._lock:
            self._batches[batch.number] = (batch, pid)
            self._lines[batch.number] = 0

    def file_done(self, number: int) -> None:
        self._lines[number] += 1  # only the thread of this batch writes here

    def ended(self, batch: Batch) -> int:
        """How many of its files the CLI says went up."""
        with self._lock:
            self._batches.pop(batch.number, None)
            self._done = Moved(self._done.files + len(batch.files), self._done.size + batch.size, 0)
            return self._lines.pop(batch.number, 0)

    def moved(self, bytes_read: Mapping[int, int]) -> Moved:
        with self._lock:
            files, size = self._done.files, self._done.size
            for number, (batch, pid) in self._batches.items():
                lines = min(self._lines[number], len(batch.files))
                by_lines = batch.size * lines // len(batch.files)
                by_reads = min(bytes_read.get(pid, 0) - _START_UP_BYTES, batch.size)
                files, size = files + lines, size + max(by_lines, by_reads, 0)
            return Moved(files, size, len(self._batches))
