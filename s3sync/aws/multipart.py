"""Abort incomplete multipart uploads, whose invisible parts cost money.

The CLI aborts its own uploads when it fails or is interrupted. A killed process cannot, nor one that could
not reach S3. So the keys of such a process are cleaned up afterwards, and no others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from s3sync.aws import argv, diagnosis
from s3sync.aws.client import RemoteFolder
from s3sync.aws.destination import BUCKET_DEFAULTS, Storage
from s3sync.errors import AwsError

_MAX_KEYS = 200  # keys that are listed one by one
_MAX_PROCESSES = 8
_PROBE_KEY = "s3sync-check"  # no object ever has this name
_TIMEOUT_SECONDS = 30.0  # for each request: a person may be waiting
_MAX_SKEW = timedelta(minutes=15)  # S3 refuses requests of clocks that differ by more
_MAX_TIME = datetime(9999, 1, 1, tzinfo=timezone.utc)  # the skew can still be added to earlier times
_UNPARSABLE = (TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class AbortResult:
    """How many multipart uploads were aborted, and why some may be left; the reason is empty if none are."""

    aborted: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _IncompleteUpload:
    key: str
    upload_id: str
    started: datetime


class IncompleteUploads:
    """The incomplete multipart uploads to a folder. Works also after a stop was requested."""

    def __init__(self, remote: RemoteFolder, storage: Storage = BUCKET_DEFAULTS) -> None:
        self._remote = remote
        self._aws = remote.aws
        self._bucket = remote.bucket
        self._storage = storage
        self._lists_by_key: bool | None = None  # not known yet

    def abort(self, keys: Collection[str], since: str = "", *, probe_server: bool = False) -> AbortResult:
        """Abort the uploads of these keys that were started at or after `since` (ISO 8601; empty: all).

        With `probe_server`, find out whether a server that lists no uploads lists them only for an exact key, as MinIO
        does. Errors of S3 and the CLI become the reason.
        """
        try:
            found, problem = self._list(self._remote.prefix), ""
            if probe_server and not found and self._server_lists_by_key():
                found, problem = self._list_by_key(keys)
        except AwsError as error:
            return AbortResult(0, str(error))
        not_before = datetime.fromisoformat(since) if since else None
        aborted, wanted = 0, set(keys)
        for upload in found:
            if upload.key in wanted and (not_before is None or upload.started + _MAX_SKEW >= not_before):
                try:
                    self._abort(upload.key, upload.upload_id)
                    aborted += 1
                except AwsError as error:
                    problem = str(error)
        return AbortResult(aborted, problem)

    def _server_lists_by_key(self) -> bool:
        """Return whether an upload that is started for this purpose is missing in the list. Raises AwsError."""
        if self._lists_by_key is None:
            key = self._remote.key(_PROBE_KEY)
            result = self._aws.run_despite_stop(
                argv.create_upload_argv(self._bucket, key, self._storage), _TIMEOUT_SECONDS
            )
            upload_id = result.json() if result.succeeded else None
            if not isinstance(upload_id, str):  # credentials that may not start an upload have left none
                return False
            try:
                self._lists_by_key = all(upload.key != key for upload in self._list(self._remote.prefix))
            finally:
                self._abort(key, upload_id)
        return self._lists_by_key

    def _list_by_key(self, keys: Collection[str]) -> tuple[list[_IncompleteUpload], str]:
        """Return the uploads of the first keys, and why that may not be all of them. Raises AwsError."""
        requested = list(keys)[:_MAX_KEYS]
        with ThreadPoolExecutor(_MAX_PROCESSES) as pool:
            found = [upload for uploads in pool.map(self._list, requested) for upload in uploads]
        if len(requested) < len(keys):
            return found, f"this server lists them only by key, and {_MAX_KEYS} of {len(keys):,} keys were checked"
        return found, ""

    def _list(self, prefix: str) -> list[_IncompleteUpload]:
        result = self._aws.run_despite_stop(argv.list_uploads_argv(self._bucket, prefix), _TIMEOUT_SECONDS)
        if not result.succeeded:
            raise result.to_error(self._bucket.url)
        found = []
        entries = result.json()
        for entry in entries if isinstance(entries, list) else ():
            with contextlib.suppress(*_UNPARSABLE):  # an unexpected entry is not ours
                key, upload_id, started = entry
                moment = datetime.fromisoformat(started.replace("Z", "+00:00")).astimezone(timezone.utc)
                if moment < _MAX_TIME:
                    found.append(_IncompleteUpload(str(key), str(upload_id), moment))
        return found

    def _abort(self, key: str, upload_id: str) -> None:
        result = self._aws.run_despite_stop(argv.abort_upload_argv(self._bucket, key, upload_id), _TIMEOUT_SECONDS)
        if not result.succeeded and "NoSuchUpload" not in diagnosis.error_codes(result.errors):
            raise result.to_error(self._bucket.url)
