"""A scan that takes days follows its config file, as far as that is safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s3sync.config import Config
from s3sync.errors import ConfigError
from s3sync.monitor.config_follower import ConfigFollower

ENTRY = {"monitored_directories": ["/runs"], "bucket": "one", "remote_path": "/"}


def config(**keys: Any) -> Config:
    return Config.model_validate({"log_dir": "/log", "monitor": [ENTRY], **keys})


def test_what_was_not_shared_out_yet_is_used(caplog: pytest.LogCaptureFixture) -> None:
    edited = config(max_age=5, max_cores=1, max_bandwidth="1MB/s", monitor=[{**ENTRY, "bucket": "two"}])
    follower = ConfigFollower(config(max_cores=2), lambda: edited)
    for _ in range(2):
        used = follower.latest()
        assert (used.max_age, used.monitor[0].bucket) == (5, "two")
        assert (used.max_cores, used.max_bandwidth) == (2, None)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "max_bandwidth, max_cores" in record.message


def test_an_edited_log_directory_waits_for_the_next_scan(caplog: pytest.LogCaptureFixture) -> None:
    before = config()
    follower = ConfigFollower(before, lambda: config(max_age=5, log_dir="/elsewhere"))
    assert (follower.latest(), follower.latest()) == (before, before)
    assert len(caplog.records) == 1


def test_a_config_with_mistakes_changes_nothing_until_it_is_right(caplog: pytest.LogCaptureFixture) -> None:
    configs: list[Config] = []

    def load() -> Config:
        if not configs:
            raise ConfigError(f"{Path('/etc/s3sync.yaml')}:1:1: bad\nmore", id="config.bad-value")
        return configs[0]

    before = config()
    follower = ConfigFollower(before, load)
    assert (follower.latest(), follower.latest()) == (before, before)
    assert len(caplog.records) == 1
    configs.append(config(max_age=5))
    assert follower.latest().max_age == 5
    configs[0] = before
    assert follower.latest().max_age == before.max_age
