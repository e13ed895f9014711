"""Restore one run, under its lock: read what S3 has, download and prove it, and move it into place."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.aws import client, objects, thaw
from s3sync.aws import destination as aws_destination
from s3sync.aws.objects import RemoteObject
from s3sync.aws.remote_folder import RemoteFolder
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, RunError, StateError, UsageError, explained
from s3sync.runs import Run, local_files, run_folder
from s3sync.signals import StopRequest
from s3sync.state import StateStore, lock, restored, thaw_log
from s3sync.text import pluralize, printable
from s3sync.transfer.bandwidth import Throttle
from s3sync.transfer.batches import is_marker
from s3sync.transfer.context import work_folder
from s3sync.transfer.displays import Display
from s3sync.transfer.restore import finish, names, place, record, state_log
from s3sync.transfer.restore.downloader import Downloader
from s3sync.transfer.restore.frozen import Archive
from s3sync.transfer.restore.passes import Received, Receiver
from s3sync.transfer.restore.preview import make_preview
from s3sync.transfer.restore.prover import Prover, Verdicts
from s3sync.transfer.restore.request import RestorePreview, RestoreRequest, RestoreResult
from s3sync.transfer.restore.sources import KeyIndex
from s3sync.transfer.restore.space import needed_bytes, require_space
from s3sync.transfer.sharing import MachineShare, SharedMachine

_FOLDER_MARK = "_$folder$"  # empty objects of Hadoop's, one for each folder
_ON_DISK = "another file is on disk (--overwrite replaces it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What S3 has of the run, and what of it is wanted. `unusable` are keys that cannot be files."""

    remote: Mapping[str, RemoteObject]  # files of the run, completion objects among them
    wanted: tuple[str, ...]
    unusable: Mapping[str, str]
    record: record.Record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """What all steps of one restore share."""

    request: RestoreRequest
    aws: client.AwsCli
    reader: objects.ObjectReader
    environ: Mapping[str, str]
    work: Path
    stop: StopRequest
    display: Display
    share: MachineShare  # of the machine, beside uploads of this program

    @property
    def remote(self) -> RemoteFolder:
        return RemoteFolder(self.aws, self.request.bucket, self.request.prefix)


def restore(
    request: RestoreRequest,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    machine: SharedMachine | None = None,
    continued: thaw_log.ThawStore | None = None,
) -> RestoreResult:
    """Restore a run. Files that failed are in the result; raises S3SyncError if nothing can be done at all.

    With uploads in other threads it shares a `machine`, where they go first. One that is `continued` may have been
    cancelled since its log was read: then it raises BusyError.
    """
    started = time.monotonic()
    _require_parent(request.target)
    store = StateStore(request.log_dir, _as_run(request), request.destination)
    busy = f"{printable(request.run_id)} is being uploaded or restored already"
    with lock.hold(store.lock_path, busy, stop=stop, say=display.print) as run_lock:
        if continued and not continued.load():
            text = f"the restore of {printable(request.run_id)} to {printable(str(request.target))} has ended meanwhile"
            raise BusyError(text, id="restore.ended-meanwhile")
        with _open_session(request, environ, stop, display, run_lock.descriptor, machine=machine) as session:
            result = _restore_until_thawed(session, store.lock_path.stem, run_lock.check)
            processes = session.aws.processes.started
    return replace(result, aws_processes=processes, seconds=time.monotonic() - started)


def preview(request: RestoreRequest, environ: Mapping[str, str], stop: StopRequest, display: Display) -> RestorePreview:
    """Return what `restore` would do; S3 is asked, and nothing is written. Raises the same errors."""
    _require_parent(request.target)
    with _open_session(request, environ, stop, display) as session:
        plan = _make_plan(session)
        archived = [path for path in plan.wanted if plan.remote[path].storage_class in thaw.ARCHIVES]
        thawing = thaw.Thawing(session.remote, request.cores)
        listed = (thawing.listed_states(archived) if archived else None) or {}
    states = {path: item.state for path, item in listed.items()}
    return make_preview(request, plan.remote, plan.wanted, plan.unusable, plan.record.sources, states)


@contextlib.contextmanager
def _open_session(
    request: RestoreRequest,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    *inherited: int,
    machine: SharedMachine | None = None,
) -> Iterator[_Session]:
    environ = request.profile.applied_to(environ)
    with work_folder(environ, [request.target]) as (work, work_lock):
        descriptors = (*inherited, work_lock)
        aws = client.connect(
            request.aws_command, request.settings, environ, stop, work, descriptors, request.stall_seconds
        )
        aws.version()
        alone = SharedMachine(request.cores, request.process_limit, request.max_bandwidth, is_shared=False)
        with (machine or alone).join(aws.processes.pids) as share:
            share.stay_behind_uploads()
            reader = objects.ObjectReader(
                RemoteFolder(aws, request.bucket, request.prefix),
                max_processes=request.cores,
                say=display.print,
                turn=share.reading_turn,
            )
            yield _Session(
                request=request,
                aws=aws,
                reader=reader,
                environ=environ,
                work=work,
                stop=stop,
                display=display,
                share=share,
            )


def _require_parent(target: Path) -> None:
    """Raise UsageError unless the folder exists in which the run is to appear: it may be a disk that is not mounted."""
    if not target.parent.is_dir():
        raise UsageError(
            f"no such folder: {printable(str(target.parent))} (mount or create it, or give another --local-path)",
            id="usage.no-restore-folder",
        )
    if os.path.lexists(target) and not target.is_dir():
        raise UsageError(
            f"{printable(str(target))} is in the way, and is not a folder (give another --local-path)",
            id="usage.restore-onto-file",
        )
    if target.is_dir() and target.stat().st_dev != target.parent.stat().st_dev:
        raise UsageError(
            f"{printable(str(target))} is on another file system than the folder it is in, so files cannot be moved"
            " into it (give another --local-path)",
            id="usage.restore-across-disks",
        )


def _as_run(request: RestoreRequest) -> Run:
    return Run(path=request.target, run_id=request.run_id, info=run_folder.RunInfo())


def _make_plan(session: _Session) -> _Plan:
    """Read what S3 has of the run, and choose what is wanted. Raises RunError if there is nothing."""
    request = session.request
    remote = session.reader.list_run()
    if remote is None:
        raise RunError(
            f"cannot restore {printable(request.url)}: {session.reader.why_unlisted} (give these credentials"
            " s3:ListBucket there)",
            id="restore.no-listing",
        )
    recorded = record.read_record(request, session.aws, remote)
    for warning in recorded.warnings:
        session.display.print(warning.line)
    files = {path for path in remote if not aws_destination.is_completion_object(path)}
    marks = {path for path in files if path.endswith(_FOLDER_MARK) and not remote[path].size}
    files -= marks - recorded.entries.keys()
    unusable = names.find_unusable(files)
    missing = {path: recorded.why_missing(path) for path in recorded.entries.keys() - files}
    chosen = {path for path in files | missing.keys() if _is_chosen(request, path)}
    if not files and not missing:
        raise RunError(
            f"nothing of {printable(request.run_id)} is in {printable(request.url)} (check --bucket and --remote-path)",
            id="restore.not-in-s3",
        )
    if not chosen:
        given = " ".join(part.text for part in request.parts)
        raise RunError(
            f"nothing in {printable(request.url)} is chosen by --only {printable(given)}", id="restore.nothing-chosen"
        )
    return _Plan(
        remote=remote,
        wanted=tuple(sorted(chosen & files - unusable.keys())),
        unusable={path: why for path, why in sorted({**missing, **unusable}.items()) if path in chosen},
        record=recorded,
    )


def _is_chosen(request: RestoreRequest, path: str) -> bool:
    """Return whether a file is wanted. A part of a run never has a completion marker: it would look whole."""
    if not request.parts:
        return True
    return not is_marker(path) and any(part.matches(request.run_id, path) for part in request.parts)


def _restore_until_thawed(session: _Session, lock_name: str, check_lock: Callable[[], None]) -> RestoreResult:
    """Restore what can be had; with `wait`, again until nothing is frozen any more."""
    request = session.request
    while True:
        with contextlib.closing(place.PrivateFolder(request)) as folder:
            result = _restore_once(session, _make_plan(session), lock_name, folder, check_lock)
        if not request.wait or not result.requested or result.failed:
            return result
        session.display.print(f"{pluralize(len(result.frozen), 'object')} being thawed until about {result.ready_at}")
        session.aws.pause(DELAYS.thaw_polls)


def _restore_once(
    session: _Session, plan: _Plan, lock_name: str, folder: place.PrivateFolder, check_lock: Callable[[], None]
) -> RestoreResult:
    request = session.request
    thawing = thaw.Thawing(session.remote, request.cores)
    store = thaw_log.ThawStore(request.log_dir, f"{lock_name}.{request.choice_tag}")
    archive = Archive(request, thawing, store, plan.remote, session.display)
    present, other = _compare_present(session, plan)
    kept = present.proven
    fetched = [path for path in plan.wanted if path not in kept and path not in other]
    received = Received(frozen=set(plan.record.frozen))
    if fetched:
        folder.prepare()
        received = _receive(session, plan, folder, fetched, archive)
        received.frozen.update(plan.record.frozen)
    failed = {**plan.unusable, **received.failed}
    log = None
    if received.frozen and not failed:
        outcome = archive.request(received.frozen)
        log, failed = outcome.log, outcome.failed
    check_lock()
    is_in_place = not failed and not plan.record.frozen  # the rest appears without its markers
    if is_in_place:
        is_new = not kept and not other and not request.parts and not received.frozen
        with_markers = not other and not received.frozen
        if received.proven:
            restored.note(request.log_dir, lock_name, request.target)
        ready = replace(_as_run(request), path=folder.ready)
        seen = {**present.files, **local_files.restat_all(ready, received.proven)}
        failed.update(
            finish.move_into_place(
                request, folder, received.proven, plan.record.folders, is_new=is_new, with_markers=with_markers
            )
        )
        if with_markers and not failed and not request.parts:
            here = {**kept, **received.proven}
            if received.proven or folder.exists:
                finish.set_folder_times(request.target, plan.record.folders, here)
            state_log.write_missing_logs(request, plan.remote, here, seen, plan.record.folders, check_lock)
    failed.update(other)
    if is_in_place and not received.frozen:
        folder.discard()
        if not failed:
            archive.forget()
    recorded = plan.record.entries
    return RestoreResult(
        request=request,
        total_files=len(plan.wanted) + len(plan.unusable),
        total_size=sum(plan.remote[path].size for path in plan.wanted),
        proven_by={**kept, **received.proven},
        kept=frozenset(kept),
        restored_size=received.size,
        failed=dict(sorted(failed.items())),
        records=tuple(plan.record.sources),
        unrecorded=tuple(path for path in plan.wanted if recorded and path not in recorded),
        without_time=sum(plan.record.mtime_ns(path) < 0 for path in received.proven),
        frozen=frozenset(received.frozen),
        frozen_size=sum(plan.remote[path].size for path in received.frozen),
        requested=len(log.requested & received.frozen) if log else 0,
        ready_at=log.ready_at if log else "",
        is_in_place=is_in_place,
        whole=not failed and not received.frozen and not request.parts,
    )


def _compare_present(session: _Session, plan: _Plan) -> tuple[Verdicts, dict[str, str]]:
    """Compare the files that are on disk already; return the verdicts, and why others cannot be restored."""
    request = session.request
    sizes = {path: place.size_on_disk(request.target, path) for path in plan.wanted}
    same = [path for path in plan.wanted if sizes[path] == plan.remote[path].size]
    present = Verdicts({}, {}, {})
    if same:
        with contextlib.closing(_make_prover(session, plan, request.target)) as prover:
            present = prover.prove(same)
    if request.overwrite:
        return present, {}
    others = (path for path in plan.wanted if sizes[path] != -1 and path not in present.proven)
    return present, dict.fromkeys(others, _ON_DISK)


def _make_prover(session: _Session, plan: _Plan, folder: Path) -> Prover:
    turn = session.share.hashing_turn if session.share.machine.is_shared else contextlib.nullcontext
    return Prover(folder, session.request, plan.remote, plan.record, session.reader, session.stop, turn)


def _receive(
    session: _Session, plan: _Plan, folder: place.PrivateFolder, paths: list[str], archive: Archive
) -> Received:
    request = session.request
    sizes = {path: plan.remote[path].size for path in paths}
    throttle = None
    if request.max_bandwidth:
        throttle = Throttle(
            request.max_bandwidth,
            request.cores,
            session.environ,
            request.settings,
            session.work,
            running=session.share.machine.running_shares,
            fraction=lambda: session.share.fraction,
        )
    concurrency = session.share.background_concurrency()
    keys = KeyIndex(list(plan.remote), request.prefix)
    downloader = Downloader(request, session.aws, keys, folder.arrivals, throttle)
    with (
        explained(
            "write",
            folder.path,
            "make room there, or make it writable, and run the same command again",
            id="restore.cannot-write",
        ),
        contextlib.closing(_make_prover(session, plan, folder.arrivals)) as prover,
    ):
        receiver = Receiver(folder, downloader, prover, plan.record, plan.remote, concurrency, request.cores)
        received = receiver.received
        receiver.expect(paths)
        session.display.follow(
            f"restoring {printable(request.run_id)} to {printable(str(request.target))}", receiver.snapshot
        )
        _take_over_ready(session, plan, folder, receiver, folder.harvest(sizes))
        left = [path for path in paths if path not in receiver.received.proven]
        received.frozen = archive.find_frozen(left)
        require_space(request.target.parent, needed_bytes(plan.remote, left))
        receiver.receive([path for path in left if path not in received.frozen], session.stop)
    if received.is_disk_full:
        raise StateError(
            f"the disk of {printable(str(request.target.parent))} is full (make room, and run the same command again:"
            " what is proven is not downloaded again)",
            id="restore.disk-full",
        )
    if received.cause:
        raise received.cause.to_error(printable(request.url), received.said)
    return received


def _take_over_ready(
    session: _Session, plan: _Plan, folder: place.PrivateFolder, receiver: Receiver, paths: list[str]
) -> None:
    """Prove what an earlier call has left, since the machine may have crashed; drop what is not proven."""
    if not paths:
        return
    with contextlib.closing(_make_prover(session, plan, folder.ready)) as prover:
        verdicts = prover.prove(paths)
    for path, how in verdicts.proven.items():
        folder.finish(path, plan.record.mtime_ns(path))
        receiver.add_proven(path, how)
    for path in verdicts.failed:
        folder.drop(path)
