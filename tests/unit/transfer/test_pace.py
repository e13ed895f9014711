"""Batches of an upload that shares the machine are over soon, on a slow line as on a fast one."""

from __future__ import annotations

import math

from s3sync.runs.local_files import LocalFile
from s3sync.transfer.batches import BatchQueue
from s3sync.transfer.sharing import BatchPace


def test_the_first_batches_are_small_and_then_the_line_decides() -> None:
    pace = BatchPace(is_bounded=True)
    assert pace.most_bytes == 64_000_000
    pace.note(64_000_000, 2.0)
    assert pace.most_bytes == 480_000_000
    pace.note(1_000, 10.0)  # says nothing about the line
    assert pace.most_bytes == 480_000_000
    pace.note(40_000_000, 40.0)
    assert pace.most_bytes == 64_000_000


def test_an_upload_that_shares_nothing_has_no_bound() -> None:
    pace = BatchPace(is_bounded=False)
    pace.note(64_000_000, 64.0)
    assert pace.most_bytes == math.inf


def test_a_batch_has_no_more_bytes_but_always_a_file() -> None:
    queue = BatchQueue([[LocalFile(f"{number}", 40_000_000, 1) for number in range(6)]])
    assert len(queue.take(1, 1, 64_000_000).files) == 1
    assert len(queue.take(1, 1, 100_000_000).files) == 2
    assert len(queue.take(1, 1, 1.0).files) == 1
