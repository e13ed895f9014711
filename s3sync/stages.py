"""One call of `upload`, from the first word with S3 to the saved state: the only place where the stages meet."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3sync import awscli, awswords, checksums, hook, leftovers, plan, receipt, runfolder
from s3sync.checksums import Checksums
from s3sync.crowd import Crowd, LoadMeter
from s3sync.destination import COMPLETION_OBJECT, Destination
from s3sync.errors import AwsError, InterruptedBySignal, RunError, S3SyncError
from s3sync.interrupt import Stop
from s3sync.job import Job, Tally
from s3sync.pipeline import CHANGED, VANISHED, Failure, Hasher, Pipeline
from s3sync.plan import Scope
from s3sync.progress import Display, Snapshot
from s3sync.readback import Reader, RemoteObject
from s3sync.resources import usable_cores
from s3sync.runfolder import LocalFile, Run
from s3sync.state import StateStore
from s3sync.statelog import Proof, RunState
from s3sync.text import count_of, now_iso, printable
from s3sync.throttle import Throttle
from s3sync.transfer import Transfer

PASSES = 3  # a file is tried so often in one call
BACKOFF = (1.0, 4.0)  # seconds before the second and the third pass
HASHERS_PER_CORE = 0.5  # threads: one hashes as much as several `aws` send
MAX_ROUNDS = 10  # a run that was found changed so often is left for the next call
STREAM_SECONDS = 600.0  # after so long no more of a run that is written yet is begun: other runs wait, too
_COMPARE_FILES = 2000  # compared with S3 at a time, so that an interruption loses little
_NAMED = 5  # of what S3 alone has
_MOVING = (CHANGED, VANISHED)  # no failures while the sequencer writes


class Call:
    """One call of `upload`, from the first word with S3 to the saved state."""

    def __init__(
        self,
        job: Job,
        run: Run,
        scope: Scope,
        store: StateStore,
        state: RunState,
        aws: awscli.Aws,
        environ: Mapping[str, str],
        work: Path,
        stop: Stop,
        display: Display,
        expected: Checksums,
    ) -> None:
        self.scope = scope
        self.tally = Tally()
        self._state = state
        self._job = job
        self._run = run
        self._store = store
        self._aws = aws
        self._stop = stop
        self._display = display
        self._expected = expected
        self._activity = "comparing"
        self._listed: Collection[str] | None = ()  # what S3 had of the run; None: it may not be asked
        self._next_batch = 1
        self._before = self._proven_now()  # files and bytes
        self._totals = _totals(scope)
        self._url = job.destination.url(run.run_id)
        self._began = time.monotonic()
        self._launch_until = time.monotonic() + (STREAM_SECONDS if job.streams else math.inf)
        self._reader = Reader(aws, job.destination, run.run_id, job.readback, job.cores, job.owner)
        hashers = max(1, round(job.cores * HASHERS_PER_CORE))
        self._hasher = Hasher(run, job.multipart, stop, hashers, expected=expected)
        self._work = work
        limit = job.max_bandwidth
        self._throttle = Throttle(limit, job.cores, environ, job.settings, work) if limit else None
        self._transfer = self._transfer_of(run)
        self._pipeline = self._pipeline_of(run, self._transfer, self._hasher)

    def run(self, *, resumed: bool, certain: bool = False) -> None:
        """All stages. The state is saved whatever happens; an S3SyncError goes on with what is proven added.

        `resumed` says that there is a log; `certain` that S3 has what it says and no more, until the end says so.
        """
        parts_since, self._state.parts_since = self._state.parts_since, self._state.parts_since or now_iso()
        begin(self._store, self._state, self.scope)
        try:
            self._stages(resumed, certain, parts_since)
        except InterruptedBySignal as stopped:
            self._end()
            raise InterruptedBySignal(
                stopped.exit_code - 128, f"{stopped}: {self._so_far()}; the same command goes on from there"
            ) from None
        except S3SyncError:
            self._end()
            if self._next_batch > 1:
                self._display.say(f"{self._so_far()} (log: {printable(str(self._store.log_path))})")
            raise
        except BaseException:
            self._store.close()
            raise
        else:
            self._state.orderly = not self._state.failed and not self._is_more_in_s3()
            self._end()

    def _transfer_of(self, run: Run) -> Transfer:
        job = self._job
        return Transfer(
            self._aws, run, job.destination, self._work, job.multipart, job.storage, job.owner, self._throttle
        )

    def _pipeline_of(self, run: Run, transfer: Transfer, hasher: Hasher) -> Pipeline:
        load = LoadMeter(usable_cores(), self._aws.live)
        job = self._job
        crowd = Crowd(job.cores, job.most_processes, load, is_limited=lambda: transfer.share is not None)
        return Pipeline(run, transfer, self._reader, hasher, verify=job.verify, crowd=crowd)

    def _stages(self, resumed: bool, certain: bool, parts_since: str) -> None:
        with ThreadPoolExecutor(1) as side:
            version = side.submit(self._aws.quick_version)
            remote = None
            try:
                if certain:
                    self._reader.contact()
                else:
                    remote = self._reader.list_run()
            except AwsError:
                version.result()
                self._aws.check_usable()  # if not even that works, it is not S3's fault
                raise
            self._state.aws = f"{printable(self._aws.path)}: {version.result()}"
        if self._job.transfer_client == "crt" and not awswords.knows_crt(self._aws.said_version):
            self._display.say("warning: transfer_client crt means nothing to this aws: it takes version 2")
        if parts_since:
            self._sweep(parts_since)
        verb = "streaming" if self._job.streams else "uploading"
        self._display.follow(f"{verb} {what(self._run, self._job.destination)}", self._snapshot)
        if not certain:
            self._listed = None if remote is None else remote.keys()
            self._compare(remote, resumed)
        self._activity = "uploading"
        if self._job.streams:
            self._send_settled()
        else:
            if self.tally.found_files:
                self._look_again()  # comparing may have taken its time
            self._go_round()

    def _sweep(self, since: str) -> None:
        """The call before was killed: abort the multipart uploads that it left."""
        prefix = self._job.destination.run_prefix(self._run.run_id)
        keys = {prefix + f.path for f in self.scope.files if self._job.multipart.part_size_for(f.size)}
        if keys:
            swept = leftovers.sweep(self._aws, self._job.bucket, prefix, keys, since)
            if swept.aborted:
                self._display.say(f"{count_of(swept.aborted, 'multipart upload')} of an interrupted call aborted")
            self._transfer.unswept = swept.trouble

    def _compare(self, remote: Mapping[str, RemoteObject] | None, resumed: bool) -> None:
        """Prove without sending what S3 has already, and doubt what the log has but S3 has not."""
        if remote is None:
            if resumed:
                self._ask_for_heavy(self._pending())
            return
        lost = [p.path for p in self._state.proven.values() if _is_lost(p, remote.get(p.path))]
        if lost:
            self._display.say(f"warning: {count_of(len(lost), 'file')} of the log not in S3 any more as logged")
            self._state.proven = {path: p for path, p in self._state.proven.items() if path not in set(lost)}
        there = [f for f in self._pending() if f.path in remote and remote[f.path].size == f.size]
        for start in range(0, len(there), _COMPARE_FILES):
            self._stop.check()
            files = there[start : start + _COMPARE_FILES]
            etags = self._hasher.etags(files)
            found = [f for f in files if self._has(f, etags.get(f.path), remote[f.path].etag)]
            self._take([Proof(*f, remote[f.path].etag, "etag") for f in found], found=True)
        self._ask_for_heavy(plan.pending(there, self._state.proven))

    def _has(self, file: LocalFile, expected: str | None, etag: str) -> bool:
        """Whether an object with this ETag has the file's bytes, as far as ETags can tell."""
        with contextlib.suppress(OSError):
            return expected is not None and (expected == etag or self._hasher.etag_like(file, etag) is not None)
        return False

    def _ask_for_heavy(self, files: Sequence[LocalFile]) -> None:
        """Asking for one object costs as much as sending many small files, but less than sending a large one."""
        heavy = [file for file in files if plan.cost_of([file]) > plan.PROCESS_COST]
        if heavy:
            self._take(self._pipeline.prove(heavy).proofs, found=True)

    def _send_settled(self) -> None:
        """While the sequencer writes: what has settled goes up. What changes meanwhile has not, and waits."""
        self._reader.expect(file.path for file in (*self.scope.files, *self.scope.waiting))
        if pending := self._pending():
            self._send(pending)

    def _is_more_in_s3(self) -> bool:
        """Whether S3 has, or may have, files of the run that are not proven: touched since, and not settled again."""
        if self._listed is None:
            return True
        proven = self._state.proven
        unproven = {file.path for file in (*self.scope.files, *self.scope.waiting) if file.path not in proven}
        return not unproven.isdisjoint(self._listed)

    def _go_round(self) -> None:
        """Send what is pending, look at the disk again, until nothing is; the markers when all else is proven."""
        for _ in range(MAX_ROUNDS):
            self._reader.expect(file.path for file in self.scope.files)
            phases = plan.in_phases(self._pending())
            if phases.metadata or phases.data:
                self._send(phases.metadata, phases.data)
            elif phases.markers and not self.scope.unsendable:
                self._send_markers(phases.markers)
            else:
                break
            if self._state.failed:
                break
            self._look_again()
        else:
            self._state.failed.update((f.path, "the run keeps changing") for f in self._pending())
        self._state.failed.update(self.scope.unsendable)
        self._state.skipped = dict(self.scope.skipped)
        self._state.completed = bool(self.scope.files) and not self._state.failed and not self._pending()
        if self._state.completed:
            self._state.manifest_files = sum(file.path in self._expected for file in self.scope.files)
            self._let_go()
            self._leave_receipt()
        if self._state.completed and self._job.on_complete:
            self._state.on_complete = hook.PENDING

    def _leave_receipt(self) -> None:
        """The completion object, where it is wanted, is the last of the run: without it the run is not completed."""
        if not self._job.completion_object:
            return
        self._state.completed = False  # until it is there
        written = receipt.write(self._work / "receipt", self._run, self._job.destination, self._state, self.scope)
        self._reader.expect([COMPLETION_OBJECT, *(file.path for file in self.scope.files)])
        why = ""
        with contextlib.closing(Hasher(written, self._job.multipart, self._stop, 1)) as hasher:
            pipeline = self._pipeline_of(written, self._transfer_of(written), hasher)
            for attempt in range(PASSES):
                if attempt:
                    self._display.say(f"trying {COMPLETION_OBJECT} again: {why}")
                    self._stop.wait(BACKOFF[attempt - 1])
                self._state.completion_object, why = receipt.send(written, pipeline, self._next_batch)
                self._next_batch += 1
                if self._state.completion_object:
                    break
        self._state.completed = not why
        self._state.failed.update({COMPLETION_OBJECT: why} if why else {})

    def _send_markers(self, markers: Sequence[LocalFile]) -> None:
        """All of them or none: the instrument's manifest may name one of them."""
        if damaged := self._hasher.damaged(markers):
            self._state.failed.update(damaged)
        else:
            self._send(markers)

    def _let_go(self) -> None:
        """What went up and is no file of the run any more is S3's alone: it is told, and not counted as uploaded."""
        here = {file.path for file in self.scope.files}
        gone = sorted(self._state.proven.keys() - here)
        if gone:
            self._state.proven = {path: proof for path, proof in self._state.proven.items() if path in here}
        gone = [path for path in gone if not (self._run.split and runfolder.is_of_an_analysis(path))]
        if gone:
            named = ", ".join(map(printable, gone[:_NAMED])) + (", ..." if len(gone) > _NAMED else "")
            which = f"S3 alone has {count_of(len(gone), 'file')} by now, gone from the run or excluded: {named}"
            self._display.say(f"warning: {what(self._run, self._job.destination)}: {which}")

    def _send(self, *groups: Sequence[LocalFile]) -> None:
        """Up to three passes over the files; what is not proven then is failed. Raises AwsError for a lasting cause."""
        gone: dict[str, str] = {}
        unknown: list[Failure] = []
        for attempt in range(PASSES):
            if attempt:
                self._display.say(f"trying {count_of(len(groups[0]) + len(unknown), 'file')} again")
                self._stop.wait(BACKOFF[attempt - 1])
            looked_at = self._look_again_at([failure.file for failure in unknown if failure.file])
            absent = [failure.file for failure in looked_at if failure.file and not failure.unknown]
            failures = [f for f in looked_at if f.unknown or not f.file] + self._one_pass((*groups, absent))
            gone.update((failure.path, failure.reason) for failure in failures if failure.file is None)
            self._state.failed = {**gone, **{failure.path: failure.reason for failure in failures}}
            if (cause := self._pipeline.cause) and self._pending():
                raise AwsError(f"{cause.what}: {printable(self._url)} ({cause.advice})")
            unknown = [failure for failure in failures if failure.unknown]
            groups = ([failure.file for failure in failures if failure.file and not failure.unknown],)
            if not groups[0] and not unknown:
                return

    def _look_again_at(self, files: Sequence[LocalFile]) -> list[Failure]:
        """Those of these files, of which S3 had not said whether they are there, that still are not proven."""
        if not files:
            return []
        verdicts = self._pipeline.prove(files)
        self._take(verdicts.proofs)
        return list(verdicts.failures)

    def _one_pass(self, groups: Sequence[Sequence[LocalFile]]) -> list[Failure]:
        share = self._transfer.share
        byte_cost = max(plan.BYTE_COST, 1 / share) if share else plan.BYTE_COST
        queue = plan.BatchQueue(groups, self._next_batch, byte_cost)
        failures: list[Failure] = []
        try:
            with contextlib.closing(self._pipeline.run(queue)) as verdicts:
                for verdict in verdicts:
                    self._take(verdict.proofs)
                    failures += [f for f in verdict.failures if not (self._job.streams and f.reason in _MOVING)]
                    if time.monotonic() > self._launch_until:
                        queue.clear()
        finally:
            self._next_batch = queue.next_number
        return failures

    def _take(self, proofs: Sequence[Proof], *, found: bool = False) -> None:
        """Remember what is proven: in the journal first."""
        if not proofs:
            return
        self._store.record(proofs)
        self._state.proven.update((proof.path, proof) for proof in proofs)
        if found:
            self.tally.found_files += len(proofs)
            self.tally.found_size += sum(proof.size for proof in proofs)
        else:
            self.tally.sent_files += len(proofs)
            self.tally.sent_size += sum(proof.size for proof in proofs)

    def _look_again(self) -> None:
        listing, expected = checksums.list_files(self._run)
        if expected != self._expected:
            which = f"{checksums.MANIFEST} of {what(self._run, self._job.destination)}"
            raise RunError(
                f"{which} changed while it was uploaded: the same command compares everything with the new one"
            )
        self.scope = plan.scope_of(self._run, listing, self._job.destination, self._job.excludes, self._job.reserved)
        self._state.total_local_files = self.scope.total
        self._totals = _totals(self.scope)

    def _pending(self) -> tuple[LocalFile, ...]:
        return plan.pending(self.scope.files, self._state.proven)

    def _end(self) -> None:
        """Save what is known, whatever came before; raises StateError."""
        self._hasher.close()
        self.tally.aws_processes = self._aws.started
        self._state.finished = now_iso()
        self._state.sent_files += self.tally.sent_files
        self._state.sent_bytes += self.tally.sent_size
        self._state.seconds += time.monotonic() - self._began
        if self._transfer.unswept:
            advice = "a lifecycle rule of the bucket removes them; the next call tries, too"
            self._display.say(f"warning: parts may be left in S3: {self._transfer.unswept} ({advice})")
        else:
            self._state.parts_since = ""
        self._state.failed = dict(sorted(self._state.failed.items()))
        _forget_what_was(self._state, self.scope)
        if self._state.completed or self.tally.sent_files or self._job.streams:
            self._state.attempts = 0
        self._store.finish(self._state)

    def _proven_now(self) -> tuple[int, int]:
        same = [f for f in self.scope.files if plan.is_same(f, self._state.proven.get(f.path))]
        return len(same), sum(f.size for f in same)

    def _so_far(self) -> str:
        return f"{self._proven_now()[0]:,} of {count_of(self.scope.total, 'file')} proven"

    def _snapshot(self) -> Snapshot:
        """Asked several times a second while threads are at work: nothing here walks over the files."""
        files_total, size_total = self._totals
        moved = self._transfer.moved()
        files = self._before[0] + self.tally.found_files + moved.files
        size = self._before[1] + self.tally.found_size + moved.size
        activity = "checking" if self._activity == "uploading" and not moved.processes else self._activity
        return Snapshot(
            activity, min(files, files_total), files_total, min(size, size_total), size_total, moved.processes
        )


def begin(store: StateStore, state: RunState, scope: Scope) -> None:
    """Write the log of a call that has done nothing yet; raises StateError."""
    _forget_what_was(state, scope)
    if state.completed:  # taken up again: what this takes is told of itself
        state.sent_files = state.sent_bytes = 0
        state.seconds = 0.0
    state.completed = state.orderly = False
    state.failed = {}
    state.started, state.finished = now_iso(), ""
    state.attempts += 1
    state.manifest_files = 0
    state.still_since = scope.still_since
    state.completion_object = state.on_complete = ""
    state.total_local_files = scope.total
    store.begin(state)


def _forget_what_was(state: RunState, scope: Scope) -> None:
    """Proofs of files as they were before they changed, or failed, are none: the log would have those as uploaded.

    The predecessor did not say how they were; what it says stands until S3 says otherwise.
    """
    known = ((file, state.proven.get(file.path)) for file in (*scope.files, *scope.waiting))
    stale = {file.path for file, proof in known if proof and proof.size >= 0 and not plan.is_same(file, proof)}
    stale.update(path for path in state.failed if path in state.proven)
    if stale:
        state.proven = {path: proof for path, proof in state.proven.items() if path not in stale}


def what(run: Run, destination: Destination) -> str:
    """Which run, and where to, for people."""
    return f"{printable(run.run_id)} to {printable(destination.url(run.run_id))}"


def _totals(scope: Scope) -> tuple[int, int]:
    """Files and bytes."""
    return len(scope.files), sum(file.size for file in scope.files)


def _is_lost(proof: Proof, remote: RemoteObject | None) -> bool:
    return remote is None or remote.etag != proof.etag
