"""Errors say what to do, and have ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.errors import StateError, explained


def test_an_os_error_is_explained_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(StateError, match=r"cannot read .*/absent: No such file or directory \(make it\)") as caught,
        explained("read", tmp_path / "absent", "make it", id="state.absent"),
    ):
        (tmp_path / "absent").read_bytes()
    assert caught.value.id == "state.absent"
