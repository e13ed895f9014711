"""Check whether a run could be restored from S3 with the credentials of its upload."""

from __future__ import annotations

from collections.abc import Mapping

from s3sync.aws import access, thaw
from s3sync.aws.objects import RemoteObject
from s3sync.runs import Run
from s3sync.transfer.context import Runtime, open_context
from s3sync.transfer.request import UploadRequest

_SAMPLE = 4  # objects of each storage class that are tried, each with a process


def find_obstacles(
    request: UploadRequest, run: Run, remote: Mapping[str, RemoteObject], runtime: Runtime
) -> list[access.Obstacle]:
    """Return why a few objects of each storage class could not be restored; empty if they could be.

    `remote` is what S3 has of the run. Raises AwsError, StateError, StoppedError.
    """
    with open_context(request, run, runtime) as context:
        return access.RestoreAccess(context.remote, request.cores).find_obstacles(choose_sample(remote))


def choose_sample(remote: Mapping[str, RemoteObject]) -> list[tuple[str, str]]:
    """Return a few paths of each storage class, with that class, from all over the run."""
    by_class: dict[str, list[str]] = {}
    for path, found in sorted(remote.items()):
        by_class.setdefault(found.storage_class, []).append(path)
    return [(path, name) for name, paths in by_class.items() for path in thaw.choose_sample(paths, _SAMPLE)]
