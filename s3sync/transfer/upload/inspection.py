"""Inspect a run before its upload: whether it is a run, is complete, and is the run of its state log."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.aws import settings
from s3sync.errors import Notice, RunError, StateError, UsageError
from s3sync.runs import Run, analysis, analysis_manifest, local_files, off_limits, readiness
from s3sync.state import RunState, StateStore, identity
from s3sync.text import printable
from s3sync.transfer import batches, changes, proof, selection
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import UploadSelection


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadInputs:
    """A run, its files, and the selection to upload.

    `expected` maps paths to the CRC-32 that the instrument computed. `watched` has the marks that reveal later changes,
    read before the files were listed.
    """

    run: Run
    listing: local_files.Listing
    selection: UploadSelection
    expected: analysis_manifest.Checksums
    watched: Mapping[str, tuple[int, int]]

    def without_files(self) -> UploadInputs:
        """Return the inputs without what takes memory for each file, once an upload has begun."""
        return replace(
            self,
            listing=local_files.Listing(files=(), rejected=()),
            selection=replace(self.selection, files=(), waiting=(), folders=()),
        )


def inspect_run(request: UploadRequest, environ: Mapping[str, str]) -> UploadInputs:
    """List the files of a run or an analysis and select those to upload.

    Raises RunError if it is neither, or not complete; UsageError or StateError if the upload would write into it.
    """
    run = analysis.open_run_or_analysis(request.local_path, need_run_info=not request.skip_check)
    require_outside(run, request.log_dir, environ)
    watched = changes.read_marks(run)
    if request.settle_seconds is not None:
        return _inspect_streaming_run(run, request, request.settle_seconds, watched)
    listing, expected = analysis_manifest.list_files_and_checksums(run)
    is_known = request.skip_check or _was_complete(request, run)
    warnings = () if is_known else _require_complete(run, listing, request)
    chosen = _select(run, listing, request)
    selection.require_files(run, chosen)
    if request.class_rules:
        request.class_choice(run).group(
            chosen.files
        )  # so that a pattern that takes too long is found before anything is sent
    chosen = replace(chosen, warnings=(*warnings, *chosen.warnings))
    return UploadInputs(run=run, listing=listing, selection=chosen, expected=expected, watched=watched)


def _inspect_streaming_run(
    run: Run, request: UploadRequest, settle_seconds: float, watched: Mapping[str, tuple[int, int]]
) -> UploadInputs:
    """Select the files to upload while the instrument writes, without warnings: more files may match the patterns."""
    unchanged_since_ns = time.time_ns() - round(settle_seconds * 1e9)
    listing = local_files.list_files(run)
    settled = selection.select_settled(_select(run, listing, request), listing, unchanged_since_ns)
    return UploadInputs(run=run, listing=listing, selection=replace(settled, warnings=()), expected={}, watched=watched)


def _select(run: Run, listing: local_files.Listing, request: UploadRequest) -> UploadSelection:
    return selection.select_files(run, listing, request.destination, request.excludes, request.reserved_path)


def _was_complete(request: UploadRequest, run: Run) -> bool:
    """Return whether the run was completed once. Then files that were deleted since, like base calls, do not matter."""
    with contextlib.suppress(StateError, OSError, ValueError, RecursionError):
        head = StateStore(request.log_dir, run, request.destination).head()
        return head is not None and head.was_complete
    return False


def _require_complete(run: Run, listing: local_files.Listing, request: UploadRequest) -> tuple[Notice, ...]:
    """Return the warnings about a complete run. Raises RunError if it is not complete."""
    where, advice = printable(str(run.path)), "--skip-check uploads it as it is"
    if run.parent_run:
        finish = analysis.check_completion(run, request.quiet_seconds)
        if not finish.is_complete:
            raise RunError(
                f"the analysis is not complete: {where} {finish.reason} ({advice})", id="run.analysis-incomplete"
            )
        return finish.warnings
    verdict = readiness.check(run, request.terms, listing)
    if not verdict.is_complete:
        advice = "" if readiness.ADVICE in verdict.reason else f" ({advice})"
        raise RunError(f"the run is not complete: {where} {verdict.reason}{advice}", id="run.incomplete")
    return verdict.warnings


def require_outside(run: Run, log_dir: Path, environ: Mapping[str, str]) -> None:
    """Refuse to write into the run, or to upload AWS secrets with it. Raises UsageError, StateError, RunError."""
    if around := off_limits.find_enclosing_folder(log_dir, [run.root]):
        where = f"{printable(str(log_dir))} is inside {printable(around)}, whose files are uploaded"
        raise UsageError(f"the log directory {where} (give another --log-dir)", id="usage.log-dir-inside-run")
    off_limits.choose_temp_dir(environ, [run.root])
    for what, path in settings.private_paths(environ).items():
        if os.path.exists(path) and off_limits.find_enclosing_folder(path, [run.root]):
            where = f"{what} {printable(str(path))} is inside the run {printable(str(run.root))}"
            raise RunError(f"{where}, so its secrets would be uploaded (move it, or set HOME)", id="run.secrets-inside")


def require_claim(run: Run, state: RunState | None, listing: Callable[[], local_files.Listing]) -> str:
    """Return where the folder was when its log was written, if it was moved since; otherwise an empty string.

    Raises RunError if the log, and with it the prefix in S3, belongs to another folder.
    """
    if state is None:
        return ""
    claim = identity.check_claim(run, state.run_path, state.folder, (), lambda: (listing(), state))
    if claim.kind == "another":
        advice = "another --remote-path, or rename this folder; if it is a copy, nothing needs to be done"
        where = f"duplicate name: {printable(str(run.path))} is not uploaded"
        raise RunError(f"{where}: {claim.reason} ({advice})", id="run.duplicate-name")
    return claim.reason


def drop_stale_proofs(state: RunState, inputs: UploadInputs) -> RunState:
    """Drop proofs of files whose instrument checksum has changed, or that were modified since they were streamed."""
    verified = proof.with_same_checksums(state.verified, inputs.listing, inputs.expected)
    touched = (
        selection.changed_since(verified, inputs.listing, state.streamed_until_ns) if state.streamed_until_ns else set()
    )
    return replace(state, verified={path: proof for path, proof in verified.items() if path not in touched})


def is_complete(request: UploadRequest, state: RunState, chosen: UploadSelection) -> bool:
    """Return whether the log says completed, and no file has changed since.

    A predecessor's log does not record the files, so it is trusted.
    """
    if request.recheck or (request.completion_object and not state.completion_object):
        return False
    if not state.completed or state.is_from_predecessor:
        return state.completed
    return not chosen.rejected and not batches.pending(chosen.files, state.verified)
