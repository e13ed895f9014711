"""`remote_path`: what is a path in the bucket, and what is refused with the right one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3sync.aws.destination import parse_destination
from s3sync.config import load_config
from s3sync.errors import ConfigError, UsageError
from tests.helpers.errors import raises_error

REMOTE_PATHS = [
    ("s3://lab-runs/x", "takes only the path, not a URL (give /x here, and lab-runs as --bucket): s3://lab-runs/x"),
    ("S3://lab-runs", "takes only the path, not a URL (give / here, and lab-runs as --bucket)"),
    ("s3:/lab-runs/x/y", "takes only the path, not a URL (give /x/y here, and lab-runs as --bucket)"),
    ("s3:", "takes only the path, not a URL (give / here, and the bucket as --bucket)"),
    ("https://lab-runs.s3.amazonaws.com/x", "takes only the path, not a URL or an ARN (give what follows"),
    ("arn:aws:s3:::lab-runs/x", "takes only the path, not a URL or an ARN"),
    ("runs\\2026", "cannot contain a backslash, which is no separator in S3 (use / instead): runs\\2026"),
    (
        "./runs",
        "cannot contain `.` or `..`, which are ordinary names in S3 (give the path",
    ),
    ("runs/../x", "cannot contain `.` or `..`"),
    ("..", "cannot contain `.` or `..`"),
    ("runs/a\nb", "cannot contain control characters, and must be UTF-8: runs/a\\nb"),
    ("runs/\x1b[31m", "cannot contain control characters"),
    ("runs/\udcff", "cannot contain control characters, and must be UTF-8"),
]


@pytest.mark.parametrize(("path", "why"), REMOTE_PATHS)
def test_a_remote_path_that_is_not_a_path_in_the_bucket_is_refused(path: str, why: str) -> None:
    with raises_error(UsageError, "usage.bad-remote-path") as raised:
        parse_destination("lab-runs", path)
    assert str(raised.value).startswith(f"--remote-path {why}")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(("path", "why"), [pair for pair in REMOTE_PATHS if pair[0].isascii()])
def test_a_remote_path_of_the_config_is_refused_in_its_own_words(tmp_path: Path, path: str, why: str) -> None:
    entry = {"monitored_directories": [str(tmp_path)], "bucket": "lab-runs", "remote_path": path}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"monitor": [entry]}))
    with raises_error(ConfigError, "config.bad-destination") as raised:
        load_config(config, {})
    assert f"remote_path {why.replace('--', '')}" in str(raised.value)
    assert "--" not in str(raised.value)


@pytest.mark.parametrize("path", ["/", "", "runs", "/runs//2026/", "lab-runs/x", "a b", "runs/s3:", "...", "ü"])
def test_other_remote_paths_are_taken(path: str) -> None:
    assert parse_destination("lab-runs", path).prefix == "/".join(part for part in path.split("/") if part)
