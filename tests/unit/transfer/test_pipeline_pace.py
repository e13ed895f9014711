"""The pace of the line is measured whatever is sent."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from s3sync.runs import LocalFile
from s3sync.transfer.batch_sender import BatchResult
from s3sync.transfer.batches import Batch
from s3sync.transfer.pipeline import Pipeline
from s3sync.transfer.throttle import Forecast


@pytest.mark.parametrize("has_expected_crc", [False, True])
def test_the_pace_is_measured_whether_or_not_the_instrument_took_checksums(has_expected_crc: bool) -> None:
    noted: list[int] = []
    batch = Batch(1, (LocalFile("a.fastq.gz", 70_000_000, 1),))
    pipeline: Any = object.__new__(Pipeline)
    pipeline._is_over = threading.Event()
    pipeline._hasher = SimpleNamespace(has_expected_crc=has_expected_crc, find_corrupted=lambda _files: {})
    pipeline._choice = SimpleNamespace(compares_bytes=False)
    pipeline._sender = SimpleNamespace(send=lambda sent, _ahead: BatchResult(batch=sent))
    pipeline._concurrency = SimpleNamespace(pace=SimpleNamespace(note=lambda size, _seconds: noted.append(size)))
    assert pipeline._send(batch, Forecast(0)).batch == batch
    assert noted == [70_000_000]
