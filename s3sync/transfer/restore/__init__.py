"""Bring a run, or a part of it, back from S3: download, prove and move into place."""

from s3sync.transfer.restore import parts, request, run

__all__ = ["parts", "request", "run"]
