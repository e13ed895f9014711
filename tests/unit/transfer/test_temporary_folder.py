"""The private folder of an upload, beside uploads that begin and end at the same time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from s3sync.errors import StateError
from s3sync.transfer import context


@pytest.mark.parametrize("step", ["_make_parent", "_remove_abandoned"])
def test_a_folder_that_the_end_of_another_upload_removes_meanwhile_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    original: Callable[[Path], None] = getattr(context, step)
    removals = iter([True, False])

    def remove_first(parent: Path) -> None:
        if next(removals):
            parent.rmdir()
        original(parent)

    def remove_after_mkdir(self: Path, *_arguments: object, **_options: object) -> None:
        made(self, 0o700)
        if next(removals):
            self.rmdir()

    made = Path.mkdir
    if step == "_make_parent":
        monkeypatch.setattr(Path, "mkdir", remove_after_mkdir)
    else:
        monkeypatch.setattr(context, step, remove_first)
    with context.temporary_folder({"TMPDIR": str(tmp_path)}) as (folder, _):
        assert folder.is_dir()


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    with context.temporary_folder({"TMPDIR": str(tmp_path)}) as (folder, _):
        place = folder.parent
    place.write_text("")
    with pytest.raises(StateError), context.temporary_folder({"TMPDIR": str(tmp_path)}):
        pass
