"""Upload, verify or restore one run from this machine."""

from s3sync.transfer import (
    batches,
    changes,
    context,
    displays,
    passes,
    progress,
    request,
    restore,
    sharing,
    upload,
    verify,
)

__all__ = [
    "batches",
    "changes",
    "context",
    "displays",
    "passes",
    "progress",
    "request",
    "restore",
    "sharing",
    "upload",
    "verify",
]
