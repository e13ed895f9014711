"""Run the AWS CLI, and understand what it and S3 print."""

from s3sync.aws import (
    access,
    causes,
    client,
    destination,
    diagnosis,
    digests,
    etag,
    multipart,
    objects,
    receipts,
    settings,
    thaw,
)

__all__ = [
    "access",
    "causes",
    "client",
    "destination",
    "diagnosis",
    "digests",
    "etag",
    "multipart",
    "objects",
    "receipts",
    "settings",
    "thaw",
]
