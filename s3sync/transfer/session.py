"""One call of `upload`, from the first word with S3 to the saved state: the only place where the stages meet."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from s3sync.aws import argv, causes, client, objects
from s3sync.aws import destination as aws_destination
from s3sync.errors import AwsError, InterruptedBySignal, LeaseLostError, RunError, S3SyncError
from s3sync.runs import LocalFile, Run, analysis_manifest, run_folder
from s3sync.signals import StopRequest
from s3sync.state import Proof, RunState, StateStore, log_format
from s3sync.text import now_iso, pluralize, printable
from s3sync.transfer import batches, changes, completion_object, hook, passes, selection
from s3sync.transfer.passes import FileUploader
from s3sync.transfer.progress import Display, Snapshot
from s3sync.transfer.request import Executor, FileTotals, Handover, UploadCounters, UploadRequest, describe_target
from s3sync.transfer.selection import UploadSelection

MAX_ROUNDS = 10  # a run that was found changed so often is left for the next call
_NAMED = 5  # of what S3 alone has


class UploadSession:
    """One call of `upload`, from the first word with S3 to the saved state."""

    def __init__(
        self,
        request: UploadRequest,
        run: Run,
        scope: UploadSelection,
        store: StateStore,
        state: RunState,
        aws: client.AwsCli,
        environ: Mapping[str, str],
        work: Path,
        stop: StopRequest,
        display: Display,
        expected: analysis_manifest.Checksums,
        executor: Executor | None = None,
    ) -> None:
        self.scope = scope
        self.handed_over = False  # to the jobs of a cluster
        self._state = state
        self._request = request
        self._run = run
        self._store = store
        self._aws = aws
        self._display = display
        self._expected = expected
        self._work = work
        self._activity = "comparing"
        self._listed: Collection[str] | None = ()  # what S3 had of the run; None: it may not be asked
        self._before = self._proven_now()
        self._hook_before = state.on_complete if state.completed else ""
        self._totals = FileTotals.of(scope.files)
        self._began = time.monotonic()
        self._executor = executor
        self._sender = FileUploader(request, run, state, store.record, aws, environ, work, stop, display, expected)

    @property
    def tally(self) -> UploadCounters:
        """What this call has done so far."""
        return self._sender.tally

    def run(self, *, resumed: bool, certain: bool = False) -> None:
        """All stages. The state is saved whatever happens; an S3SyncError goes on with what is proven added.

        `resumed` says that there is a log; `certain` that S3 has what it says and no more, until the end says so.
        """
        parts_since, self._state.parts_since = self._state.parts_since, self._state.parts_since or now_iso()
        started, is_first = self._state.started, not resumed and not self._state.attempts
        begin(self._store, self._state, self.scope)
        if self._executor and self._executor.is_finalizer:  # begun by whoever handed it over
            self._state.started = started
        try:
            self._stages(resumed, certain, parts_since)
        except LeaseLostError:  # the log is another host's now
            self._sender.close()
            self._store.close()
            raise
        except InterruptedBySignal as stopped:
            self._end()
            raise InterruptedBySignal(
                stopped.exit_code - 128, f"{stopped}: {self._so_far()}; the same command goes on from there"
            ) from None
        except S3SyncError as error:
            if is_first and self._is_misdirected(error):
                self._sender.close()
                self._store.withdraw()
                raise
            self._end()
            if self._sender.next_batch > 1:
                self._display.say(f"{self._so_far()} (log: {printable(str(self._store.log_path))})")
            raise
        except BaseException:
            self._store.close()
            raise
        else:
            self._state.orderly = not self.handed_over and not self._state.failed and not self._is_more_in_s3()
            self._end()

    def _is_misdirected(self, error: S3SyncError) -> bool:
        """Whether a person gave a bucket that does not exist: a log of that would be of a run that nobody meant."""
        is_nowhere = isinstance(error, AwsError) and str(error).startswith(f"{causes.NO_BUCKET.what}:")
        return is_nowhere and not (self._request.scheduled or self._state.proven or self.tally.sent_files)

    def _stages(self, resumed: bool, certain: bool, parts_since: str) -> None:
        reader = self._sender.reader
        remote, self._state.aws = passes.first_word(self._aws, reader.check_access if certain else reader.list_run)
        if self._request.transfer_client == "crt" and not argv.supports_crt(self._aws.version_text):
            self._display.say("warning: transfer_client crt means nothing to this aws: it takes version 2")
        if parts_since:  # the call before was killed
            self._sender.sweep(self.scope.files, parts_since)
        if not certain:
            self._listed = None if remote is None else remote.keys()
            self._forget_lost(remote)
        if self._executor and self._executor.submits and self._hand_over(self._executor, resumed):
            return
        verb = "streaming" if self._request.is_streaming else "uploading"
        self._display.follow(f"{verb} {describe_target(self._run, self._request.destination)}", self._snapshot)
        if not certain:
            self._compare(remote, resumed)
        self._activity = "uploading"
        if self._request.is_streaming:
            self._send_settled()
        else:
            if self.tally.found_files:
                self._look_again()  # comparing may have taken its time
            self._go_round()

    def _forget_lost(self, remote: Mapping[str, objects.RemoteObject] | None) -> None:
        """Doubt what the log has but S3 has not."""
        lost = (
            [] if remote is None else [p.path for p in self._state.proven.values() if _is_lost(p, remote.get(p.path))]
        )
        if lost:
            self._display.say(f"warning: {pluralize(len(lost), 'file')} of the log not in S3 any more as logged")
            self._sender.doubt_etags()
            self._state.proven = {path: p for path, p in self._state.proven.items() if path not in set(lost)}

    def _require_own_prefix(self, remote: Mapping[str, objects.RemoteObject]) -> None:
        """Where nothing is proven, S3 may have another run of that name, uploaded with another log directory.

        Raises RunError if it has; `--recheck` replaces it. To be asked after the files were compared.
        """
        theirs, ours = (
            remote.get(run_folder.RUN_INFO),
            next((f for f in self.scope.files if f.path == run_folder.RUN_INFO), None),
        )
        has_ours = any(proof.size for proof in self._state.proven.values())
        if self._request.recheck or has_ours or not theirs or not ours or theirs.size == ours.size:
            return
        where = printable(self._request.destination.url(self._run.run_id))
        sizes = f"{run_folder.RUN_INFO} has {theirs.size:,} bytes there and {ours.size:,} here"
        advice = "use another remote_path; `upload --recheck` replaces what is there"
        raise RunError(f"{where} has another run of that name: {sizes} ({advice})")

    def _compare(self, remote: Mapping[str, objects.RemoteObject] | None, resumed: bool) -> None:
        """Prove without sending what S3 has already."""
        if remote is not None:
            self._sender.compare(self._pending(), remote)
            self._require_own_prefix(remote)
        elif resumed:
            self._sender.ask_for_heavy(self._pending())

    def _hand_over(self, executor: Executor, resumed: bool) -> bool:
        """Hand all files but the markers to the executor; return whether there were any."""
        phases = batches.split_by_phase(self._pending())
        files = (*phases.metadata, *phases.data)
        if not files:
            return False
        state = self._state
        handover = Handover(
            request=self._for_nodes(),
            submitted=now_iso(),
            resumed=resumed,
            manifest=run_folder.stat_again(self._run, analysis_manifest.MANIFEST) if self._expected else None,
            amount=self._totals,
            proven=self._proven_now(),
            sent=FileTotals(state.sent_files, state.sent_bytes),
            seconds=state.seconds,
        )
        executor.submit(handover, files)
        self.handed_over = True
        return True

    def _for_nodes(self) -> UploadRequest:
        """The request in words that mean the same in another folder."""
        request = self._request
        aws = (
            os.path.abspath(request.aws_command)
            if request.aws_command and "/" in request.aws_command
            else request.aws_command
        )
        return replace(
            request, local_path=self._run.path, log_dir=Path(os.path.abspath(request.log_dir)), aws_command=aws
        )

    def _send_settled(self) -> None:
        """While the sequencer writes: what has settled goes up. What changes meanwhile has not, and waits."""
        self._sender.reader.set_expected_paths(file.path for file in (*self.scope.files, *self.scope.waiting))
        if pending := self._pending():
            self._sender.send(pending)

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
            self._sender.reader.set_expected_paths(file.path for file in self.scope.files)
            phases = batches.split_by_phase(self._pending())
            if phases.metadata or phases.data:
                self._sender.send(phases.metadata, phases.data)
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
        if self._state.completed and self._request.on_complete:
            is_as_it_was = self._hook_before == hook.DONE and not self.tally.sent_files
            self._state.on_complete = hook.DONE if is_as_it_was else hook.PENDING

    def _leave_receipt(self) -> None:
        """The completion object, where it is wanted, is the last of the run: without it the run is not completed."""
        if not self._request.completion_object:
            return
        self._state.completed = False  # until it is there
        self._store.check()
        written = completion_object.write(
            self._work / "receipt", self._run, self._request.destination, self._state, self.scope
        )
        self._sender.reader.set_expected_paths(
            [aws_destination.COMPLETION_OBJECT, *(file.path for file in self.scope.files)]
        )
        self._state.completion_object, why = self._sender.send_receipt(written)
        self._state.completed = not why
        self._state.failed.update({aws_destination.COMPLETION_OBJECT: why} if why else {})

    def _send_markers(self, markers: Sequence[LocalFile]) -> None:
        """All of them or none: the instrument's manifest may name one of them."""
        self._store.check()
        if damaged := self._sender.damaged(markers):
            self._state.failed.update(damaged)
        else:
            self._sender.send(markers)

    def _let_go(self) -> None:
        """What went up and is no file of the run any more is S3's alone: it is told, and not counted as uploaded."""
        here = {file.path for file in self.scope.files}
        gone = sorted(self._state.proven.keys() - here)
        if gone:
            self._state.proven = {path: proof for path, proof in self._state.proven.items() if path in here}
        gone = [path for path in gone if not (self._run.split and run_folder.is_of_an_analysis(path))]
        if gone:
            named = ", ".join(map(printable, gone[:_NAMED])) + (", ..." if len(gone) > _NAMED else "")
            which = f"S3 alone has {pluralize(len(gone), 'file')} by now, gone from the run or excluded: {named}"
            self._display.say(f"warning: {describe_target(self._run, self._request.destination)}: {which}")

    def _look_again(self) -> None:
        self._state.watched = changes.spots_of(self._run)
        listing, expected = analysis_manifest.list_files(self._run)
        if expected != self._expected:
            which = f"{analysis_manifest.MANIFEST} of {describe_target(self._run, self._request.destination)}"
            raise RunError(
                f"{which} changed while it was uploaded: the same command compares everything with the new one"
            )
        self.scope = selection.select_files(
            self._run, listing, self._request.destination, self._request.excludes, self._request.reserved_path
        )
        self._state.total_local_files = self.scope.total
        self._totals = FileTotals.of(self.scope.files)

    def _pending(self) -> tuple[LocalFile, ...]:
        return batches.pending(self.scope.files, self._state.proven)

    def _end(self) -> None:
        """Save what is known, whatever came before; raises StateError."""
        self._sender.close()
        self._state.finished = now_iso()
        if self._state.completed:
            self._state.first_completed = self._state.first_completed or self._state.finished
        self._state.sent_files += self.tally.sent_files
        self._state.sent_bytes += self.tally.sent_size
        self._state.seconds += time.monotonic() - self._began
        if self._sender.unswept:
            advice = "a lifecycle rule of the bucket removes them; the next call tries, too"
            self._display.say(f"warning: parts may be left in S3: {self._sender.unswept} ({advice})")
        elif not self.handed_over:
            self._state.parts_since = ""
        self._state.failed = dict(sorted(self._state.failed.items()))
        _forget_what_was(self._state, self.scope)
        if self._state.completed or self.tally.sent_files or self._request.is_streaming:
            self._state.attempts = 0
        elif self.handed_over:
            self._state.attempts -= 1  # the finalizer job counts it
        self._store.finish(self._state)

    def _proven_now(self) -> FileTotals:
        same = [f for f in self.scope.files if log_format.is_same(f, self._state.proven.get(f.path))]
        return FileTotals.of(same)

    def _so_far(self) -> str:
        sent = self._sender.not_compared
        more = f", {sent:,} more sent and not compared yet" if sent else ""
        return f"{self._proven_now().files:,} of {pluralize(self.scope.total, 'file')} proven{more}"

    def _snapshot(self) -> Snapshot:
        return self._sender.snapshot(self._activity, self._before, self._totals)


def begin(store: StateStore, state: RunState, scope: UploadSelection) -> None:
    """Write the log of a call that has done nothing yet; raises StateError."""
    _forget_what_was(state, scope)
    if state.completed:  # taken up again: what this takes is told of itself
        state.first_completed = state.first_completed or state.finished or now_iso()
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


def _forget_what_was(state: RunState, scope: UploadSelection) -> None:
    """Proofs of files as they were before they changed, or failed, are none: the log would have those as uploaded.

    The predecessor did not say how they were; what it says stands until S3 says otherwise.
    """
    known = ((file, state.proven.get(file.path)) for file in (*scope.files, *scope.waiting))
    stale = {file.path for file, proof in known if proof and proof.size >= 0 and not log_format.is_same(file, proof)}
    stale.update(path for path in state.failed if path in state.proven)
    if stale:
        state.proven = {path: proof for path, proof in state.proven.items() if path not in stale}


def _is_lost(proof: Proof, remote: objects.RemoteObject | None) -> bool:
    return remote is None or remote.etag != proof.etag
