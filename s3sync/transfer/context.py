"""Hold the values that a call gets from the program around it, and those that all steps of one upload share."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync.aws import client, objects
from s3sync.aws.client import RemoteFolder
from s3sync.errors import explained
from s3sync.files import opened
from s3sync.own_files import TEMP_FOLDER
from s3sync.runs import Run, analysis_manifest, off_limits
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.text import printable
from s3sync.transfer.displays import Display
from s3sync.transfer.request import UploadRequest, describe_target
from s3sync.transfer.sharing import MachineShare, SharedMachine


@dataclass(frozen=True, slots=True)
class Runtime:
    """The environment variables, stop request and display of a call, and the machine if other uploads share it."""

    environ: Mapping[str, str]
    stop: StopRequest
    display: Display
    machine: SharedMachine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadContext:
    """One upload or comparison on this machine. `expected` are the CRC-32 that the instrument took, by path."""

    request: UploadRequest
    run: Run
    aws: client.AwsCli
    environ: Mapping[str, str]
    temp_folder: Path  # a private folder, gone when the upload ends
    stop: StopRequest
    display: Display
    expected: analysis_manifest.Checksums
    share: MachineShare  # the part of the machine that this upload may use

    @property
    def url(self) -> str:
        """Return the URL of the run in S3, for people."""
        return printable(self.request.destination.url(self.run.run_id))

    @property
    def remote(self) -> RemoteFolder:
        """Return the folder of the run in S3."""
        return RemoteFolder(self.aws, self.request.bucket, self.request.destination.run_prefix(self.run.run_id))

    @property
    def target(self) -> str:
        """Return the run and where it goes, for people."""
        return describe_target(self.run, self.request.destination)

    def make_reader(self) -> objects.ObjectReader:
        """Return a reader of the run's objects."""
        request = self.request
        return objects.ObjectReader(
            self.remote, request.readback, request.cores, show=self.display.print, turn=self.share.reading_turn
        )


@contextlib.contextmanager
def open_context(
    request: UploadRequest,
    run: Run,
    runtime: Runtime,
    *,
    expected: analysis_manifest.Checksums | None = None,
    inherited: Sequence[int] = (),
) -> Iterator[UploadContext]:
    """Make the temporary folder and find the AWS CLI; the folder is gone afterwards.

    The `aws` processes inherit these descriptors, so that what they lock stays locked as long as one of them lives.
    Raises AwsError without a usable CLI, StateError without a place for the folder.
    """
    environ = request.profile.applied_to(runtime.environ)
    with temporary_folder(environ, [run.root]) as (folder, folder_lock):
        aws = client.connect(request.settings, environ, runtime.stop, folder, (*inherited, folder_lock))
        machine = runtime.machine or SharedMachine.of(request)
        with contextlib.closing(aws), machine.join(aws.processes.pids) as share:
            yield UploadContext(
                request=request,
                run=run,
                aws=aws,
                environ=environ,
                temp_folder=folder,
                stop=runtime.stop,
                display=runtime.display,
                expected=expected or {},
                share=share,
            )


@contextlib.contextmanager
def temporary_folder(environ: Mapping[str, str], outside: Iterable[Path] = ()) -> Iterator[tuple[Path, int]]:
    """Make a private folder, and yield it with the descriptor that keeps it locked; it is gone afterwards.

    It holds secrets, so it is in no run, and in none of the folders `outside`. Child processes inherit the descriptor:
    the next upload removes the folder of a killed one once its last `aws` has ended. Raises StateError.
    """
    parent = off_limits.choose_temp_dir(environ, outside) / f"{TEMP_FOLDER}{os.geteuid()}"
    with explained("make a temporary folder in", parent, "set TMPDIR", id="state.no-work-folder"):
        folder, descriptor = _create_locked_folder(parent)
    try:
        yield folder, descriptor
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            parent.rmdir()  # fails while another upload uses it


def _create_locked_folder(parent: Path) -> tuple[Path, int]:
    """Make and lock a folder in `parent`; retry if another upload that ended removed `parent`. Raises OSError."""
    while True:
        try:
            _make_parent(parent)
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(dir=parent))
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not parent.parent.is_dir():
                raise
            continue
        if lock.try_lock(descriptor) and os.path.exists(folder):
            return folder, descriptor
        os.close(descriptor)


def _make_parent(parent: Path) -> None:
    """Make the folder, or accept one that is private to this user, since others may write next to it."""
    with contextlib.suppress(FileExistsError):  # `exist_ok` would fail if the folder is removed meanwhile
        parent.mkdir(mode=0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it exists, and is not this user's private folder")


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders that no process has locked: their uploads were killed."""
    for folder in parent.iterdir():
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with contextlib.suppress(OSError), opened(folder, flags) as descriptor:
            if lock.try_lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
