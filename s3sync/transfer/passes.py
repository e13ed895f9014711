"""Files of one run into S3, and proven there: in passes, until each is proven or has failed for good."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from s3sync.aws import client, destination, multipart, objects
from s3sync.errors import AwsError, DeniedError
from s3sync.resources import usable_cores
from s3sync.runs import LocalFile, Run, analysis_manifest
from s3sync.signals import StopRequest
from s3sync.state import Proof, RunState, log_format
from s3sync.text import pluralize, printable
from s3sync.transfer import batches, completion_object
from s3sync.transfer.bandwidth import Throttle
from s3sync.transfer.batch_sender import BatchSender
from s3sync.transfer.concurrency import ConcurrencyController, LoadMeter
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.hashing import Hasher
from s3sync.transfer.pipeline import CHANGED, VANISHED, Failure, Pipeline
from s3sync.transfer.progress import Display, Snapshot
from s3sync.transfer.request import FileTotals, UploadCounters, UploadRequest

PASSES = 3  # a file is tried so often in one call


def _delays(text: str) -> tuple[float, ...]:
    """Return the seconds before the second and the third pass; tests, which wait for nothing, set others."""
    try:
        delays = tuple(float(seconds) for seconds in text.split(","))
    except ValueError:
        delays = ()
    return delays if len(delays) == PASSES - 1 and all(0 <= each < 3600 for each in delays) else (1.0, 4.0)


BACKOFF = _delays(os.environ.get("S3SYNC_RETRY_DELAYS", ""))
HASHERS_PER_CORE = 0.5  # threads: one hashes as much as several `aws` send
STREAM_SECONDS = 600.0  # after so long no more of a run that is written yet is begun: other runs wait, too
_COMPARE_FILES = 2000  # compared with S3 at a time, so that an interruption loses little
_MOVING = (CHANGED, VANISHED)  # no failures while the sequencer writes

Recorder: TypeAlias = Callable[[Sequence[Proof]], None]
Remote: TypeAlias = "dict[str, objects.RemoteObject] | None"  # objects by path in the run; None: they may not be listed


class FileUploader:
    """Sends files of one run and proves them; what is proven is recorded first, then in `state.proven`.

    What failed is in `state.failed`.
    """

    def __init__(
        self,
        request: UploadRequest,
        run: Run,
        state: RunState,
        record: Recorder,
        aws: client.AwsCli,
        environ: Mapping[str, str],
        work: Path,
        stop: StopRequest,
        display: Display,
        expected: analysis_manifest.Checksums,
        record_found: Recorder | None = None,
    ) -> None:
        """`record_found` is given what S3 had already, where that is recorded apart from what was sent."""
        self.tally = UploadCounters()
        self.next_batch = 1
        self.reader = objects.ObjectReader(
            aws, request.destination, run.run_id, request.readback, request.cores, request.bucket_owner, say=display.say
        )
        self._trust = EtagTrust(state.opaque_etags, display.say)
        self._request = request
        self._run = run
        self._state = state
        self._record = record
        self._record_found = record_found or record
        self._aws = aws
        self._work = work
        self._stop = stop
        self._display = display
        self._url = request.destination.url(run.run_id)
        self._launch_until = time.monotonic() + (STREAM_SECONDS if request.is_streaming else math.inf)
        hashers = max(1, round(request.cores * HASHERS_PER_CORE))
        self._hasher = Hasher(run, request.multipart, stop, hashers, expected=expected)
        limit = request.max_bandwidth
        self._throttle = Throttle(limit, request.cores, environ, request.settings, work) if limit else None
        self._transfer = self._transfer_of(run)
        self._pipeline = self._pipeline_of(run, self._transfer, self._hasher)

    @property
    def not_compared(self) -> int:
        """Files that went up, as the CLI says, and that nobody has compared with S3 yet."""
        return self._transfer.not_compared

    @property
    def unswept(self) -> str:
        """Why parts may be left in S3; empty if there are none."""
        return self._transfer.unswept

    def snapshot(self, activity: str, before: FileTotals, total: FileTotals) -> Snapshot:
        """How far it is, where `before` was proven already; asked several times a second while threads are at work:
        nothing here walks over the files.
        """
        moved = self._transfer.moved()
        files = before.files + self.tally.found_files + moved.files
        size = before.size + self.tally.found_size + moved.size
        shown = "checking" if activity == "uploading" and not moved.processes else activity
        return Snapshot(shown, min(files, total.files), total.files, min(size, total.size), total.size, moved.processes)

    def doubt_etags(self) -> None:
        """Objects are not as they were logged: what is known of this server's ETags may be of another one."""
        self._trust.doubt()

    def close(self) -> None:
        """Drop what has not begun."""
        self._hasher.close()
        self.tally.aws_processes = self._aws.process_count

    def sweep(self, files: Collection[LocalFile], since: str) -> None:
        """Abort the multipart uploads of these files that a killed process has left since then."""
        prefix = self._request.destination.run_prefix(self._run.run_id)
        unproven_first = sorted(files, key=lambda f: log_format.is_same(f, self._state.proven.get(f.path)))
        keys = [prefix + f.path for f in unproven_first if self._request.multipart.part_size_for(f.size)]
        if keys:
            storage, habits = self._request.storage, self._transfer.habits
            swept = multipart.abort_incomplete_uploads(
                self._aws, self._request.bucket, prefix, keys, since, habits, storage
            )
            if swept.aborted:
                self._display.say(f"{pluralize(swept.aborted, 'multipart upload')} of an interrupted call aborted")
            self._transfer.unswept = swept.trouble

    def compare(self, files: Sequence[LocalFile], remote: Mapping[str, objects.RemoteObject]) -> None:
        """Prove without sending those that S3 has already."""
        there = [f for f in files if f.path in remote and remote[f.path].size == f.size]
        for start in range(0, len(there), _COMPARE_FILES):
            self._stop.raise_if_requested()
            some = there[start : start + _COMPARE_FILES]
            etags = self._hasher.etags(some)
            found = [f for f in some if self._has(f, etags.get(f.path), remote[f.path].etag)]
            proofs = [Proof(*f, remote[f.path].etag, "etag") for f in found]
            for proof in proofs:
                self._trust.saw(proof)
            self.take(proofs, found=True)
        self.ask_for_heavy(batches.pending(there, self._state.proven))

    def ask_for_heavy(self, files: Sequence[LocalFile]) -> None:
        """Asking for one object costs as much as sending many small files, but less than sending a large one."""
        heavy = [file for file in files if batches.cost_of([file]) > client.PROCESS_COST]
        if heavy:
            self.take(self._pipeline.prove(heavy).proofs, found=True)

    def damaged(self, files: Sequence[LocalFile]) -> dict[str, str]:
        """Those of these files that are not to be sent, and why, by path."""
        return self._hasher.damaged(files)

    def send(self, *groups: Sequence[LocalFile]) -> None:
        """Up to three passes over the files; what is not proven then is failed. Raises AwsError for a lasting cause."""
        gone: dict[str, str] = {}
        unknown: list[Failure] = []
        wanted = [file for group in groups for file in group]
        for attempt in range(PASSES):
            if attempt:
                self._display.say(f"trying {pluralize(len(groups[0]) + len(unknown), 'file')} again")
                self._stop.wait(BACKOFF[attempt - 1])
            looked_at = self._look_again_at([failure.file for failure in unknown if failure.file])
            absent = [failure.file for failure in looked_at if failure.file and not failure.unknown]
            failures = [f for f in looked_at if f.unknown or not f.file] + self._one_pass((*groups, absent))
            gone.update((failure.path, failure.reason) for failure in failures if failure.file is None)
            self._state.failed = {**gone, **{failure.path: failure.reason for failure in failures}}
            self._require_use(wanted)
            unknown = [failure for failure in failures if failure.unknown]
            groups = ([failure.file for failure in failures if failure.file and not failure.unknown],)
            if not groups[0] and not unknown:
                return

    def _require_use(self, wanted: Sequence[LocalFile]) -> None:
        """Raise AwsError if the last pass found out why another is no use, with a reason for each file in the state."""
        pending = batches.pending(wanted, self._state.proven)
        cause = self._pipeline.cause or (None if self._state.proven else self._pipeline.denied)
        if cause and pending:
            self._state.failed = {file.path: f"not sent: {cause.what}" for file in pending} | self._state.failed
            said = f". aws said: {self._pipeline.said}" if self._pipeline.said else ""
            error = DeniedError if cause.may_be_one_key else AwsError
            raise error(f"{cause.message_for(printable(self._url))}{said}", id=cause.id)

    def send_receipt(self, written: Run) -> tuple[str, str]:
        """The completion object, by the same ways: its ETag, or why there is none."""
        etag = why = ""
        with contextlib.closing(Hasher(written, self._request.multipart, self._stop, 1)) as hasher:
            pipeline = self._pipeline_of(written, self._transfer_of(written), hasher)
            for attempt in range(PASSES):
                if attempt:
                    self._display.say(f"trying {destination.COMPLETION_OBJECT} again: {why}")
                    self._stop.wait(BACKOFF[attempt - 1])
                etag, why = completion_object.send(written, pipeline, self.next_batch)
                self.next_batch += 1
                if etag:
                    break
        return etag, why

    def take(self, proofs: Sequence[Proof], *, found: bool = False) -> None:
        """Remember what is proven: on disk first."""
        if not proofs:
            return
        (self._record_found if found else self._record)(proofs)
        self._state.opaque_etags = tuple(sorted(self._trust.opaque))
        self._state.proven.update((proof.path, proof) for proof in proofs)
        if found:
            self.tally.found_files += len(proofs)
            self.tally.found_size += sum(proof.size for proof in proofs)
        else:
            self.tally.sent_files += len(proofs)
            self.tally.sent_size += sum(proof.size for proof in proofs)

    def _transfer_of(self, run: Run) -> BatchSender:
        request = self._request
        return BatchSender(
            self._aws,
            run,
            request.destination,
            self._work,
            request.multipart,
            request.storage,
            request.bucket_owner,
            self._throttle,
        )

    def _pipeline_of(self, run: Run, transfer: BatchSender, hasher: Hasher) -> Pipeline:
        load = LoadMeter(usable_cores(), self._aws.running_pids)
        request = self._request
        crowd = ConcurrencyController(
            request.cores, request.process_limit, load, is_limited=lambda: transfer.share is not None
        )
        return Pipeline(run, transfer, self.reader, hasher, verify=request.verify, crowd=crowd, trust=self._trust)

    def _has(self, file: LocalFile, expected: str | None, etag: str) -> bool:
        """Whether an object with this ETag has the file's bytes, as far as ETags can tell."""
        with contextlib.suppress(OSError):
            return expected is not None and (expected == etag or self._hasher.etag_like(file, etag) is not None)
        return False

    def _look_again_at(self, files: Sequence[LocalFile]) -> list[Failure]:
        """Those of these files, of which S3 had not said whether they are there, that still are not proven."""
        if not files:
            return []
        verdicts = self._pipeline.prove(files)
        self.take(verdicts.proofs)
        return list(verdicts.failures)

    def _one_pass(self, groups: Sequence[Sequence[LocalFile]]) -> list[Failure]:
        share = self._transfer.share
        byte_cost = max(batches.BYTE_COST, 1 / share) if share else batches.BYTE_COST
        queue = batches.BatchQueue(groups, self.next_batch, byte_cost)
        failures: list[Failure] = []
        try:
            with contextlib.closing(self._pipeline.run(queue)) as verdicts:
                for verdict in verdicts:
                    self.take(verdict.proofs)
                    failures += [
                        f for f in verdict.failures if not (self._request.is_streaming and f.reason in _MOVING)
                    ]
                    if time.monotonic() > self._launch_until:
                        queue.clear()
        finally:
            self.next_batch = queue.next_number
        return failures


def first_word(aws: client.AwsCli, ask: Callable[[], Remote]) -> tuple[Remote, str]:
    """What S3 says to the first question that is asked of it, and which `aws` was told.

    Whatever keeps the upload from working at all raises AwsError here.
    """
    with ThreadPoolExecutor(1) as side:
        version = side.submit(aws.quick_version)
        try:
            remote = ask()
        except AwsError:
            version.result()
            aws.check_usable()  # if not even that works, it is not S3's fault
            raise
        return remote, f"{printable(aws.path)}: {version.result()}"
