"""The AWS configs of processes whose limits differ from the usual ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.aws import settings
from s3sync.aws.settings import CliSettings
from s3sync.errors import AwsError
from s3sync.transfer.process_configs import ProcessConfigs
from tests.helpers.errors import raises_error


def test_two_senders_of_one_upload_share_its_configs(tmp_path: Path) -> None:
    """The files of a run and its completion object may be sent with the same number of threads."""
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    of_files, of_completion_object = (ProcessConfigs(environ, CliSettings(4), tmp_path) for _ in range(2))
    config = of_files.with_threads(32)
    assert of_completion_object.with_threads(32) == config
    assert "max_concurrent_requests = 32" in config.read_text()


def test_a_config_that_did_not_fit_on_the_disk_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(_environ: object, _settings: object, target: Path) -> None:
        target.write_text("[default]\n")
        raise AwsError("no space", id="aws.config-unwritable")

    environ = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    configs = ProcessConfigs(environ, CliSettings(4), tmp_path)
    with monkeypatch.context() as patched, raises_error(AwsError, "aws.config-unwritable"):
        patched.setattr(settings, "write_config", write_half)
        configs.with_bandwidth(1_000_000)
    assert "max_bandwidth" in configs.with_bandwidth(1_000_000).read_text()
