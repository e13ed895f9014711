"""Make the context of an upload for tests of its parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from s3sync.aws.client import AwsCli
from s3sync.aws.destination import parse_destination
from s3sync.resources import usable_cores
from s3sync.runs.run_folder import Run
from s3sync.signals import StopRequest
from s3sync.transfer.context import UploadContext
from s3sync.transfer.displays import Lines
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.sharing import MachineShare, SharedMachine
from s3sync.transfer.slots import SlotUser


class Unheard:
    """A stream that keeps nothing."""

    def write(self, text: str, /) -> object:
        return len(text)

    def flush(self) -> None: ...


def request_to(run: Run, bucket: str = "lab-runs", log_dir: Path = Path(os.devnull), **more: Any) -> UploadRequest:
    """Return the request to upload a run, or to verify it."""
    return UploadRequest(
        local_path=run.path, destination=parse_destination(bucket, "/"), log_dir=log_dir, cores=usable_cores(), **more
    )


def context_of(aws: AwsCli, run: Run, work: Path, bucket: str = "lab-runs") -> UploadContext:
    """Return the context of an upload of this run, whose display shows nothing."""
    request = UploadRequest(
        local_path=run.path, destination=parse_destination(bucket, "/"), log_dir=work / "log", cores=2
    )
    return UploadContext(
        request=request,
        run=run,
        aws=aws,
        environ={},
        temp_folder=work,
        stop=StopRequest(),
        display=Lines(Unheard()),
        expected={},
        share=MachineShare(SharedMachine.of(request), SlotUser(), SlotUser(), SlotUser()),
    )
