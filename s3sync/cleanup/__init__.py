"""Delete local runs that S3 provably has."""

from s3sync.cleanup.candidates import CleanupCandidate, CleanupPlan, plan_cleanup
from s3sync.cleanup.context import CleanupContext
from s3sync.cleanup.result import CleanupResult, RunResult, describe_kept
from s3sync.cleanup.worker import clean

__all__ = [
    "CleanupCandidate",
    "CleanupContext",
    "CleanupPlan",
    "CleanupResult",
    "RunResult",
    "clean",
    "describe_kept",
    "plan_cleanup",
]
