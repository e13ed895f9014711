"""Staging: a folder of links, or a list for a process that can take one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3sync.runs import LocalFile, Run, local_files
from s3sync.runs.run_folder import open_run
from s3sync.transfer.batches import Batch
from s3sync.transfer.staging import staging_folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "RUN"
    (folder / "Data").mkdir(parents=True)
    for name in ("RunInfo.xml", "Data/a", "Data/b"):
        (folder / name).write_bytes(b"x")
    return open_run(folder, need_run_info=False)


def batch_of(run: Run) -> Batch:
    """All files, of which `Data/b` has changed since it was listed."""
    files = (*local_files.list_files(run).files[:2], LocalFile("Data/b", 5, 1))
    return Batch(1, tuple(file for file in files if file.path != "Data/b") + files[-1:])


def test_a_folder_has_links_to_the_files_that_have_not_changed(run: Run, tmp_path: Path) -> None:
    batch = batch_of(run)
    with staging_folder(tmp_path, run, batch) as staged:
        links = {path for path in staged.folder.rglob("*") if path.is_symlink()}
        targets = {str(path.relative_to(staged.folder)): os.readlink(path) for path in links}
        assert targets == {file.path: str(run.path / file.path) for file in batch.files[:-1]}
        assert staged.file_list is None
    assert not staged.folder.exists()


def test_a_list_names_the_files_that_have_not_changed(run: Run, tmp_path: Path) -> None:
    batch = batch_of(run)
    with staging_folder(tmp_path, run, batch, as_list=True) as staged:
        path = staged.file_list
        assert path is not None
        named, real, *paths = path.read_text().split("\0")
        assert (named, real) == (f"{staged.folder}/", f"{run.path}/")
        assert paths == [*(file.path for file in batch.files[:-1]), ""]
        assert list(staged.folder.iterdir()) == []
        assert path.stat().st_mode & 0o077 == 0
    assert not staged.folder.exists()
    assert not path.exists()
