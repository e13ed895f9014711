"""Stage a batch for the CLI: a private folder of links that mirrors the paths of the files in the run.

`aws s3 cp --recursive` takes a folder. Its `--include` patterns cost files x patterns, and misread names with `[`.
Links cost microseconds, and nothing is ever written into the run folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from s3sync.errors import StateError
from s3sync.runs import Run, local_files
from s3sync.text import printable
from s3sync.transfer.batches import Batch


@contextlib.contextmanager
def staging_folder(work: Path, run: Run, batch: Batch) -> Iterator[Path]:
    """Make a folder of links to the files of a batch; it is gone afterwards. Raises StateError.

    Files that have changed since they were listed are left out: they would have to be sent again, or may be links out
    of the run now.
    """
    folder = work / f"batch-{batch.number:06}"
    try:
        _link_all(folder, run, batch)
    except OSError as error:
        raise StateError(
            f"cannot stage files in {printable(str(work))}: {error.strerror} (set TMPDIR)", id="state.no-staging"
        ) from error
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
