"""Run the stages of one call of `upload`, from the first contact with S3 to the saved state."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.aws import causes, objects, settings
from s3sync.aws import destination as aws_destination
from s3sync.errors import AwsError, InterruptedBySignal, LeaseLostError, Notice, RunError, S3SyncError
from s3sync.runs import LocalFile, analysis_manifest, local_files, run_folder
from s3sync.state import Proof, RunState, StateStore, run_state
from s3sync.text import now_iso, pluralize, printable
from s3sync.transfer import batches, changes, completion_object, hook, selection
from s3sync.transfer.context import UploadContext
from s3sync.transfer.passes import FileUploader
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import (
    Executor,
    FileTotals,
    Handover,
    UploadCounters,
    UploadRequest,
    describe_target,
)
from s3sync.transfer.selection import UploadSelection

MAX_RESCANS = 10  # a run that was found changed after each of them is left for the next call
_MAX_NAMES_SHOWN = 5  # of files that only S3 has


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """The outcome of a call; `selection` is that of the last listing."""

    state: RunState
    selection: UploadSelection
    counters: UploadCounters
    handed_over: bool  # to the executor, which is at work now


class UploadSession:
    """One call of `upload`. Its stages replace `_state`, which is saved at the end whatever happens."""

    def __init__(
        self,
        context: UploadContext,
        selection: UploadSelection,
        store: StateStore,
        state: RunState,
        executor: Executor | None = None,
    ) -> None:
        self._context = context
        self._request = context.request
        self._run = context.run
        self._target = describe_target(context.run, context.request.destination)
        self._selection = selection
        self._totals = FileTotals.of(selection.files)
        self._store = store
        self._executor = executor
        self._hook_before = state.on_complete if state.completed else ""
        self._killed_since = state.parts_since
        self._is_first_call = not state.attempts
        self._state = start_state(state, selection, executor).sending(now_iso())
        self._uploader = FileUploader(context, store.record, self._state.proven, self._state.opaque_etags)
        self._before = self._verified_now()
        context.share.note_left(batches.cost_of(self._pending()))
        self._began = time.monotonic()
        self._activity = "comparing"
        self._listed: Collection[str] | None = ()  # what S3 had of the run; None: it may not be listed
        self._handed_over = False
        self._failed: dict[str, str] = {}  # beside what failed in the uploader
        self._skipped: Mapping[str, str] | None = None
        self._completion: run_state.Completion | None = None

    def run_stages(self, *, resumed: bool, certain: bool = False) -> SessionResult:
        """Run all stages. If they raise an S3SyncError, the state is saved with what was verified, and it propagates.

        `resumed` says that there is a log; `certain` that S3 holds what the log says, and nothing else.
        """
        self._store.begin(self._state)
        try:
            self._upload_in_stages(resumed=resumed, certain=certain)
        except LeaseLostError:  # the log is another host's now
            self._uploader.close()
            self._store.close()
            raise
        except InterruptedBySignal as stopped:
            self._save_final_state()
            raise InterruptedBySignal(
                stopped.exit_code - 128, f"{stopped}: {self._progress_text()}; the same command continues from there"
            ) from None
        except S3SyncError as error:
            if not resumed and self._is_first_call and self._is_misdirected(error):
                self._uploader.close()
                self._store.withdraw()
                raise
            self._save_final_state()
            if self._uploader.next_batch > 1:
                self._context.display.print(f"{self._progress_text()} (log: {printable(str(self._store.log_path))})")
            raise
        except BaseException:
            self._uploader.close()  # its threads would read the run to the end, and the program wait for them
            self._store.close()
            raise
        is_orderly = not self._handed_over and not self._all_failures() and not self._s3_has_unverified_files()
        self._save_final_state(is_orderly=is_orderly)
        return SessionResult(
            state=self._state,
            selection=self._selection,
            counters=self._uploader.counters,
            handed_over=self._handed_over,
        )

    # The stages

    def _upload_in_stages(self, *, resumed: bool, certain: bool) -> None:
        remote = self._contact_s3(certain=certain)
        if self._killed_since:
            self._uploader.abort_stale_parts(self._selection.files, self._killed_since)
        if not certain:
            self._listed = None if remote is None else remote.keys()
            self._drop_proofs_missing_in_s3(remote)
        if self._executor and self._executor.submits and self._hand_over(self._executor, resumed):
            return
        verb = "streaming" if self._request.is_streaming else "uploading"
        self._context.display.follow(f"{verb} {self._target}", self._snapshot)
        if not certain:
            self._compare(remote, resumed)
        self._activity = "uploading"
        if self._request.is_streaming:
            self._upload_settled_files()
            return
        if self._uploader.counters.found_files:
            self._rescan()  # comparing may have taken long
        self._upload_until_stable()
        self._completion = self._complete()

    def _contact_s3(self, *, certain: bool) -> Mapping[str, objects.RemoteObject] | None:
        """Return the objects of the run by path, if they are needed and may be listed."""
        reader = self._uploader.reader
        remote = self._uploader.probe_s3(reader.check_access if certain else reader.list_run)
        self._state = replace(self._state, aws=self._uploader.aws_version)
        if note := self._note_on_client():
            self._context.display.print(note)
        return remote

    def _note_on_client(self) -> str:
        """Return what the user should know of the CLI's client in C; empty if nothing."""
        wanted, has_crt = self._request.transfer_client, self._context.aws.supports_crt
        if wanted == "crt" and not has_crt:
            return Notice("transfer_client crt needs AWS CLI version 2; it is ignored", id="upload.crt-ignored").line
        if wanted == "auto" and has_crt and settings.prefers_crt(self._context.environ):
            return "note: preferred_transfer_client of the AWS config is ignored (transfer_client: crt has that effect)"
        return ""

    def _drop_proofs_missing_in_s3(self, remote: Mapping[str, objects.RemoteObject] | None) -> None:
        if remote is None:
            return
        proofs = self._uploader.proven.values()
        lost = {proof.path for proof in proofs if _is_missing_or_different(proof, remote.get(proof.path))}
        if lost:
            files = f"{pluralize(len(lost), 'file')} in the log {'is' if len(lost) == 1 else 'are'}"
            text = f"{files} missing or different in S3, and uploaded again"
            self._context.display.print(Notice(text, id="upload.lost-in-s3").line)
            self._uploader.distrust_etags()
            self._uploader.forget_proofs(lost)

    def _hand_over(self, executor: Executor, resumed: bool) -> bool:
        """Hand all files but the markers to the executor; return whether there were any."""
        order = batches.split_by_phase(self._pending())
        files = (*order.metadata, *order.data)
        if not files:
            return False
        handover = Handover(
            request=_independent_of_folder(self._request, self._run.path),
            submitted=now_iso(),
            resumed=resumed,
            manifest=local_files.restat(self._run, analysis_manifest.MANIFEST_TSV) if self._context.expected else None,
            amount=self._totals,
            proven=self._verified_now(),
            sent=FileTotals(self._state.sent_files, self._state.sent_bytes),
            seconds=self._state.seconds,
        )
        executor.submit(handover, files)
        self._handed_over = True
        return True

    def _compare(self, remote: Mapping[str, objects.RemoteObject] | None, resumed: bool) -> None:
        """Verify, without sending it, what S3 has already."""
        if remote is not None:
            self._uploader.compare(self._pending(), remote)
            self._require_own_prefix(remote)
            self._note_other_classes(remote)
        elif resumed:
            self._uploader.head_large_files(self._pending())

    def _require_own_prefix(self, remote: Mapping[str, objects.RemoteObject]) -> None:
        """Refuse to mix two runs of one name, if S3 has another one that was uploaded with another log directory.

        Raises RunError; `--recheck` replaces it. To be called after the files were compared.
        """
        theirs = remote.get(run_folder.RUN_INFO)
        ours = next((file for file in self._selection.files if file.path == run_folder.RUN_INFO), None)
        has_ours = any(proof.size for proof in self._uploader.proven.values())
        if self._request.recheck or has_ours or not theirs or not ours or theirs.size == ours.size:
            return
        sizes = f"{run_folder.RUN_INFO} has {theirs.size:,} bytes there and {ours.size:,} here"
        advice = "use another remote_path; `upload --recheck` replaces what is there"
        raise RunError(
            f"{self._context.url} has another run of that name: {sizes} ({advice})", id="upload.other-run-in-s3"
        )

    def _note_other_classes(self, remote: Mapping[str, objects.RemoteObject]) -> None:
        """Say that files which need not be sent stay in the storage class that they were sent to."""
        others = self._request.class_choice(self._run).count_in_others(self._uploader.proven, remote)
        if others:
            files = f"{pluralize(others, 'proven file')} {'is' if others == 1 else 'are'}"
            self._context.display.print(
                f"note: {self._target}: {files} in another storage class than the patterns say now, and not sent again"
            )

    def _upload_settled_files(self) -> None:
        """Upload the files that have been unchanged long enough; the others wait for the next call."""
        known = (*self._selection.files, *self._selection.waiting)
        self._uploader.reader.set_expected_paths(file.path for file in known)
        if pending := self._pending():
            self._uploader.send(pending)

    def _upload_until_stable(self) -> None:
        """Send what is pending and scan the folder again, until nothing is pending or something has failed."""
        for _ in range(MAX_RESCANS):
            self._uploader.reader.set_expected_paths(file.path for file in self._selection.files)
            if not self._send_next_phases() or self._all_failures():
                return
            self._rescan()
        self._failed.update((file.path, "the run keeps changing") for file in self._pending())

    def _send_next_phases(self) -> bool:
        """Send metadata and data; or, when all of them are verified, the markers. Return whether there were any."""
        order = batches.split_by_phase(self._pending())
        if order.metadata or order.data:
            self._uploader.send(order.metadata, order.data)
            return True
        if not order.markers or self._selection.rejected:
            return False
        self._store.check()
        corrupted = self._uploader.find_corrupted(order.markers)
        if corrupted:  # then no marker is sent: the manifest may name one of them
            self._failed.update(corrupted)
        else:
            self._uploader.send(order.markers)
        return True

    def _complete(self) -> run_state.Completion | None:
        """Return what completes the run, the completion object written; None if files are left or have failed."""
        self._failed.update(self._selection.rejected)
        self._skipped = dict(self._selection.skipped)
        if not self._selection.files or self._all_failures() or self._pending():
            return None
        self._forget_files_gone_from_disk()
        self._state = replace(self._state, folders=dict(self._selection.folders))
        etag = ""
        if self._request.completion_object and not (etag := self._write_completion_object()):
            return None
        return run_state.Completion(
            manifest_files=sum(file.path in self._context.expected for file in self._selection.files),
            completion_object=etag,
            on_complete=self._hook_status(),
        )

    def _hook_status(self) -> str:
        """Return whether the user's command is due; empty if there is none."""
        if not self._request.on_complete:
            return ""
        is_done = self._hook_before == hook.DONE and not self._uploader.counters.sent_files
        return hook.DONE if is_done else hook.PENDING

    def _write_completion_object(self) -> str:
        """Upload the last object of the run; return its ETag, or an empty string if it is not verified."""
        self._store.check()
        state = replace(self._state, proven=self._uploader.proven)
        written = completion_object.write(self._context, state, self._selection)
        paths = [aws_destination.COMPLETION_OBJECT, *(file.path for file in self._selection.files)]
        self._uploader.reader.set_expected_paths(paths)
        return self._uploader.send_completion_object(written)

    def _forget_files_gone_from_disk(self) -> None:
        """Warn about uploaded files that no longer exist locally, and drop their proofs."""
        gone = sorted(self._uploader.proven.keys() - {file.path for file in self._selection.files})
        if gone:
            self._uploader.forget_proofs(set(gone))
        gone = [path for path in gone if not (self._run.excludes_analyses and local_files.is_inside_analysis(path))]
        if gone:
            shown = ", ".join(map(printable, gone[:_MAX_NAMES_SHOWN])) + (
                ", ..." if len(gone) > _MAX_NAMES_SHOWN else ""
            )
            files = f"{pluralize(len(gone), 'uploaded file')} {'is' if len(gone) == 1 else 'are'}"
            text = f"{self._target}: {files} only in S3, gone from the run or excluded: {shown}"
            self._context.display.print(Notice(text, id="upload.only-in-s3").line)

    def _rescan(self) -> None:
        watched = changes.read_marks(self._run)
        listing, expected = analysis_manifest.list_files_and_checksums(self._run)
        if expected != self._context.expected:
            raise RunError(
                f"{analysis_manifest.MANIFEST_TSV} of {self._target} changed while it was uploaded:"
                " the same command compares everything with the new one",
                id="run.manifest-changed",
            )
        self._selection = selection.select_files(
            self._run, listing, self._request.destination, self._request.excludes, self._request.reserved_path
        )
        self._totals = FileTotals.of(self._selection.files)
        self._state = replace(self._state, watched=watched, total_local_files=self._selection.total)

    # The end

    def _save_final_state(self, *, is_orderly: bool = False) -> None:
        """Save what is known, whatever came before; raises StateError."""
        self._uploader.close()
        leftovers = self._uploader.leftover_warning
        if leftovers:
            advice = "a lifecycle rule of the bucket removes them; the next call tries, too"
            text = f"parts may be left in S3: {leftovers} ({advice})"
            self._context.display.print(Notice(text, id="upload.parts-left").line)
        counters = self._uploader.counters
        result = run_state.CallResult(
            files=(*self._selection.files, *self._selection.waiting),
            proven=self._uploader.proven,
            failed=self._all_failures(),
            sent_files=counters.sent_files,
            sent_bytes=counters.sent_size,
            seconds=time.monotonic() - self._began,
            opaque_etags=self._uploader.opaque_etags,
            skipped=self._skipped,
            completion=self._completion,
            is_streaming=self._request.is_streaming,
            is_orderly=is_orderly,
            is_handed_over=self._handed_over,
            may_leave_parts=bool(leftovers),
        )
        self._state = self._state.finished_call(result, now_iso())
        self._store.finish(self._state)

    def _is_misdirected(self, error: S3SyncError) -> bool:
        """Return whether a person named a bucket that does not exist: that upload needs no log."""
        has_no_bucket = isinstance(error, AwsError) and str(error).startswith(f"{causes.NO_BUCKET.what}:")
        return has_no_bucket and not (self._request.scheduled or self._uploader.proven)

    def _s3_has_unverified_files(self) -> bool:
        """Return whether S3 has, or may have, files of the run that are not verified as they are now."""
        if self._listed is None:
            return True
        known = (*self._selection.files, *self._selection.waiting)
        return not {file.path for file in known if file.path not in self._uploader.proven}.isdisjoint(self._listed)

    def _all_failures(self) -> dict[str, str]:
        return {**self._uploader.failed, **self._failed}

    def _pending(self) -> tuple[LocalFile, ...]:
        return batches.pending(self._selection.files, self._uploader.proven)

    def _verified_now(self) -> FileTotals:
        proven = self._uploader.proven
        return FileTotals.of([file for file in self._selection.files if batches.is_proven(file, proven)])

    def _progress_text(self) -> str:
        sent = self._uploader.not_compared
        more = f", {sent:,} more sent and not compared yet" if sent else ""
        return f"{self._verified_now().files:,} of {pluralize(self._selection.total, 'file')} proven{more}"

    def _snapshot(self) -> Snapshot:
        return self._uploader.snapshot(self._activity, self._before, self._totals)


def start_state(state: RunState, selection: UploadSelection, executor: Executor | None = None) -> RunState:
    """Return the state at the start of a call. The finalizer continues an upload that was started elsewhere."""
    now = state.started if executor and executor.is_finalizer else now_iso()
    files = (*selection.files, *selection.waiting)
    return state.started_call(files, total=selection.total, still_since=selection.still_since, now=now)


def _independent_of_folder(request: UploadRequest, run_path: Path) -> UploadRequest:
    """Return the request in terms that mean the same in another working directory."""
    command = request.aws_command
    if command and "/" in command:
        command = os.path.abspath(command)
    return replace(request, local_path=run_path, log_dir=Path(os.path.abspath(request.log_dir)), aws_command=command)


def _is_missing_or_different(proof: Proof, remote: objects.RemoteObject | None) -> bool:
    return remote is None or remote.etag != proof.etag
