"""Where the config file is if nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.config import default_path, search_path, search_paths


def test_the_users_config_comes_before_that_of_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_all, own = tmp_path / "etc.yaml", tmp_path / ".config" / "s3sync.yaml"
    monkeypatch.setattr(search_path, "FOR_ALL_USERS", of_all)
    environ = {"HOME": str(tmp_path)}
    assert search_paths(environ) == (own, of_all)
    assert default_path(environ) is None
    of_all.touch()
    assert default_path(environ) == of_all
    own.parent.mkdir()
    own.touch()
    assert default_path(environ) == own


def test_the_variable_names_the_only_config_even_one_that_is_missing(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "S3SYNC_CONFIG": "/elsewhere/c.yaml"}
    assert search_paths(environ) == (Path("/elsewhere/c.yaml"),)
    assert default_path(environ) == Path("/elsewhere/c.yaml")


def test_xdg_config_home_is_respected(tmp_path: Path) -> None:
    assert search_paths({"XDG_CONFIG_HOME": str(tmp_path)})[0] == tmp_path / "s3sync.yaml"
