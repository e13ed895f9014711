"""What S3 says of the objects, and whether that proves the files.

An object is looked at with `head-object`, or many at once with `list-objects-v2`, whichever costs less;
both give the same verdicts. A listing that settles a file needs no second look.
"""

from __future__ import annotations

import contextlib
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from s3sync.aws import argv, causes, checksums, client, diagnosis
from s3sync.aws.argv import BucketRef
from s3sync.aws.causes import Cause
from s3sync.aws.client import AwsCli, AwsResult
from s3sync.aws.destination import Destination
from s3sync.aws.etag import RunningEtag, normalize_etag, number_of_parts
from s3sync.delays import DELAYS
from s3sync.errors import AwsError
from s3sync.resources import usable_cores
from s3sync.text import human_seconds, pluralize, printable

if TYPE_CHECKING:
    pass  # in `typing` only from Python 3.11 on

Readback = Literal["auto", "head-object", "list-objects-v2"]
Verify = Literal["etag", "size"]

_HEAD_COST = client.PROCESS_COST + 0.04  # CPU-seconds
_LISTED_COST = 0.0001  # CPU-seconds an object of a listing
_SKEW_SECONDS = 15 * 60  # S3 refuses requests of clocks that differ by more
_LONG_SECONDS = 120.0  # asking for objects one by one is announced if it takes longer
_PAGE_KEYS = 1000  # of a page of S3's
_PROBE_SECONDS = 20.0  # an answer to anything at all takes no longer where there is a way to S3
_FEW = 4  # so many unsettled files are always looked at one by one

# Codes of S3, or the status where an answer has no body.
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
_BAD_REQUEST = {"400"}  # without a word: an object that needs its key, or an expired token
_REFUSED = re.compile(r"An error occurred \((40[03]|AccessDenied|Forbidden)\)")
_NO_LISTINGS = re.compile(  # a server that does not know list-objects-v2, or one of its parameters
    r"\((NotImplemented|MethodNotAllowed|InvalidArgument|InvalidRequest|UnsupportedOperation|501|405)\)"
    r" when calling the ListObjectsV2|Unable to parse response|invalid XML received"
)
_NO_KEY = "encrypted with a customer's own key? Or have the credentials expired?"


def _ignore(_line: str) -> None:
    """Nobody wants to know."""


class RemoteObject(NamedTuple):
    """An object as S3 has it. `crc32` is base64 (`-N` if composed of parts) or empty, `sums` are its other checksums
    by name (of `s3sums.NAMES`); they and `opaque_etag` (encrypted so that the ETag is no MD5) are known from
    head-object only."""

    size: int  # bytes
    etag: str  # as `etag.normalize_etag` has it
    crc32: str = ""
    opaque_etag: bool = False
    listed: bool = False
    modified: int = 0  # by the clock of S3, seconds since the epoch; 0: not known
    sums: tuple[tuple[str, str], ...] = ()


class Absent(NamedTuple):
    """S3 says that there is no such object."""

    listed: bool = False


class Unknown(NamedTuple):
    """S3 did not say; the object may be there or not."""

    reason: str
    listed: bool = False
    opaque_etag: bool = False  # probably encrypted with a key that is not ours


ObjectState = RemoteObject | Absent | Unknown


class File(Protocol):
    """A local file whose object is read: its path in the run, with slashes, and its size in bytes."""

    @property
    def path(self) -> str: ...

    @property
    def size(self) -> int: ...


class ObjectReader:
    """Looks at the objects of one run at one destination."""

    def __init__(
        self,
        aws: AwsCli,
        destination: Destination,
        run_id: str,
        mode: Readback,
        processes: int,
        owner: str = "",
        say: Callable[[str], None] = _ignore,
    ) -> None:
        """`owner` is the account that has to own the bucket; it is checked with everything that is looked at.

        `say` is given what a person should know.
        """
        self._aws = aws
        self._bucket = BucketRef(destination.bucket, owner)
        self._url = f"s3://{destination.bucket}"
        self._prefix = destination.run_prefix(run_id)
        self._mode = mode
        self._processes = processes
        self._expected: Sequence[str] = ()
        self._may_list = True
        self.why_unlisted = ""  # why the bucket is not listed any more
        self._say = say
        self._has_announced = False
        self._began = time.time()
        self._before: Mapping[str, RemoteObject] | None = None  # what there was at the first word

    def set_expected_paths(self, paths: Iterable[str]) -> None:
        """The paths of all files of the run: they tell how long a listing of a range of keys will be."""
        self._expected = sorted(paths)

    def list_run(self) -> dict[str, RemoteObject] | None:
        """Every object under the run's prefix by path; None if these credentials may not list.

        It is also the first word with S3: whatever keeps the upload from working at all raises AwsError here.
        """
        return self._first_word("", None, argv.LIST_PAGE)

    def list_range(self, files: Sequence[File]) -> dict[str, RemoteObject] | None:
        """The same, of the keys from the first to the last of these files."""
        return self._first_word(*self._range(files))

    def check_access(self) -> None:
        """The first word with S3 where nothing that it has is in question; raises AwsError as `list_run` does."""
        self._first_word("", "", 1)

    def why_unreachable(self) -> Cause | None:
        """Ask S3 for anything: why there is no way to it, None if it answers, whatever it says.

        Raises InterruptedBySignal, AwsError if the CLI cannot start.
        """
        ended = self._aws.run(argv.list_objects_argv(self._bucket, self._prefix, "", 1), _PROBE_SECONDS)
        if ended.succeeded or diagnosis.error_codes(ended.errors):
            return None
        if ended.killed_reason:
            return causes.NO_RESPONSE
        return diagnosis.unreachable_cause(ended.errors)

    def pause(self, seconds: float) -> None:
        """Wait so long; raises InterruptedBySignal if somebody asks for the end."""
        self._aws.pause(seconds)

    def _first_word(self, after: str, last: str | None, expected: int) -> dict[str, RemoteObject] | None:
        try:
            remote = self._list(after, last, expected, self._ask_patiently)
        except _ListingForbiddenError:
            if self._bucket.owner:
                raise AwsError(
                    f"access denied: {self._url} (it is not account {self._bucket.owner}'s, as expected_bucket_owner"
                    " says, or these credentials may not list it, without which that cannot be checked)"
                ) from None
            self._may_list = False
            self.why_unlisted = "these credentials may not list the bucket"
            return None
        except _UnlistableError as error:
            self._distrust_listings(str(error))
            return None
        except _ListingFailedError as error:
            raise self._no_contact(error.ended) from None
        self._before = remote if expected > 1 else None
        return remote

    def _distrust_listings(self, why: str) -> None:
        if self._may_list:
            self._may_list = False
            self.why_unlisted = f"{self._url} cannot be listed reliably: {why}"
            self._say(f"warning: {self.why_unlisted}; so each object is asked for, which takes longer")

    def encrypts_by_kms(self) -> bool:
        """Whether the bucket does so by default, so that no ETag is an MD5; False also if it does not say.

        Raises InterruptedBySignal.
        """
        asked = self._aws.run(argv.bucket_encryption_argv(self._bucket))
        with contextlib.suppress(AwsError):
            return asked.succeeded and str(client.parse_json(asked)).startswith("aws:kms")
        return False

    def head_seconds(self, files: int) -> float:
        """How long it takes to ask for so many objects one by one."""
        return files * _HEAD_COST / min(self._processes, usable_cores())

    def is_new(self, path: str, seen: RemoteObject) -> bool:
        """Whether an object came to S3 after this began, as far as the clock and the listings of S3 can tell."""
        if self._before is None:
            return seen.modified + _SKEW_SECONDS >= self._began
        before = self._before.get(path)
        if before is None or (before.size, before.etag) != (seen.size, seen.etag):
            return True
        return seen.modified > before.modified > 0

    def etags_of_content(self, path: str, part_sizes: Iterable[int | None]) -> set[str] | Unknown:
        """The ETags that an object's bytes should have in such parts, all of them read back; or why they could not be.

        Raises InterruptedBySignal.
        """
        etags = [RunningEtag(part_size) for part_size in part_sizes]

        def update(chunk: memoryview) -> None:
            for etag in etags:
                etag.update(chunk)

        ended = self._aws.read_bytes(argv.read_object_argv(self._bucket, self._prefix + path), update)
        return {etag.value() for etag in etags} if ended.succeeded else Unknown(ended.reason)

    def _ask_patiently(self, words: Sequence[str]) -> AwsResult:
        """Ask again a little later where that may help: at the very beginning nobody else does."""
        for seconds in DELAYS.read_retries:
            ended = self._aws.run(words)
            if ended.succeeded or not diagnosis.transient_cause(ended.errors):
                return ended
            self._aws.pause(seconds)
        return self._aws.run(words)

    def _no_contact(self, ended: AwsResult) -> AwsError:
        if diagnosis.has_empty_error_body(ended.errors):
            ended = self._aws.run(argv.head_bucket_argv(self._bucket))
        return client.to_error(
            ended, self._url, diagnosis.unreachable_cause(ended.errors) or diagnosis.transient_cause(ended.errors)
        )

    def cost(self, files: Sequence[File]) -> float:
        """CPU-seconds that looking at these files will take."""
        if self._uses_listing(files):
            return client.PROCESS_COST + _LISTED_COST * self._range_length(files)
        return _HEAD_COST * len(files)

    def get_many(self, files: Sequence[File]) -> dict[str, ObjectState]:
        """What S3 has for each file, by path; raises AwsError where asking again would not help."""
        if self._uses_listing(files):
            try:
                listed = self._list(*self._range(files))
                return {file.path: listed.get(file.path, Absent(listed=True)) for file in files}
            except _ListingForbiddenError:
                self._may_list = False
            except _UnlistableError as error:
                self._distrust_listings(str(error))
            except _ListingFailedError as error:
                return dict.fromkeys((file.path for file in files), Unknown(error.ended.reason, listed=True))
        return self._heads(files)

    def head_unsettled(
        self, files: Sequence[File], listed: Mapping[str, ObjectState] | None = None
    ) -> dict[str, ObjectState]:
        """What head-object says of files that a listing has not settled, by path; `listed` is what that said of them.

        A listing that calls an object missing is S3's own word, and sending a small file again costs
        far less than asking for it; so only the first few are asked for, and the rest only if the
        ETags of those few prove to be no MD5s, or if the listing was wrong.
        """
        compared = [f for f in files if _is_same_size(f, (listed or {}).get(f.path))]
        others = [f for f in files if f not in set(compared)]
        few, rest = others[:_FEW], others[_FEW:]
        seen = self._heads(few)
        there = {path: item for path, item in seen.items() if isinstance(item, RemoteObject)}
        wrong = [path for path, item in there.items() if _is_denied(item, (listed or {}).get(path))]
        if wrong:
            self._distrust_listings(
                f"{printable(wrong[0])} is there, and missing in a listing or of another size there"
            )
        if wrong or any(not isinstance(s, Absent) and s.opaque_etag for s in seen.values()):
            seen.update(self._heads(rest))
        seen.update(self._compare_closer(compared, listed or {}))
        return seen

    def _compare_closer(self, files: Sequence[File], listed: Mapping[str, ObjectState]) -> dict[str, ObjectState]:
        """Of files that are listed with their size and another ETag. If the first have neither a checksum nor an
        encryption that explains the ETag, no other of their sort is asked for: it would say no more than the listing.
        """
        seen: dict[str, ObjectState] = {}
        for is_in_parts in (False, True):
            sort = [f for f in files if is_in_parts == bool(_parts_in(listed.get(f.path)))]
            first, rest = sort[:_FEW], sort[_FEW:]
            seen.update(self._heads(first))
            if all(_says_no_more(seen[file.path]) for file in first):
                seen.update((file.path, listed[file.path]) for file in rest)
                continue
            seen.update(self.head_each(rest))
        return seen

    def head_each(self, files: Sequence[File]) -> dict[str, ObjectState]:
        """What head-object says of each of these files, by path."""
        self._announce(len(files))
        return self._heads(files)

    def _announce(self, files: int) -> None:
        """Once, that asking for objects one by one will take its time."""
        seconds = self.head_seconds(files)
        if seconds >= _LONG_SECONDS and not self._has_announced:
            self._has_announced = True
            self._say(f"note: {slow_heads_message(files, seconds)}")

    def _heads(self, files: Sequence[File]) -> dict[str, ObjectState]:
        paths = [file.path for file in files]
        with ThreadPoolExecutor(self._processes) as pool:
            seen = dict(zip(paths, pool.map(self._head, paths), strict=True))
        if self._may_list and any(isinstance(s, Unknown) and _REFUSED.match(s.reason) for s in seen.values()):
            self._ask_why()
        return seen

    def _ask_why(self) -> None:
        """An answer to a HEAD has no body to say why it is refused, a listing's has: expired credentials, for one.

        Raises AwsError if it says so.
        """
        with contextlib.suppress(_ListingForbiddenError, _ListingFailedError, _UnlistableError):
            self._page("", 1)

    def _uses_listing(self, files: Sequence[File]) -> bool:
        if self._mode != "auto" or not self._may_list:
            return self._mode == "list-objects-v2" and self._may_list
        return client.PROCESS_COST + _LISTED_COST * self._range_length(files) < _HEAD_COST * len(files)

    def _range_length(self, files: Sequence[File]) -> int:
        paths = [file.path for file in files]
        return bisect_right(self._expected, max(paths)) - bisect_left(self._expected, min(paths))

    def _range(self, files: Sequence[File]) -> tuple[str, str, int]:
        """The keys between which to list (after the first, up to and with the last), and how many are expected."""
        paths = [file.path for file in files]
        before = bisect_left(self._expected, min(paths)) - 1
        after = self._prefix + self._expected[before] if before >= 0 else ""
        return after, self._prefix + max(paths), self._range_length(files)

    def _list(
        self, after: str, last: str | None, expected: int, ask: Callable[[Sequence[str]], AwsResult] | None = None
    ) -> dict[str, RemoteObject]:
        """Objects by path, from key `after` (exclusive) to `last` (None: the end); raises AwsError.

        Objects that are none of ours may lie in between: it goes on until the last key is passed.
        """
        found: dict[str, RemoteObject] = {}
        most = min(expected, argv.LIST_PAGE)
        while True:
            page = self._page(after, most, ask)
            if after and page and page[0][0] <= after:
                raise _UnlistableError("it ignores start-after")
            found.update((key.removeprefix(self._prefix), item) for key, item in page if not _is_folder(key, item))
            if len(page) < most and not _may_be_cut_off(len(page)):
                return found
            if not page or (last is not None and page[-1][0] >= last):
                return found
            after, most = page[-1][0], argv.LIST_PAGE

    def _page(
        self, after: str, most: int, ask: Callable[[Sequence[str]], AwsResult] | None = None
    ) -> list[tuple[str, RemoteObject]]:
        ask = ask or self._aws.run
        return _parse_listing(ask(argv.list_objects_argv(self._bucket, self._prefix, after, most)), self._url)

    def _head(self, path: str) -> ObjectState:
        return _parse_head(self._aws.run(argv.head_object_argv(self._bucket, self._prefix + path)))


def _is_folder(key: str, item: RemoteObject) -> bool:
    """Whether it is no file but an empty object that a console or a gateway puts there to show a folder."""
    return key.endswith("/") and item.size == 0


def _may_be_cut_off(number: int) -> bool:
    """Whether a listing of so many keys may end where a page does: a server that answers as version 1 names no next."""
    return number > 0 and number % _PAGE_KEYS == 0


def _is_same_size(file: File, listed: ObjectState | None) -> bool:
    return isinstance(listed, RemoteObject) and listed.size == file.size


def _parts_in(listed: ObjectState | None) -> int:
    return number_of_parts(listed.etag) if isinstance(listed, RemoteObject) else 0


def _says_no_more(seen: ObjectState) -> bool:
    """Whether head-object has no more of an object than a listing."""
    return isinstance(seen, RemoteObject) and not (seen.opaque_etag or seen.crc32 or seen.sums)


def _is_denied(item: RemoteObject, listed: ObjectState | None) -> bool:
    """Whether a listing says that there is no such object, or that it has another size."""
    return isinstance(listed, Absent) or (isinstance(listed, RemoteObject) and listed.size != item.size)


class _ListingForbiddenError(Exception):
    """These credentials may write and look at objects, but not list the bucket."""


class _UnlistableError(Exception):
    """This server does not list as S3 does; the text says how."""


class _ListingFailedError(Exception):
    """This listing failed, for a reason that may pass."""

    def __init__(self, ended: AwsResult) -> None:
        super().__init__(ended.reason)
        self.ended = ended


def has_no_listings(errors: Iterable[str]) -> bool:
    """Whether a server that was asked for a listing says that it does not have such; each object is asked for then."""
    return any(map(_NO_LISTINGS.search, errors))


def _parse_listing(ended: AwsResult, where: str) -> list[tuple[str, RemoteObject]]:
    if not ended.succeeded:
        cause = diagnosis.fatal_cause(ended.errors)
        if cause and cause.id == causes.DENIED.id:
            raise _ListingForbiddenError
        if cause:
            raise client.to_error(ended, where)
        if has_no_listings(ended.errors):
            raise _UnlistableError(ended.reason)
        raise _ListingFailedError(ended)
    try:
        return [_parse_listed(*entry) for entry in client.parse_json(ended) or ()]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AwsError(f"cannot make sense of what aws s3api list-objects-v2 printed: {error}") from error


def _parse_listed(key: object, size: Any, etag: Any, modified: object = None) -> tuple[str, RemoteObject]:
    if not isinstance(key, str):
        raise TypeError(f"a key that is no text: {key!r:.100}")
    if modified is not None and not isinstance(modified, str):
        raise TypeError(f"a time that is no text: {modified!r:.100}")
    etag = "" if etag is None else etag  # a server that gives none
    return key, RemoteObject(int(size), _shown(normalize_etag(etag)), listed=True, modified=_seconds(modified))


def _seconds(moment: object) -> int:
    """A time as listings (ISO 8601) or headers have it, in seconds since the epoch; 0 if it is neither."""
    if not isinstance(moment, str):
        return 0
    with contextlib.suppress(ValueError, OverflowError):
        return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return int(parsedate_to_datetime(moment).timestamp())
    return 0


def _shown(said: str) -> str:
    """An ETag or a checksum as it may be shown and kept: real ones are ASCII, and have 50 characters at most."""
    return said if said.isascii() and said.isprintable() and len(said) <= 100 else printable(said[:100])


def _parse_head(ended: AwsResult) -> ObjectState:
    if not ended.succeeded:
        codes = diagnosis.error_codes(ended.errors)
        if codes & _NOT_FOUND:
            return Absent()
        if codes & _BAD_REQUEST:
            return Unknown(f"{ended.reason} ({_NO_KEY})", opaque_etag=True)
        return Unknown(ended.reason)
    try:
        size, etag, encryption, customer_key, crc32, *more = client.parse_json(ended)
        modified, *sums = more or [None]
        opaque = bool(customer_key) or str(encryption or "").startswith("aws:kms")
        others = tuple((name, _shown(value)) for name, value in zip(checksums.NAMES, sums, strict=False) if value)
        etag, crc32 = _shown(normalize_etag("" if etag is None else etag)), _shown(crc32 or "")
        return RemoteObject(int(size), etag, crc32, opaque, modified=_seconds(modified), sums=others)
    except (TypeError, ValueError, AttributeError, OverflowError, AwsError) as error:
        return Unknown(f"cannot make sense of what aws s3api head-object printed: {error}")


def slow_heads_message(files: int, seconds: float) -> str:
    """That it takes long to ask for so many objects one by one, and what is faster."""
    return (
        f"ETags that are no MD5s, as under KMS: {pluralize(files, 'object')} will be asked for a checksum one by one,"
        f" in about {human_seconds(seconds)} (more --cores are faster; --verify size compares the sizes alone, at once)"
    )
