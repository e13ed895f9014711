"""Delete local runs that S3 provably has."""

from s3sync.cleanup import candidates, worker

__all__ = ["candidates", "worker"]
