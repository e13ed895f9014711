"""Upload files of one run and verify them, in passes, until each is verified or has failed for good."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from s3sync.aws import client, destination, objects
from s3sync.delays import DELAYS
from s3sync.errors import AwsError, DeniedError
from s3sync.runs import LocalFile, Run
from s3sync.state import Proof
from s3sync.text import pluralize, printable
from s3sync.transfer import batches, completion_object
from s3sync.transfer.batch_sender import BatchSender
from s3sync.transfer.choice import EvidenceChoice
from s3sync.transfer.context import UploadContext
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.file_digests import FileDigests
from s3sync.transfer.file_verifier import CHANGED, VANISHED, Failure, FileVerifier, Retry
from s3sync.transfer.hashing import Hasher
from s3sync.transfer.pipeline import Pipeline
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals, UploadCounters

PASSES = 3  # attempts to send a file in one call
STREAM_LAUNCH_SECONDS = 600.0  # while streaming, no batch starts after this time, because other runs are waiting
_COMPARE_FILES = 2000  # compared with S3 at a time, so that an interruption loses little
_STILL_CHANGING = (CHANGED, VANISHED)  # are not failures while the instrument writes

Recorder: TypeAlias = Callable[[Sequence[Proof]], None]
Remote: TypeAlias = "dict[str, objects.RemoteObject] | None"  # objects by path in the run; None: they may not be listed


class FileUploader:
    """Uploads files of one run and verifies them.

    `verified` maps the path of each verified file to its proof, and `failed` the path of each other one to the reason.
    `record` writes proofs to the disk before they are in `verified`.
    """

    def __init__(
        self,
        context: UploadContext,
        record: Recorder,
        verified: Mapping[str, Proof],
        opaque_etags: Collection[str] = (),
        record_found: Recorder | None = None,
    ) -> None:
        """Start with these proofs. `record_found` replaces `record` for files that S3 had before."""
        self.verified = dict(verified)
        self.failed: dict[str, str] = {}
        self.aws_version = ""  # known after `probe_s3`
        self.next_batch = 1
        self.reader = context.make_reader()
        self._context = context
        self._request = context.request
        self._run = context.run
        self._record = record
        self._record_found = record_found or record
        self._classes = context.request.class_choice(context.run)
        self._sent = FileTotals(0, 0)
        self._found = FileTotals(0, 0)
        self._trust = EtagTrust(opaque_etags, context.display.print)
        self._launch_until = time.monotonic() + (STREAM_LAUNCH_SECONDS if self._request.is_streaming else math.inf)
        self._choice = EvidenceChoice(self._request.verify, self._request.multipart, context.display.print)
        self._hasher = self._make_hasher(self._run, context.share.machine.hash_threads)
        self._sender = BatchSender(self._context, self._run)
        self._verifier = self._make_verifier(self._run, self._hasher)
        self._pipeline = self._make_pipeline(self._sender, self._verifier)

    @property
    def counters(self) -> UploadCounters:
        """Return the counts so far."""
        return UploadCounters(
            sent_files=self._sent.files,
            sent_size=self._sent.size,
            found_files=self._found.files,
            found_size=self._found.size,
            aws_processes=self._context.aws.processes.started,
        )

    @property
    def opaque_etags(self) -> tuple[str, ...]:
        """Return the kinds of ETags that are known not to be MD5s on this server."""
        return tuple(sorted(self._trust.opaque))

    @property
    def not_compared(self) -> int:
        """Return how many files the CLI reported as sent that were not compared with S3 yet."""
        return self._sender.not_compared

    @property
    def leftover_warning(self) -> str:
        """Return why parts of multipart uploads may be left in S3; empty if none are."""
        return self._sender.leftover_warning

    def snapshot(self, activity: str, before: FileTotals, total: FileTotals) -> Snapshot:
        """Return the progress, where `before` was verified by earlier calls.

        Displays ask for it several times a second while threads work, so nothing here iterates over the files.
        """
        moved = self._sender.progress()
        files = before.files + self._found.files + moved.files
        size = before.size + self._found.size + moved.size
        shown = "checking" if activity == "uploading" and not moved.processes else activity
        return Snapshot(
            activity=shown,
            files=min(files, total.files),
            files_total=total.files,
            size=min(size, total.size),
            size_total=total.size,
            processes=moved.processes,
        )

    def close(self) -> None:
        """Cancel the hashing that has not started."""
        self._hasher.close()

    def probe_s3(self, read: Callable[[], Remote]) -> Remote:
        """Make the first request to S3, and find out the version of `aws` meanwhile; return the answer.

        Raises AwsError for anything that would make the whole upload fail.
        """
        aws = self._context.aws
        with ThreadPoolExecutor(1) as side:
            version = side.submit(aws.version)
            try:
                remote = read()
            except AwsError:
                version.result()
                aws.check_usable()  # if even this fails, S3 is not the cause
                raise
            self.aws_version = f"{printable(aws.path)}: {version.result()}"
        return remote

    def forget_proofs(self, paths: Collection[str]) -> None:
        """Drop the proofs of these files."""
        self.verified = {path: proof for path, proof in self.verified.items() if path not in paths}

    def distrust_etags(self) -> None:
        """Forget what earlier calls found out about this server's ETags: it may be another server now."""
        self._trust.forget()

    def abort_stale_parts(self, files: Collection[LocalFile], since: str) -> None:
        """Abort the multipart uploads of these files that a killed process has left since then."""
        request = self._request
        prefix = request.destination.run_prefix(self._run.run_id)
        unverified_first = sorted(files, key=lambda file: batches.is_verified(file, self.verified))
        keys = [prefix + file.path for file in unverified_first if request.multipart.part_size_for(file.size)]
        if keys:
            result = self._sender.incomplete_uploads.abort(keys, since, probe_server=True)
            if result.aborted:
                self._context.display.print(
                    f"{pluralize(result.aborted, 'multipart upload')} of an interrupted call aborted"
                )
            self._sender.leftover_warning = result.problem

    def compare(self, files: Sequence[LocalFile], remote: Mapping[str, objects.RemoteObject]) -> None:
        """Verify, without sending them, the files that S3 has already."""
        present = [file for file in files if file.path in remote and remote[file.path].size == file.size]
        for start in range(0, len(present), _COMPARE_FILES):
            self._context.stop.raise_if_requested()
            some = present[start : start + _COMPARE_FILES]
            etags = self._hasher.etags(some)
            found = [file for file in some if self._matches_etag(file, etags.get(file.path), remote[file.path].etag)]
            proofs = [Proof.of(file, remote[file.path].etag, "etag") for file in found]
            for proof in proofs:
                self._trust.learn_from(proof)
            self._add_found(proofs)
        self.head_large_files(batches.pending(present, self.verified))

    def head_large_files(self, files: Sequence[LocalFile]) -> None:
        """Verify, without sending them, the files that cost more to send than to ask S3 about."""
        large = [file for file in files if batches.cost_of([file]) > client.PROCESS_COST]
        if large:
            self._add_found(self._verifier.verify(large).proofs)

    def find_corrupted(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Return the reason for each file whose bytes are not those that the instrument wrote, by path."""
        return self._hasher.find_corrupted(files)

    def send(self, *groups: Sequence[LocalFile]) -> None:
        """Upload these files, one group after the other, in up to three passes; `failed` then has those not verified.

        Raises AwsError for a cause that would stop another pass as well, StateError, and StoppedError.
        """
        wanted = [file for group in groups for file in group]
        failures: dict[str, Failure] = {}
        for attempt in range(PASSES):
            if attempt:
                retried = sum(failure.retry is not Retry.NEVER for failure in failures.values())
                self._context.display.print(f"retrying {pluralize(retried, 'file')}")
                self._context.stop.wait(DELAYS.upload_retries[attempt - 1])
                failures = self._verify_again(failures)
                groups = (
                    [failure.file for failure in failures.values() if failure.file and failure.retry is Retry.SEND],
                )
            kept = {path: failure for path, failure in failures.items() if failure.retry is not Retry.SEND}
            failures = kept | self._send_once(groups)
            self.failed = {path: failure.reason for path, failure in failures.items()}
            self._raise_if_futile(wanted)
            if all(failure.retry is Retry.NEVER for failure in failures.values()):
                return

    def send_completion_object(self, written: Run) -> str:
        """Upload the completion object like any other file; return its ETag.

        If it is not verified, return an empty string, with the reason in `failed`.
        """
        etag = why = ""
        with contextlib.closing(self._make_hasher(written, 1)) as hasher:
            pipeline = self._make_pipeline(BatchSender(self._context, written), self._make_verifier(written, hasher))
            for attempt in range(PASSES):
                if attempt:
                    self._context.display.print(f"retrying {destination.COMPLETION_OBJECT}: {why}")
                    self._context.stop.wait(DELAYS.upload_retries[attempt - 1])
                etag, why = completion_object.send(written, pipeline, self.next_batch, self._classes.class_of)
                self.next_batch += 1
                if etag:
                    return etag
        self.failed[destination.COMPLETION_OBJECT] = why
        return ""

    def _add_found(self, proofs: Sequence[Proof]) -> None:
        """Record the proofs of files that S3 had before."""
        if proofs:
            self._record_found(proofs)
            self._found = self._found.plus(proofs)
            self.verified.update((proof.path, proof) for proof in proofs)

    def _add_sent(self, proofs: Sequence[Proof]) -> None:
        """Record the proofs of files that this call has sent."""
        if proofs:
            self._record(proofs)
            self._sent = self._sent.plus(proofs)
            self.verified.update((proof.path, proof) for proof in proofs)

    def _verify_again(self, failures: Mapping[str, Failure]) -> dict[str, Failure]:
        """Ask S3 again about the files for which it gave no answer; return the remaining failures."""
        unknown = [failure.file for failure in failures.values() if failure.file and failure.retry is Retry.VERIFY]
        if not unknown:
            return dict(failures)
        result = self._verifier.verify(unknown)
        self._add_sent(result.proofs)
        others = {path: failure for path, failure in failures.items() if failure.retry is not Retry.VERIFY}
        return others | {failure.path: failure for failure in result.failures}

    def _send_once(self, groups: Sequence[Sequence[LocalFile]]) -> dict[str, Failure]:
        """Send these files once; return the failures."""
        share = self._sender.share
        byte_cost = max(batches.BYTE_COST, 1 / share) if share else batches.BYTE_COST
        queue = batches.BatchQueue(
            groups,
            self.next_batch,
            byte_cost,
            self._sender.file_cost,
            self._classes.class_of,
            self._context.aws.process_cost,
        )
        failures: dict[str, Failure] = {}
        try:
            with contextlib.closing(self._pipeline.run(queue)) as results:
                for result in results:
                    self._add_sent(result.proofs)
                    failures.update((failure.path, failure) for failure in result.failures if self._is_final(failure))
                    if time.monotonic() > self._launch_until:
                        queue.clear()
        finally:
            self.next_batch = queue.next_number
        return failures

    def _is_final(self, failure: Failure) -> bool:
        return not (self._request.is_streaming and failure.reason in _STILL_CHANGING)

    def _raise_if_futile(self, wanted: Sequence[LocalFile]) -> None:
        """Raise AwsError if another pass would be futile, with the reason for each file in `failed`."""
        pending = batches.pending(wanted, self.verified)
        cause = self._pipeline.cause or (None if self.verified else self._pipeline.denied)
        if cause and pending:
            self.failed = {file.path: f"not sent: {cause.what}" for file in pending} | self.failed
            message = self._pipeline.cli_message
            error = DeniedError if cause.may_be_one_key else AwsError
            said = f". aws said: {message}" if message else ""
            raise error(f"{cause.message_for(self._context.url)}{said}", id=cause.id)

    def _matches_etag(self, file: LocalFile, expected: str | None, etag: str) -> bool:
        """Return whether an object with this ETag has the file's bytes, according to ETags."""
        with contextlib.suppress(OSError):
            return expected is not None and (
                expected == etag or self._hasher.digests.match_other_part_size(file, etag) is not None
            )
        return False

    def _make_hasher(self, run: Run, threads: int) -> Hasher:
        context = self._context
        expected = context.expected if run is self._run else {}
        return Hasher(
            FileDigests(run, self._request.multipart, context.stop),
            threads,
            expected=expected,
            turn=context.share.hashing_turn,
            uses_checksum=self._choice.uses_checksum,
        )

    def _make_verifier(self, run: Run, hasher: Hasher) -> FileVerifier:
        return FileVerifier(run, self.reader, hasher, self._choice, self._trust)

    def _make_pipeline(self, sender: BatchSender, verifier: FileVerifier) -> Pipeline:
        return Pipeline(sender, verifier, self._context.share.concurrency())
