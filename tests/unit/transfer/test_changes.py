"""What counts as a change of a run that was uploaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from s3sync.aws.destination import Destination
from s3sync.runs import local_files
from s3sync.runs.run_folder import Run, open_run
from s3sync.state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.text import now_iso
from s3sync.transfer.changes import Change, ChangeWatch


@pytest.fixture
def store(tmp_path: Path, tiny_run: Path) -> StateStore:
    """Return the log of a run that was uploaded as it is."""
    run = open_run(tiny_run)
    made = StateStore(tmp_path / "log", run, Destination("lab-runs", ""))
    files = local_files.list_files(run).files
    verified = {file.path: Proof.of(file, "etag", "etag") for file in files}
    made.prepare()
    made.save(
        replace(RunState.of(run), completed=True, finished=now_iso(), verified=verified, total_local_files=len(files))
    )
    return made


def look(store: StateStore, run: Run) -> Change | None:
    head = store.head()
    assert head
    return ChangeWatch(store.log_path.parent.parent, 30, scanning=True).find_change(run, store, head, (), lambda: run)


def test_a_new_file_is_a_change_even_if_it_cannot_be_uploaded(store: StateStore, tiny_run: Path) -> None:
    run = open_run(tiny_run)
    assert look(store, run) is None
    (tiny_run / "Data" / "out").symlink_to("/etc/passwd")
    found = look(store, run)
    assert found
    assert (found.files, found.named) == (1, ("Data/out",))
    (tiny_run / "Data" / "new.cbcl").write_text("new")
    found = look(store, run)
    assert found
    assert (found.files, found.named) == (2, ("Data/new.cbcl", "Data/out"))
