"""Continue the restores that wait for frozen objects, as soon as these may be thawed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from s3sync.aws.destination import FROM_ENVIRONMENT, Profile
from s3sync.config import Config
from s3sync.delays import DELAYS
from s3sync.errors import BusyError, LeaseLostError, Notice, S3SyncError, StateError, StoppedError, explain_machine
from s3sync.inventory import restores
from s3sync.monitor.context import ScanContext
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_result import ScanResult
from s3sync.resources import usable_cores
from s3sync.state import thaw_log
from s3sync.state.thaw_log import ThawLog, ThawStore
from s3sync.text import parse_iso, pluralize, printable
from s3sync.transfer import restore
from s3sync.transfer.runtime import Runtime
from s3sync.transfer.sharing import SharedMachine

LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 3600.0  # between two tries
_LIKELY_PART = 0.5  # of the longest time that thawing takes, after which a look is worth its requests


class PendingRestores:
    """The restores that one scan continues beside its uploads: one at a time, with what uploads leave of the machine.

    A scan may take days, and a restore hours, so neither waits for the other. The methods are for one thread.
    """

    def __init__(self, context: ScanContext, result: ScanResult, machine: SharedMachine) -> None:
        self.at_work: set[Future[list[Problem]]] = set()
        self._context = context
        self._result = result
        self._machine = machine
        self._key = ""  # of the one at work
        self._begun: dict[Path, float] = {}  # when each was begun in this scan, by the path of its log
        self._known: set[str] = set()  # keys of all that have waited at the last look
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="restore")

    def begin_next(self) -> None:
        """Begin with the first one that may be thawed, unless one is at work; report the results of earlier tries."""
        if self.at_work or self._context.stop.is_requested:
            return
        now = time.monotonic()
        stores = thaw_log.list_stores(self._context.config.log_dir)
        self._forget_ended({_key(store, pending) for store, pending in stores})
        for store, pending in stores:
            if not pending.requested or not _may_be_thawed(pending, time.time()):
                self._result.replace_problems(_key(store, pending), _reports(store, pending))
                continue
            if _was_tried_lately(store):
                self._result.replace_problems(_key(store, pending), _reports(store, pending))
            elif now - self._begun.get(store.path, -DELAYS.scan_repeats) >= DELAYS.scan_repeats:
                self._begun[store.path], self._key = now, _key(store, pending)
                self.at_work = {self._threads.submit(self._continue, store, pending)}
                return

    def _forget_ended(self, keys: set[str]) -> None:
        """Forget what was reported of restores that do not wait any more: somebody has cancelled or finished them."""
        for key in self._known - keys:
            self._result.replace_problems(key, ())
        self._known = keys

    def handle_ended(self) -> None:
        """Add the outcome of a restore that has ended to the result, and begin with the next. Raises StoppedError."""
        for future in [future for future in self.at_work if future.done()]:
            self.at_work = set()
            self._result.replace_problems(self._key, future.result() or self._reports_of(self._key))
            self.begin_next()

    def _reports_of(self, key: str) -> list[Problem]:
        """Return what users should know about a restore that continued; nothing if it is done."""
        stores = thaw_log.list_stores(self._context.config.log_dir)
        return [report for store, log in stores if _key(store, log) == key for report in _reports(store, log)]

    def close(self) -> None:
        """Wait until the one at work has ended."""
        self._threads.shutdown()

    def _continue(self, store: ThawStore, pending: ThawLog) -> list[Problem]:
        """Continue a restore; return what went wrong. Raises StoppedError if the scan is to end."""
        key = _key(store, pending)
        try:
            found = list(_problems_of_restore(self._context, store, pending, self._machine))
        except BusyError as error:
            LOG.info("%s", error)
            return []
        except StoppedError as error:
            if self._context.stop.is_requested or not isinstance(error, LeaseLostError):
                raise
            found = [Problem.of(key, error, "other")]  # another host may have taken over this restore alone
        except Exception as error:  # whatever it is, the scan has uploads to report
            found = [Problem.of(key, _named(error, key), "other")]
        try:
            store.note_try({"id": found[0].id, "text": found[0].text} if found else {})
        except StateError as error:
            found.append(Problem.of(key, error, "other"))
        return found


def _named(error: Exception, key: str) -> S3SyncError:
    """Return an error with a message for people; the traceback of a bug goes to the log."""
    if known := error if isinstance(error, S3SyncError) else explain_machine(error):
        return known
    what = printable(f"{type(error).__name__}: {error}")
    notice = Notice(f"unexpected error (please report it): {what}", id="internal.unexpected-error")
    LOG.error("%s: %s", key, notice, exc_info=error)
    return S3SyncError(notice.text, id=notice.id)


def _was_tried_lately(store: ThawStore) -> bool:
    """Return whether a try ended not long ago.

    Each try reads all files that are there, and downloads again what is not proven.
    """
    tried = store.last_try()
    return tried is not None and 0 <= time.time() - tried[0] < _RETRY_SECONDS


def _problems_of_restore(
    context: ScanContext, store: ThawStore, pending: ThawLog, machine: SharedMachine
) -> Iterator[Problem]:
    key = _key(store, pending)
    request = _request_for(pending, context.config)
    with context.stop.child() as stop, context.make_display(printable(pending.run_id)) as display:
        done = restore.run.restore(request, Runtime(context.environ, stop, display, machine), store)
    if done.ok:
        LOG.info("%s is restored in %s: all proven", printable(pending.run_id), printable(pending.run_path))
    elif done.failed:
        path, why = next(iter(done.failed.items()))
        text = f"not restored: {pluralize(len(done.failed), 'file')} failed, such as {printable(path)}: {why}"
        yield Problem(key, text, "other", id="restore.failed")
    elif frozen := len(done.frozen) - done.requested:
        advice = "`s3sync restore` with --tier requests them again, with --cancel ends it"
        text = f"not restored: {pluralize(frozen, 'object')} froze again ({advice})"
        yield Problem(key, text, "other", id="restore.frozen-again")


def _may_be_thawed(pending: ThawLog, now: float) -> bool:
    asked, ready = parse_iso(pending.requested_at), parse_iso(pending.ready_at)
    return asked is None or ready is None or now >= asked + _LIKELY_PART * (ready - asked)


def _key(store: ThawStore, pending: ThawLog) -> str:
    return restores.describe(store, pending, time.time()).key


def _reports(store: ThawStore, pending: ThawLog) -> list[Problem]:
    """Return what is wrong with a restore, or else that it waits."""
    known = restores.describe(store, pending, time.time())
    if known.problem:
        return [Problem.of_inventory(known.problem, "other")]
    return [Problem(known.key, known.progress, "note", id="restore.pending")]


def _request_for(pending: ThawLog, config: Config) -> restore.request.RestoreRequest:
    """Return the request with the options of the command that began it. Raises UsageError for a damaged log."""
    given = pending.options
    entry = next((entry for entry in config.monitor if entry.destination == pending.destination), None)
    request = restore.request.RestoreRequest(
        run_id=pending.run_id,
        destination=pending.destination,
        target=Path(pending.run_path),
        log_dir=config.log_dir,
        cores=config.max_cores or usable_cores(),
        threads=config.max_threads or restore.request.DEFAULT_THREADS,
        parts=tuple(restore.parts.parse_part(part) for part in pending.parts),
        overwrite=given.get("overwrite") is True,
        use_record=given.get("use_record") is not False,
        verify="size" if given.get("verify") == "size" else "etag",
        manifest=Path(manifest) if (manifest := str(given.get("manifest", ""))) else None,
        aws_command=config.aws_command,
        bucket_owner=str(given.get("bucket_owner", "")),
        max_processes=config.max_processes,
        max_bandwidth=config.max_bandwidth,
        stall_seconds=config.stall_minutes * 60,
    )
    usual = entry.aws_profile if entry else FROM_ENVIRONMENT
    name, region = str(given.get("profile", "")), str(given.get("region", ""))
    return replace(request, profile=Profile(name or usual.name, region or usual.region))
