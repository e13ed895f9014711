"""Upload one run, or one analysis of a run, under its lock; or preview the upload."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from s3sync.aws import settings
from s3sync.errors import Notice, S3SyncError
from s3sync.resources import MAX_USEFUL_CORES
from s3sync.runs import completion
from s3sync.state import RunState, StateStore
from s3sync.state import log_dir as state_log_dir
from s3sync.text import printable, to_iso
from s3sync.transfer import batches, selection
from s3sync.transfer.context import Runtime, UploadContext, open_context
from s3sync.transfer.request import Preview, UploadRequest, UploadResult, describe_target
from s3sync.transfer.upload import completion_hook
from s3sync.transfer.upload.handover import Executor
from s3sync.transfer.upload.inspection import UploadInputs, drop_stale_proofs, inspect_run, is_complete, require_claim
from s3sync.transfer.upload.session import UploadSession, start_state


def upload(request: UploadRequest, runtime: Runtime, executor: Executor) -> UploadResult:
    """Upload a run and verify it; raises S3SyncError if that is not possible, with the state saved.

    Files that failed are in the result, not raised. An `executor` that submits takes the files instead of this machine.
    """
    call = _begin_call(request, runtime, executor)
    busy = f"{call.target} is already being uploaded"
    with call.store.locked(busy, stop=runtime.stop, show=runtime.display.print) as run_lock:
        return call.upload_locked(run_lock.descriptor)


def preview(request: UploadRequest, runtime: Runtime, executor: Executor) -> Preview:
    """Ask S3, write nothing, and return what `upload` would do; raises the same errors."""
    return _begin_call(request, runtime, executor).preview()


def _begin_call(request: UploadRequest, runtime: Runtime, executor: Executor) -> _Call:
    started = time.monotonic()
    inputs = inspect_run(request, runtime.environ)
    store = StateStore(
        request.log_dir, inputs.run, request.destination, leaves_untagged_name=request.leaves_untagged_log
    )
    return _Call(request=request, inputs=inputs, store=store, runtime=runtime, executor=executor, started=started)


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call of `upload` or `preview`: its request, and the files on disk."""

    request: UploadRequest
    inputs: UploadInputs
    store: StateStore
    runtime: Runtime
    executor: Executor
    started: float  # by the monotonic clock

    @property
    def target(self) -> str:
        return describe_target(self.inputs.run, self.request.destination)

    def upload_locked(self, lock_descriptor: int) -> UploadResult:
        """Upload the run; the caller holds its lock."""
        self.store.prepare(self.inputs.selection.total)
        loaded = self._load_state()
        moved_from = self._require_claim(loaded)
        before = self._collect(loaded)
        if before and is_complete(self.request, before, self.inputs.selection):
            return self._already_complete(before, moved_from)
        state = replace(
            before or RunState.of(self.inputs.run),
            watched=self.inputs.watched,
            instrument_done="" if self.request.is_streaming else to_iso(completion.finished_at(self.inputs.run)),
        )
        current = drop_stale_proofs(state, self.inputs)
        if self.request.is_streaming and not batches.pending(self.inputs.selection.files, current.verified):
            return self._result(current)
        # While streaming there is no manifest yet, so that only files that were touched lose their proofs.
        is_s3_known = self.request.is_streaming and state.ended_cleanly and len(current.verified) == len(state.verified)
        result = self._run_session(current, lock_descriptor, resumed=before is not None, is_s3_known=is_s3_known)
        counters = replace(result.counters, seconds=time.monotonic() - self.started)
        return replace(result, counters=counters, on_complete=self._run_hook(result.state))

    def preview(self) -> Preview:
        """Return what `upload_locked` would do, without a lock."""
        state = self._load_state(set_aside=False)
        self._require_claim(state)
        chosen = self.inputs.selection
        result = Preview(
            run=self.inputs.run,
            destination=self.request.destination,
            log_path=self.store.log_path,
            selection=chosen,
        )
        if state and is_complete(self.request, state, chosen):
            return result
        if progress := self.executor.describe_progress(self.request, self.store):
            self.runtime.display.print(f"note: {progress}")
        obstacles = self._find_obstacles()
        known = drop_stale_proofs(state or RunState.of(self.inputs.run), self.inputs)
        pending = batches.pending(chosen.files, known.verified)
        order, classes = batches.split_by_phase(pending), self.request.class_choice(self.inputs.run)
        result = replace(
            result,
            pending=pending,
            batches=sum(
                len(batches.into_batches(group, self.request.cores, class_of=classes.class_of))
                for group in order
                if group
            ),
            obstacles=tuple(obstacle.text for obstacle in obstacles),
            classes=classes.group(pending),
        )
        with open_context(self.request, self.inputs.run, self.runtime) as context:
            return self._ask_s3(context, result)

    def _find_obstacles(self) -> list[Notice]:
        """Return what would make the upload fail, and show it as warnings."""
        obstacles = self.store.obstacles(self.inputs.selection.total)
        unwritable = "" if self.request.scheduled else state_log_dir.unwritable(self.request.log_dir)
        if unwritable:  # a scan reports that itself
            obstacles.insert(0, Notice(unwritable, id="state.log-dir-unwritable"))
        for obstacle in obstacles:
            self._warn(obstacle)
        return obstacles

    def _ask_s3(self, context: UploadContext, result: Preview) -> Preview:
        """Add to a preview what S3 has already."""
        reader = context.make_reader()
        remote = reader.list_run()
        if remote is not None and not remote:
            reader.require_s3()
        sse = self.request.storage.sse
        is_by_kms = sse == "aws:kms" or (not sse and reader.encrypts_by_kms())
        has_receipts = self.request.transfer_client == "auto"  # the plugin reports S3's checksums
        found = {path: item.size for path, item in (remote or {}).items()}
        asks_each = is_by_kms and self.request.verify != "size" and not has_receipts
        return replace(
            result,
            same_size=sum(found.get(file.path) == file.size for file in result.pending),
            ask_seconds=reader.head_seconds(len(result.pending)) if asks_each else 0.0,
        )

    def _load_state(self, *, set_aside: bool = True) -> RunState | None:
        """Return the state after earlier calls; show the warnings about it, the options and the files."""
        loaded = self.store.load(set_aside=set_aside)
        for warning in (*option_warnings(self.request), *self.inputs.selection.warnings, *loaded.warnings):
            self._warn(warning)
        return loaded.state

    def _require_claim(self, state: RunState | None) -> str:
        return require_claim(self.inputs.run, state, lambda: self.inputs.listing)

    def _collect(self, state: RunState | None) -> RunState | None:
        """Return the state with what the executor uploaded for earlier calls."""
        return self.executor.collect(self.request, self.inputs.run, self.store, state, self.runtime.stop)

    def _already_complete(self, state: RunState, moved_from: str) -> UploadResult:
        if moved_from:
            self.runtime.display.print(f"note: {self.target}: moved here from {moved_from}; all of it is in S3")
            state = replace(state, watched=self.inputs.watched)
            self.store.save(state)
        return replace(self._result(state), already_complete=True, on_complete=self._run_hook(state))

    def _run_session(self, state: RunState, lock_descriptor: int, *, resumed: bool, is_s3_known: bool) -> UploadResult:
        with contextlib.ExitStack() as stack:
            try:
                context = stack.enter_context(self._open_context(lock_descriptor))
            except S3SyncError:
                state = start_state(state, self.inputs.selection, self.executor)
                self.store.begin(state)  # so that the run stays due, however old it is when the CLI works again
                self.store.finish(state)
                raise
            session = UploadSession(context, self.inputs.selection, self.store, state, self.executor)
            self.inputs = self.inputs.without_files()  # they may be listed again
            return session.run_stages(resumed=resumed, is_s3_known=is_s3_known)

    def _open_context(self, lock_descriptor: int) -> contextlib.AbstractContextManager[UploadContext]:
        inputs = self.inputs
        return open_context(
            self.request, inputs.run, self.runtime, expected=inputs.expected, inherited=[lock_descriptor]
        )

    def _run_hook(self, state: RunState) -> str:
        if self.executor.is_finalizer:
            return ""
        return completion_hook.run_hook_if_due(self.request, self.inputs.run, self.store, state, self.runtime)

    def _result(self, state: RunState) -> UploadResult:
        return UploadResult(
            run=self.inputs.run,
            destination=self.request.destination,
            log_path=self.store.log_path,
            state=state,
            selection=self.inputs.selection,
        )

    def _warn(self, warning: Notice) -> None:
        """Show a warning; in a scan, name the run, and only note an unused pattern: it may be meant for other runs."""
        if not self.request.scheduled:
            self.runtime.display.print(warning.line)
            return
        named = warning._replace(text=f"{printable(self.inputs.run.run_id)}: {warning.text}")
        self.runtime.display.print(str(named) if warning.id == selection.UNUSED_PATTERN else named.line)


def option_warnings(request: UploadRequest) -> Iterator[Notice]:
    """Yield a warning for each option that is allowed, but probably a mistake."""
    useful = settings.max_useful_threads(request.transfer_client)
    if request.threads and request.threads > useful:
        text = f"--threads {request.threads}: more than {useful} only wait for each other; use more --cores"
        yield Notice(text, id="upload.many-threads")
    if request.cores > MAX_USEFUL_CORES and not request.scheduled:
        text = f"--cores {request.cores:,}: that many `aws` processes at once; is that the number of cores?"
        yield Notice(text, id="upload.many-cores")
