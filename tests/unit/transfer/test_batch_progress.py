"""How far an upload is: exact with receipts, and an honest estimate without."""

from __future__ import annotations

import itertools

import pytest

from s3sync.aws.receipts import ObjectStored, PartStored
from s3sync.runs import LocalFile
from s3sync.transfer.batch_progress import HTTP_READS, TLS_READS, ProgressCounter
from s3sync.transfer.batches import Batch

MB = 1_000_000
START_UP = 14 * MB
PID = 77


def batch_of(*sizes: int) -> Batch:
    return Batch(1, tuple(LocalFile(f"{number}", size, 0) for number, size in enumerate(sizes)))


def counter_of(batch: Batch, reads: float = 1.0, *, receipts: bool = False) -> ProgressCounter:
    counter = ProgressCounter("RUN/", reads)
    counter.started(batch, PID)
    if receipts:
        counter.begin_receipts(batch.number)
    return counter


def put(path: str, size: int | None = 1) -> ObjectStored:
    return ObjectStored(key=f"RUN/{path}", size=size, etag="ab")


def test_receipts_are_counted_exactly_no_matter_how_much_was_read() -> None:
    batch = batch_of(10 * MB, 3, 5)
    counter = counter_of(batch, receipts=True)
    for size in (8 * MB, 2 * MB):
        counter.add_receipt(1, PartStored("RUN/0", size))
    counter.add_receipt(1, put("1", 3))

    now = counter.progress({PID: 900 * MB})

    assert (now.files, now.size, now.processes) == (1, 10 * MB + 3, 1)
    counter.add_receipt(1, put("0", None))
    assert counter.progress({}).size == 10 * MB + 3
    assert counter.progress({}).files == 2


def test_receipts_about_anything_else_count_nothing() -> None:
    counter = counter_of(batch_of(10), receipts=True)
    for key in ("RUN/1", "0", "", "OTHER/0", "RUN/RUN/0"):
        counter.add_receipt(1, ObjectStored(key=key, size=10, etag="ab"))
        counter.add_receipt(1, PartStored(key, 10))
    assert counter.progress({}).size == counter.progress({}).files == 0
    for _ in range(9):
        counter.add_receipt(1, PartStored("RUN/0", 7))
        counter.add_receipt(1, put("0", 10**18))
    assert (counter.progress({}).files, counter.progress({}).size) == (1, 10)
    assert list(counter.ended(batch_of(10), succeeded=True).stored) == ["0"]


@pytest.mark.parametrize("receipts", [True, False])
def test_what_a_process_has_sent_stays_counted_after_its_end(receipts: bool) -> None:
    batch = batch_of(10, 20)
    counter = counter_of(batch, receipts=receipts)
    counter.add_receipt(1, put("1"))
    counter.ended(batch, succeeded=False)
    now = counter.progress({})
    assert (now.files, now.size) == ((1, 20) if receipts else (2, 30))


@pytest.mark.parametrize("reads", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("assumed", [1.0, TLS_READS, HTTP_READS])
def test_an_estimate_grows_with_each_byte_and_never_reaches_the_end(reads: float, assumed: float) -> None:
    size = 90_000 * MB
    counter = counter_of(batch_of(size), assumed)
    seen = [counter.progress({PID: START_UP + round(part * reads * size / 200)}).size for part in range(201)]
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))
    assert seen[0] == 0
    assert seen[-1] < size
    if reads == assumed:
        assert seen[100] == size // 2


def test_how_often_bytes_are_read_is_learned_from_the_first_large_batch() -> None:
    large = batch_of(100 * MB)
    counter = counter_of(large, HTTP_READS)
    counter.progress({PID: START_UP + 100 * MB})
    counter.ended(large, succeeded=True)
    second = large._replace(number=2)
    counter.started(second, PID)
    assert counter.progress({PID: START_UP + 50 * MB}).size == 150 * MB


def test_an_estimate_never_shrinks() -> None:
    batch = batch_of(10 * MB, 10 * MB)
    counter = counter_of(batch)
    counter.file_done(1)
    assert counter.progress({PID: 0}).size == 10 * MB
    assert counter.progress({PID: START_UP + 15 * MB}).size == 15 * MB
    assert counter.progress({}).size == 15 * MB
