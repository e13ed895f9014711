"""What all steps of one upload share, as one value: the request, the run, the AWS CLI, and where they run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync.aws import client, objects
from s3sync.runs import Run, analysis_manifest
from s3sync.signals import StopRequest
from s3sync.text import printable
from s3sync.transfer.progress import Display
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.staging import work_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadContext:
    """One upload or comparison on this machine. `expected` are the CRC-32 that the instrument took, by path."""

    request: UploadRequest
    run: Run
    aws: client.AwsCli
    environ: Mapping[str, str]
    work: Path  # a private folder, gone when the upload ends
    stop: StopRequest
    display: Display
    expected: analysis_manifest.Checksums

    @property
    def url(self) -> str:
        """Return the run's place in S3, for people."""
        return printable(self.request.destination.url(self.run.run_id))

    def make_reader(self) -> objects.ObjectReader:
        """Return a reader of the run's objects."""
        request = self.request
        return objects.ObjectReader(
            self.aws,
            request.bucket,
            request.destination.run_prefix(self.run.run_id),
            request.readback,
            request.cores,
            say=self.display.say,
        )


@contextlib.contextmanager
def open_context(
    request: UploadRequest,
    run: Run,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    *,
    expected: analysis_manifest.Checksums | None = None,
    inherited: Sequence[int] = (),
) -> Iterator[UploadContext]:
    """Make the work folder and find the AWS CLI; the folder is gone afterwards.

    The `aws` processes inherit these descriptors, so that what they lock stays locked as long as one of them lives.
    Raises AwsError without a usable CLI, StateError without a place for the folder.
    """
    with work_folder(environ, [run.root]) as (work, work_lock):
        descriptors = (*inherited, work_lock)
        aws = client.connect(
            request.aws_command, request.settings, environ, stop, work, descriptors, request.stall_seconds
        )
        yield UploadContext(
            request=request,
            run=run,
            aws=aws,
            environ=environ,
            work=work,
            stop=stop,
            display=display,
            expected=expected or {},
        )
