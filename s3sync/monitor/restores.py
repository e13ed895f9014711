"""Continue the restores that wait for frozen objects, once these may be thawed."""

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
from s3sync.errors import BusyError, LeaseLostError, StateError, StoppedError
from s3sync.inventory import restores
from s3sync.monitor.context import ScanContext
from s3sync.monitor.problems import Problem
from s3sync.monitor.scan_result import ScanResult
from s3sync.resources import usable_cores
from s3sync.state import thaw_log
from s3sync.state.thaw_log import ThawLog, ThawStore
from s3sync.text import parse_iso, pluralize, printable
from s3sync.transfer import restore
from s3sync.transfer.context import Runtime
from s3sync.transfer.sharing import SharedMachine

LOG = logging.getLogger(__name__)
_RETRY_SECONDS = 3600.0  # between two attempts
_LIKELY_SHARE = 0.5  # once this share of the longest thawing time has passed, it is worth asking S3


class PendingRestores:
    """The restores that a scan continues beside its uploads, one at a time, as far as uploads leave room.

    A scan may take days and a restore hours, so neither waits for the other. One thread calls all methods.
    """

    def __init__(self, context: ScanContext, result: ScanResult, machine: SharedMachine) -> None:
        self.running: set[Future[list[Problem]]] = set()
        self._context = context
        self._result = result
        self._machine = machine
        self._running_key = ""
        self._started: dict[Path, float] = {}  # when this scan last started each, by the path of its log
        self._pending_keys: set[str] = set()  # when `start_next` was last called
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="restore")

    def start_next(self) -> None:
        """Start the first restore whose objects may be thawed, unless one is running; report those that wait."""
        if self.running or self._context.stop.is_requested:
            return
        now = time.monotonic()
        stores = thaw_log.list_stores(self._context.config.log_dir)
        self._forget_ended({_key(store, pending) for store, pending in stores})
        for store, pending in stores:
            key = _key(store, pending)
            if not pending.requested or not _may_be_thawed(pending, time.time()) or _was_tried_lately(store):
                self._result.replace_problems(key, _reports(store, pending))
            elif now - self._started.get(store.path, -DELAYS.scan_repeats) >= DELAYS.scan_repeats:
                self._started[store.path], self._running_key = now, key
                self.running = {self._threads.submit(self._continue, store, pending)}
                return

    def _forget_ended(self, keys: set[str]) -> None:
        """Remove the problems of restores that are no longer pending, because they were cancelled or finished."""
        for key in self._pending_keys - keys:
            self._result.replace_problems(key, ())
        self._pending_keys = keys

    def handle_ended(self) -> None:
        """Add the outcome of a restore that has ended to the result, and start the next one. Raises StoppedError."""
        for future in [future for future in self.running if future.done()]:
            self.running = set()
            key = self._running_key
            self._result.replace_problems(key, future.result() or self._reports_of(key))
            self.start_next()

    def _reports_of(self, key: str) -> list[Problem]:
        """Return notes on a restore that ran without problems; none if it is finished."""
        stores = thaw_log.list_stores(self._context.config.log_dir)
        return [report for store, log in stores if _key(store, log) == key for report in _reports(store, log)]

    def close(self) -> None:
        """Wait until the running restore has ended."""
        self._threads.shutdown()

    def _continue(self, store: ThawStore, pending: ThawLog) -> list[Problem]:
        """Continue a restore, and return its problems. Raises StoppedError if the scan is to end."""
        key = _key(store, pending)
        try:
            problems = list(_problems_of_restore(self._context, store, pending, self._machine))
        except BusyError as error:
            LOG.info("%s", error)
            return []
        except StoppedError as error:
            if self._context.stop.is_requested or not isinstance(error, LeaseLostError):
                raise
            problems = [Problem.of_error(key, error, "other")]  # another host may have taken over only this restore
        except Exception as error:  # a bug here must not end the scan, which has uploads to report
            problems = [Problem.of_error(key, error, "other")]
        try:
            store.record_attempt({"id": problems[0].id, "text": problems[0].text} if problems else {})
        except StateError as error:
            problems.append(Problem.of_error(key, error, "other"))
        return problems


def _was_tried_lately(store: ThawStore) -> bool:
    """Return whether an attempt ended a short time ago.

    Each attempt reads all files that are there, and downloads those that are not verified again.
    """
    tried = store.last_attempt()
    return tried is not None and 0 <= time.time() - tried[0] < _RETRY_SECONDS


def _problems_of_restore(
    context: ScanContext, store: ThawStore, pending: ThawLog, machine: SharedMachine
) -> Iterator[Problem]:
    key = _key(store, pending)
    request = _request_for(pending, context.config)
    with context.stop.child() as stop, context.make_display(printable(pending.run_id)) as display:
        done = restore.run.restore(request, Runtime(context.environ, stop, display, machine), store)
    if done.ok:
        LOG.info("%s is restored in %s: all verified", printable(pending.run_id), printable(pending.run_path))
    elif done.failed:
        path, why = next(iter(done.failed.items()))
        text = f"not restored: {pluralize(len(done.failed), 'file')} failed, such as {printable(path)}: {why}"
        yield Problem(key, text, "other", id="restore.failed")
    elif frozen := len(done.frozen) - done.requested:
        text = f"not restored: {pluralize(frozen, 'object')} froze again ({restores.REQUEST_AGAIN})"
        yield Problem(key, text, "other", id="restore.frozen-again")


def _may_be_thawed(pending: ThawLog, now: float) -> bool:
    asked, ready = parse_iso(pending.requested_at), parse_iso(pending.ready_at)
    return asked is None or ready is None or now >= asked + _LIKELY_SHARE * (ready - asked)


def _key(store: ThawStore, pending: ThawLog) -> str:
    return restores.describe(store, pending, time.time()).key


def _reports(store: ThawStore, pending: ThawLog) -> list[Problem]:
    """Return the problem of a restore or, if it has none, a note that it is pending."""
    described = restores.describe(store, pending, time.time())
    if described.problem:
        return [Problem.of_inventory(described.problem, "other")]
    return [Problem(described.key, described.progress, "note", id="restore.pending")]


def _request_for(pending: ThawLog, config: Config) -> restore.request.RestoreRequest:
    """Return the request with the options of the command that started it. Raises UsageError if the log is damaged."""
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
        umask=umask if isinstance(umask := given.get("umask"), int) else 0o077,
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
