"""Read the state of objects with head-object, one process for each."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from s3sync.aws import causes, client
from s3sync.aws.argv import head_object_argv, part_size_argv
from s3sync.aws.client import RemoteFolder
from s3sync.aws.remote_object import ObjectState, RemoteObject, parse_head
from s3sync.errors import AwsError
from s3sync.resources import usable_cores
from s3sync.text import human_seconds, pluralize

Turn: TypeAlias = Callable[[], contextlib.AbstractContextManager[None]]

_REQUEST_COST = 0.04  # CPU-seconds
HEAD_COST = client.PROCESS_COST + _REQUEST_COST
_LONG_SECONDS = 120.0  # requests are announced if they take longer


class HeadRequests:
    """Runs head-object for the objects of a folder, several at a time."""

    def __init__(
        self,
        remote: RemoteFolder,
        max_processes: int,
        show: Callable[[str], None],
        turn: Turn = contextlib.nullcontext,
    ) -> None:
        """`turn` is entered for each request, and may wait until other uploads leave room for its process."""
        self._turn = turn
        self._remote = remote
        self._max_processes = max_processes
        self._show = show
        self._has_announced = False

    def read(self, paths: Iterable[str]) -> dict[str, ObjectState]:
        """Return the state of each object, by path. Raises AwsError if it is not S3 that answers."""
        paths = list(paths)
        with ThreadPoolExecutor(self._max_processes) as pool:
            return dict(zip(paths, pool.map(self._read_one, paths), strict=True))

    def read_part_sizes(self, path: str, count: int, numbers: Iterable[int]) -> dict[int, int]:
        """Return the sizes in bytes of some of the `count` parts of an object, by their numbers from 1.

        Sizes that S3 does not report are missing.
        """
        numbers = sorted(numbers)
        with ThreadPoolExecutor(self._max_processes) as pool:
            sizes = pool.map(lambda number: self._read_part_size(path, count, number), numbers)
            return {number: size for number, size in zip(numbers, sizes, strict=True) if size >= 0}

    def require_s3(self) -> None:
        """Raise AwsError if the page of a proxy or of a network's login answers: it is there under any name."""
        if isinstance(self._read_one(f"s3sync-{uuid.uuid4().hex}"), RemoteObject):
            raise causes.NOT_S3.to_error(self._remote.bucket.url, "an object under a name that nobody has used")

    def announce(self, count: int) -> None:
        """Warn the user, once, if this number of requests takes long."""
        seconds = self.seconds(count)
        if seconds >= _LONG_SECONDS and not self._has_announced:
            self._has_announced = True
            self._show(f"note: {slow_heads_message(count, seconds)}")

    def seconds(self, count: int) -> float:
        """Return how many seconds this number of requests takes."""
        return count * (self._remote.aws.process_cost + _REQUEST_COST) / min(self._max_processes, usable_cores())

    def _read_part_size(self, path: str, count: int, number: int) -> int:
        """Return the size of a part; -1 if S3 does not report it."""
        with self._turn():
            result = self._remote.aws.run(part_size_argv(self._remote.bucket, self._remote.key(path), number))
        with contextlib.suppress(AwsError, TypeError, ValueError):
            size, parts = result.json() if result.succeeded else (-1, None)
            return int(size) if parts in (None, count) else -1
        return -1

    def _read_one(self, path: str) -> ObjectState:
        with self._turn():
            argv = head_object_argv(self._remote.bucket, self._remote.key(path))
            state = parse_head(self._remote.aws.run(argv))
        if isinstance(state, RemoteObject) and not (state.etag or state.modified):
            raise causes.NOT_S3.to_error(self._remote.bucket.url, "an object without ETag and Last-Modified")
        return state


def slow_heads_message(count: int, seconds: float) -> str:
    """Return a warning: how long head-object takes for this number of objects, and the faster ways."""
    return (
        f"ETags that are not MD5s, as with KMS: the checksums of {pluralize(count, 'object')} are requested one by one,"
        f" in about {human_seconds(seconds)} (more --cores are faster; --verify size compares only the sizes, at once)"
    )
