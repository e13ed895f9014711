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
    remote_folder,
    restore_access,
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
    "remote_folder",
    "restore_access",
    "settings",
    "thaw",
]
