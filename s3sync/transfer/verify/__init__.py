"""Compare one run with S3, and find what would keep it from being restored."""

from s3sync.transfer.verify import restorable
from s3sync.transfer.verify.run import verify
from s3sync.transfer.verify.verification import Verification, find_other_uploads

__all__ = ["Verification", "find_other_uploads", "restorable", "verify"]
