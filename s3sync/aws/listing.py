"""List the objects of one run, all of them or a range of keys, page by page."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from s3sync.aws import argv, causes, diagnosis
from s3sync.aws.client import RemoteFolder
from s3sync.aws.remote_object import RemoteObject, parse_listing
from s3sync.aws.result import AwsResult

_PAGE_KEYS = 1000  # in a page of S3
_NO_LISTINGS = re.compile(  # a server without list-objects-v2, or without one of its parameters
    r"\((NotImplemented|MethodNotAllowed|InvalidArgument|InvalidRequest|UnsupportedOperation|501|405)\)"
    r" when calling the ListObjectsV2|Unable to parse response|invalid XML received"
)

Run = Callable[[Sequence[str]], AwsResult]  # runs a command of the CLI


class ListingForbiddenError(Exception):
    """These credentials cannot list the bucket, although they may be allowed to write and read objects."""


class UnlistableError(Exception):
    """This server does not list as S3 does; the text says how."""


class ListingFailedError(Exception):
    """This listing failed for a reason that may pass."""

    def __init__(self, result: AwsResult) -> None:
        super().__init__(result.reason)
        self.result = result


class SizedPath(Protocol):
    """A local file: its path in the run, with slashes, and its size in bytes."""

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys after `after` up to and including `last` (None: the end), and how many are expected there."""

    after: str
    last: str | None
    expected: int


class Listing:
    """Lists the objects of a folder. Its methods raise the errors of this module, and AwsError."""

    def __init__(self, remote: RemoteFolder) -> None:
        self._remote = remote
        self._expected: Sequence[str] = ()

    def set_expected_paths(self, paths: Iterable[str]) -> None:
        """Set the paths of all files of the run, which show how long a listing will be."""
        self._expected = sorted(paths)

    def count_in_range(self, files: Sequence[SizedPath]) -> int:
        """Return how many objects are expected from the first to the last of these files."""
        paths = [file.path for file in files]
        return bisect_right(self._expected, max(paths)) - bisect_left(self._expected, min(paths))

    def range_of(self, files: Sequence[SizedPath]) -> KeyRange:
        """Return the range of keys from the first to the last of these files."""
        paths = [file.path for file in files]
        before = bisect_left(self._expected, min(paths)) - 1
        after = self._remote.key(self._expected[before]) if before >= 0 else ""
        return KeyRange(after, self._remote.key(max(paths)), self.count_in_range(files))

    def read(self, keys: KeyRange, run: Run | None = None) -> dict[str, RemoteObject]:
        """Return the objects in a range of keys, by path in the run.

        Other objects may lie in between, so it continues until the last key is passed.
        """
        found: dict[str, RemoteObject] = {}
        prefix = self._remote.prefix
        after, max_items = keys.after, min(keys.expected, argv.LIST_PAGE)
        while True:
            page = self.read_page(after, max_items, run)
            if after and page and page[0][0] <= after:
                raise UnlistableError("it ignores start-after")
            found.update((key.removeprefix(prefix), item) for key, item in page if not _is_folder(key, item))
            if len(page) < max_items and not _may_be_cut_off(len(page)):
                return found
            if not page or (keys.last is not None and page[-1][0] >= keys.last):
                return found
            after, max_items = page[-1][0], argv.LIST_PAGE

    def read_page(self, after: str, max_items: int, run: Run | None = None) -> list[tuple[str, RemoteObject]]:
        """Return at most `max_items` keys and objects after a key."""
        aws, bucket, prefix = self._remote
        result = (run or aws.run)(argv.list_objects_argv(bucket, prefix, after, max_items))
        if not result.succeeded:
            raise _to_listing_error(result, bucket.url)
        return parse_listing(result)


def is_listing_unsupported(errors: Iterable[str]) -> bool:
    """Return whether a server says that it does not support listings. Then each object needs a head-object."""
    return any(map(_NO_LISTINGS.search, errors))


def _to_listing_error(result: AwsResult, url: str) -> Exception:
    cause = diagnosis.fatal_cause(result.errors)
    if cause and cause.id == causes.DENIED.id:
        return ListingForbiddenError()
    if cause:
        return result.to_error(url)
    if is_listing_unsupported(result.errors):
        return UnlistableError(result.reason)
    return ListingFailedError(result)


def _is_folder(key: str, item: RemoteObject) -> bool:
    """Return whether it is an empty object with which a console or a gateway shows a folder."""
    return key.endswith("/") and item.size == 0


def _may_be_cut_off(count: int) -> bool:
    """Return whether a listing of this length may be truncated: some servers do not report a next page."""
    return count > 0 and count % _PAGE_KEYS == 0
