"""Upload one run and its analyses: here, or by an executor that takes over the files."""

from s3sync.transfer.upload.analyses import upload_analyses
from s3sync.transfer.upload.completion_hook import run_hook_if_due
from s3sync.transfer.upload.handover import Handover
from s3sync.transfer.upload.inspection import inspect_run, require_claim
from s3sync.transfer.upload.run import preview, upload

__all__ = [
    "Handover",
    "inspect_run",
    "preview",
    "require_claim",
    "run_hook_if_due",
    "upload",
    "upload_analyses",
]
