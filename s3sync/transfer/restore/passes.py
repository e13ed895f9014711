"""Download and prove files, again where that may help, while the progress can be watched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from s3sync.aws import causes
from s3sync.aws.objects import RemoteObject
from s3sync.delays import DELAYS
from s3sync.runs import LocalFile
from s3sync.signals import StopRequest
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.restore.cutting import cut_into_batches
from s3sync.transfer.restore.downloader import BatchOutcome, Downloader
from s3sync.transfer.restore.place import PrivateFolder
from s3sync.transfer.restore.prover import Prover
from s3sync.transfer.restore.record import Record
from s3sync.transfer.sharing import BackgroundConcurrency

_POLL_SECONDS = 0.5  # between two checks whether more processes would help
_MAX_FUTILE_BATCHES = 3  # in a row without an arrived file: S3 gives none


@dataclass(slots=True)
class Received:
    """What has come so far: `proven` says by path what proved it. A `cause` means that more is of no use."""

    proven: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    size: int = 0  # bytes of the proven files
    cause: causes.Cause | None = None
    said: str = ""
    is_disk_full: bool = False


class Receiver:
    """Downloads files of one run into the private folder, and proves them there."""

    def __init__(
        self,
        folder: PrivateFolder,
        downloader: Downloader,
        prover: Prover,
        record: Record,
        remote: Mapping[str, RemoteObject],
        concurrency: BackgroundConcurrency,
        cores: int,
    ) -> None:
        self.received = Received()
        self._folder = folder
        self._downloader = downloader
        self._prover = prover
        self._record = record
        self._remote = remote
        self._concurrency = concurrency
        self._cores = cores
        self._unreachable = ""  # what the last batch said, if it found no way to S3
        self._futile = 0  # batches in a row of which nothing arrived
        self._files_total = self._size_total = 0

    def snapshot(self) -> Snapshot:
        """Return how far it is."""
        files, size = self._downloader.in_flight()
        files, size = files + len(self.received.proven), size + self.received.size
        return Snapshot(
            activity="restoring",
            files=min(files, self._files_total),
            files_total=self._files_total,
            size=min(size, self._size_total),
            size_total=self._size_total,
            processes=self._downloader.processes,
        )

    def expect(self, paths: Iterable[str]) -> None:
        """Set the files that the progress counts as all."""
        sizes = [self._remote[path].size for path in paths]
        self._files_total, self._size_total = len(sizes), sum(sizes)

    def receive(self, paths: Sequence[str], stop: StopRequest) -> None:
        """Download and prove these files, and try those again that failed. Raises AwsError, StoppedError, OSError."""
        left = list(paths)
        for number, seconds in enumerate((0.0, *DELAYS.upload_retries)):
            if number:
                stop.wait(seconds)
                stop.raise_if_requested()
            self._receive_once(left)
            received = self.received
            left = [path for path in left if path not in received.proven and path not in received.frozen]
            if not left or received.cause or received.is_disk_full:
                return
        if self._unreachable:
            received.cause, received.said = causes.UNREACHABLE, self._unreachable

    def _receive_once(self, paths: Sequence[str]) -> None:
        files = [LocalFile(path, self._remote[path].size, 0) for path in paths]
        queue = deque(cut_into_batches(files, self._cores))
        downloads: set[Future[BatchOutcome]] = set()
        proofs: set[Future[None]] = set()
        senders = ThreadPoolExecutor(self._concurrency.max_size, thread_name_prefix="receive")
        provers = ThreadPoolExecutor(1, thread_name_prefix="prove")
        self._concurrency.reset()
        try:
            while queue or downloads or proofs:
                allowed = self._concurrency.update(len(downloads), has_work=bool(queue))
                while queue and len(downloads) < allowed:
                    downloads.add(senders.submit(self._downloader.download, queue.popleft()))
                self._downloader.enforce_bandwidth()
                futures: list[Future[Any]] = [*downloads, *proofs]
                done, _ = wait(futures, _POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in [future for future in downloads if future in done]:
                    downloads.discard(future)
                    outcome = future.result()
                    proofs.add(provers.submit(self._prove, outcome))
                    if self._is_hopeless(outcome):
                        queue.clear()
                for proof in [future for future in proofs if future in done]:
                    proofs.discard(proof)
                    proof.result()
        finally:
            self._concurrency.note_end()
            senders.shutdown(wait=False, cancel_futures=True)
            provers.shutdown(cancel_futures=True)
            senders.shutdown()

    def _prove(self, outcome: BatchOutcome) -> None:
        """Prove the files of a batch that arrived, and take them over; drop the others."""
        paths = [file.path for file in outcome.batch.files if file.path not in outcome.frozen]
        verdicts = self._prover.prove(paths)
        for path, how in verdicts.proven.items():
            self._folder.accept(path, self._record.mtime_ns(path))
            self.add_proven(path, how)
        for path, why in verdicts.failed.items():
            self._folder.drop(path)
            said = outcome.error_of(path)
            self.received.failed[path] = f"{why}: {said}" if said else why
        self.received.frozen |= outcome.frozen
        for path in outcome.frozen:
            self.received.failed.pop(path, None)  # what kept it from being asked for has passed

    def add_proven(self, path: str, how: str) -> None:
        """Note that a file is proven."""
        self.received.proven[path] = how
        self.received.failed.pop(path, None)
        self.received.size += self._remote[path].size

    def _is_hopeless(self, outcome: BatchOutcome) -> bool:
        """Return whether downloading more is of no use."""
        self._futile = self._futile + 1 if len(outcome.errors) == len(outcome.batch.files) else 0
        received = self.received
        self._unreachable = outcome.unreachable
        received.is_disk_full = received.is_disk_full or outcome.is_disk_full
        is_too_often = self._futile >= _MAX_FUTILE_BATCHES * self._concurrency.size
        if outcome.cause and (is_too_often or not outcome.cause.may_be_one_key):
            received.cause, received.said = outcome.cause, outcome.said
        return received.cause is not None or received.is_disk_full
