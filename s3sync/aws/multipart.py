"""Multipart uploads that were begun and neither completed nor aborted: their parts are paid for, and nobody sees them.

The CLI aborts its own when it fails or is interrupted. What was killed cannot, nor what had no way to S3; so
whoever ends a process with force, or finds that one was, cleans up after it: its own keys, and no others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from s3sync.aws import argv, client, diagnosis
from s3sync.aws.argv import BUCKET_DEFAULTS, BucketRef, Storage
from s3sync.aws.client import AwsCli
from s3sync.errors import AwsError

_MOST_KEYS = 200  # asked for one by one
_AT_ONCE = 8
_PROBE = "s3sync-check"  # no object ever has this name
_SECONDS = 30.0  # each question may take so long: somebody may be waiting for the end
_SKEW = timedelta(minutes=15)  # S3 refuses requests of clocks that differ by more
_TOO_LATE = datetime(9999, 1, 1, tzinfo=timezone.utc)  # for the skew to be added
_NO_ENTRY = (TypeError, ValueError, AttributeError, OverflowError)


class AbortResult(NamedTuple):
    """How many multipart uploads were aborted, and what kept the others from it (empty: nothing did)."""

    aborted: int
    trouble: str = ""


class ServerBehavior:
    """What a server was found to do: whether it lists multipart uploads for an exact key alone, as MinIO does."""

    def __init__(self) -> None:
        self.lists_by_key: bool | None = None  # not known yet


def abort_incomplete_uploads(
    aws: AwsCli,
    bucket: BucketRef,
    prefix: str,
    keys: Collection[str],
    since: str = "",
    habits: ServerBehavior | None = None,
    storage: Storage = BUCKET_DEFAULTS,
) -> AbortResult:
    """Abort the multipart uploads of these keys under a prefix, those begun before `since` (ISO 8601) left alone.

    With `habits`, which remembers the answer, a server that lists none is tried whether it lists them for an exact
    key alone, by one begun as `storage` says. Works while the program is being stopped, too. Raises nothing that S3 or
    the CLI may cause.
    """
    try:
        found, trouble = _begun(aws, bucket, prefix), ""
        if habits and not found and _lists_by_key(aws, bucket, prefix, habits, storage):
            found, trouble = _begun_by_key(aws, bucket, keys)
    except AwsError as error:
        return AbortResult(0, str(error))
    wanted = set(keys)
    not_before = datetime.fromisoformat(since) if since else None
    ours = [left for left in found if left.key in wanted and (not_before is None or left.begun + _SKEW >= not_before)]
    aborted = 0
    for left in ours:
        try:
            _abort(aws, bucket, left)
            aborted += 1
        except AwsError as error:
            trouble = str(error)
    return AbortResult(aborted, trouble)


def _lists_by_key(aws: AwsCli, bucket: BucketRef, prefix: str, habits: ServerBehavior, storage: Storage) -> bool:
    """Whether an upload that is begun now is missing in the list; it is aborted at once. Raises AwsError."""
    if habits.lists_by_key is None:
        key = prefix + _PROBE
        begun = aws.run_despite_stop(argv.create_upload_argv(bucket, key, storage), _SECONDS)
        upload_id = client.parse_json(begun) if begun.succeeded else None
        if not isinstance(upload_id, str):  # whoever may not begin one has left none
            return False
        probe = _Begun(key, upload_id, _TOO_LATE)
        try:
            habits.lists_by_key = all(left.key != key for left in _begun(aws, bucket, prefix))
        finally:
            _abort(aws, bucket, probe)
    return habits.lists_by_key


def _begun_by_key(aws: AwsCli, bucket: BucketRef, keys: Collection[str]) -> tuple[list[_Begun], str]:
    """A question for each of the first keys, several at a time; what keeps it from being complete. Raises AwsError."""
    asked = list(keys)[:_MOST_KEYS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = [left for some in pool.map(lambda key: _begun(aws, bucket, key), asked) for left in some]
    if len(asked) < len(keys):
        return found, f"this server lists them by key alone, and only {_MOST_KEYS} of {len(keys):,} were asked for"
    return found, ""


class _Begun(NamedTuple):
    key: str
    upload_id: str
    begun: datetime


def _abort(aws: AwsCli, bucket: BucketRef, left: _Begun) -> None:
    """Raises AwsError."""
    ended = aws.run_despite_stop(argv.abort_upload_argv(bucket, left.key, left.upload_id), _SECONDS)
    if not ended.succeeded and "NoSuchUpload" not in diagnosis.error_codes(ended.errors):
        raise client.to_error(ended, f"s3://{bucket.name}")


def _begun(aws: AwsCli, bucket: BucketRef, prefix: str) -> list[_Begun]:
    """All under the prefix; raises AwsError."""
    ended = aws.run_despite_stop(argv.list_uploads_argv(bucket, prefix), _SECONDS)
    if not ended.succeeded:
        raise client.to_error(ended, f"s3://{bucket.name}")
    found = []
    entries = client.parse_json(ended)
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(*_NO_ENTRY):  # what is no such entry is not ours
            key, upload_id, begun = entry
            moment = datetime.fromisoformat(begun.replace("Z", "+00:00")).astimezone(timezone.utc)
            if moment < _TOO_LATE:
                found.append(_Begun(str(key), str(upload_id), moment))
    return found
