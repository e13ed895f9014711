"""Runs whose upload was begun, and whose folder is gone or out of sight: only their logs are left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from s3sync.aws.destination import Destination
from s3sync.config import Config, load_config
from s3sync.inventory.missing import lost_runs
from s3sync.runs.run_folder import open_run
from s3sync.state import RunState
from s3sync.state.store import StateStore


def config_of(tmp_path: Path, watched: Path) -> Config:
    path = tmp_path / "config.json"
    entry = {"monitored_directories": [str(watched)], "bucket": "lab-runs", "remote_path": "/"}
    path.write_text(json.dumps({"log_dir": str(tmp_path / "log"), "monitor": [entry]}))
    path.chmod(0o600)
    return load_config(path, {})


@pytest.fixture
def begun(tmp_path: Path, tiny_run: Path) -> Path:
    """Return a run whose upload has begun."""
    run = open_run(tiny_run)
    store = StateStore(tmp_path / "log", run, Destination("lab-runs", ""))
    store.prepare()
    store.begin(RunState.of(run))
    store.close()
    return tiny_run


def lost(config: Config) -> list[tuple[str, str]]:
    return [(run.state, run.id) for run in lost_runs(config, ())]


def test_a_run_that_is_there_is_not_lost(tmp_path: Path, begun: Path) -> None:
    assert lost(config_of(tmp_path, begun.parent)) == []


def test_a_run_whose_folder_is_gone_is_reported(tmp_path: Path, begun: Path) -> None:
    shutil.rmtree(begun)
    assert lost(config_of(tmp_path, begun.parent)) == [("gone", "run.folder-gone")]


def test_a_run_in_a_watched_directory_that_may_not_be_mounted_is_reported(tmp_path: Path, begun: Path) -> None:
    """Elsewhere, such as on another host, it is nobody's business whether the folder can be seen."""
    begun.rename(tmp_path / "moved")
    begun.symlink_to(tmp_path / "not mounted")
    assert lost(config_of(tmp_path, begun.parent)) == [("unreadable", "run.folder-not-visible")]
    (tmp_path / "other").mkdir()
    assert lost(config_of(tmp_path, tmp_path / "other")) == []
