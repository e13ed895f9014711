"""The AWS configs of processes whose limits differ from the usual ones."""

from __future__ import annotations

from pathlib import Path

from s3sync.aws.settings import CliSettings
from s3sync.transfer.process_configs import ProcessConfigs


def test_two_senders_of_one_upload_share_its_configs(tmp_path: Path) -> None:
    """The files of a run and its completion object may be sent with the same number of threads."""
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    of_files, of_completion_object = (ProcessConfigs(environ, CliSettings(4), tmp_path) for _ in range(2))
    config = of_files.with_threads(32)
    assert of_completion_object.with_threads(32) == config
    assert "max_concurrent_requests = 32" in config.read_text()
