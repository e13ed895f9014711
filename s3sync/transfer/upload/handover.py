"""Define how an executor, such as a cluster, uploads files in place of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from s3sync.runs import LocalFile, Run
from s3sync.signals import StopRequest
from s3sync.state import RunState, StateStore
from s3sync.transfer.request import FileTotals, UploadRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The upload that an executor takes over.

    `manifest` is Manifest.tsv as it was when the files were listed. `amount` counts all files of the run, `verified`
    those that are verified already, `sent` those that earlier calls sent in `seconds`. If `resumed`, S3 may have files
    that are not verified.
    """

    request: UploadRequest
    submitted: str
    resumed: bool
    manifest: LocalFile | None
    amount: FileTotals
    verified: FileTotals
    sent: FileTotals
    seconds: float


class Executor(Protocol):
    """Uploads the files of a run in place of this machine, as a cluster does. All methods raise S3SyncError."""

    @property
    def is_finalizer(self) -> bool:
        """Return whether this call is the executor's own last step, which leaves the user's command to its caller."""

    @property
    def submits(self) -> bool:
        """Return whether it takes the files of this call, or only returns what it uploaded for earlier ones."""

    def describe_progress(self, request: UploadRequest, store: StateStore) -> str:
        """Return how far its upload of this run is, for people; empty if it has none."""

    def collect(
        self, request: UploadRequest, run: Run, store: StateStore, state: RunState | None, stop: StopRequest
    ) -> RunState | None:
        """Return the state with what it has uploaded; raises BusyError while it continues."""

    def submit(self, handover: Handover, files: Sequence[LocalFile]) -> None:
        """Take over these files; raises SlurmError or StateError if it takes none."""


def with_absolute_paths(request: UploadRequest, run_path: Path) -> UploadRequest:
    """Return the request in terms that mean the same in another working directory."""
    command = request.aws_command
    if command and "/" in command:
        command = os.path.abspath(command)
    return replace(request, local_path=run_path, log_dir=Path(os.path.abspath(request.log_dir)), aws_command=command)
