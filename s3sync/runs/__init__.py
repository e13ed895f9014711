"""Read a run folder as its instrument wrote it."""

from s3sync.runs import analysis, analysis_manifest, completion, off_limits, readiness, run_folder, samplesheet
from s3sync.runs.run_folder import Listing, LocalFile, Run

__all__ = [
    "Listing",
    "LocalFile",
    "Run",
    "analysis",
    "analysis_manifest",
    "completion",
    "off_limits",
    "readiness",
    "run_folder",
    "samplesheet",
]
