"""Locks on files, inside one process."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from s3sync.errors import BusyError, StateError
from s3sync.state import lock
from tests.helpers.errors import raises_error


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "locks" / "RUN.lock"


def is_free(path: Path) -> bool:
    with path.open() as stream:
        return lock.try_lock(stream.fileno())


def test_a_lock_is_held_inside_and_free_afterwards(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN") as held:
        assert not is_free(lock_path)
        assert fcntl.fcntl(held.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        with pytest.raises(BusyError), lock.hold(lock_path, "RUN"):
            pass
        assert not is_free(lock_path)
    assert is_free(lock_path)


def test_a_lock_is_free_after_an_error_inside(lock_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.hold(lock_path, "RUN"):
        raise ZeroDivisionError
    assert is_free(lock_path)


@pytest.mark.parametrize("content", [b"", b"process 1 on elsewhere since 2020\n", b"\xff\0\x1b[31m" * 100])
def test_a_stale_file_locks_nothing(lock_path: Path, content: bytes) -> None:
    lock_path.parent.mkdir(parents=True)
    lock_path.write_bytes(content)
    with lock.hold(lock_path, "RUN"):
        assert lock_path.read_text().startswith(f"process {os.getpid()} on ")
        assert lock_path.read_text().count("\n") == 1


@pytest.mark.parametrize(("content", "holder"), [(b"", "by another process"), (b"\x1b[31m\xff", r"by \x1b[31m")])
def test_a_lock_without_an_owner_is_busy_too(lock_path: Path, content: bytes, holder: str) -> None:
    lock_path.parent.mkdir(parents=True)
    lock_path.write_bytes(content)
    with lock_path.open() as stream:
        assert lock.try_lock(stream.fileno())
        with raises_error(BusyError, "lock.busy", holder) as caught, lock.hold(lock_path, "RUN"):
            pass
    assert str(caught.value).isprintable()
    assert lock_path.read_bytes() == content


def test_lock_files_are_private(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN"):
        assert stat.S_IMODE(lock_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(lock_path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("obstacle", ["a link", "a folder", "a file above"])
def test_a_lock_that_cannot_be_made_is_a_clear_error(lock_path: Path, obstacle: str) -> None:
    elsewhere = lock_path.parents[2] / "elsewhere"
    elsewhere.write_text("precious")
    if obstacle == "a file above":
        lock_path.parents[1].touch()
    else:
        lock_path.parent.mkdir(parents=True)
        lock_path.symlink_to(elsewhere) if obstacle == "a link" else lock_path.mkdir()
    with raises_error(StateError, "lock.cannot-lock", "--log-dir"), lock.hold(lock_path, "RUN"):
        pass
    assert elsewhere.read_text() == "precious"
