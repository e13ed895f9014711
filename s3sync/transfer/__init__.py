"""Upload, verify or restore one run from this machine."""

from s3sync.transfer import (
    as_options,
    bandwidth,
    batches,
    changes,
    context,
    displays,
    hook,
    passes,
    progress,
    request,
    restorable,
    restore,
    runtime,
    storage_classes,
    upload,
    verify,
)

__all__ = [
    "as_options",
    "bandwidth",
    "batches",
    "changes",
    "context",
    "displays",
    "hook",
    "passes",
    "progress",
    "request",
    "restorable",
    "restore",
    "runtime",
    "storage_classes",
    "upload",
    "verify",
]
