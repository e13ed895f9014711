"""Run the AWS CLI, and understand what it and S3 say."""

from s3sync.aws import (
    access,
    argv,
    causes,
    checksums,
    client,
    destination,
    diagnosis,
    etag,
    multipart,
    objects,
    settings,
)
from s3sync.aws.destination import Destination

__all__ = [
    "Destination",
    "access",
    "argv",
    "causes",
    "checksums",
    "client",
    "destination",
    "diagnosis",
    "etag",
    "multipart",
    "objects",
    "settings",
]
