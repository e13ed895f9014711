"""Upload or verify one run from this machine."""

from s3sync.transfer import (
    bandwidth,
    batches,
    changes,
    hook,
    passes,
    progress,
    request,
    selection,
    staging,
    upload,
    verify,
)
from s3sync.transfer.context import open_context
from s3sync.transfer.request import UploadRequest, UploadResult

__all__ = [
    "UploadRequest",
    "UploadResult",
    "bandwidth",
    "batches",
    "changes",
    "hook",
    "open_context",
    "passes",
    "progress",
    "request",
    "selection",
    "staging",
    "upload",
    "verify",
]
