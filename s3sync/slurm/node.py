"""Provide the parts of every job on a node: the node's name, the adapted request, and a display."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from s3sync import __version__
from s3sync.errors import StateError
from s3sync.resources import usable_cores
from s3sync.slurm.job_spec import JobSpec
from s3sync.slurm.work_folder import JobKey, WorkFolder
from s3sync.text import printable
from s3sync.transfer import displays, progress
from s3sync.transfer.request import UploadRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

_PROGRESS_SECONDS = 5.0  # between two updates of a job's progress


def node_name(environ: Mapping[str, str]) -> str:
    """Return the name of this node, as Slurm knows it if possible."""
    return environ.get("SLURMD_NODENAME") or socket.gethostname()


def print_line(line: str) -> None:
    """Print a line to the job's output."""
    displays.Lines(sys.stderr).print(line)


def load_spec(folder: WorkFolder, environ: Mapping[str, str]) -> JobSpec:
    """Return the input of this job. Raises StateError if its upload is over, and the folder belongs to another one."""
    spec = folder.spec()
    if environ.get("SLURM_JOB_NAME", spec.name) != spec.name:
        raise StateError(
            f"the upload of this job is over, and {printable(str(folder.path))} belongs to another one (nothing to do)",
            id="slurm.upload-over",
        )
    return spec


def require_same_version(spec: JobSpec, environ: Mapping[str, str]) -> None:
    """Raise StateError if this node has another version of the program than the host that submitted the job."""
    if spec.version != __version__:
        raise StateError(
            f"{node_name(environ)} has s3sync {__version__} at {printable(sys.executable)}, but the upload was"
            f" submitted by {spec.version} (install the same version on all nodes)",
            id="slurm.other-version",
        )


def request_for_node(spec: JobSpec, environ: Mapping[str, str], *, share_bandwidth: bool) -> UploadRequest:
    """Return the request with the cores that this job has on its node, and with its share of the bandwidth."""
    request, options = spec.request, spec.options
    nodes = options.nodes if share_bandwidth else 1
    limit = request.max_bandwidth.split(nodes) if request.max_bandwidth else None
    given = environ.get("SLURM_CPUS_ON_NODE", "")
    cores = min(usable_cores(), int(given)) if given.isdecimal() else usable_cores()
    return replace(request, cores=options.cores or max(1, cores), max_bandwidth=limit)


class JobDisplay:
    """The display of a job: its progress goes into the work folder, its lines to Slurm's output."""

    def __init__(self, folder: WorkFolder, job: JobKey) -> None:
        self._folder = folder
        self._job = job
        self._watcher = progress.Watcher(_PROGRESS_SECONDS, self._write)
        self._snapshot: Callable[[], progress.Snapshot] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._watcher.close() and self._snapshot:
            self._write(self._snapshot())

    def follow(self, _title: str, snapshot: Callable[[], progress.Snapshot]) -> None:
        """Start to write the progress regularly. Call this once."""
        self._snapshot = snapshot
        self._write(snapshot())
        self._watcher.begin(snapshot)

    def print(self, line: str) -> None:
        """Print a line at once."""
        print_line(line)

    def _write(self, now: progress.Snapshot) -> None:
        self._folder.write_progress(self._job, now)
