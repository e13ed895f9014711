"""Finish cleanups that were interrupted after they had deleted all files, when only empty folders were left."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from s3sync.aws import destination
from s3sync.cleanup import delete as cleanup_delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.context import CleanupContext
from s3sync.cleanup.delete import DeletionRequest, DeletionResult
from s3sync.cleanup.record import Record
from s3sync.cleanup.result import describe_not_deleted
from s3sync.errors import S3SyncError, StoppedError
from s3sync.inventory import Problem
from s3sync.runs import Run, run_folder
from s3sync.state import StateStore
from s3sync.text import now_iso, printable

LOG = logging.getLogger(__name__)


def finish_interrupted(context: CleanupContext, names: Iterable[str]) -> tuple[list[Path], list[Problem]]:
    """Finish interrupted cleanups that left only empty folders, of all runs or of those with these names or paths.

    Returns the run folders that are finished, and the problems. Raises StoppedError.
    """
    wanted = {name.rstrip("/") for name in names}
    wanted |= {os.path.abspath(name) for name in wanted}  # not resolved by the inventory: the run may be gone
    finished, problems = [], []
    for path in cleanup_record.unfinished(context.config.log_dir):
        context.stop.raise_if_requested()
        try:
            record = cleanup_record.load(path)
            if record is None or not _is_wanted(record, wanted) or not _is_finished_except_folders(record):
                continue
            if why := _finish(context, path, record):
                problems.append(Problem(printable(record.run_path), why, id="cleanup.folders-not-deleted"))
            else:
                finished.append(Path(record.run_path))
        except StoppedError:
            raise
        except S3SyncError as error:
            problems.append(Problem(printable(str(path)), str(error), id=error.id))
    return finished, problems


def _finish(context: CleanupContext, path: Path, record: Record) -> str:
    """Delete the empty folders of a run, and return why some are left; empty if all are deleted."""
    folder = Path(record.run_path)
    if os.path.lexists(folder):
        deletion = DeletionResult()
        request = DeletionRequest(folder=folder, identity=record.identity, files={}, kept=frozenset(record.kept))
        with _locks_of_record(context, record):
            cleanup_delete.delete_run(request, context.stop.raise_if_requested, deletion)
        if deletion.not_deleted:
            return f"folders of an interrupted cleanup are left: {describe_not_deleted(deletion.not_deleted)}"
    cleanup_record.save(path, replace(record, finished=now_iso(), not_deleted={}))
    LOG.info("%s: finished an interrupted cleanup", printable(record.run_path))
    return ""


@contextlib.contextmanager
def _locks_of_record(context: CleanupContext, record: Record) -> Iterator[None]:
    run = Run(path=Path(record.run_path), run_id=record.run_id, info=run_folder.RunInfo())
    suffix = f"/{record.run_id}/"
    with contextlib.ExitStack() as locks:
        for target in record.targets:
            bucket, _, prefix = target.url.removeprefix("s3://").removesuffix(suffix).partition("/")
            store = StateStore(context.config.log_dir, run, destination.parse_destination(bucket, prefix))
            locks.enter_context(context.lock(store.lock_path, printable(target.url)))
        yield


def _is_wanted(record: Record, names: set[str]) -> bool:
    return not names or not names.isdisjoint({record.run_id, printable(record.run_id), record.run_path})


def _is_finished_except_folders(record: Record) -> bool:
    """Return whether only empty folders can be left of a run, since RunInfo.xml, which is deleted last, is gone.

    The file system must be mounted, and the folder must be the one that was verified.
    """
    folder = Path(record.run_path)
    if os.path.lexists(folder / run_folder.RUN_INFO) or _device(folder.parent) != record.device:
        return False
    return not os.path.lexists(folder) or (
        not folder.is_symlink() and cleanup_delete.identity_of(folder) == record.identity
    )


def _device(folder: Path) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:
        return None
