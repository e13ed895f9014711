"""Write a request as the options of a command that people paste: it must do the same as the request."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator

from s3sync.aws import settings
from s3sync.aws.destination import STORAGE_CLASSES, Destination, Profile
from s3sync.resources import usable_cores
from s3sync.transfer.request.storage_classes import WARM
from s3sync.transfer.request.upload_request import UploadRequest

_UNUSUAL_CLASSES = frozenset(STORAGE_CLASSES) - {WARM}
_UNNAMED = ("auto", "", None)  # values of options that were not given


def place_options(destination: Destination, bucket_owner: str, profile: Profile) -> list[str]:
    """Return the options of any command that name a place in S3, and the credentials to use."""
    return [
        *("--bucket", destination.bucket),
        *(("--remote-path", destination.remote_path) if destination.prefix else ()),
        *_named(("expected-bucket-owner", bucket_owner), ("profile", profile.name), ("region", profile.region)),
    ]


def program_options(aws_command: str | None, log_dir: str) -> list[str]:
    """Return the options of any command that name the AWS CLI and the directory of the logs, unless they are empty."""
    if aws_command and "/" in aws_command:  # else it is a program on PATH
        aws_command = os.path.abspath(aws_command)
    return _named(("aws-command", aws_command), ("log-dir", log_dir))


def upload_options(request: UploadRequest, log_dir: str, classes_in_s3: Iterable[str] = ()) -> list[str]:
    """Return the options of an `upload` that does the same as the request, and compares with S3 again.

    If the request names no storage class, that of the objects in S3 is used if all have the same one.
    """
    return [
        *place_options(request.destination, request.bucket_owner, request.profile),
        *(f"--exclude-patterns={pattern.pattern}" for pattern in request.excludes),
        *_named(("verify", request.verify), ("readback", request.readback)),
        *_storage_options(request, set(classes_in_s3)),
        *_speed_options(request),
        *(["--completion-object"] if request.completion_object else []),
        *([f"--on-complete={shlex.join(request.on_complete.command)}"] if request.on_complete else []),
        *program_options(request.aws_command, log_dir),
        *(["--skip-check"] if request.skip_check else []),
        "--recheck",
    ]


def _storage_options(request: UploadRequest, in_s3: set[str]) -> Iterator[str]:
    storage = request.storage
    usual = in_s3.pop() if len(in_s3) == 1 and not request.class_rules else WARM
    storage_class = storage.storage_class or (usual if usual in _UNUSUAL_CLASSES else "")
    yield from _named(("sse", storage.sse), ("sse-kms-key-id", storage.sse_kms_key_id))
    yield from _named(("storage-class", storage_class))
    yield from (f"--storage-class-for={rule.pattern.pattern}={rule.storage_class}" for rule in request.class_rules)
    yield from _named(("acl", storage.acl))


def _speed_options(request: UploadRequest) -> Iterator[str]:
    """Yield the options of speed; of rates that depend on the time, the lowest one, since an option has one rate."""
    cores = None if request.cores == usable_cores() else str(request.cores)
    numbers = {"cores": cores, "threads": request.threads, "max-processes": request.max_processes}
    yield from _named(*((name, str(number or "")) for name, number in numbers.items()))
    if request.max_bandwidth and request.max_bandwidth.windows:
        yield from _named(("max-bandwidth", f"{min(window.rate for window in request.max_bandwidth.windows)}B/s"))
    yield from _named(("transfer-client", request.transfer_client))
    if request.stall_seconds != settings.STALL_SECONDS:
        yield from _named(("stall-minutes", f"{request.stall_seconds / 60:g}"))


def _named(*options: tuple[str, str | None]) -> list[str]:
    return [text for name, value in options if value and value not in _UNNAMED for text in (f"--{name}", value)]
