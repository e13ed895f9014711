"""Multipart uploads that were begun and neither completed nor aborted: their parts are paid for, and nobody sees them.

The CLI aborts its own when it fails or is interrupted. What was killed cannot, nor what had no way to S3; so
whoever ends a process with force, or finds that one was, cleans up after it: its own keys, and no others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from s3sync import awscli, awswords, complaints
from s3sync.awscli import Aws
from s3sync.awswords import OwnedBucket
from s3sync.errors import AwsError

_SECONDS = 30.0  # each question may take so long: somebody may be waiting for the end
_SKEW = timedelta(minutes=15)  # S3 refuses requests of clocks that differ by more
_TOO_LATE = datetime(9999, 1, 1, tzinfo=timezone.utc)  # for the skew to be added
_NO_ENTRY = (TypeError, ValueError, AttributeError, OverflowError)


class Swept(NamedTuple):
    """How many multipart uploads were aborted, and what kept the others from it (empty: nothing did)."""

    aborted: int
    trouble: str = ""


def sweep(aws: Aws, bucket: OwnedBucket, prefix: str, keys: Collection[str], since: str = "") -> Swept:
    """Abort the multipart uploads of these keys under a prefix, those begun before `since` (ISO 8601) left alone.

    Works while the program is being stopped, too. Raises nothing that S3 or the CLI may cause.
    """
    try:
        found = _begun(aws, bucket, prefix)
    except AwsError as error:
        return Swept(0, str(error))
    not_before = datetime.fromisoformat(since) if since else None
    ours = [left for left in found if left.key in keys and (not_before is None or left.begun + _SKEW >= not_before)]
    aborted, trouble = 0, ""
    for left in ours:
        try:
            _abort(aws, bucket, left)
            aborted += 1
        except AwsError as error:
            trouble = str(error)
    return Swept(aborted, trouble)


class _Begun(NamedTuple):
    key: str
    upload_id: str
    begun: datetime


def _abort(aws: Aws, bucket: OwnedBucket, left: _Begun) -> None:
    """Raises AwsError."""
    ended = aws.clean_up(awswords.abort_upload_words(bucket, left.key, left.upload_id), _SECONDS)
    if not ended.succeeded and "NoSuchUpload" not in complaints.codes_in(ended.errors):
        raise awscli.failure(ended, f"s3://{bucket.name}")


def _begun(aws: Aws, bucket: OwnedBucket, prefix: str) -> list[_Begun]:
    """All under the prefix; raises AwsError."""
    ended = aws.clean_up(awswords.list_uploads_words(bucket, prefix), _SECONDS)
    if not ended.succeeded:
        raise awscli.failure(ended, f"s3://{bucket.name}")
    found = []
    entries = awscli.parse_json(ended)
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(*_NO_ENTRY):  # what is no such entry is not ours
            key, upload_id, begun = entry
            moment = datetime.fromisoformat(begun.replace("Z", "+00:00")).astimezone(timezone.utc)
            if moment < _TOO_LATE:
                found.append(_Begun(str(key), str(upload_id), moment))
    return found
