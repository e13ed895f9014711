"""Upload or verify one run from this machine."""

from s3sync.transfer import (
    bandwidth,
    batches,
    changes,
    context,
    hook,
    passes,
    progress,
    request,
    upload,
    verify,
)

__all__ = [
    "bandwidth",
    "batches",
    "changes",
    "context",
    "hook",
    "passes",
    "progress",
    "request",
    "upload",
    "verify",
]
