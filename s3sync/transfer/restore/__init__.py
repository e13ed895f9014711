"""Restore a run, or a part of it, from S3: download, prove and move it into place."""

from s3sync.transfer.restore import cancel, cost, parts, request, run, space

__all__ = ["cancel", "cost", "parts", "request", "run", "space"]
