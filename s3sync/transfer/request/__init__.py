"""Define the request of an upload, its options, and its result."""

from s3sync.transfer.request import as_options, bandwidth, hook, storage_classes
from s3sync.transfer.request.upload_request import (
    FileTotals,
    PendingAnalysis,
    Preview,
    UploadCounters,
    UploadRequest,
    UploadResult,
    compile_excludes,
    describe_target,
)

__all__ = [
    "FileTotals",
    "PendingAnalysis",
    "Preview",
    "UploadCounters",
    "UploadRequest",
    "UploadResult",
    "as_options",
    "bandwidth",
    "compile_excludes",
    "describe_target",
    "hook",
    "storage_classes",
]
