"""Run the stages of one call of `upload`, from the first contact with S3 to the saved state."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from s3sync.aws import causes, settings
from s3sync.aws import destination as aws_destination
from s3sync.errors import AwsError, InterruptedBySignal, LeaseLostError, Notice, RunError, S3SyncError
from s3sync.runs import LocalFile, analysis_manifest, local_files
from s3sync.state import RunState, StateStore, run_state
from s3sync.text import now_iso, pluralize, printable
from s3sync.transfer import batches, changes, completion_object, selection
from s3sync.transfer.context import UploadContext
from s3sync.transfer.passes import FileUploader
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals, UploadResult, hook
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.upload.handover import Executor, Handover, with_absolute_paths
from s3sync.transfer.upload.remote_run import RemoteRun

MAX_RESCANS = 10  # a run that was found changed after each of them is left for the next call
_MAX_NAMES_SHOWN = 5  # files named in a message


class UploadSession:
    """One call of `upload`. Its stages replace `_state`, which is always saved at the end."""

    def __init__(
        self,
        context: UploadContext,
        selection: UploadSelection,
        store: StateStore,
        state: RunState,
        executor: Executor,
    ) -> None:
        """Continue from `state`, the one that earlier calls have left."""
        self._context = context
        self._request = context.request
        self._store = store
        self._executor = executor
        self._selection = selection  # from the last listing
        self._totals = FileTotals.of(selection.files)
        self._initial = state
        self._state = start_state(state, selection, executor).sending(now_iso())
        self._uploader = FileUploader(context, store.record, self._state.verified, self._state.opaque_etags)
        self._remote = RemoteRun(context, self._uploader)
        self._verified_before = self._verified_now()
        context.share.note_left(batches.cost_of(self._pending()))
        self._began = time.monotonic()
        self._activity = "comparing"
        self._handed_over = False
        self._skipped: Mapping[str, str] | None = None
        self._completion: run_state.Completion | None = None

    def run_stages(self, *, resumed: bool, is_s3_known: bool = False) -> UploadResult:
        """Run all stages and return the result. An S3SyncError propagates after the state is saved.

        `resumed` says that there is a log; `is_s3_known` that S3 has what the log says, and nothing else.
        """
        self._store.begin(self._state)
        try:
            self._upload_in_stages(resumed=resumed, is_s3_known=is_s3_known)
        except LeaseLostError:  # another host owns the log now
            self._uploader.close()
            self._store.close()
            raise
        except InterruptedBySignal as stopped:
            self._save_final_state()
            raise InterruptedBySignal(
                stopped.exit_code - 128, f"{stopped}: {self._progress_text()}; the same command continues from there"
            ) from None
        except S3SyncError as error:
            if not resumed and not self._initial.attempts and self._has_named_no_bucket(error):
                self._uploader.close()
                self._store.withdraw()
                raise
            self._save_final_state()
            if self._uploader.next_batch > 1:
                self._context.display.print(f"{self._progress_text()} (log: {printable(str(self._store.log_path))})")
            raise
        except BaseException:
            self._uploader.close()  # else the program would wait until its threads have read the whole run
            self._store.close()
            raise
        is_clean = not self._handed_over and not self._uploader.failed
        self._save_final_state(ended_cleanly=is_clean and not self._remote.has_unverified(self._selection))
        return UploadResult(
            run=self._context.run,
            destination=self._request.destination,
            log_path=self._store.log_path,
            state=self._state,
            selection=self._selection,
            counters=self._uploader.counters,
            handed_over=self._handed_over,
        )

    # The stages

    def _upload_in_stages(self, *, resumed: bool, is_s3_known: bool) -> None:
        self._remote.read(is_known=is_s3_known)
        self._state = replace(self._state, aws=self._uploader.aws_version)
        if note := self._note_on_client():
            self._context.display.print(note)
        if self._initial.stale_parts_since:
            self._uploader.abort_stale_parts(self._selection.files, self._initial.stale_parts_since)
        if not is_s3_known:
            self._remote.drop_proofs_of_missing()
        if self._executor.submits and self._hand_over(resumed):
            return
        verb = "streaming" if self._request.is_streaming else "uploading"
        self._context.display.follow(f"{verb} {self._context.target}", self._snapshot)
        if not is_s3_known:
            self._remote.compare(self._selection, resumed=resumed)
        self._activity = "uploading"
        if self._request.is_streaming:
            self._upload_settled_files()
            return
        if self._uploader.counters.found_files:
            self._rescan()  # comparing may have taken long
        self._upload_until_stable()
        self._completion = self._complete()

    def _note_on_client(self) -> str:
        """Return what the user should know of the CLI's client in C; empty if nothing."""
        wanted, has_crt = self._request.transfer_client, self._context.aws.supports_crt
        if wanted == "crt" and not has_crt:
            return Notice("transfer_client crt needs AWS CLI version 2; it is ignored", id="upload.crt-ignored").line
        if wanted == "auto" and has_crt and settings.prefers_crt(self._context.environ):
            return "note: preferred_transfer_client of the AWS config is ignored (transfer_client: crt has that effect)"
        return ""

    def _hand_over(self, resumed: bool) -> bool:
        """Hand all files but the markers over to the executor; return whether there were any."""
        order = batches.split_by_phase(self._pending())
        files = (*order.metadata, *order.data)
        if not files:
            return False
        manifest = None
        if self._context.expected:
            manifest = local_files.restat(self._context.run, analysis_manifest.MANIFEST_TSV)
        handover = Handover(
            request=with_absolute_paths(self._request, self._context.run.path),
            submitted=now_iso(),
            resumed=resumed,
            manifest=manifest,
            amount=self._totals,
            verified=self._verified_now(),
            sent=FileTotals(self._state.sent_files, self._state.sent_bytes),
            seconds=self._state.seconds,
        )
        self._executor.submit(handover, files)
        self._handed_over = True
        return True

    def _upload_settled_files(self) -> None:
        """Upload the files that have been unchanged long enough; the others wait for the next call."""
        known = (*self._selection.files, *self._selection.waiting)
        self._uploader.reader.set_expected_paths(file.path for file in known)
        if pending := self._pending():
            self._uploader.send(pending)

    def _upload_until_stable(self) -> None:
        """Send the pending files and scan the folder again, until nothing is pending or something has failed."""
        for _ in range(MAX_RESCANS):
            self._uploader.reader.set_expected_paths(file.path for file in self._selection.files)
            if not self._send_next_phases() or self._uploader.failed:
                return
            self._rescan()
        self._uploader.failed.update((file.path, "the run keeps changing") for file in self._pending())

    def _send_next_phases(self) -> bool:
        """Send metadata and data or, once all of them are verified, the markers. Return whether there were any."""
        order = batches.split_by_phase(self._pending())
        if order.metadata or order.data:
            self._uploader.send(order.metadata, order.data)
            return True
        if not order.markers or self._selection.rejected:
            return False
        self._store.check()
        corrupted = self._uploader.find_corrupted(order.markers)
        if corrupted:  # then no marker is sent: the manifest may name one of them
            self._uploader.failed.update(corrupted)
        else:
            self._uploader.send(order.markers)
        return True

    def _complete(self) -> run_state.Completion | None:
        """Write the completion object and return what completes the run; None if files are left or have failed."""
        self._uploader.failed.update(self._selection.rejected)
        self._skipped = dict(self._selection.skipped)
        if not self._selection.files or self._uploader.failed or self._pending():
            return None
        self._forget_files_gone_from_disk()
        self._state = replace(self._state, folders=dict(self._selection.folders))
        etag = ""
        if self._request.completion_object and not (etag := self._write_completion_object()):
            return None
        return run_state.Completion(
            manifest_checked_files=sum(file.path in self._context.expected for file in self._selection.files),
            completion_object=etag,
            on_complete=self._hook_status(),
        )

    def _hook_status(self) -> str:
        """Return the status of the user's command before it runs: due, or done already; empty if there is none."""
        if not self._request.on_complete:
            return ""
        before = self._initial.on_complete if self._initial.completed else ""
        is_done = before == hook.DONE and not self._uploader.counters.sent_files
        return hook.DONE if is_done else hook.PENDING

    def _write_completion_object(self) -> str:
        """Upload the completion object; return its ETag, or an empty string if it is not verified."""
        self._store.check()
        state = replace(self._state, verified=self._uploader.verified)
        written = completion_object.write(self._context, state, self._selection)
        paths = [aws_destination.COMPLETION_OBJECT, *(file.path for file in self._selection.files)]
        self._uploader.reader.set_expected_paths(paths)
        return self._uploader.send_completion_object(written)

    def _forget_files_gone_from_disk(self) -> None:
        """Warn about uploaded files that no longer exist locally, and drop their proofs."""
        gone = sorted(self._uploader.verified.keys() - {file.path for file in self._selection.files})
        if gone:
            self._uploader.forget_proofs(set(gone))
        if self._context.run.excludes_analyses:
            gone = [path for path in gone if not local_files.is_inside_analysis(path)]
        if gone:
            names = [*map(printable, gone[:_MAX_NAMES_SHOWN]), *(["..."] if len(gone) > _MAX_NAMES_SHOWN else [])]
            files = f"{pluralize(len(gone), 'uploaded file')} {'is' if len(gone) == 1 else 'are'}"
            text = f"{self._context.target}: {files} only in S3, gone from the run or excluded: {', '.join(names)}"
            self._context.display.print(Notice(text, id="upload.only-in-s3").line)

    def _rescan(self) -> None:
        watched = changes.read_marks(self._context.run)
        listing, expected = analysis_manifest.list_files_and_checksums(self._context.run, self._selection.files)
        if expected != self._context.expected:
            raise RunError(
                f"{analysis_manifest.MANIFEST_TSV} of {self._context.target} changed while it was uploaded:"
                " the same command compares everything with the new one",
                id="run.manifest-changed",
            )
        self._selection = selection.select_files(
            self._context.run, listing, self._request.destination, self._request.excludes, self._request.reserved_path
        )
        self._totals = FileTotals.of(self._selection.files)
        self._state = replace(self._state, watched=watched)

    # The end

    def _save_final_state(self, *, ended_cleanly: bool = False) -> None:
        """Save the state, even if a stage failed; raises StateError."""
        self._uploader.close()
        leftovers = self._uploader.leftover_warning
        if leftovers:
            advice = "a lifecycle rule of the bucket removes them; the next call tries, too"
            text = f"parts may be left in S3: {leftovers} ({advice})"
            self._context.display.print(Notice(text, id="upload.parts-left").line)
        counters = self._uploader.counters
        result = run_state.CallResult(
            files=(*self._selection.files, *self._selection.waiting),
            verified=self._uploader.verified,
            failed=self._uploader.failed,
            sent_files=counters.sent_files,
            sent_bytes=counters.sent_size,
            seconds=time.monotonic() - self._began,
            opaque_etags=self._uploader.opaque_etags,
            skipped=self._skipped,
            completion=self._completion,
            is_streaming=self._request.is_streaming,
            ended_cleanly=ended_cleanly,
            is_handed_over=self._handed_over,
            may_leave_parts=bool(leftovers),
        )
        total = self._selection.total_with(result.verified)
        self._state = replace(self._state, total_local_files=total).finished_call(result, now_iso())
        self._store.finish(self._state)

    def _has_named_no_bucket(self, error: S3SyncError) -> bool:
        """Return whether a person named a bucket that does not exist: such an upload needs no log."""
        has_no_bucket = isinstance(error, AwsError) and str(error).startswith(f"{causes.NO_BUCKET.what}:")
        return has_no_bucket and not (self._request.scheduled or self._uploader.verified)

    def _pending(self) -> tuple[LocalFile, ...]:
        return batches.pending(self._selection.files, self._uploader.verified)

    def _verified_now(self) -> FileTotals:
        verified = self._uploader.verified
        return FileTotals.of([file for file in self._selection.files if batches.is_verified(file, verified)])

    def _progress_text(self) -> str:
        sent = self._uploader.not_compared
        more = f", {sent:,} more sent and not compared yet" if sent else ""
        return f"{self._verified_now().files:,} of {pluralize(self._selection.total, 'file')} verified{more}"

    def _snapshot(self) -> Snapshot:
        return self._uploader.snapshot(self._activity, self._verified_before, self._totals)


def start_state(state: RunState, selection: UploadSelection, executor: Executor) -> RunState:
    """Return the state at the start of a call. The finalizer continues an upload that was started elsewhere."""
    now = state.started if executor.is_finalizer else now_iso()
    files = (*selection.files, *selection.waiting)
    total = selection.total_with(state.verified)
    return state.started_call(files, total=total, streamed_until_ns=selection.unchanged_since_ns, now=now)
