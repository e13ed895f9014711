"""Parse what the AWS CLI prints about objects in S3 into values."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from s3sync.aws import diagnosis
from s3sync.aws.digests import CHECKSUM_NAMES
from s3sync.aws.etag import normalize_etag
from s3sync.aws.result import AwsResult
from s3sync.errors import AwsError
from s3sync.text import printable

# Codes of S3, or HTTP statuses where an answer has no body.
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
_BAD_REQUEST = {"400"}  # without a reason: an object that needs its key, or an expired token
_NO_KEY = "encrypted with a customer's own key? Or have the credentials expired?"
_UNPARSABLE = (TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class RemoteObject:
    """An object as S3 has it. Only head-object returns `crc32`, `opaque_etag` and `sums`; a listing leaves them empty.

    `size` is in bytes; `etag` is as `normalize_etag` returns it; `crc32` is base64, followed by `-N` if composed of
    parts. With `opaque_etag` the object is encrypted, so that its ETag is no MD5. `modified` is in seconds since the
    epoch by the clock of S3, or 0. `sums` are its other checksums, by their names (see `digests.CHECKSUM_NAMES`).
    Only a listing returns `storage_class`.
    """

    size: int
    etag: str
    crc32: str = ""
    opaque_etag: bool = False
    listed: bool = False
    modified: int = 0
    sums: tuple[tuple[str, str], ...] = ()
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    """S3 has no such object, as a listing or head-object says."""

    listed: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """S3 did not say whether it has the object. `opaque_etag`: it may be encrypted with a key that is not ours."""

    reason: str
    listed: bool = False
    opaque_etag: bool = False


ObjectState = RemoteObject | Absent | Unknown


def parse_listing(result: AwsResult) -> list[tuple[str, RemoteObject]]:
    """Return the keys and objects that a successful list-objects-v2 printed. Raises AwsError for anything else."""
    try:
        return [_parse_entry(*entry) for entry in result.iterate_json()]
    except _UNPARSABLE as error:
        raise AwsError(
            f"aws s3api list-objects-v2 printed something unexpected: {error} (check the version of the AWS CLI)",
            id="aws.bad-listing",
        ) from error


def parse_head(result: AwsResult) -> ObjectState:
    """Return what head-object says about an object."""
    if not result.succeeded:
        codes = diagnosis.error_codes(result.errors)
        if codes & _NOT_FOUND:
            return Absent()
        if codes & _BAD_REQUEST:
            return Unknown(f"{result.reason} ({_NO_KEY})", opaque_etag=True)
        return Unknown(result.reason)
    try:
        return _parse_head_fields(*result.json())
    except (*_UNPARSABLE, AwsError) as error:
        return Unknown(f"aws s3api head-object printed something unexpected: {error}")


def _parse_entry(
    key: object, size: Any, etag: Any, modified: object = None, storage_class: object = None
) -> tuple[str, RemoteObject]:
    if not isinstance(key, str):
        raise TypeError(f"a key that is not text: {key!r:.100}")
    if modified is not None and not isinstance(modified, str):
        raise TypeError(f"a time that is not text: {modified!r:.100}")
    etag = "" if etag is None else etag  # some servers give none
    item = RemoteObject(
        int(size),
        _bounded(normalize_etag(etag)),
        listed=True,
        modified=_to_seconds(modified),
        storage_class=sys.intern(_bounded(str(storage_class or ""))),
    )
    return key, item


def _parse_head_fields(
    size: Any, etag: Any, encryption: Any, customer_key: Any, crc32: Any, modified: object = None, *sums: Any
) -> RemoteObject:
    """Take the fields in the order of the query in `argv.head_object_argv`."""
    return RemoteObject(
        int(size),
        _bounded(normalize_etag("" if etag is None else etag)),
        _bounded(crc32 or ""),
        opaque_etag=bool(customer_key) or str(encryption or "").startswith("aws:kms"),
        modified=_to_seconds(modified),
        sums=tuple((name, _bounded(value)) for name, value in zip(CHECKSUM_NAMES, sums, strict=False) if value),
    )


def _to_seconds(moment: object) -> int:
    """Return the seconds since the epoch of a time as listings (ISO 8601) or headers have it; 0 for anything else."""
    if not isinstance(moment, str):
        return 0
    with contextlib.suppress(ValueError, OverflowError):
        return int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return int(parsedate_to_datetime(moment).timestamp())
    return 0


def _bounded(text: str) -> str:
    """Return an ETag or a checksum that is safe to show and keep: real ones are ASCII with at most 50 characters."""
    return text if text.isascii() and text.isprintable() and len(text) <= 100 else printable(text[:100])
