"""Files: replaced whole, private, read up to a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s3sync import files


def test_replace_makes_and_replaces_private_files(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    for content in (b"old", b"", b"new" * 100_000):
        files.atomic_write(path, content)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["log.json"]


def test_replace_makes_a_public_file_private(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.touch()
    path.chmod(0o644)
    files.atomic_write(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_replace_gives_a_new_file_and_leaves_the_old_one_whole(tmp_path: Path) -> None:
    """A reader of the old one can read it to its end."""
    path = tmp_path / "log.json"
    path.write_bytes(b"old")
    with path.open("rb") as stream:
        files.atomic_write(path, b"new")
        assert stream.read() == b"old"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / ".tmp").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic links"):
        files.atomic_write(tmp_path / "log.json", b"new", tmp_path / ".tmp")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("does", ["replace", "check_writable"])
def test_processes_of_two_hosts_with_the_same_id_write_a_file_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    """As in containers: the other one writes all of it between this one's write and its rename."""
    path = tmp_path / "notified.json"
    write_synced = files.write_synced

    def interrupted(temporary: Path, content: bytes) -> None:
        write_synced(temporary, content)
        monkeypatch.setattr(files, "write_synced", write_synced)
        files.atomic_write(path, b"theirs")

    monkeypatch.setattr(files, "write_synced", interrupted)
    if does == "replace":
        files.atomic_write(path, b"ours")
    else:
        files.check_writable(path)
    assert path.read_bytes() == (b"ours" if does == "replace" else b"theirs")
    assert os.listdir(tmp_path) == ["notified.json"]


def test_a_temporary_file_has_a_name_that_every_file_system_takes(tmp_path: Path) -> None:
    """However long the file's own name is."""
    path = tmp_path / ("\N{SNOWMAN}" * 85)
    files.atomic_write(path, b"content")
    assert [path] == list(tmp_path.iterdir())


def test_private_folders_leave_what_is_there_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    files.make_private_folder(tmp_path / "shared" / "a" / "b")
    files.make_private_folder(tmp_path / "shared" / "a" / "b")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("shared", "shared/a", "shared/a/b")]
    assert modes == [0o755, 0o700, 0o700]


def test_small_files_are_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_limited(path, 5) == b"12345"
    assert files.read_limited(path, 3) == b"1234", "one more, so that the caller sees that it is larger"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="it is not a regular file"):
            files.read_limited(other, 5)


def test_json_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    files.write_json(path, {"version": 1, "names": ["a", "\u00e9"]})
    assert files.read_json(path) == {"version": 1, "names": ["a", "\u00e9"]}
    assert path.read_bytes().isascii()
    for content in (b"", b"{", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"line|deeply"):
            files.read_json(path)


@pytest.mark.parametrize("has_nameless_files", [True, False])
def test_a_trial_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_nameless_files: bool) -> None:
    if not has_nameless_files:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # opening a folder for writing fails, as on NFS
    with files.trial_file(tmp_path / "missing" / "folder") as descriptor:
        assert os.fstat(descriptor).st_size > 0
        assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
        assert os.listdir(tmp_path) == []
    assert os.listdir(tmp_path) == []
