"""Errors say what to do, and have ids."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3sync.errors import StateError, advice_for, explained


def test_an_os_error_is_explained_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(StateError, match=r"cannot read .*/absent: No such file or directory \(make it\)") as caught,
        explained("read", tmp_path / "absent", "make it", id="state.absent"),
    ):
        (tmp_path / "absent").read_bytes()
    assert caught.value.id == "state.absent"


@pytest.mark.parametrize(
    ("number", "limit"),
    [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "ulimit -n"), (errno.EFBIG, "ulimit -f"), (errno.EIO, "move it")],
)
def test_a_limit_is_not_blamed_on_the_folder(tmp_path: Path, number: int, limit: str) -> None:
    with pytest.raises(StateError) as caught, explained("write", tmp_path, "move it", id="state.absent"):
        raise OSError(number, os.strerror(number), str(tmp_path))
    assert limit in str(caught.value)
    assert ("move it" in str(caught.value)) == (limit == "move it")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("advice", "expected"), [("move it", "(make room, or move it)"), ("make room there", "(make room there)")]
)
def test_a_full_disk_needs_room(tmp_path: Path, number: int, advice: str, expected: str) -> None:
    with pytest.raises(StateError) as caught, explained("write", tmp_path, advice, id="state.absent"):
        raise OSError(number, os.strerror(number), str(tmp_path))
    assert str(caught.value).endswith(expected)


@pytest.mark.parametrize(
    ("mode", "owner", "advice"), [(0o000, 0, "chmod"), (0o400, 0, "chmod"), (0o600, 0, "ask"), (0o000, 1, "ask")]
)
def test_a_file_of_this_user_that_is_closed_to_its_owner_needs_chmod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, advice: str
) -> None:
    path = tmp_path / "a lock"
    path.touch(mode)
    path.chmod(mode)
    uid = os.geteuid() + owner
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    chmod = f"`chmod u+rw '{path}'`"
    assert advice_for(PermissionError(errno.EACCES, "", str(path)), "ask") == (chmod if advice == "chmod" else "ask")
