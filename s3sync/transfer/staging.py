"""Stage a batch for the CLI: a private folder of links that mirrors the paths of the files in the run, or a list.

`aws s3 cp --recursive` takes a folder. Its `--include` patterns cost files x patterns, and misread names with `[`.
Nothing is ever written into the run folder. With our plugin the CLI can read a list of files instead, which costs a
tenth.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync import files
from s3sync.errors import explained
from s3sync.runs import Run, local_files
from s3sync.transfer.batches import Batch


class Staged(NamedTuple):
    """The folder to upload, and the list of its files; None if the folder has links to them."""

    folder: Path
    file_list: Path | None


@contextlib.contextmanager
def staging_folder(work: Path, run: Run, batch: Batch, *, as_list: bool = False) -> Iterator[Staged]:
    """Stage the files of a batch for the time of the `with`. Raises StateError.

    Files that changed since they were listed are left out: they would be sent again anyway, or may now be links out of
    the run.
    """
    folder = work / f"batch-{batch.number:06}"
    with explained("stage files in", work, "set TMPDIR", id="state.no-staging"):
        folder.mkdir(mode=0o700)
        paths = _unchanged(run, batch)
        staged = _write_list(folder, run, paths) if as_list else _link_all(folder, run, paths)
    try:
        yield staged
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unchanged(run: Run, batch: Batch) -> list[str]:
    now = local_files.restat_all(run, (file.path for file in batch.files))
    return [file.path for file in batch.files if now[file.path] == file]


def _write_list(folder: Path, run: Run, paths: list[str]) -> Staged:
    staged = Staged(folder / "empty", folder / "list")
    staged.folder.mkdir()
    parts = (f"{staged.folder}/", os.path.join(run.path, ""), *paths)
    files.create_private(folder / "list", b"".join(os.fsencode(part) + b"\0" for part in parts))
    return staged


def _link_all(folder: Path, run: Run, paths: list[str]) -> Staged:
    made: set[str] = set()
    for path in paths:
        link = os.path.join(folder, path)
        parent = os.path.dirname(link)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        os.symlink(os.path.join(run.path, path), link)
    return Staged(folder, None)
