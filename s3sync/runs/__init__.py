"""Read a run folder as its instrument wrote it."""

from s3sync.runs import (
    analysis,
    analysis_manifest,
    completion,
    local_files,
    off_limits,
    readiness,
    run_folder,
    samplesheet,
)
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run

__all__ = [
    "LocalFile",
    "Run",
    "analysis",
    "analysis_manifest",
    "completion",
    "local_files",
    "off_limits",
    "readiness",
    "run_folder",
    "samplesheet",
]
