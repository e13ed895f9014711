"""Spread an upload over a Slurm cluster."""

from s3sync.slurm import broken_nodes, check, client, coordinator, finalizer, job_status, task, work_folder
from s3sync.slurm.executor import Collector

__all__ = [
    "Collector",
    "broken_nodes",
    "check",
    "client",
    "coordinator",
    "finalizer",
    "job_status",
    "task",
    "work_folder",
]
