"""The private folder of a restore, and how files get from there into the run folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from s3sync.aws.destination import parse_destination
from s3sync.errors import StateError
from s3sync.transfer.restore.finish import set_folder_times
from s3sync.transfer.restore.place import PrivateFolder
from s3sync.transfer.restore.request import RestoreRequest


def folder_of(tmp_path: Path, name: str = "RUN") -> PrivateFolder:
    destination = parse_destination("lab-runs", "/")
    target = tmp_path / name
    folder = PrivateFolder(
        RestoreRequest(run_id=name, destination=destination, target=target, log_dir=tmp_path / "log", cores=1)
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
    set_folder_times(tmp_path, {"": 1, "Logs": 1, "Logs/empty": 1}, [], 0o755)
    assert (tmp_path / "Logs" / "empty").is_dir()


@pytest.mark.parametrize("name", ["ラ" * 85, "é" * 127, "r" * 255])
def test_a_run_with_the_longest_name(tmp_path: Path, name: str) -> None:
    folder = folder_of(tmp_path, name)
    folder.close()
    assert folder.ready.is_dir()


def test_keys_whose_names_are_the_same_on_disk_are_never_one_file(tmp_path: Path) -> None:
    """On a file system that ignores case: `A` was accepted, and `a` arrives; or `a` was verified by the file of `A`."""
    folder = folder_of(tmp_path)
    (folder.arrivals / "a").write_text("of A")
    assert folder.accept("a", -1) == ""
    (folder.arrivals / "a").write_text("of a")
    assert "the same name on this file system" in folder.accept("a", -1)
    assert "the same name on this file system" in folder.accept("b", -1)
    folder.close()
    assert (folder.ready / "a").read_text() == "of A"


def with_status(monkeypatch: pytest.MonkeyPatch, name: str, **fields: int) -> None:
    """A file system that tells this of files, as CIFS does with the options of its mount."""
    real = getattr(os, name)

    def changed(*argv: Any, **options: Any) -> os.stat_result:
        status = list(real(*argv, **options))
        status[0] |= fields.get("mode", 0)
        status[4] = fields.get("uid", status[4])
        return os.stat_result(status)

    monkeypatch.setattr(os, name, changed)


@pytest.mark.parametrize("fields", [{"mode": 0o055}, {"uid": 4711}, {"uid": 4711, "mode": 0o055}])
def test_a_file_system_that_gives_all_files_one_owner_and_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, int]
) -> None:
    with_status(monkeypatch, "lstat", **fields)
    command = "sudo chown -R" if "uid" in fields else "chmod 700"
    with pytest.raises(StateError, match=f"not this user's private folder: .*`{command} "):
        folder_of(tmp_path)  # somebody else's, or open to others: a new file here has another owner or mode
    with_status(monkeypatch, "fstat", **fields)
    folder_of(tmp_path).close()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_restored_run_belongs_to_the_group_of_its_directory(tmp_path: Path, is_new: bool) -> None:
    """Labs set this bit, so that what each user writes there is for the whole group."""
    tmp_path.chmod(0o2755)
    folder = folder_of(tmp_path)
    for parent in (folder.arrivals, folder.ready):
        (parent / "Data").mkdir()
    (folder.arrivals / "Data" / "1.cbcl").write_text("1")
    assert folder.accept("Data/1.cbcl", -1) == ""
    if is_new:
        assert folder.become_target()
    else:
        assert dict(folder.add_to_target(["Data/1.cbcl"])) == {}
    folder.close()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder.target, *folder.target.rglob("*"))}
    assert modes == {"RUN": 0o2755, "Data": 0o2755, "1.cbcl": 0o644}
