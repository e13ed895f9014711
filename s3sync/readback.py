"""What S3 says of the objects, and whether that proves the files.

An object is looked at with `head-object`, or many at once with `list-objects-v2`, whichever costs less;
both give the same verdicts. A listing that settles a file needs no second look.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol

from s3sync import awscli, awserrors, awswords, complaints
from s3sync.awscli import Aws, Ended
from s3sync.awswords import OwnedBucket
from s3sync.destination import Destination
from s3sync.errors import AwsError
from s3sync.plan import PROCESS_COST
from s3sync.runfolder import LocalFile
from s3sync.statelog import Proof
from s3sync.text import printable

Readback = Literal["auto", "head-object", "list-objects-v2"]
Verify = Literal["etag", "size"]

_HEAD_COST = PROCESS_COST + 0.04  # CPU-seconds
_LISTED_COST = 0.0001  # CPU-seconds an object of a listing
_FEW = 4  # so many unsettled files are always looked at one by one

# Codes of S3, or the status where an answer has no body.
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
_BAD_REQUEST = {"400"}  # without a word: an object that needs its key, or an expired token
_REFUSED = re.compile(r"An error occurred \((40[03]|AccessDenied|Forbidden)\)")
_NO_KEY = "encrypted with a customer's own key? Or have the credentials expired?"


class RemoteObject(NamedTuple):
    """An object as S3 has it. `crc32` is base64 (`-N` if composed of parts) or empty; both it and
    `opaque_etag` (encrypted so that the ETag is no MD5) are known from head-object only."""

    size: int  # bytes
    etag: str  # without quotes
    crc32: str = ""
    opaque_etag: bool = False
    listed: bool = False


class Absent(NamedTuple):
    """S3 says that there is no such object."""

    listed: bool = False


class Unknown(NamedTuple):
    """S3 did not say; the object may be there or not."""

    reason: str
    listed: bool = False
    opaque_etag: bool = False  # probably encrypted with a key that is not ours


Seen = RemoteObject | Absent | Unknown


class Evidence(Protocol):
    """What can be computed from a file's bytes where its ETag says nothing; both raise OSError."""

    def crc32(self, file: LocalFile) -> tuple[str, str]: ...

    def etag_like(self, file: LocalFile, etag: str) -> str | None: ...


class Reader:
    """Looks at the objects of one run at one destination."""

    def __init__(
        self, aws: Aws, destination: Destination, run_id: str, mode: Readback, processes: int, owner: str = ""
    ) -> None:
        """`owner` is the account that has to own the bucket; it is checked with everything that is looked at."""
        self._aws = aws
        self._bucket = OwnedBucket(destination.bucket, owner)
        self._url = f"s3://{destination.bucket}"
        self._prefix = destination.run_prefix(run_id)
        self._mode = mode
        self._processes = processes
        self._expected: Sequence[str] = ()
        self._may_list = True

    def expect(self, paths: Iterable[str]) -> None:
        """The paths of all files of the run: they tell how long a listing of a range of keys will be."""
        self._expected = sorted(paths)

    def list_run(self) -> dict[str, RemoteObject] | None:
        """Every object under the run's prefix by path; None if these credentials may not list.

        It is also the first word with S3: whatever keeps the upload from working at all raises AwsError here.
        """
        return self._first_word("", None, awswords.LIST_PAGE)

    def list_range(self, files: Sequence[LocalFile]) -> dict[str, RemoteObject] | None:
        """The same, of the keys from the first to the last of these files."""
        return self._first_word(*self._range(files))

    def contact(self) -> None:
        """The first word with S3 where nothing that it has is in question; raises AwsError as `list_run` does."""
        self._first_word("", "", 1)

    def _first_word(self, after: str, last: str | None, expected: int) -> dict[str, RemoteObject] | None:
        try:
            return self._list(after, last, expected)
        except _ListingForbiddenError:
            if self._bucket.owner:
                raise AwsError(
                    f"access denied: {self._url} (it is not account {self._bucket.owner}'s, as expected_bucket_owner"
                    " says, or these credentials may not list it, without which that cannot be checked)"
                ) from None
            self._may_list = False
            return None
        except _ListingFailedError as error:
            raise self._no_contact(error.ended) from None

    def _no_contact(self, ended: Ended) -> AwsError:
        if awserrors.is_masked(ended.errors):
            ended = self._aws.query(awswords.head_bucket_words(self._bucket))
        return awscli.failure(ended, self._url, awserrors.unreachable(ended.errors))

    def cost(self, files: Sequence[LocalFile]) -> float:
        """CPU-seconds that looking at these files will take."""
        if self._uses_listing(files):
            return PROCESS_COST + _LISTED_COST * self._range_length(files)
        return _HEAD_COST * len(files)

    def look(self, files: Sequence[LocalFile]) -> dict[str, Seen]:
        """What S3 has for each file, by path; raises AwsError where asking again would not help."""
        if self._uses_listing(files):
            try:
                listed = self._list(*self._range(files))
                return {file.path: listed.get(file.path, Absent(listed=True)) for file in files}
            except _ListingForbiddenError:
                self._may_list = False
            except _ListingFailedError as error:
                return dict.fromkeys((file.path for file in files), Unknown(error.ended.reason, listed=True))
        return self._heads(files)

    def look_closer(self, files: Sequence[LocalFile]) -> dict[str, Seen]:
        """What head-object says of files that a listing has not settled, by path.

        A listing that calls an object missing is S3's own word, and sending a small file again costs
        far less than asking for it; so only the first few are asked for, and the rest only if the
        ETags of those few prove to be no MD5s.
        """
        few, rest = files[:_FEW], files[_FEW:]
        seen = self._heads(few)
        if any(not isinstance(s, Absent) and s.opaque_etag for s in seen.values()):
            seen.update(self._heads(rest))
        return seen

    def _heads(self, files: Sequence[LocalFile]) -> dict[str, Seen]:
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
        with contextlib.suppress(_ListingForbiddenError, _ListingFailedError):
            _parse_listing(self._aws.query(awswords.list_words(self._bucket, self._prefix, "", 1)), self._url)

    def _uses_listing(self, files: Sequence[LocalFile]) -> bool:
        if self._mode != "auto" or not self._may_list:
            return self._mode == "list-objects-v2" and self._may_list
        return PROCESS_COST + _LISTED_COST * self._range_length(files) < _HEAD_COST * len(files)

    def _range_length(self, files: Sequence[LocalFile]) -> int:
        paths = [file.path for file in files]
        return bisect_right(self._expected, max(paths)) - bisect_left(self._expected, min(paths))

    def _range(self, files: Sequence[LocalFile]) -> tuple[str, str, int]:
        """The keys between which to list (after the first, up to and with the last), and how many are expected."""
        paths = [file.path for file in files]
        before = bisect_left(self._expected, min(paths)) - 1
        after = self._prefix + self._expected[before] if before >= 0 else ""
        return after, self._prefix + max(paths), self._range_length(files)

    def _list(self, after: str, last: str | None, expected: int) -> dict[str, RemoteObject]:
        """Objects by path, from key `after` (exclusive) to `last` (None: the end); raises AwsError.

        Objects that are none of ours may lie in between: it goes on until the last key is passed.
        """
        found: dict[str, RemoteObject] = {}
        most = min(expected, awswords.LIST_PAGE)
        while True:
            ended = self._aws.query(awswords.list_words(self._bucket, self._prefix, after, most))
            page = _parse_listing(ended, self._url)
            found.update((key.removeprefix(self._prefix), item) for key, item in page)
            if len(page) < most or (last is not None and page[-1][0] >= last):
                return found
            if page[-1][0] <= after:
                raise AwsError(f"{self._url} lists the same objects again and again: S3 here knows no start-after")
            after, most = page[-1][0], awswords.LIST_PAGE

    def _head(self, path: str) -> Seen:
        return _parse_head(self._aws.query(awswords.head_words(self._bucket, self._prefix + path)))


class _ListingForbiddenError(Exception):
    """These credentials may write and look at objects, but not list the bucket."""


class _ListingFailedError(Exception):
    """This listing failed, for a reason that may pass."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.ended = ended


def _parse_listing(ended: Ended, where: str) -> list[tuple[str, RemoteObject]]:
    if not ended.succeeded:
        cause = awserrors.cause_of(ended.errors)
        if cause and cause.what == awserrors.DENIED.what:
            raise _ListingForbiddenError
        if cause:
            raise awscli.failure(ended, where)
        raise _ListingFailedError(ended)
    try:
        return [_parse_listed(*entry) for entry in awscli.parse_json(ended) or ()]
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AwsError(f"cannot make sense of what aws s3api list-objects-v2 printed: {error}") from error


def _parse_listed(key: object, size: Any, etag: Any) -> tuple[str, RemoteObject]:
    if not isinstance(key, str):
        raise TypeError(f"a key that is no text: {key!r:.100}")
    return key, RemoteObject(int(size), _plain(etag.strip('"')), listed=True)


def _plain(said: str) -> str:
    """An ETag or a checksum as it may be shown and kept: real ones are ASCII, and have 50 characters at most."""
    return said if said.isascii() and said.isprintable() and len(said) <= 100 else printable(said[:100])


def _parse_head(ended: Ended) -> Seen:
    if not ended.succeeded:
        codes = complaints.codes_in(ended.errors)
        if codes & _NOT_FOUND:
            return Absent()
        if codes & _BAD_REQUEST:
            return Unknown(f"{ended.reason} ({_NO_KEY})", opaque_etag=True)
        return Unknown(ended.reason)
    try:
        size, etag, encryption, customer_key, crc32 = awscli.parse_json(ended)
        opaque = bool(customer_key) or str(encryption or "").startswith("aws:kms")
        return RemoteObject(int(size), _plain(etag.strip('"')), _plain(crc32 or ""), opaque)
    except (TypeError, ValueError, AttributeError, OverflowError, AwsError) as error:
        return Unknown(f"cannot make sense of what aws s3api head-object printed: {error}")


def judge(file: LocalFile, seen: Seen, expected: str | None, evidence: Evidence) -> Proof | str:
    """The proof that S3 holds this file, or why there is none.

    `expected` is the ETag computed from the local bytes, None where only sizes are to be compared.
    `evidence` is asked only for objects whose ETag is no MD5, or one of parts of another size than ours.
    """
    if isinstance(seen, Absent):
        return "not in S3"
    if isinstance(seen, Unknown):
        return f"S3 did not say: {seen.reason}"
    if seen.size != file.size:
        return f"S3 has {seen.size:,} bytes, the disk {file.size:,}"
    if expected is None:
        return Proof(*file, seen.etag, "size")
    if seen.etag == expected:
        return Proof(*file, seen.etag, "etag")
    if not seen.opaque_etag:
        if evidence.etag_like(file, seen.etag):
            return Proof(*file, seen.etag, "etag")
        return f"S3 has other bytes: ETag {seen.etag}, not {expected}"
    ours = evidence.crc32(file) if seen.crc32 else ()
    if seen.crc32 in ours:
        return Proof(*file, seen.etag, "checksum")
    if not any(_parts_of(seen.crc32) == _parts_of(crc32) for crc32 in ours):
        return Proof(*file, seen.etag, "size")  # there is none, or it is of parts that somebody else cut
    return f"S3 has other bytes: its CRC32 is {seen.crc32}"


def _parts_of(crc32: str) -> str:
    """Of how many parts' it is composed; empty if it is of the whole."""
    return crc32.partition("-")[2]


def is_settled(file: LocalFile, seen: Seen, expected: str | None) -> bool:
    """Whether what was seen is the last word: head-object always is, a listing only where it proves the file."""
    if isinstance(seen, RemoteObject) and (seen.size, expected or seen.etag) == (file.size, seen.etag):
        return True
    return not seen.listed
