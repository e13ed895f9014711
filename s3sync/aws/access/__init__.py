"""Find out what these credentials may do, without changing anything."""

from s3sync.aws.access.check import AccessQuery, CheckResult, UploadTarget, WriteProbe, check_access
from s3sync.aws.access.restoring import Obstacle, RestoreAccess

__all__ = [
    "AccessQuery",
    "CheckResult",
    "Obstacle",
    "RestoreAccess",
    "UploadTarget",
    "WriteProbe",
    "check_access",
]
