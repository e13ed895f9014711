"""Run the user's command for a completed run, and keep its outcome in the state log."""

from __future__ import annotations

from dataclasses import replace

from s3sync.runs import Run
from s3sync.state import RunState, StateStore
from s3sync.transfer.context import Runtime
from s3sync.transfer.request import UploadRequest, hook


def run_hook_if_due(request: UploadRequest, run: Run, store: StateStore, state: RunState, runtime: Runtime) -> str:
    """Run the user's command if it is due; return its outcome, or an empty string if it is not.

    The caller holds the run's lock, so that the command runs once at a time. The log calls it due until it has the
    outcome: if a call is killed in between, the command runs again, but is never skipped.
    """
    if not request.on_complete or not state.completed or not hook.is_pending(state.on_complete):
        return ""
    guard = store.lock_path.with_suffix(".on_complete")
    variables = _hook_environment(request, run, store, state)
    outcome = hook.run(request.on_complete, variables, store.log_path, guard, runtime.environ, runtime.stop)
    store.save(replace(state, on_complete=outcome))
    return outcome


def _hook_environment(request: UploadRequest, run: Run, store: StateStore, state: RunState) -> dict[str, str]:
    """Return the variables that describe the run to the user's command; their names are part of the contract."""
    destination = request.destination
    return {
        "S3SYNC_RUN_ID": run.run_id,
        "S3SYNC_RUN_PATH": str(run.path),
        "S3SYNC_BUCKET": destination.bucket,
        "S3SYNC_REMOTE_PATH": destination.remote_path,
        "S3SYNC_URL": destination.url(run.run_id),
        "S3SYNC_FILES": str(len(state.verified)),
        "S3SYNC_BYTES": str(state.size),
        "S3SYNC_STARTED": state.started,
        "S3SYNC_FINISHED": state.finished,
        "S3SYNC_LOG": str(store.log_path),
    }
