"""One pass: batches sent by several processes at once, hashed and read back while others are still sent."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from s3sync.aws import causes, objects
from s3sync.runs import LocalFile, Run, run_folder
from s3sync.state import Proof
from s3sync.transfer import proof
from s3sync.transfer.bandwidth import Ahead
from s3sync.transfer.batch_sender import BatchResult, BatchSender
from s3sync.transfer.batches import Batch, BatchQueue, cost_of
from s3sync.transfer.concurrency import ConcurrencyController
from s3sync.transfer.etag_trust import EtagTrust, Judge
from s3sync.transfer.hashing import Hasher

_READBACK_SHARE = 0.05  # a read-back may cost so much of what the sending cost, while there is more to send

_LOOK_SECONDS = 0.5  # between two looks at whether more processes pay
_SELDOM_SECONDS = 15.0  # at whether they keep to the limit, when nothing more is to be sent
_IN_VAIN = 3  # times each process had to be ended without having sent a file: S3 does not answer
PATIENCE = (1.0, 4.0)  # seconds between the times that S3 is asked whether it can be reached again

CHANGED = "changed while it was uploaded"
VANISHED = "gone from the disk while it was uploaded"


class Failure(NamedTuple):
    """A file that is not proven, and why. `file` is as it is on disk now, None if it is gone or to be mended there.

    `unknown` if S3 did not say whether it is there: to be looked at again, not to be sent again.
    """

    path: str
    reason: str
    file: LocalFile | None
    unknown: bool = False


class PassResult(NamedTuple):
    """What a read-back brought to light."""

    proofs: tuple[Proof, ...]
    failures: tuple[Failure, ...]


class Pipeline:
    """Sends and proves files of one run; gives verdicts as they come."""

    def __init__(
        self,
        run: Run,
        transfer: BatchSender,
        reader: objects.ObjectReader,
        hasher: Hasher,
        *,
        verify: objects.Verify,
        crowd: ConcurrencyController,
        trust: EtagTrust,
    ) -> None:
        self._run = run
        self._transfer = transfer
        self._reader = reader
        self._hasher = hasher
        self._verify = verify
        self._crowd = crowd
        self.cause: causes.Cause | None = None  # why sending more is no use, of the last pass
        self.said = ""  # what the CLI said of that
        self.denied: causes.Cause | None = None  # what S3 said of files of it, and may not say of others
        self._judge = Judge(reader, hasher, trust, hasher.part_size, self._is_ours)
        self._sent: set[str] = set()  # paths of what was sent, as far as its process says
        self._in_vain = 0  # batches, one after the other, through all passes
        self._denials = 0  # batches of which a file was
        self._lost = False  # the way to S3
        self._over = threading.Event()  # nothing more is to be sent

    def run(self, queue: BatchQueue) -> Generator[PassResult, None, None]:
        """One pass over the queue. Raises AwsError, StateError, InterruptedBySignal; what was yielded is proven."""
        self.cause, self.denied, self.said = None, None, ""
        self._denials, self._lost = 0, False
        self._over.clear()
        self._transfer.begin()
        senders = ThreadPoolExecutor(self._crowd.most, thread_name_prefix="send")
        readers = ThreadPoolExecutor(1, thread_name_prefix="read")
        try:
            yield from self._send_and_read(queue, senders, readers)
        except BaseException:  # whoever gives up here, the close of this generator included
            self._over.set()
            senders.shutdown(wait=False, cancel_futures=True)
            self._transfer.abort()
            raise
        finally:
            senders.shutdown(cancel_futures=True)
            readers.shutdown(cancel_futures=True)

    def prove(self, files: Sequence[LocalFile], sent: Sequence[BatchResult] = ()) -> PassResult:
        """Stat, look at S3, compare: for files that may be there, just sent or found."""
        now = run_folder.stat_all(self._run, (file.path for file in files))
        failures = [
            Failure(file.path, CHANGED if fresh else VANISHED, fresh)
            for file in files
            if (fresh := now[file.path]) != file
        ]
        same = [file for file in files if now[file.path] == file]
        if not same:
            return PassResult((), tuple(failures))
        hashed = self._hasher.hashed(same) if self._reads else {}
        failures += [Failure(path, found.damage, None) for path, found in hashed.items() if found.damage]
        damaged = {path for path, found in hashed.items() if found.damage}
        same = [file for file in same if file.path not in damaged]
        if not same:
            return PassResult((), tuple(failures))
        etags = {path: found.etag for path, found in hashed.items()} if self._verify == "etag" else {}
        complaints = {f.path: s.complaints.get(f.path, s.general) for s in sent for f in s.batch.files}
        refused = {path for s in sent for path in s.complaints}
        proofs: list[Proof] = []
        seen = self._look(same, etags)
        by_size = self._verify == "size"
        readable = {file: item for file, item in seen.items() if not self._reads or file.path in hashed}
        verdicts = self._judge.verdicts(readable, etags, by_size=by_size)
        for file in seen:
            verdict = verdicts.get(file, "cannot be read")
            if isinstance(verdict, Proof) and file.path in refused and self._may_be_older(verdict, seen[file]):
                verdict = "S3 has an object of this size, which was there before"
            if isinstance(verdict, Proof):
                proofs.append(verdict)
            else:
                why = complaints.get(file.path)
                reason = f"{verdict}; {why}" if why else verdict
                failures.append(Failure(file.path, reason, file, isinstance(seen[file], objects.Unknown)))
        return PassResult(tuple(proofs), tuple(failures))

    def _send_and_read(
        self, queue: BatchQueue, senders: ThreadPoolExecutor, readers: ThreadPoolExecutor
    ) -> Iterator[PassResult]:
        sending: set[Future[BatchResult]] = set()
        reading: Future[PassResult] | None = None
        unread: list[BatchResult] = []
        read: list[Batch] = []
        self._crowd.begin()
        while queue or sending or unread or reading:
            if self._lost and unread:  # it cannot be asked what it has
                yield _not_compared(unread)
                unread = []
            allowed = self._crowd.look(len(sending), waiting=queue.feeds(len(sending) + 1))
            while queue and len(sending) < allowed:
                batch = queue.take(allowed, self._crowd.soon)
                sending.add(senders.submit(self._send, batch, _ahead(batch, queue, allowed - len(sending) - 1)))
            if reading is None and unread and (not sending or self._is_worth_reading(unread)):
                files = [file for sent in unread for file in sent.batch.files]
                reading = readers.submit(self.prove, files, tuple(unread))
                read, unread = [sent.batch for sent in unread], []
            self._transfer.keep_to_limit()
            seconds = _LOOK_SECONDS if queue else _SELDOM_SECONDS
            _wait_for_any(*sending, *([reading] if reading else []), seconds=seconds)
            for future in [future for future in sending if future.done()]:
                sending.discard(future)
                unread.append(self._received(future.result(), queue))
            if reading and reading.done():
                yield reading.result()
                self._transfer.compared(read)
                reading = None

    @property
    def _reads(self) -> bool:
        return self._verify == "etag" or self._hasher.checks

    def _send(self, batch: Batch, ahead: Ahead) -> BatchResult:
        if self._over.is_set():
            return BatchResult(batch, {}, "", None)
        if self._hasher.checks:
            return self._send_checked(batch, ahead)
        if self._verify == "etag":
            self._hasher.start(batch.files)  # while the sending brings the bytes into the page cache anyway
        return self._transfer.send(batch, ahead)

    def _send_checked(self, batch: Batch, ahead: Ahead) -> BatchResult:
        """Read it first, which brings its bytes into the page cache; what is damaged is not sent."""
        damaged = self._hasher.damaged(batch.files)
        whole = tuple(file for file in batch.files if file.path not in damaged)
        if not whole or self._over.is_set():
            return BatchResult(batch, {}, "", None)
        return self._transfer.send(batch._replace(files=whole), ahead)._replace(batch=batch)

    def _received(self, sent: BatchResult, queue: BatchQueue) -> BatchResult:
        self._sent.update(file.path for file in sent.batch.files)
        self._sent.difference_update(sent.complaints)  # also what an earlier pass has sent: the file may have changed
        self._in_vain = self._in_vain + 1 if sent.in_vain else 0
        cause = sent.cause or (sent.in_vain if self._in_vain >= _IN_VAIN * self._crowd.size else None)
        if sent.lost and not self._lost and (cause := self._why_lost() or cause):
            self._lost = True
            self._transfer.abort(no_way=True)
        if cause:
            self.said = self.said or sent.said
        if cause and cause.may_be_one_key:
            self.denied = self.denied or cause
            self._denials += 1
            cause = cause if self._is_denied_throughout() else None
        if cause:
            self.cause = self.cause or cause
            queue.clear()
        return sent

    def _is_denied_throughout(self) -> bool:
        """A policy may deny some keys and allow others: it is said of all only when nothing went up."""
        return not self._transfer.uploaded and self._denials >= _IN_VAIN * self._crowd.size

    def _why_lost(self) -> causes.Cause | None:
        """Why S3 cannot be reached, asked a few times; None if it can."""
        for seconds in (*PATIENCE, None):
            why = self._reader.why_unreachable()
            if not why or seconds is None:
                return why
            self._reader.pause(seconds)
        return None

    def _is_worth_reading(self, unread: Sequence[BatchResult]) -> bool:
        files = [file for sent in unread for file in sent.batch.files]
        return self._reader.cost(files) <= _READBACK_SHARE * cost_of(files)

    def _look(self, files: Sequence[LocalFile], etags: dict[str, str]) -> dict[LocalFile, objects.ObjectState]:
        seen = self._reader.get_many(files)
        unsettled = [f for f in files if not proof.is_settled(f, seen[f.path], etags.get(f.path))]
        if unsettled:
            seen.update(self._reader.head_unsettled(unsettled, seen))
        return {file: seen[file.path] for file in files}

    def _may_be_older(self, proof: Proof, seen: objects.ObjectState) -> bool:
        """Whether nothing but the size speaks for an object that this call may not have sent."""
        return (
            proof.verified_by == "size"
            and isinstance(seen, objects.RemoteObject)
            and not self._reader.is_new(proof.path, seen)
        )

    def _is_ours(self, file: LocalFile, seen: objects.RemoteObject) -> bool:
        """Whether an object is what this call has sent."""
        return file.path in self._sent and self._reader.is_new(file.path, seen)


def _ahead(batch: Batch, queue: BatchQueue, free: int) -> Ahead:
    """What the process of a batch may expect, where there is room for so many more."""
    coming = next((number for number in range(free, 0, -1) if queue.feeds(number)), min(free, int(bool(queue))))
    cost = cost_of(batch.files, queue.byte_cost)
    return Ahead(max(0, coming), cost / (cost + queue.left) if cost else 0.0)


def _not_compared(unread: Sequence[BatchResult]) -> PassResult:
    """Of files that may have arrived, where S3 cannot be asked."""
    said = ((file, sent.complaints.get(file.path, "")) for sent in unread for file in sent.batch.files)
    nothing = f"not compared: {causes.UNREACHABLE.what}"
    return PassResult((), tuple(Failure(f.path, f"{nothing}; {why}" if why else nothing, f, True) for f, why in said))


def _wait_for_any(*futures: Future[Any], seconds: float) -> None:
    wait(futures, seconds, return_when=FIRST_COMPLETED)
