"""Read the state of a run's objects in S3: with head-object, or many at once with list-objects-v2.

Both return the same kind of state; the cheaper one is used. If a listing is conclusive, a file needs no head-object.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from s3sync.aws import argv, causes, client, diagnosis
from s3sync.aws.causes import Cause
from s3sync.aws.client import RemoteFolder
from s3sync.aws.digests import RunningEtag
from s3sync.aws.etag import number_of_parts
from s3sync.aws.heads import HEAD_COST, HeadRequests, Turn
from s3sync.aws.heads import slow_heads_message as slow_heads_message
from s3sync.aws.listing import KeyRange, Listing, ListingFailedError, ListingForbiddenError, SizedPath, UnlistableError
from s3sync.aws.part_sizes import find_part_sizes
from s3sync.aws.remote_object import Absent as Absent
from s3sync.aws.remote_object import ObjectState as ObjectState
from s3sync.aws.remote_object import RemoteObject as RemoteObject
from s3sync.aws.remote_object import Unknown as Unknown
from s3sync.aws.result import AwsResult
from s3sync.delays import DELAYS
from s3sync.errors import AwsError, Notice
from s3sync.text import printable

Readback = Literal["auto", "head-object", "list-objects-v2"]
Verify = Literal["auto", "etag", "checksum", "size"]

_LISTED_COST = 0.0001  # CPU-seconds of each object in a listing
_MAX_SKEW_SECONDS = 15 * 60  # S3 refuses requests of clocks that differ by more
_PROBE_SECONDS = 20.0  # longer than any answer takes if S3 can be reached
_SAMPLE = 4  # unsettled files that always get a head-object
_REJECTED = re.compile(r"An error occurred \((40[03]|AccessDenied|Forbidden)\)")


def _ignore(_line: str) -> None: ...


class ObjectReader:
    """Reads the state of the objects of one run at one destination."""

    def __init__(
        self,
        remote: RemoteFolder,
        mode: Readback = "auto",
        max_processes: int = 1,
        show: Callable[[str], None] = _ignore,
        turn: Turn = contextlib.nullcontext,
    ) -> None:
        """`remote` is the folder of the run. `show` shows a line to the user.

        `turn` is entered for each head-object, and may wait until other uploads leave room for its process.
        """
        self.why_unlisted = ""  # why the bucket is not listed any more
        self._remote = remote
        self._aws = remote.aws
        self._bucket = remote.bucket
        self._listing = Listing(remote)
        self._heads = HeadRequests(remote, max_processes, show, turn)
        self._mode = mode
        self._may_list = True
        self._show = show
        self._started = time.time()
        self._at_first: Mapping[str, RemoteObject] | None = None  # what the first listing found

    def set_expected_paths(self, paths: Iterable[str]) -> None:
        """Set the paths of all files of the run, which show how long a listing will be."""
        self._listing.set_expected_paths(paths)

    # The first request

    def list_run(self) -> dict[str, RemoteObject] | None:
        """Return all objects of the run, by path; None if these credentials may not list the bucket.

        Raises AwsError for anything that would make the whole upload fail: this is the first request to S3.
        """
        return self._read_first(KeyRange("", None, argv.LIST_PAGE))

    def list_range(self, files: Sequence[SizedPath]) -> dict[str, RemoteObject] | None:
        """Return what `list_run` does for the keys from the first to the last of these files."""
        return self._read_first(self._listing.range_of(files))

    def check_access(self) -> None:
        """Make the first request to S3 where its objects do not matter. Raises AwsError as `list_run` does."""
        self._read_first(KeyRange("", "", 1))

    def require_s3(self) -> None:
        """Raise AwsError if something other than S3 answers, whose page a listing can take for an empty one."""
        self._heads.require_s3()

    def _read_first(self, keys: KeyRange) -> dict[str, RemoteObject] | None:
        try:
            remote = self._listing.read(keys, self._run_patiently)
        except ListingForbiddenError:
            if self._bucket.owner:
                raise AwsError(
                    f"access denied: {self._bucket.url} (expected_bucket_owner is {self._bucket.owner}:"
                    " either another account owns the bucket, or these credentials may not list it, which that check"
                    " requires)",
                    id="s3.owner-not-confirmed",
                ) from None
            self._may_list = False
            self.why_unlisted = "these credentials may not list the bucket"
            return None
        except UnlistableError as error:
            self._distrust_listings(str(error))
            return None
        except ListingFailedError as error:
            raise self._to_contact_error(error.result) from None
        self._at_first = remote if keys.expected > 1 else None
        return remote

    def _run_patiently(self, command: Sequence[str]) -> AwsResult:
        """Repeat a request that fails for a reason that may pass: the first one has no later pass."""
        for seconds in DELAYS.read_retries:
            result = self._aws.run(command)
            if result.succeeded or not diagnosis.transient_cause(result.errors):
                return result
            if diagnosis.may_be_page(result.errors):
                self.require_s3()
            self._aws.pause(seconds)
        return self._aws.run(command)

    def _to_contact_error(self, result: AwsResult) -> AwsError:
        if diagnosis.has_empty_error_body(result.errors):
            result = self._aws.run(argv.head_bucket_argv(self._bucket))
        cause = diagnosis.unreachable_cause(result.errors) or diagnosis.transient_cause(result.errors)
        return result.to_error(self._bucket.url, cause)

    def _distrust_listings(self, reason: str) -> None:
        if self._may_list:
            self.require_s3()
            self._may_list = False
            self.why_unlisted = f"{self._bucket.url} cannot be listed reliably: {reason}"
            text = f"{self.why_unlisted}; so each object is requested separately, which takes longer"
            self._show(Notice(text, id="s3.not-listed").line)

    # The state of some files

    def cost(self, files: Sequence[SizedPath]) -> float:
        """Return the CPU-seconds that `get_many` will take for these files."""
        if self._uses_listing(files):
            return self._listing_cost(files)
        return HEAD_COST * len(files)

    def get_many(self, files: Sequence[SizedPath]) -> dict[str, ObjectState]:
        """Return the state of each file's object, by path. Raises AwsError for a cause that cannot pass by itself."""
        if self._uses_listing(files):
            try:
                listed = self._listing.read(self._listing.range_of(files))
                return {file.path: listed.get(file.path, Absent(listed=True)) for file in files}
            except ListingForbiddenError:
                self._may_list = False
            except UnlistableError as error:
                self._distrust_listings(str(error))
            except ListingFailedError as error:
                return dict.fromkeys((file.path for file in files), Unknown(error.result.reason, listed=True))
        return self._head_all(files)

    def head_each(self, files: Sequence[SizedPath]) -> dict[str, ObjectState]:
        """Return what head-object says about each of these files, by path."""
        self._heads.announce(len(files))
        return self._head_all(files)

    def head_checksums(self, files: Sequence[SizedPath]) -> dict[str, ObjectState]:
        """Return what head-object says about each of these files, whose checksums will be verified."""
        return self._head_all(files)

    def head_unsettled(
        self, files: Sequence[SizedPath], listed: Mapping[str, ObjectState] | None = None
    ) -> dict[str, ObjectState]:
        """Return the state of files that a listing has not settled, by path. `listed` is what it said about them.

        Of the files that a listing calls missing, only the first get a head-object: sending a small file again costs
        far less. The others get one if the ETags of the first are not MD5s, or if the listing was wrong about them.
        """
        listed = listed or {}
        same_size = [file for file in files if _is_same_size(file, listed.get(file.path))]
        others = [file for file in files if file not in set(same_size)]
        sample, rest = others[:_SAMPLE], others[_SAMPLE:]
        states = self._head_all(sample)
        wrong = [path for path, state in states.items() if _contradicts(state, listed.get(path))]
        if wrong:
            self._distrust_listings(f"{printable(wrong[0])} exists, but is missing or has another size in a listing")
        if wrong or any(not isinstance(state, Absent) and state.opaque_etag for state in states.values()):
            states.update(self._head_all(rest))
        states.update(self._head_same_size(same_size, listed))
        return states

    def _head_same_size(self, files: Sequence[SizedPath], listed: Mapping[str, ObjectState]) -> dict[str, ObjectState]:
        """Return the state of files that are listed with their size and another ETag.

        If the first ones of a kind have neither a checksum nor an encryption that explains the ETag, the others get no
        head-object: it would add nothing to the listing.
        """
        states: dict[str, ObjectState] = {}
        for has_parts in (False, True):
            kind = [file for file in files if has_parts == bool(_count_parts(listed.get(file.path)))]
            sample, rest = kind[:_SAMPLE], kind[_SAMPLE:]
            states.update(self._head_all(sample))
            if all(_says_no_more_than_listing(states[file.path]) for file in sample):
                states.update((file.path, listed[file.path]) for file in rest)
            else:
                states.update(self.head_each(rest))
        return states

    def _head_all(self, files: Sequence[SizedPath]) -> dict[str, ObjectState]:
        states = self._heads.read(file.path for file in files)
        rejected = (isinstance(state, Unknown) and _REJECTED.match(state.reason) for state in states.values())
        if self._may_list and any(rejected):
            self._raise_if_listing_explains()
        return states

    def _raise_if_listing_explains(self) -> None:
        """Raise AwsError if a listing names the cause, such as expired credentials: an answer to HEAD has no body."""
        with contextlib.suppress(ListingForbiddenError, ListingFailedError, UnlistableError):
            self._listing.read_page("", 1)

    def _uses_listing(self, files: Sequence[SizedPath]) -> bool:
        if self._mode != "auto" or not self._may_list:
            return self._mode == "list-objects-v2" and self._may_list
        return self._listing_cost(files) < HEAD_COST * len(files)

    def _listing_cost(self, files: Sequence[SizedPath]) -> float:
        return client.PROCESS_COST + _LISTED_COST * self._listing.count_in_range(files)

    # Other requests

    def why_unreachable(self) -> Cause | None:
        """Make any request; return why S3 cannot be reached, None if it answers. Raises StoppedError, AwsError."""
        result = self._aws.run(argv.list_objects_argv(self._bucket, self._remote.prefix, "", 1), _PROBE_SECONDS)
        if result.succeeded or diagnosis.error_codes(result.errors):
            return None
        if result.killed_reason:
            return causes.NO_RESPONSE
        return diagnosis.unreachable_cause(result.errors)

    def pause(self, seconds: float) -> None:
        """Wait. Raises InterruptedBySignal or LeaseLostError if a stop is requested."""
        self._aws.pause(seconds)

    def encrypts_by_kms(self) -> bool:
        """Return whether the bucket encrypts with KMS by default, so that no ETag is an MD5; False if unknown."""
        result = self._aws.run(argv.bucket_encryption_argv(self._bucket))
        with contextlib.suppress(AwsError):
            return result.succeeded and str(result.json()).startswith("aws:kms")
        return False

    def head_seconds(self, count: int) -> float:
        """Return how many seconds it takes to head this number of objects."""
        return self._heads.seconds(count)

    def is_new(self, path: str, item: RemoteObject) -> bool:
        """Return whether an object came to S3 after this reader was made, judging by clocks and listings."""
        if self._at_first is None:
            return item.modified + _MAX_SKEW_SECONDS >= self._started
        before = self._at_first.get(path)
        if before is None or (before.size, before.etag) != (item.size, item.etag):
            return True
        return item.modified > before.modified > 0

    def part_sizes(self, path: str, item: RemoteObject) -> Iterator[tuple[int, ...]]:
        """Yield possible sizes of the parts of an object, the likeliest first; nothing if S3 does not report them.

        Each part takes a request at most; an object that is not in parts takes none.
        """
        count = number_of_parts(item.etag)
        if count > 1:
            yield from find_part_sizes(item.size, count, partial(self._heads.read_part_sizes, path, count))

    def etags_of_content(self, path: str, part_sizes: Iterable[int | None]) -> set[str] | Unknown:
        """Download an object; return the ETags of its bytes for these part sizes, or why it could not be read."""
        etags = [RunningEtag(part_size) for part_size in part_sizes]

        def update(chunk: memoryview) -> None:
            for etag in etags:
                etag.update(chunk)

        result = self._aws.read_bytes(argv.read_object_argv(self._bucket, self._remote.key(path)), update)
        return {etag.value() for etag in etags} if result.succeeded else Unknown(result.reason)


def _is_same_size(file: SizedPath, listed: ObjectState | None) -> bool:
    return isinstance(listed, RemoteObject) and listed.size == file.size


def _count_parts(listed: ObjectState | None) -> int:
    return number_of_parts(listed.etag) if isinstance(listed, RemoteObject) else 0


def _says_no_more_than_listing(state: ObjectState) -> bool:
    return isinstance(state, RemoteObject) and not (state.opaque_etag or state.crc32 or state.sums)


def _contradicts(state: ObjectState, listed: ObjectState | None) -> bool:
    """Return whether there is an object, and a listing says that it is missing or of another size."""
    if not isinstance(state, RemoteObject):
        return False
    return isinstance(listed, Absent) or (isinstance(listed, RemoteObject) and listed.size != state.size)
