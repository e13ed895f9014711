"""Hold the values that all steps of one restore share: the request, the AWS CLI, and a share of the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3sync.aws import client, objects, thaw
from s3sync.aws.client import RemoteFolder
from s3sync.state import lock
from s3sync.transfer.context import Runtime, temporary_folder
from s3sync.transfer.restore.request import RestoreRequest
from s3sync.transfer.sharing import MachineShare, SharedMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSession:
    """One restore, or its preview, on this machine."""

    request: RestoreRequest
    aws: client.AwsCli
    reader: objects.ObjectReader
    thawing: thaw.Thawing
    environ: Mapping[str, str]  # the runtime's, with the profile of the request
    temp_folder: Path  # a private folder, gone when the restore ends
    runtime: Runtime
    share: MachineShare  # the part of the machine that uploads leave
    check_lock: Callable[[], None]  # raises LeaseLostError if the lock of the run is lost


@contextlib.contextmanager
def open_session(
    request: RestoreRequest, runtime: Runtime, run_lock: lock.HeldLock | None = None
) -> Iterator[RestoreSession]:
    """Make the temporary folder and find the AWS CLI; the folder is gone afterwards. A preview needs no lock.

    The `aws` processes inherit the lock, so that the run stays locked as long as one of them lives. Raises AwsError
    without a usable CLI, StateError without a place for the folder.
    """
    environ = request.profile.applied_to(runtime.environ)
    with temporary_folder(environ, [request.target]) as (folder, folder_lock):
        descriptors = (run_lock.descriptor, folder_lock) if run_lock else (folder_lock,)
        aws = client.connect(request.settings, environ, runtime.stop, folder, descriptors)
        aws.version()
        alone = SharedMachine(request.cores, request.process_limit, request.max_bandwidth, is_shared=False)
        with (runtime.machine or alone).join(aws.processes.pids) as share:
            share.stay_behind_uploads()
            remote = RemoteFolder(aws, request.bucket, request.prefix)
            reader = objects.ObjectReader(
                remote,
                max_processes=request.cores,
                show=runtime.display.print,
                turn=share.reading_turn,
            )
            yield RestoreSession(
                request=request,
                aws=aws,
                reader=reader,
                thawing=thaw.Thawing(remote, request.cores),
                environ=environ,
                temp_folder=folder,
                runtime=runtime,
                share=share,
                check_lock=run_lock.check if run_lock else lambda: None,
            )
