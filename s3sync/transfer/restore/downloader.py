"""Download batches of objects, each with one or a few `aws s3 cp` processes, and parse what these print."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3sync.aws import causes, client, diagnosis
from s3sync.aws.receipts import Receipt
from s3sync.transfer.batches import Batch
from s3sync.transfer.process_configs import ProcessConfigs
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.request import RestoreRequest
from s3sync.transfer.restore.session import RestoreSession
from s3sync.transfer.restore.sources import KeyIndex, Source, has_long_name

_FROZEN = re.compile(r"An error occurred \(InvalidObjectState\)")
_DISK_FULL = re.compile(r"\[Errno (28|122)\] |AWS_ERROR_\w*NO_SPACE")
_MAX_FAILURES_IN_A_ROW = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """What processes printed about a batch. Only the bytes on disk show which files arrived."""

    batch: Batch
    errors: Mapping[str, str] = field(default_factory=dict)  # by path
    frozen: frozenset[str] = frozenset()
    last_error: str = ""  # the error for the other files
    cause: causes.Cause | None = None  # set if further downloads would fail, too
    cause_text: str = ""
    unreachable: str = ""  # the error if S3 cannot be reached, which may be temporary
    is_disk_full: bool = False

    def error_of(self, path: str) -> str:
        """Return the error that a process printed about a file of the batch; empty if there is none."""
        return self.errors.get(path, self.last_error)


class Downloader:
    """Downloads batches of one run into a folder; `download` may be called from several threads at once."""

    def __init__(self, session: RestoreSession, plan: RestorePlan, folder: Path) -> None:
        self._request = session.request
        self._aws = session.aws
        self._keys = KeyIndex(list(plan.remote), session.request.prefix)
        self._folder = folder
        self._throttle = session.share.throttle(session.request.max_bandwidth, session.request.cores)
        self._configs = ProcessConfigs(session.environ, session.request.settings, session.temp_folder)
        self._lock = threading.Lock()
        self._done: dict[int, int] = {}  # files of each running batch that have arrived, by its number
        self._batches: dict[int, Batch] = {}

    def download(self, batch: Batch) -> BatchOutcome:
        """Download a batch, and return what was printed. Raises AwsError if one cannot start, StoppedError."""
        paths = [file.path for file in batch.files]
        output = _Output(self._request, self._aws, paths)
        ended: list[client.AwsResult] = []
        with self._lock:
            self._batches[batch.number], self._done[batch.number] = batch, 0
        try:
            ended.extend(self._run(source, batch.number, output) for source in self._keys.sources_of(paths))
        finally:
            with self._lock:
                del self._batches[batch.number], self._done[batch.number]
        return output.outcome(batch, ended)

    def _run(self, source: Source, number: int, output: _Output) -> client.AwsResult:
        path = source.folder if source.includes is not None else source.paths[0]
        target = self._folder / path
        short = self._folder / hashlib.sha256(path.encode()).hexdigest() if has_long_name(path) else None
        share = self._throttle.begin(number)
        argv = self._aws.download_argv(self._request.url + path, str(short or target), source.includes)
        process = _DownloadProcess(self, number, share, output)
        try:
            config = self._configs.with_bandwidth(share) if share is not None else None
            ended = self._aws.run_streaming(argv, process, config)
        finally:
            self._note_end(number, process.pids)
        self._aws.check_stop()
        if short and os.path.lexists(short):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.rename(short, target)
        return ended

    def note_start(self, pid: int, share: int | None) -> None:
        """Note the start of a process that has this share of the bandwidth."""
        self._throttle.note_start(pid, share)

    def _note_end(self, number: int, pids: Iterable[int]) -> None:
        """Note the end of the process of a batch. It has had several ids if it was started again."""
        self._throttle.end(number)
        for pid in pids:
            self._throttle.note_end(pid)

    def note_arrival(self, number: int) -> None:
        """Count a file of a batch that has arrived, according to its process."""
        with self._lock:
            self._done[number] += 1

    def give_up(self, pid: int, failures: int) -> None:
        """End a process that has failed with this number of files in a row."""
        self._aws.processes.terminate(pid, f"failed with {failures} files in a row")

    def enforce_bandwidth(self) -> None:
        """End the processes that exceed the present limit. Call this regularly."""
        for pid in self._throttle.over_limit():  # each restore ends only its own processes
            self._aws.processes.terminate(pid, "was faster than max_bandwidth allows at this time")

    def in_flight(self) -> tuple[int, int]:
        """Return how many files and bytes of running batches have arrived, according to their processes."""
        with self._lock:
            pairs = [(min(self._done[n], len(batch.files)), batch) for n, batch in self._batches.items()]
        return sum(done for done, _ in pairs), sum(batch.size * done // len(batch.files) for done, batch in pairs)

    @property
    def processes(self) -> int:
        """Return how many processes run."""
        return len(self._aws.processes.pids())


class _DownloadProcess:
    """The `aws` process of a source while it runs."""

    def __init__(self, downloader: Downloader, number: int, share: int | None, output: _Output) -> None:
        self.pids: list[int] = []
        self._downloader = downloader
        self._number = number
        self._share = share
        self._output = output

    def started(self, pid: int) -> None:
        """Note the id of the process."""
        self.pids.append(pid)
        self._downloader.note_start(pid, self._share)

    def printed(self, line: str) -> None:
        """Handle a line of output."""
        if line.startswith("download: "):
            self._downloader.note_arrival(self._number)
            self._output.in_a_row = 0
        elif self._output.parse(line) and self._output.in_a_row >= _MAX_FAILURES_IN_A_ROW:
            self._downloader.give_up(self.pids[-1], self._output.in_a_row)

    def received(self, receipt: Receipt) -> None:
        """Do nothing: only uploads have receipts."""


class _Output:
    """Reads the lines `download failed: s3://BUCKET/KEY to FILE REASON`."""

    def __init__(self, request: RestoreRequest, aws: client.AwsCli, paths: Iterable[str]) -> None:
        self.in_a_row = 0
        self._errors: dict[str, str] = {}
        self._frozen: set[str] = set()
        self._is_disk_full = False
        self._aws = aws
        self._begin = f"download failed: {request.url}"
        self._paths = sorted(paths, key=len, reverse=True)

    def parse(self, line: str) -> bool:
        """Parse a line; return whether a file failed for a reason that may concern other files, too."""
        if not line.startswith(self._begin):
            return False
        rest = line[len(self._begin) :]
        path = next((path for path in self._paths if rest.startswith(f"{path} to ")), None)
        if path is None:
            return False
        reason = self._reason_in(rest[len(path) + 4 :], path)
        if _FROZEN.match(reason):
            self._frozen.add(path)
            return False
        self._errors[path] = self._aws.sanitize(reason)
        self._is_disk_full = self._is_disk_full or _DISK_FULL.search(reason) is not None
        self.in_a_row += 1
        return True

    def _reason_in(self, text: str, path: str) -> str:
        """Return the text after FILE, whose name ends like the key unless the key is too long."""
        name = os.path.basename(path)
        return text.partition(f"{name} ")[2] or text.partition(" ")[2]

    def outcome(self, batch: Batch, ended: Iterable[client.AwsResult]) -> BatchOutcome:
        """Return the result of a batch whose processes have ended."""
        failed = [result for result in ended if not result.succeeded]
        lines = [diagnosis.parse_text(text) for text in self._errors.values()]
        of_all = [line for result in failed for text in result.errors if (line := _error_of_all(text))]
        lines += of_all
        cause, cause_text = diagnosis.fatal_error(lines)
        killed = [result.reason for result in failed if result.killed_reason]
        return BatchOutcome(
            batch=batch,
            errors=self._errors,
            frozen=frozenset(self._frozen),
            last_error=next(iter([*killed, *(line.text for line in reversed(of_all))]), ""),
            cause=cause,
            cause_text=cause_text,
            unreachable=next((line.text for line in lines if diagnosis.is_unreachable(line)), ""),
            is_disk_full=self._is_disk_full,
        )


def _error_of_all(text: str) -> diagnosis.ErrorLine | None:
    return None if text.startswith("download failed: ") else diagnosis.parse_line(text)
