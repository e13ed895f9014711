"""Address the objects below one prefix of a bucket."""

from __future__ import annotations

from typing import NamedTuple

from s3sync.aws.client import AwsCli
from s3sync.aws.destination import BucketRef


class RemoteFolder(NamedTuple):
    """The objects below one prefix of a bucket, and the AWS CLI that reaches them. The prefix ends in a slash."""

    aws: AwsCli
    bucket: BucketRef
    prefix: str

    def key(self, path: str) -> str:
        """Return the key of the object at a path below the prefix."""
        return self.prefix + path

    def url(self, path: str) -> str:
        """Return the URL of the object at a path below the prefix."""
        return f"{self.bucket.url}/{self.key(path)}"
