"""Restore one run, under its lock: read what S3 has, download and verify it, and move it into place."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

from s3sync.aws import thaw
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, Notice, StateError, UsageError
from s3sync.mounts import mount_of
from s3sync.runs import local_files, off_limits
from s3sync.state import lock
from s3sync.state.thaw_log import ThawLog, ThawStore
from s3sync.text import pluralize, printable
from s3sync.transfer.context import Runtime
from s3sync.transfer.restore.finish import move_into_place
from s3sync.transfer.restore.frozen import Archive, Outcome
from s3sync.transfer.restore.place import PrivateFolder
from s3sync.transfer.restore.plan import make_plan
from s3sync.transfer.restore.present import compare_present
from s3sync.transfer.restore.preview import make_preview
from s3sync.transfer.restore.receiver import Received, receive_files
from s3sync.transfer.restore.request import RestorePreview, RestoreRequest, RestoreResult
from s3sync.transfer.restore.session import RestoreSession, open_session


def restore(request: RestoreRequest, runtime: Runtime, continued: ThawStore | None = None) -> RestoreResult:
    """Restore a run. Files that failed are in the result; raises S3SyncError if nothing can be done at all.

    Uploads that share the machine go first. A scan gives the log of the restore that it continues: if somebody has
    cancelled that meanwhile, this raises BusyError.
    """
    started = time.monotonic()
    _require_usable_target(request.target)
    busy = f"{printable(request.run_id)} is already being uploaded or restored"
    with lock.hold(request.state_store.lock_path, busy, stop=runtime.stop, show=runtime.display.print) as run_lock:
        pending = request.thaw_store.load()
        if continued and not pending:
            text = f"the restore of {printable(request.run_id)} to {printable(str(request.target))} has already ended"
            raise BusyError(text, id="restore.ended-meanwhile")
        if pending:
            _require_same_mount(request.target, pending)
        with open_session(request, runtime, run_lock) as session:
            result = _restore_until_thawed(session)
            processes = session.aws.processes.started
    return replace(result, aws_processes=processes, seconds=time.monotonic() - started)


def preview(request: RestoreRequest, runtime: Runtime) -> RestorePreview:
    """Return what `restore` would do; S3 is asked, and nothing is written. Raises the same errors."""
    _require_usable_target(request.target)
    with open_session(request, runtime) as session:
        plan = make_plan(session)
        archived = [path for path in plan.wanted if plan.remote[path].storage_class in thaw.ARCHIVES]
        listed = (session.thawing.listed_states(archived) if archived else None) or {}
        tiered = [path for path in plan.wanted if thaw.may_be_in_archive_tier(plan.remote[path])]
        in_tiers = session.thawing.tiered_states(tiered)
        _warn_of_unwritable(request, runtime)
    return make_preview(request, plan, {path: item.state for path, item in listed.items()}, in_tiers)


def _warn_of_unwritable(request: RestoreRequest, runtime: Runtime) -> None:
    parent = request.target.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        text = f"this user cannot write to {printable(str(parent))} (give another --local-path)"
        runtime.display.print(Notice(text, id="restore.no-folder").line)


def _require_usable_target(target: Path) -> None:
    """Raise UsageError if the run cannot appear there. Its parent must exist: it may be a disk that is not mounted."""
    if local_files.is_analysis(f"{target.parent.name}/{target.name}"):
        raise UsageError(
            f"{printable(str(target))} is the place of an analysis (give its run, with --only analysis={target.name})",
            id="usage.restore-into-run",
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"no such folder: {printable(str(target.parent))} (mount or create it, or give another --local-path)",
            id="usage.no-restore-folder",
        )
    if around := off_limits.find_enclosing_folder(target.parent):
        raise UsageError(
            f"{printable(str(target))} would be inside the run folder {printable(around)} (give the folder that run"
            " folders lie in as --local-path)",
            id="usage.restore-into-run",
        )
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError(
            f"{printable(str(target))} exists and is not a folder (give another --local-path)",
            id="usage.restore-onto-file",
        )
    if target.is_dir() and target.stat().st_dev != target.parent.stat().st_dev:
        raise UsageError(
            f"{printable(str(target))} is on another file system than the folder it is in, so files cannot be moved"
            " into it (give another --local-path)",
            id="usage.restore-across-disks",
        )


def _require_same_mount(target: Path, pending: ThawLog) -> None:
    """Raise StateError if a restore would continue on another file system: its disk may not be mounted."""
    before, now = pending.mount, mount_of(target.parent)
    if before and now and not now.may_be(before):
        raise StateError(
            f"{printable(str(target.parent))} was on {before} when this restore began, and is on {now} (mount it; or,"
            " if this is meant, cancel the restore with --cancel and start again)",
            id="restore.other-mount",
        )


def _restore_until_thawed(session: RestoreSession) -> RestoreResult:
    """Restore the run; with `wait`, again until nothing is frozen."""
    while True:
        with contextlib.closing(PrivateFolder(session.request)) as folder:
            result = _restore_once(session, folder)
        if not session.request.wait or not result.requested or result.failed:
            return result
        session.runtime.display.print(
            f"{pluralize(len(result.frozen), 'object')} being thawed until about {result.ready_at}"
        )
        session.runtime.stop.pause(DELAYS.thaw_polls)


def _restore_once(session: RestoreSession, folder: PrivateFolder) -> RestoreResult:
    """Restore all files that are not frozen, and request that the others are thawed."""
    request, plan = session.request, make_plan(session)
    archive = Archive(session, plan)
    present = compare_present(session, plan)
    fetched = [path for path in plan.wanted if path not in present.kept and path not in present.others]
    received = Received()
    if fetched:
        folder.prepare()
        received = receive_files(session, plan, folder, fetched, archive)
    received.frozen.update(plan.record.frozen)
    failed = {**plan.blocking, **received.failed}
    thawing = Outcome(None, {})
    if received.frozen and not failed:
        thawing = archive.request(received.frozen)
        failed = thawing.failed
    session.check_lock()
    is_in_place = not failed and not plan.record.frozen  # the rest appears without its markers
    if is_in_place:
        failed = move_into_place(session, plan, folder, present, received)
    failed.update(present.others)
    if is_in_place and not received.frozen:
        folder.discard()
        if not failed:
            archive.forget()
    failed.update(plan.unusable)
    recorded = plan.record.entries
    return RestoreResult(
        request=request,
        total_files=len(plan.wanted) + len(plan.unusable),
        total_size=plan.size_of(plan.wanted),
        verified_by={path: proof.verified_by for path, proof in {**present.kept, **received.verified}.items()},
        kept=frozenset(present.kept),
        restored_size=received.size,
        failed=dict(sorted(failed.items())),
        records=tuple(plan.record.sources),
        unrecorded=tuple(path for path in plan.wanted if recorded and path not in recorded),
        without_time=sum(plan.record.mtime_ns(path) < 0 for path in received.verified),
        frozen=frozenset(received.frozen),
        frozen_size=plan.size_of(received.frozen),
        tiers=tuple(thaw.hours_by_tier({plan.remote[path].storage_class for path in received.frozen})),
        requested=len(thawing.log.requested & received.frozen) if thawing.log else 0,
        ready_at=thawing.log.ready_at if thawing.log else "",
        is_in_place=is_in_place,
        whole=not failed and not received.frozen and not request.parts,
    )
