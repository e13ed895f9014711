"""What the lines of `aws s3 cp` say about the files of a batch."""

from __future__ import annotations

from s3sync.aws import causes
from s3sync.aws.client import AwsResult
from s3sync.aws.destination import Destination
from s3sync.runs import LocalFile
from s3sync.transfer.batches import Batch
from s3sync.transfer.cp_output import MAX_CONSECUTIVE_FAILURES, FailureLines


def test_what_the_client_in_c_drops_when_it_is_ended_is_no_reason() -> None:
    count = MAX_CONSECUTIVE_FAILURES + 1
    files = tuple(LocalFile(f"Data/{number}.cbcl", 5, 1) for number in range(count))
    lines = FailureLines(Destination("lab-runs", ""), "RUN", Batch(1, files), lambda text: text)
    for file in files:
        where = f"upload failed: ../stage/{file.path} to s3://lab-runs/RUN/{file.path}"
        assert not lines.parse(f"{where} AWS_ERROR_S3_CANCELED: Request successfully cancelled")
    assert (lines.by_path, lines.is_hopeless) == ({}, False)
    ended = AwsResult(("s3", "cp"), 1, b"", (), "moved no bytes for 10 min")
    assert lines.last_error(ended) == "aws moved no bytes for 10 min, so it was terminated"
    assert lines.futile_cause(ended) is causes.NO_RESPONSE
