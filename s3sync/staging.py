"""Where a batch stands ready for the CLI: a private folder of links that mirrors the files' paths in the run.

`aws s3 cp --recursive` takes a folder, and its `--include` patterns cost files x patterns and misread
names with `[`. Links cost microseconds, and nothing is ever written into the run folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from s3sync.errors import StateError
from s3sync.lock import try_lock
from s3sync.plan import Batch
from s3sync.text import printable

_PREFIX = "s3sync-"


@contextlib.contextmanager
def work_folder() -> Iterator[tuple[Path, int]]:
    """A private folder for this upload, and the descriptor that keeps it locked; both gone afterwards.

    Children inherit the descriptor, so what a killed upload left is swept away by the next one only
    when its last `aws` has ended. Raises StateError.
    """
    try:
        _sweep()
        folder, descriptor = _make()
    except OSError as error:
        where = printable(tempfile.gettempdir())
        raise StateError(f"cannot make a work folder in {where}: {error.strerror} (set TMPDIR)") from error
    try:
        yield folder, descriptor
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextlib.contextmanager
def staged(work: Path, run_path: Path, batch: Batch) -> Iterator[Path]:
    """The batch as a folder of links while inside; raises StateError."""
    folder = work / f"batch-{batch.number:06}"
    try:
        _link_all(folder, run_path, batch)
    except OSError as error:
        raise StateError(f"cannot stage files in {printable(str(work))}: {error.strerror} (set TMPDIR)") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _link_all(folder: Path, run_path: Path, batch: Batch) -> None:
    made: set[str] = set()
    folder.mkdir(mode=0o700)
    for file in batch.files:
        link = os.path.join(folder, file.path)
        parent = os.path.dirname(link)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        os.symlink(os.path.join(run_path, file.path), link)


def _make() -> tuple[Path, int]:
    """Make and lock; again if another upload's sweep came between the two."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if try_lock(descriptor) and os.path.exists(folder):
                return folder, descriptor
            os.close(descriptor)


def _sweep() -> None:
    """Remove this user's work folders that nobody holds any more."""
    for entry in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = entry.lstat()
            if status.st_uid != os.geteuid():
                continue
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(descriptor)
