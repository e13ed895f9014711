"""Find out whether these credentials could read objects back, and thaw frozen ones, without changing anything.

The first byte of an object is read: that needs the same permissions as a download, KMS keys included. Objects that are
frozen, or may be in a cloud tier of Ceph, are only asked for with head-object: Ceph may answer a read by fetching the
object from its tier (`allow_read_through`).

S3 has no way to ask whether thawing is allowed. So it is requested for a key that does not exist. `AccessDenied` then
means that the permission is missing, unless S3 also refuses to say that the key does not exist, as it does to
credentials that may list only a prefix. Then Amazon, but no other server, gets a request for the object itself that it
has to reject: one with `Days` where they are not allowed, or without them where they are required. Ceph would accept
that and thaw the object for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from s3sync.aws import argv, causes, diagnosis, thaw
from s3sync.aws.client import RemoteFolder
from s3sync.aws.destination import STORAGE_CLASSES
from s3sync.aws.result import AwsResult
from s3sync.aws.thaw import ARCHIVES, TIERED

_FROZEN = "InvalidObjectState"
_EMPTY = "InvalidRange"  # an object without a first byte was found, and could be read
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_REJECTED = _MISSING | {"MalformedXML", "InvalidArgument", "InvalidRequest", _FROZEN, "RestoreAlreadyInProgress"}
_UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
_LOCAL = frozenset({"", *STORAGE_CLASSES}) - {*ARCHIVES}  # classes whose objects a server need not fetch from elsewhere
_DENIALS = (causes.DENIED.id, causes.DENIED_WITHOUT_REASON.id)
_OF_ONE_OBJECT = (*_DENIALS, causes.KMS_KEY_OF_OBJECT.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why an object could not be restored. If it `is_frozen`, it could not be thawed; else it cannot be read."""

    path: str
    reason: str
    is_frozen: bool


class RestoreAccess:
    """Checks the objects of a folder, several at a time."""

    def __init__(self, remote: RemoteFolder, max_processes: int) -> None:
        self._remote = remote
        self._aws = remote.aws
        self._bucket = remote.bucket
        self._max_processes = max_processes

    def find_obstacles(self, classes: Iterable[tuple[str, str]]) -> list[Obstacle]:
        """Return the obstacles of these paths, each given with its storage class.

        Raises AwsError for a reason that concerns all of them, such as credentials that have expired, StoppedError.
        """
        with ThreadPoolExecutor(self._max_processes) as pool:
            return [found for found in pool.map(lambda pair: self._obstacle(*pair), classes) if found]

    def _obstacle(self, path: str, storage_class: str) -> Obstacle | None:
        if storage_class in _LOCAL:
            return self._obstacle_to_reading(path, storage_class)
        result = self._aws.run(argv.thaw_state_argv(self._bucket, self._remote.key(path)))
        if not result.succeeded:
            self._raise_if_general(result, path)
            return Obstacle(path=path, reason=result.reason, is_frozen=False)
        if storage_class not in ARCHIVES:
            return None
        is_thawed = thaw.parse_state(result) == "thawed"  # until the copy expires
        unreadable = self._obstacle_to_reading(path, storage_class) if is_thawed else None
        return unreadable or self._obstacle_to_thawing(path, storage_class)

    def _obstacle_to_reading(self, path: str, storage_class: str) -> Obstacle | None:
        result = self._aws.run(argv.read_byte_argv(self._bucket, self._remote.key(path)))
        codes = diagnosis.error_codes(result.errors)
        if result.succeeded or _EMPTY in codes:
            return None
        if _FROZEN in codes:
            return self._obstacle_to_thawing(path, storage_class) if storage_class == TIERED else None
        self._raise_if_general(result, path)
        return Obstacle(path=path, reason=result.reason, is_frozen=False)

    def _obstacle_to_thawing(self, path: str, storage_class: str) -> Obstacle | None:
        missing = self._remote.key(f"{path[: path.rfind('/') + 1]}s3sync-{os.urandom(8).hex()}")
        days = None if storage_class == TIERED else 1
        result = self._aws.run(argv.thaw_object_argv(self._bucket, missing, "Bulk", days))
        if _is_denied(result) and not self._is_said_to_be_missing(missing):
            if self._aws.may_have_other_server:
                return None
            wrong_days = 1 if storage_class == TIERED else None
            result = self._aws.run(argv.thaw_object_argv(self._bucket, self._remote.key(path), "Bulk", wrong_days))
        codes = diagnosis.error_codes(result.errors)
        if result.succeeded or codes & _REJECTED:
            return None
        if codes & _UNSUPPORTED and self._is_readable(
            path
        ):  # on this server the name of the class may mean something else
            return None
        self._raise_if_general(result, path)
        return Obstacle(path=path, reason=result.reason, is_frozen=True)

    def _is_readable(self, path: str) -> bool:
        return self._aws.run(argv.read_byte_argv(self._bucket, self._remote.key(path))).succeeded

    def _is_said_to_be_missing(self, key: str) -> bool:
        result = self._aws.run(argv.thaw_state_argv(self._bucket, key))
        return bool(diagnosis.error_codes(result.errors) & _MISSING)

    def _raise_if_general(self, result: AwsResult, path: str) -> None:
        """Raise AwsError for a cause that says nothing about this object, or that may pass."""
        causes_found = (diagnosis.fatal_cause, diagnosis.unreachable_cause, diagnosis.transient_cause)
        cause = next(filter(None, (find(result.errors) for find in causes_found)), None)
        if result.killed_reason or (cause and cause.id not in _OF_ONE_OBJECT):
            raise result.to_error(self._remote.url(path), cause)


def _is_denied(result: AwsResult) -> bool:
    cause = diagnosis.fatal_cause(result.errors)
    return cause is not None and cause.id in _DENIALS
