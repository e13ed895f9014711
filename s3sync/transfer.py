"""Batches into S3: each one `aws s3 cp --recursive` over its staged links."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync.awscli import Aws, cp_words
from s3sync.awserrors import Cause, cause_of
from s3sync.destination import Destination
from s3sync.plan import Batch
from s3sync.runfolder import Run
from s3sync.staging import staged

_START_UP_BYTES = 25_000_000  # what the CLI reads of itself before it reads a file


class Sent(NamedTuple):
    """A batch whose process has ended. Whether its files arrived is for the read-back to say.

    `complaints` are the CLI's words on single files, by path in the run; `general` its last word on
    the rest; `cause` is set where sending more is no use.
    """

    batch: Batch
    complaints: Mapping[str, str]
    general: str
    cause: Cause | None


class Moved(NamedTuple):
    """How far the batches are, as far as can be seen from outside: an estimate for people."""

    files: int
    size: int  # bytes
    processes: int


class Transfer:
    """Sends batches of one run to one destination; `send` may be called from several threads at once."""

    def __init__(self, aws: Aws, run: Run, destination: Destination, work: Path) -> None:
        self._aws = aws
        self._run = run
        self._destination = destination
        self._work = work
        self._flow = _Flow()

    def send(self, batch: Batch) -> Sent:
        """Run one process to its end; raises AwsError if it cannot start, StateError, InterruptedBySignal."""
        complaints = _Complaints(self._destination, self._run.run_id, batch)

        def on_line(line: str) -> None:
            if line.startswith("upload: "):
                self._flow.file_done(batch.number)
            else:
                complaints.take(line)

        with staged(self._work, self._run.path, batch) as folder:
            words = cp_words(str(folder), self._destination.url(self._run.run_id))
            ended = self._aws.follow(words, on_line, lambda pid: self._flow.started(batch, pid))
        self._flow.ended(batch)
        cause = cause_of(ended.errors) if ended.returncode else None
        return Sent(batch, complaints.by_path, ended.reason, cause)

    def abort(self) -> None:
        """End what is being sent."""
        self._aws.end_all()

    def moved(self) -> Moved:
        """Files and bytes of all batches sent so far, those under way included."""
        return self._flow.moved(self._aws.bytes_read())


class _Complaints:
    """Finds the CLI's `upload failed: FILE to s3://BUCKET/KEY REASON` lines for the files of a batch."""

    def __init__(self, destination: Destination, run_id: str, batch: Batch) -> None:
        self.by_path: dict[str, str] = {}
        self._paths = {file.path for file in batch.files}
        url = re.escape(destination.url(run_id))
        self._line = re.compile(rf"upload failed: .* to {url}(?P<rest>.*)")

    def take(self, line: str) -> None:
        match = self._line.match(line)
        if not match:
            return
        rest = match["rest"]
        for space in (m.start() for m in re.finditer(" ", rest)):
            if rest[:space] in self._paths:
                self.by_path[rest[:space]] = rest[space + 1 :].strip()
                return


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

    def ended(self, batch: Batch) -> None:
        with self._lock:
            self._batches.pop(batch.number, None)
            self._lines.pop(batch.number, None)
            self._done = Moved(self._done.files + len(batch.files), self._done.size + batch.size, 0)

    def moved(self, bytes_read: Mapping[int, int]) -> Moved:
        with self._lock:
            files, size = self._done.files, self._done.size
            for number, (batch, pid) in self._batches.items():
                lines = min(self._lines[number], len(batch.files))
                by_lines = batch.size * lines // len(batch.files)
                by_reads = min(bytes_read.get(pid, 0) - _START_UP_BYTES, batch.size)
                files, size = files + lines, size + max(by_lines, by_reads, 0)
            return Moved(files, size, len(self._batches))
