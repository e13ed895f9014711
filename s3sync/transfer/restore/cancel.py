"""Cancel a waiting restore: forget the objects that are being thawed for it, and remove its downloads."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from s3sync import files
from s3sync.errors import RunError
from s3sync.state import lock, thaw_log
from s3sync.state.thaw_log import ThawLog
from s3sync.text import printable
from s3sync.transfer.context import Runtime
from s3sync.transfer.restore import place
from s3sync.transfer.restore.request import RestoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """A cancelled restore: objects whose thawing was requested, and whether downloaded files were removed."""

    request: RestoreRequest
    requested: int
    has_removed_files: bool


def cancel(request: RestoreRequest, runtime: Runtime) -> Cancellation:
    """Cancel the restore that the same command began. The run folder stays as it is, and S3 is not asked.

    Raises RunError if there is none, BusyError while it runs, StateError.
    """
    busy = f"{printable(request.run_id)} is already being uploaded or restored"
    with lock.hold(request.state_store.lock_path, busy, stop=runtime.stop, show=runtime.display.print):
        store = request.thaw_store
        log, has_log = store.load(), files.is_there(store.path)
        store.forget()
        others = _others(request)
        with contextlib.closing(place.PrivateFolder(request)) as folder:
            has_folder = folder.exists and not any(other.run_path == str(request.target) for other in others)
            if not has_log and not has_folder:
                raise RunError(_none_pending(request, others), id="restore.not-pending")
            if has_folder:
                folder.prepare()
                folder.discard()
    return Cancellation(request=request, requested=len(log.requested) if log else 0, has_removed_files=has_folder)


def _others(request: RestoreRequest) -> list[ThawLog]:
    """Return the restores of this run that still wait."""
    logs = [log for _, log in thaw_log.list_stores(request.log_dir)]
    return [log for log in logs if (log.run_id, log.destination) == (request.run_id, request.destination)]


def _none_pending(request: RestoreRequest, others: list[ThawLog]) -> str:
    what = f"no such restore of {printable(request.run_id)} to {printable(str(request.target))} is pending"
    if not others:
        return f"{what} (there is nothing to cancel)"
    named = "; ".join(" ".join([printable(log.run_path), *_choice(log)]) for log in others)
    return f"{what} (give the options of the command that started it; pending: {named})"


def _choice(log: ThawLog) -> list[str]:
    return [f"--only {printable(part)}" for part in log.parts]
