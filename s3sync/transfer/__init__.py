"""Upload or verify one run from this machine."""

from s3sync.transfer import bandwidth, changes, hook, passes, plan, progress, request, session, staging, upload, verify
from s3sync.transfer.request import UploadRequest, UploadResult

__all__ = [
    "UploadRequest",
    "UploadResult",
    "bandwidth",
    "changes",
    "hook",
    "passes",
    "plan",
    "progress",
    "request",
    "session",
    "staging",
    "upload",
    "verify",
]
