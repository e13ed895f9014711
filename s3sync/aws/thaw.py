"""Thaw objects of archive storage classes, and find out how far that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from s3sync.aws import argv, causes, client, diagnosis
from s3sync.aws.client import AwsCli, AwsResult
from s3sync.aws.destination import BucketRef
from s3sync.errors import AwsError

Tier = Literal["Expedited", "Standard", "Bulk"]
TIERS: tuple[Tier, ...] = ("Expedited", "Standard", "Bulk")
ThawState = Literal["frozen", "ongoing", "thawed"]

ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # storage classes whose objects are frozen unless somebody thaws them
TIERED = "INTELLIGENT_TIERING"  # only its archive tiers are frozen, which a listing does not show
_ONGOING = "RestoreAlreadyInProgress"
_HOURS = {  # that thawing takes at most, as AWS documents it
    ("GLACIER", "Expedited"): 0.1,
    ("GLACIER", "Standard"): 5,
    ("GLACIER", "Bulk"): 12,
    ("DEEP_ARCHIVE", "Standard"): 12,
    ("DEEP_ARCHIVE", "Bulk"): 48,
    (TIERED, "Expedited"): 0.1,
    (TIERED, "Standard"): 12,
    (TIERED, "Bulk"): 12,
}


def hours_to_thaw(storage_classes: Iterable[str], tier: str) -> float:
    """Return how many hours it takes at most to thaw objects of these classes, as AWS documents it."""
    return max((_HOURS.get((name, tier), 0.0) for name in storage_classes), default=0.0)


def hours_by_tier(storage_classes: Collection[str]) -> dict[Tier, float]:
    """Return how many hours it takes with each tier that can thaw objects of all these classes, the cheapest first."""
    able = [tier for tier in reversed(TIERS) if all((name, tier) in _HOURS for name in storage_classes)]
    return {tier: hours_to_thaw(storage_classes, tier) for tier in able} if storage_classes else {}


class Thawing:
    """Asks for the thawing of objects below one prefix, with several processes at a time."""

    def __init__(self, aws: AwsCli, bucket: BucketRef, prefix: str, max_processes: int) -> None:
        self._aws = aws
        self._bucket = bucket
        self._prefix = prefix
        self._max_processes = max_processes

    def states(self, paths: Iterable[str]) -> dict[str, ThawState]:
        """Return the state of each object. Raises AwsError, StoppedError."""
        paths = list(paths)
        with ThreadPoolExecutor(self._max_processes) as pool:
            return dict(zip(paths, pool.map(self._state, paths), strict=True))

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
        result = self._aws.run(argv.thaw_state_argv(self._bucket, self._prefix + path))
        if not result.succeeded:
            raise self._error(result, path)
        storage_class, restore, archive = (str(value or "") for value in client.parse_json(result))
        if storage_class not in ARCHIVES and not archive:
            return "thawed"
        if 'ongoing-request="true"' in restore:
            return "ongoing"
        return "thawed" if 'ongoing-request="false"' in restore else "frozen"

    def _request(self, path: str, tier: Tier, days: int | None) -> str:
        result = self._aws.run(argv.thaw_object_argv(self._bucket, self._prefix + path, tier, days))
        if result.succeeded or _ONGOING in diagnosis.error_codes(result.errors):
            return ""
        if diagnosis.fatal_cause(result.errors):
            raise self._error(result, path)
        return result.reason

    def _error(self, result: AwsResult, path: str) -> AwsError:
        where = f"s3://{self._bucket.name}/{self._prefix}{path}"
        error = client.to_error(result, where)
        if error.id in (causes.DENIED.id, causes.DENIED_WITHOUT_REASON.id):
            return AwsError(f"cannot thaw: {error} (these credentials need s3:RestoreObject)", id="restore.thaw-denied")
        return error
