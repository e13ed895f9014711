"""Download files into the private folder and verify them there, and try again those that failed."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from s3sync.aws import causes
from s3sync.delays import DELAYS
from s3sync.errors import StateError, StoppedError, explained
from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.text import pluralize, printable
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.restore.cutting import cut_into_batches
from s3sync.transfer.restore.download_verifier import DownloadVerifier
from s3sync.transfer.restore.downloader import BatchOutcome, Downloader
from s3sync.transfer.restore.frozen import Archive
from s3sync.transfer.restore.place import PrivateFolder
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.session import RestoreSession
from s3sync.transfer.restore.space import needed_bytes, require_space

_POLL_SECONDS = 0.5  # between two checks whether more processes would help
_MAX_FUTILE_BATCHES = 3  # in a row without any file: then S3 counts as refusing


@dataclass(slots=True)
class Received:
    """The files that were received so far: `verified` has the proof of each. Paths are relative to the run folder.

    If `cause` is set, further downloads would fail, too, and `cause_text` is what the AWS CLI printed about it.
    """

    verified: dict[str, Proof] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    size: int = 0  # bytes of the verified files
    cause: causes.Cause | None = None
    cause_text: str = ""
    is_disk_full: bool = False


def receive_files(
    session: RestoreSession, plan: RestorePlan, folder: PrivateFolder, paths: Sequence[str], archive: Archive
) -> Received:
    """Download these files into the private folder and verify them; those that are frozen are left out.

    What an earlier call has left in the folder is verified first, and not downloaded again. Raises StateError if the
    disk has no room, AwsError if S3 gives nothing, StoppedError.
    """
    request = session.request
    where = printable(str(request.target))
    advice = "make room there, or make it writable, and run the same command again"
    with (
        explained("write", folder.path, advice, id="restore.cannot-write"),
        contextlib.closing(DownloadVerifier(session, plan, folder.arrivals)) as verifier,
    ):
        receiver = Receiver(session, plan, folder, verifier, paths)
        received = receiver.received
        session.runtime.display.follow(f"restoring {printable(request.run_id)} to {where}", receiver.snapshot)
        _keep_verified(session, plan, folder, receiver, paths)
        left = [path for path in paths if path not in received.verified]
        received.frozen = archive.find_frozen(left)
        require_space(request.target.parent, needed_bytes(plan.remote, left))
        try:
            receiver.receive([path for path in left if path not in received.frozen])
        except StoppedError:
            count = f"{len(received.verified):,} of {pluralize(len(paths), 'file')}"
            session.runtime.display.print(f"{count} verified, and kept: the same command continues with the others")
            raise
    if received.is_disk_full:
        raise StateError(
            f"the disk of {printable(str(request.target.parent))} is full (make room, and run the same command again:"
            " what is verified is not downloaded again)",
            id="restore.disk-full",
        )
    if received.cause:
        raise received.cause.to_error(printable(request.url), received.cause_text)
    return received


def _keep_verified(
    session: RestoreSession, plan: RestorePlan, folder: PrivateFolder, receiver: Receiver, paths: Sequence[str]
) -> None:
    """Keep the files of an earlier call that can be verified, and drop the others: the machine may have crashed."""
    present = folder.harvest({path: plan.remote[path].size for path in paths})
    if not present:
        return
    with contextlib.closing(DownloadVerifier(session, plan, folder.ready)) as verifier:
        verdicts = verifier.verify(present)
    for path, proof in verdicts.verified.items():
        folder.finish(path, plan.record.mtime_ns(path))
        receiver.add_verified(path, proof)
    for path in verdicts.failed:
        folder.drop(path)


class Receiver:
    """Downloads files of one run into the private folder, and verifies them there."""

    def __init__(
        self,
        session: RestoreSession,
        plan: RestorePlan,
        folder: PrivateFolder,
        verifier: DownloadVerifier,
        expected: Sequence[str],
    ) -> None:
        """Prepare to receive files; the progress counts those in `expected` as all."""
        self.received = Received()
        self._stop = session.runtime.stop
        self._cores = session.request.cores
        self._plan = plan
        self._folder = folder
        self._verifier = verifier
        self._downloader = Downloader(session, plan, folder.arrivals)
        self._concurrency = session.share.background_concurrency()
        self._unreachable = ""  # the message of the last batch, if it could not reach S3
        self._futile = 0  # batches in a row of which nothing arrived
        self._last_cause: tuple[causes.Cause | None, str] = None, ""
        self._files_total, self._size_total = len(expected), plan.size_of(expected)

    def snapshot(self) -> Snapshot:
        """Return the progress, with the files that have arrived and are not verified yet."""
        files, size = self._downloader.in_flight()
        files, size = files + len(self.received.verified), size + self.received.size
        return Snapshot(
            activity="restoring",
            files=min(files, self._files_total),
            files_total=self._files_total,
            size=min(size, self._size_total),
            size_total=self._size_total,
            processes=self._downloader.processes,
        )

    def receive(self, paths: Sequence[str]) -> None:
        """Download and verify these files, and try again those that failed. Raises AwsError, StoppedError, OSError."""
        left, received = list(paths), self.received
        for number, seconds in enumerate((0.0, *DELAYS.upload_retries)):
            if number:
                self._stop.pause(seconds)
            self._receive_once(left)
            left = [path for path in left if path not in received.verified and path not in received.frozen]
            if not left or received.cause or received.is_disk_full:
                return
        if self._unreachable:
            received.cause, received.cause_text = causes.UNREACHABLE, self._unreachable
        elif not received.verified and self._futile:  # one error says more than the same one for each file
            received.cause, received.cause_text = self._last_cause

    def _receive_once(self, paths: Sequence[str]) -> None:
        files = [LocalFile(path, self._plan.remote[path].size, 0) for path in paths]
        queue = deque(cut_into_batches(files, self._cores))
        downloads: set[Future[BatchOutcome]] = set()
        proofs: set[Future[None]] = set()
        senders = ThreadPoolExecutor(self._concurrency.max_size, thread_name_prefix="receive")
        verifiers = ThreadPoolExecutor(1, thread_name_prefix="verify")
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
                    proofs.add(verifiers.submit(self._verify, outcome))
                    if self._is_hopeless(outcome):
                        queue.clear()
                for proof in [future for future in proofs if future in done]:
                    proofs.discard(proof)
                    proof.result()
        finally:
            self._concurrency.note_end()
            senders.shutdown(wait=False, cancel_futures=True)
            verifiers.shutdown(cancel_futures=True)
            senders.shutdown()

    def _verify(self, outcome: BatchOutcome) -> None:
        """Move the files of a batch that are verified to `ready`, and drop the others."""
        paths = [file.path for file in outcome.batch.files if file.path not in outcome.frozen]
        verdicts = self._verifier.verify(paths)
        for path, proof in verdicts.verified.items():
            if why := self._folder.accept(path, self._plan.record.mtime_ns(path)):
                self.received.failed[path] = why
            else:
                self.add_verified(path, proof)
        for path, why in verdicts.failed.items():
            self._folder.drop(path)
            error = outcome.error_of(path)
            self.received.failed[path] = f"{why}: {error}" if error else why
        self.received.frozen |= outcome.frozen
        for path in outcome.frozen:
            self.received.failed.pop(path, None)  # an error of an earlier try no longer counts

    def add_verified(self, path: str, proof: Proof) -> None:
        """Count a file as verified."""
        self.received.verified[path] = proof
        self.received.failed.pop(path, None)
        self.received.size += self._plan.remote[path].size

    def _is_hopeless(self, outcome: BatchOutcome) -> bool:
        """Return whether further downloads would fail, too."""
        self._futile = self._futile + 1 if len(outcome.errors) == len(outcome.batch.files) else 0
        received = self.received
        self._unreachable = outcome.unreachable
        self._last_cause = outcome.cause, outcome.cause_text
        received.is_disk_full = received.is_disk_full or outcome.is_disk_full
        is_too_often = self._futile >= _MAX_FUTILE_BATCHES * self._concurrency.size
        if outcome.cause and (is_too_often or not outcome.cause.may_be_one_key):
            received.cause, received.cause_text = outcome.cause, outcome.cause_text
        return received.cause is not None or received.is_disk_full
