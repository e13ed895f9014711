"""`upload`: one run, or an analysis of one, found complete, under its lock; and what it would do, without doing it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from s3sync.aws import client, objects, settings
from s3sync.errors import RunError, S3SyncError, StoppedError, UsageError
from s3sync.runs import Listing, Run, analysis, analysis_manifest, completion, off_limits, readiness, run_folder
from s3sync.signals import StopRequest
from s3sync.state import RunState, StateStore, identity, lock, log_format, summary
from s3sync.state import log_dir as state_log_dir
from s3sync.state import store as state_store
from s3sync.text import printable, to_iso
from s3sync.transfer import batches, changes, hook, proof, selection
from s3sync.transfer.progress import Display
from s3sync.transfer.request import Executor, PendingAnalysis, Preview, UploadRequest, UploadResult, describe_target
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.session import UploadSession, begin
from s3sync.transfer.staging import work_folder

MANY_THREADS = 10  # the CLI keeps so many connections; more threads only wait for them

_Done = TypeVar("_Done", UploadResult, Preview)


def upload(
    request: UploadRequest,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    executor: Executor | None = None,
) -> UploadResult:
    """Upload a run and prove it; raises S3SyncError where it cannot be done, with the state saved.

    Files that failed are in the report, not raised. An `executor` that submits takes the files instead of this machine.
    """
    started = time.monotonic()
    run, listing, scope, expected, watched = survey(request, environ)
    store = StateStore(request.log_dir, run, request.destination)
    busy = f"{describe_target(run, request.destination)} is being uploaded already"
    with lock.held(store.lock_path, busy, stop=stop, say=display.say) as run_lock:
        store.guard(run_lock.check)
        store.prepare(scope.total)
        loaded = store.load()
        for warning in (*_advice(request), *scope.warnings, *loaded.warnings):
            display.say(_said(request, run, warning))
        moved = require_claim(run, loaded.state, lambda: listing)
        before = executor.collect(request, run, store, loaded.state, stop) if executor else loaded.state
        if before and _is_done(request, before, scope):
            if moved:
                display.say(
                    f"note: {describe_target(run, request.destination)}: moved here from {moved}; all of it is in S3"
                )
                before.watched = watched
                store.save(before)
            after = "" if executor and executor.is_finalizer else run_hook(request, run, store, before, environ, stop)
            return UploadResult(
                run, request.destination, store.log_path, before, scope, already_complete=True, on_complete=after
            )
        state = before or RunState(run.run_id, str(run.path))
        state.watched = watched
        state.instrument_done = "" if request.is_streaming else to_iso(completion.finished_at(run))
        doubted = _doubt(state, listing, expected)
        if request.is_streaming and not batches.pending(scope.files, state.proven):
            return UploadResult(run, request.destination, store.log_path, state, scope)
        with work_folder(environ, [run.root]) as (work, work_lock):
            try:
                aws = _connect(request, environ, stop, work, (run_lock.descriptor, work_lock))
            except S3SyncError:
                begin(store, state, scope)  # so that the run stays due, however old it gets until there is a CLI
                store.finish(state)
                raise
            what_for = (request, run, scope, store, state, aws, environ, work, stop, display, expected, executor)
            call = UploadSession(*what_for)
            certain = request.is_streaming and state.orderly and not doubted
            call.run(resumed=before is not None, certain=certain)
        call.tally.seconds = time.monotonic() - started
        after = "" if executor and executor.is_finalizer else run_hook(request, run, store, state, environ, stop)
    return UploadResult(
        *(run, request.destination, store.log_path, state, call.scope),
        tally=call.tally,
        on_complete=after,
        handed_over=call.handed_over,
    )


def and_its_analyses(
    request: UploadRequest, first: _Done, work: Callable[[UploadRequest], _Done]
) -> tuple[list[_Done], list[PendingAnalysis]]:
    """Do the same for each complete analysis of the run that `first` is of; the others wait, all of them until that
    run itself is completed. Raises InterruptedBySignal: what is wrong with one analysis does not stop the others."""
    done: list[_Done] = []
    waiting: list[PendingAnalysis] = []
    for unit in analysis.units(first.run) if first.run.split else []:
        if analysis.is_excluded(unit, request.excludes):
            continue
        try:
            if reason := _waits_for(unit, first, request):
                waiting.append(PendingAnalysis(unit, request.destination, reason))
            else:
                done.append(work(replace(request, local_path=unit.path)))
        except StoppedError:
            raise
        except S3SyncError as error:
            waiting.append(PendingAnalysis(unit, request.destination, str(error)))
    return done, waiting


def _said(request: UploadRequest, run: Run, warning: str) -> str:
    """Among the lines of many runs with this one's name; there, a pattern that is meant for others is no warning."""
    if not request.scheduled:
        return f"warning: {warning}"
    named = f"{printable(run.run_id)}: {warning}"
    return named if selection.is_of_an_idle_pattern(warning) else f"warning: {named}"


def _waits_for(unit: Run, first: UploadResult | Preview, request: UploadRequest) -> str:
    if isinstance(first, UploadResult) and not first.state.completed:
        return "waits for the run itself, which is not completed"
    finish = analysis.judge(unit, request.quiet_seconds)
    return "" if finish.complete else finish.reason


def preview(
    request: UploadRequest,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    executor: Executor | None = None,
) -> Preview:
    """What `upload` would do, S3 asked but nothing written; raises the same errors."""
    run, listing, scope, expected, _ = survey(request, environ)
    store = StateStore(request.log_dir, run, request.destination)
    loaded: state_store.Loaded = store.load(set_aside=False)
    require_claim(run, loaded.state, lambda: listing)
    for warning in (*_advice(request), *scope.warnings, *loaded.warnings):
        display.say(_said(request, run, warning))
    if loaded.state and _is_done(request, loaded.state, scope):
        return Preview(run, request.destination, store.log_path, scope, (), 0, 0)
    if executor and (where := executor.where(request, store)):
        display.say(f"note: {where}")
    unwritable = "" if request.scheduled else state_log_dir.unwritable(request.log_dir)  # of a scan it is said once
    obstacles = (*([unwritable] if unwritable else []), *store.obstacles(scope.total))
    for obstacle in obstacles:
        display.say(_said(request, run, obstacle))
    state = loaded.state or RunState(run.run_id, str(run.path))
    _doubt(state, listing, expected)
    pending = batches.pending(scope.files, state.proven)
    with work_folder(environ, [run.root]) as (work, work_lock):
        aws = _connect(request, environ, stop, work, (work_lock,))
        reader = objects.ObjectReader(
            aws, request.destination, run.run_id, request.readback, request.cores, request.bucket_owner, say=display.say
        )
        remote = reader.list_run() or {}
        by_kms = request.storage.sse == "aws:kms" or (not request.storage.sse and reader.encrypts_by_kms())
        ask_seconds = reader.head_seconds(len(pending)) if by_kms and request.verify == "etag" else 0.0
    same_size = sum(f.path in remote and remote[f.path].size == f.size for f in pending)
    batch_count = sum(
        len(batches.into_batches(group, request.cores)) for group in batches.split_by_phase(pending) if group
    )
    return Preview(
        run, request.destination, store.log_path, scope, pending, same_size, batch_count, ask_seconds, obstacles
    )


def require_claim(run: Run, state: RunState | None, listing: Callable[[], Listing]) -> str:
    """Where the folder lay when its log was written, if it was moved since; else an empty string.

    Raises RunError if the log, and with it the prefix in S3, is another folder's.
    """
    if state is None:
        return ""
    claim = identity.claim(run, state.run_path, state.folder, (), lambda: (listing(), state))
    if claim.kind == "another":
        advice = "another --remote_path, or rename this folder; if it is a copy, nothing has to be done"
        raise RunError(f"duplicate name: {printable(str(run.path))} is not uploaded: {claim.reason} ({advice})")
    return claim.reason


def run_hook(
    request: UploadRequest, run: Run, store: StateStore, state: RunState, environ: Mapping[str, str], stop: StopRequest
) -> str:
    """Run the user's command if it is due, under the run's lock, so that it runs once at a time; what came of it.

    The log says that it is due before it runs, and what came of it afterwards: whoever is killed in between has it
    run again, never not at all.
    """
    if not request.on_complete or not state.completed or not hook.is_owed(state.on_complete):
        return ""
    guard = store.lock_path.with_suffix(".on_complete")
    state.on_complete = hook.run(
        request.on_complete, _facts(request, run, store, state), store.log_path, guard, environ, stop
    )
    store.save(state)
    return state.on_complete


def _facts(request: UploadRequest, run: Run, store: StateStore, state: RunState) -> dict[str, str]:
    """The run for the user's command; the names are part of the contract."""
    destination = request.destination
    return {
        "S3SYNC_RUN_ID": run.run_id,
        "S3SYNC_RUN_PATH": str(run.path),
        "S3SYNC_BUCKET": destination.bucket,
        "S3SYNC_REMOTE_PATH": destination.remote_path,
        "S3SYNC_URL": destination.url(run.run_id),
        "S3SYNC_FILES": str(len(state.proven)),
        "S3SYNC_BYTES": str(state.size),
        "S3SYNC_STARTED": state.started,
        "S3SYNC_FINISHED": state.finished,
        "S3SYNC_LOG": str(store.log_path),
    }


class Survey(NamedTuple):
    """The run, what is in its folder and what of that is to be uploaded, and which CRC-32 it has to have; `watched` is
    what changes are noticed by later, from before the listing."""

    run: Run
    listing: Listing
    scope: UploadSelection
    expected: analysis_manifest.Checksums
    watched: dict[str, tuple[int, int]]


def survey(request: UploadRequest, environ: Mapping[str, str]) -> Survey:
    """Of what is asked for; raises RunError if it is no run and no analysis, or not complete, UsageError or StateError
    if something would be written into it.
    """
    run = analysis.open_unit(request.local_path, need_run_info=not request.skip_check)
    require_outside(run, request.log_dir, environ)
    watched = changes.spots_of(run)
    if request.settle_seconds is not None:
        return Survey(run, *_survey_settled(run, request, request.settle_seconds), {}, watched)
    listing, expected = analysis_manifest.list_files(run)
    warning = "" if request.skip_check or _was_complete(request, run) else _require_complete(run, listing, request)
    scope = selection.select_files(run, listing, request.destination, request.excludes, request.reserved_path)
    selection.require_files(run, scope)
    if warning:
        scope = scope._replace(warnings=(warning, *scope.warnings))
    return Survey(run, listing, scope, expected, watched)


def _was_complete(request: UploadRequest, run: Run) -> bool:
    """Whether it was completed once: what was deleted since, such as base calls, is no reason to wait."""
    head = summary.look(StateStore(request.log_dir, run, request.destination)).head
    return head is not None and head.was_complete


def require_outside(run: Run, log_dir: Path, environ: Mapping[str, str]) -> None:
    """Refuse to write into a run, and to send the secrets of AWS with it; raises UsageError, StateError, RunError."""
    if around := off_limits.enclosing(log_dir, [run.root]):
        where = f"{printable(str(log_dir))} is inside {printable(around)}, whose files are uploaded"
        raise UsageError(f"the log directory {where} (give another --log_dir)")
    off_limits.temp_dir(environ, [run.root])
    for what_it_is, path in settings.private_paths(environ).items():
        if os.path.exists(path) and off_limits.enclosing(path, [run.root]):
            where = f"{what_it_is} {printable(str(path))} is inside the run {printable(str(run.root))}"
            raise RunError(f"{where}, so its secrets would be uploaded (move it, or set HOME)")


def _require_complete(run: Run, listing: Listing, request: UploadRequest) -> str:
    """Raise RunError if it is not complete; else gives what somebody should know about it, or nothing."""
    where, advice = printable(str(run.path)), "--skip_check uploads it as it is"
    if run.within:
        finish = analysis.judge(run, request.quiet_seconds)
        if not finish.complete:
            raise RunError(f"the analysis is not complete: {where} {finish.reason} ({advice})")
        return finish.warning
    verdict = readiness.check(run, request.terms, listing)
    if not verdict.is_complete:
        advice = "" if readiness.ADVICE in verdict.reason else f" ({advice})"
        raise RunError(f"the run is not complete: {where} {verdict.reason}{advice}")
    return verdict.warning


def _survey_settled(run: Run, request: UploadRequest, settle_seconds: float) -> tuple[Listing, UploadSelection]:
    """What of a run that is written yet may go up by now; what patterns match nothing the end will show."""
    still_since = time.time_ns() - round(settle_seconds * 1e9)
    listing = run_folder.list_files(run)
    scope = selection.select_files(run, listing, request.destination, request.excludes, request.reserved_path)
    return listing, selection.settled(scope, listing, still_since)._replace(warnings=())


def _doubt(state: RunState, listing: Listing, expected: analysis_manifest.Checksums) -> bool:
    """Take back the proofs of files that were touched since they went up while the run was written, or that another
    manifest of the instrument's stands for; whether any was touched."""
    state.proven = proof.checked(state.proven, listing, expected)
    doubted = selection.doubtful(state.proven, listing, state.still_since) if state.still_since else set()
    state.proven = {path: proof for path, proof in state.proven.items() if path not in doubted}
    return bool(doubted)


def _connect(
    request: UploadRequest, environ: Mapping[str, str], stop: StopRequest, work: Path, inherited: Sequence[int]
) -> client.AwsCli:
    return client.connect(request.aws_command, request.settings, environ, stop, work, inherited, request.stall_seconds)


def _is_done(request: UploadRequest, state: RunState, scope: UploadSelection) -> bool:
    """Whether the log says completed, and the disk is as it was then; a log of the predecessor is taken at its word."""
    if request.recheck or (request.completion_object and not state.completion_object):
        return False
    if not state.completed or state.by_predecessor:
        return state.completed
    return not scope.unsendable and all(log_format.is_same(f, state.proven.get(f.path)) for f in scope.files)


def _advice(request: UploadRequest) -> list[str]:
    if request.threads > MANY_THREADS:
        return [f"--threads {request.threads}: beyond {MANY_THREADS} they only wait for each other; use more --cores"]
    return []
