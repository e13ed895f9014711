"""Where a batch stands ready for the CLI: a private folder of links that mirrors the files' paths in the run.

`aws s3 cp --recursive` takes a folder, and its `--include` patterns cost files x patterns and misread
names with `[`. Links cost microseconds, and nothing is ever written into the run folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from s3sync.errors import StateError
from s3sync.own_files import WORK_FOLDER
from s3sync.runs import Run, local_files, off_limits
from s3sync.state import lock
from s3sync.text import printable
from s3sync.transfer.batches import Batch


@contextlib.contextmanager
def work_folder(environ: Mapping[str, str], outside: Iterable[Path] = ()) -> Iterator[tuple[Path, int]]:
    """A private folder for this upload, and the descriptor that keeps it locked; both gone afterwards. It is in none
    of the folders `outside` which it has to be, nor in any run: it holds what is a secret.

    Children inherit the descriptor, so what a killed upload left is swept away by the next one only
    when its last `aws` has ended. Raises StateError.
    """
    parent = off_limits.choose_temp_dir(environ, outside) / f"{WORK_FOLDER}{os.geteuid()}"
    try:
        folder, descriptor = _create_locked_folder(parent)
    except OSError as error:
        where = f"a work folder in {printable(str(parent))}"
        raise StateError(f"cannot make {where}: {error.strerror} (set TMPDIR)") from error
    try:
        yield folder, descriptor
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            parent.rmdir()  # the last one turns off the light


@contextlib.contextmanager
def staging_folder(work: Path, run: Run, batch: Batch) -> Iterator[Path]:
    """The batch as a folder of links while inside, without files that are not as planned any more.

    Those would be sent in vain, or be links out of the run by now. Raises StateError.
    """
    folder = work / f"batch-{batch.number:06}"
    try:
        _link_all(folder, run, batch)
    except OSError as error:
        raise StateError(f"cannot stage files in {printable(str(work))}: {error.strerror} (set TMPDIR)") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link_all(folder: Path, run: Run, batch: Batch) -> None:
    made: set[str] = set()
    folder.mkdir(mode=0o700)
    now = local_files.restat_all(run, (file.path for file in batch.files))
    for file in batch.files:
        if now[file.path] != file:
            continue
        link = os.path.join(folder, file.path)
        parent = os.path.dirname(link)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        os.symlink(os.path.join(run.path, file.path), link)


def _create_locked_folder(parent: Path) -> tuple[Path, int]:
    """Make and lock a folder in `parent`; again if another upload's end or sweep came in between. Raises OSError."""
    while True:
        _make_parent(parent)
        _sweep(parent)
        with contextlib.suppress(FileNotFoundError):
            folder = Path(tempfile.mkdtemp(dir=parent))
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if lock.try_lock(descriptor) and os.path.exists(folder):
                return folder, descriptor
            os.close(descriptor)


def _make_parent(parent: Path) -> None:
    """Its place is in a folder where others may write, too: it has to be this user's own, and private."""
    parent.mkdir(mode=0o700, exist_ok=True)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(errno.EPERM, "it is there already, and not this user's private folder")


def _sweep(parent: Path) -> None:
    """Remove the work folders that nobody holds any more: their uploads were killed."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if lock.try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
