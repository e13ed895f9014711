"""Thaw objects of archive storage classes, and read their state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from s3sync.aws import argv, causes, diagnosis
from s3sync.aws.client import RemoteFolder
from s3sync.aws.remote_object import RemoteObject
from s3sync.aws.result import AwsResult
from s3sync.errors import AwsError
from s3sync.text import parse_iso

Tier = Literal["Expedited", "Standard", "Bulk"]
TIERS: tuple[Tier, ...] = ("Expedited", "Standard", "Bulk")
ThawState = Literal["frozen", "ongoing", "thawed"]

ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # storage classes whose objects are frozen until they are thawed
TIERED = "INTELLIGENT_TIERING"  # only its archive tiers are frozen, which a listing does not show
_LEAST_TIERED_BYTES = 128 * 1024  # S3 moves no smaller object to another tier
_MAX_TIERED = 100  # objects whose tier is read, with a process for each
_CHECKED = 4  # objects to check with head-object if a listing shows none as thawed
_ONGOING = "RestoreAlreadyInProgress"
_HOURS = {  # the longest thawing times that AWS documents
    ("GLACIER", "Expedited"): 0.1,
    ("GLACIER", "Standard"): 5,
    ("GLACIER", "Bulk"): 12,
    ("DEEP_ARCHIVE", "Standard"): 12,
    ("DEEP_ARCHIVE", "Bulk"): 48,
    (TIERED, "Expedited"): 0.1,
    (TIERED, "Standard"): 12,
    (TIERED, "Bulk"): 12,
}


@dataclass(frozen=True, slots=True)
class ListedState:
    """The state of an archived object in a listing. `expires` is when its thawed copy does (s since 1970), or 0."""

    state: ThawState
    expires: float = 0.0


def hours_to_thaw(storage_classes: Iterable[str], tier: str) -> float:
    """Return how many hours it takes at most to thaw objects of these classes, as AWS documents it."""
    return max((_HOURS.get((name, tier), 0.0) for name in storage_classes), default=0.0)


def hours_by_tier(storage_classes: Collection[str]) -> dict[Tier, float]:
    """Return how many hours it takes with each tier that can thaw objects of all these classes, the cheapest first."""
    able = [tier for tier in reversed(TIERS) if all((name, tier) in _HOURS for name in storage_classes)]
    return {tier: hours_to_thaw(storage_classes, tier) for tier in able} if storage_classes else {}


def choose_sample(paths: Sequence[str], limit: int) -> list[str]:
    """Return `limit` of these paths, from all over the run: the first, the last, and those in between."""
    if len(paths) <= limit:
        return list(paths)
    return [paths[number * (len(paths) - 1) // (limit - 1)] for number in range(limit)]


def may_be_in_archive_tier(item: RemoteObject) -> bool:
    """Return whether an object may be in an archive tier of INTELLIGENT_TIERING, by what a listing says of it."""
    return item.storage_class == TIERED and item.size >= _LEAST_TIERED_BYTES


class Thawing:
    """Thaws the objects of a folder, several at a time."""

    def __init__(self, remote: RemoteFolder, max_processes: int) -> None:
        self._remote = remote
        self._max_processes = max_processes

    def states(self, paths: Iterable[str]) -> dict[str, ThawState]:
        """Return the state of each object. Raises AwsError, StoppedError."""
        paths = list(paths)
        with ThreadPoolExecutor(self._max_processes) as pool:
            return dict(zip(paths, pool.map(self._state, paths), strict=True))

    def tiered_states(self, paths: Sequence[str], limit: int = _MAX_TIERED) -> dict[str, ThawState]:
        """Return the states of objects of INTELLIGENT_TIERING; of more than `limit`, only of a sample.

        None are returned if S3 does not report them, e.g. if these credentials may only list. Raises StoppedError.
        """
        with contextlib.suppress(AwsError):
            return self.states(choose_sample(paths, limit))
        return {}

    def listed_states(self, paths: Sequence[str]) -> dict[str, ListedState] | None:
        """Return the state of each of these objects in archives; None if CLI or server cannot list it.

        A server without support for the attribute lists all objects as frozen. So if all are, the first ones get a
        head-object. Raises AwsError, StoppedError.
        """
        listed = self._list()
        if listed is None or not listed.keys() >= set(paths):
            return None
        found = {path: listed[path] for path in paths}
        if all(item.state == "frozen" for item in found.values()):
            asked = self.states(paths[:_CHECKED])
            if set(asked.values()) != {"frozen"}:
                return None
        return found

    def _list(self) -> Mapping[str, ListedState] | None:
        aws, bucket, prefix = self._remote
        found: dict[str, ListedState] = {}
        after = ""
        while True:
            result = aws.run(argv.list_thawed_argv(bucket, prefix, after))
            if not result.succeeded:
                return None
            rows = result.json() or []
            try:
                found.update(_parse_listed(prefix, *row) for row in rows)
            except (TypeError, ValueError):
                return None
            if len(rows) < argv.LIST_PAGE or rows[-1][0] <= after:
                return found
            after = rows[-1][0]

    def request(self, paths: Iterable[str], tier: Tier, days: Callable[[str], int | None]) -> Iterator[tuple[str, str]]:
        """Request that objects are thawed; yield each path, with why S3 did not accept it (empty: it did).

        Raises AwsError for a reason that concerns all of them, StoppedError.
        """
        with ThreadPoolExecutor(self._max_processes) as pool:
            futures = [(path, pool.submit(self._request, path, tier, days(path))) for path in paths]
            try:
                for path, future in futures:
                    yield path, future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _state(self, path: str) -> ThawState:
        result = self._remote.aws.run(argv.thaw_state_argv(self._remote.bucket, self._remote.key(path)))
        if not result.succeeded:
            raise self._error(result, path)
        return parse_state(result)

    def _request(self, path: str, tier: Tier, days: int | None) -> str:
        aws, bucket, _ = self._remote
        result = aws.run(argv.thaw_object_argv(bucket, self._remote.key(path), tier, days))
        if result.succeeded or _ONGOING in diagnosis.error_codes(result.errors):
            return ""
        if diagnosis.fatal_cause(result.errors):
            raise self._error(result, path)
        return result.reason

    def _error(self, result: AwsResult, path: str) -> AwsError:
        error = result.to_error(self._remote.url(path))
        if error.id in (causes.DENIED.id, causes.DENIED_WITHOUT_REASON.id):
            return AwsError(f"cannot thaw: {error} (these credentials need s3:RestoreObject)", id="restore.thaw-denied")
        return error


def parse_state(result: AwsResult) -> ThawState:
    """Return the state that a successful head-object printed. Raises AwsError for anything else."""
    storage_class, restore, archive = (str(value or "") for value in result.json())
    if storage_class not in ARCHIVES and not archive:
        return "thawed"
    if 'ongoing-request="true"' in restore:
        return "ongoing"
    return "thawed" if 'ongoing-request="false"' in restore else "frozen"


def _parse_listed(prefix: str, key: str, is_ongoing: Any, expiry: Any) -> tuple[str, ListedState]:
    if is_ongoing is None:
        return key.removeprefix(prefix), ListedState("frozen")
    if is_ongoing:
        return key.removeprefix(prefix), ListedState("ongoing")
    return key.removeprefix(prefix), ListedState("thawed", parse_iso(str(expiry).replace("Z", "+00:00")) or 0.0)
