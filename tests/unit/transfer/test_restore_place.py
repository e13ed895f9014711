"""The private folder of a restore, and how files get from there into the run folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.destination import parse_destination
from s3sync.transfer.restore.finish import set_folder_times
from s3sync.transfer.restore.place import PrivateFolder
from s3sync.transfer.restore.request import RestoreRequest


def folder_of(tmp_path: Path) -> PrivateFolder:
    destination = parse_destination("lab-runs", "/")
    target = tmp_path / "RUN"
    folder = PrivateFolder(
        RestoreRequest(run_id="RUN", destination=destination, target=target, log_dir=tmp_path / "log", cores=1)
    )
    folder.prepare()
    return folder


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV])
def test_a_file_system_without_links_between_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_argv: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    folder = folder_of(tmp_path)
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / "other").write_text("the user's")
    (folder.ready / "new").write_text("1")
    (folder.ready / "other").write_text("2")
    failed = dict(folder.add_to_target(["new", "other"]))
    folder.close()
    assert failed.keys() == {"other"}
    assert (tmp_path / "RUN" / "new").read_text() == "1"
    assert (tmp_path / "RUN" / "other").read_text() == "the user's"


def test_folders_of_another_user_keep_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their group may write into them, and only their owner sets their times."""

    def refuse(*_argv: Any, **_options: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", refuse)
    set_folder_times(tmp_path, {"": 1, "Logs": 1, "Logs/empty": 1}, [])
    assert (tmp_path / "Logs" / "empty").is_dir()
