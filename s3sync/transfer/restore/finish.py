"""Move verified files into the run folder, completion markers last, and restore the times of its folders."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from s3sync.errors import explained
from s3sync.runs import local_files
from s3sync.state import restored
from s3sync.transfer.batches import is_marker, is_metadata
from s3sync.transfer.restore import names, state_log
from s3sync.transfer.restore.place import InTheWayError, OpenFolders, PrivateFolder
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.present import PresentFiles
from s3sync.transfer.restore.receiver import Received
from s3sync.transfer.restore.session import RestoreSession

_ADVICE = "make it writable, and run the same command again"


def move_into_place(
    session: RestoreSession, plan: RestorePlan, folder: PrivateFolder, present: PresentFiles, received: Received
) -> dict[str, str]:
    """Move the verified files into the run folder; return why files could not be moved, by path.

    Completion markers follow if the run is then whole. It then gets the times of its folders, and the state logs that
    it lacks. Raises StateError, LeaseLostError.
    """
    request = session.request
    if received.verified:
        restored.record(request.log_dir, request.lock_name, request.target)
    ready = local_files.restat_all(replace(request.run, path=folder.ready), received.verified)
    with_markers = not present.others and not received.frozen
    is_whole = with_markers and not request.parts
    with explained("write", request.target, _ADVICE, id="restore.cannot-move"):
        is_new = is_whole and not present.kept
        failed = _move(plan, folder, received.verified, is_new=is_new, with_markers=with_markers)
    if is_whole and not failed:
        proofs = {**present.kept, **received.verified}
        if received.verified or folder.exists:
            set_folder_times(request.target, plan.record.folders, proofs, folder.folder_mode)
        state_log.write_missing_logs(session, plan, proofs, {**present.compared, **ready})
    return failed


def _move(
    plan: RestorePlan, folder: PrivateFolder, verified: Iterable[str], *, is_new: bool, with_markers: bool
) -> dict[str, str]:
    """Add files to the run folder, or make a run that `is_new` appear at once, with the times of its folders."""
    ordered = sorted(verified, key=lambda path: (is_marker(path), not is_metadata(path), path))
    if not ordered:
        return {}
    if is_new:
        set_folder_times(folder.ready, plan.record.folders, ordered, folder.folder_mode)
        if folder.become_target():
            return {}
    failed = dict(folder.add_to_target(path for path in ordered if not is_marker(path)))
    if not failed and with_markers:
        failed.update(folder.add_to_target(path for path in ordered if is_marker(path)))
    return failed


def set_folder_times(root: Path, folders: Mapping[str, int], files: Iterable[str], mode: int) -> None:
    """Make these folders below `root` with this mode, if missing, and set their times in ns, the innermost first.

    `files` are those of the run. A folder that contains anything else keeps its time, since somebody has changed it.
    Raises StateError.
    """
    usable = {path for path in folders if not path or not names.why_unusable(path)}
    known: dict[str, set[str]] = {path: set() for path in usable}
    for path in [*usable - {""}, *files]:
        above, _, name = path.rpartition("/")
        known.setdefault(above, set()).add(name)
    with explained("write", root, _ADVICE, id="restore.cannot-move"), OpenFolders(root, mode) as opened:
        for path in sorted(usable, reverse=True):
            with contextlib.suppress(InTheWayError):
                descriptor = opened.open(path)
                if set(os.listdir(descriptor)) <= known[path]:
                    with contextlib.suppress(PermissionError):  # a folder of another user, to which this one may write
                        os.utime(descriptor, ns=(folders[path], folders[path]))
