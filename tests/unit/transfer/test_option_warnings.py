"""Options that are allowed, but of no use, are a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync.aws.destination import Destination
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.upload import run


@pytest.mark.parametrize(
    ("cores", "threads", "ids"),
    [
        (256, 64, []),
        (257, 64, ["upload.many-cores"]),
        (8, 65, ["upload.many-threads"]),
        (1000, 1000, ["upload.many-threads", "upload.many-cores"]),
    ],
)
def test_numbers_that_do_not_help_are_warned_of(cores: int, threads: int, ids: list[str]) -> None:
    wanted = UploadRequest(
        local_path=Path("/RUN"),
        destination=Destination("lab-runs", ""),
        log_dir=Path("/log"),
        cores=cores,
        threads=threads,
    )
    assert [warning.id for warning in run.option_warnings(wanted)] == ids
