"""How many requests at once a process makes: by latency on the fast path, never beyond what the user set."""

from __future__ import annotations

import pytest

from s3sync.aws.etag import DEFAULT_MULTIPART, MIB
from s3sync.aws.receipts import FellBack, Hello, ObjectStored
from s3sync.runs import LocalFile
from s3sync.transfer.batches import FAST_FILE_COST, FILE_COST, Batch, BatchQueue
from s3sync.transfer.thread_choice import ThreadChoice

SMALL = Batch(1, (LocalFile("a", 10_000, 0), LocalFile("b", 8 * MIB - 1, 0)))
WITH_PARTS = Batch(2, (LocalFile("a", 10_000, 0), LocalFile("c", 8 * MIB, 0)))


def choice(chosen: int | None = None, *, is_fast: bool = True) -> ThreadChoice:
    return ThreadChoice(DEFAULT_MULTIPART, chosen, is_fast=is_fast)


def put(seconds: float, *, is_fast: bool = True) -> ObjectStored:
    return ObjectStored(key="a", size=1, etag="ab", seconds=seconds, is_fast=is_fast)


def test_the_first_process_has_many_threads_on_the_fast_path_and_the_usual_ones_elsewhere() -> None:
    assert choice().threads_for(SMALL) == 32
    assert choice(is_fast=False).threads_for(SMALL) is None
    assert choice().threads_for(WITH_PARTS) is None


@pytest.mark.parametrize(("seconds", "threads"), [(0.0005, 8), (0.014, 20), (0.03, 43), (0.2, 64)])
def test_the_next_ones_have_what_the_shortest_request_requires(seconds: float, threads: int) -> None:
    known = choice()
    for more in (0.5, 0.0, 1.0):
        known.note(put(seconds + more))
    assert known.threads_for(SMALL) == threads


def test_requests_of_the_cli_itself_tell_nothing_about_the_fast_path() -> None:
    known = choice()
    known.note(put(0.001, is_fast=False))
    known.note(put(0.0))
    assert known.threads_for(SMALL) == 32


def test_what_the_user_sets_holds() -> None:
    known = choice(6)
    known.note(put(0.2))
    assert known.threads_for(SMALL) is None


@pytest.mark.parametrize("receipt", [Hello("aws-cli/2", False, "a proxy"), FellBack("503")])
def test_a_process_that_leaves_the_fast_path_ends_the_choice(receipt: Hello | FellBack) -> None:
    known = choice()
    known.note(Hello("aws-cli/2", True))
    assert known.file_cost == FAST_FILE_COST
    known.note(receipt)
    assert known.threads_for(SMALL) is None
    assert known.file_cost == FILE_COST


def test_batches_are_cut_again_when_the_cost_of_a_file_turns_out_to_differ() -> None:
    files = [LocalFile(f"{number:05}", 100, 0) for number in range(20_000)]
    queue = BatchQueue([files], file_cost=FAST_FILE_COST)
    first = queue.take(2)
    left = queue.left
    queue.use_file_cost(FILE_COST)
    assert queue.left == pytest.approx(left * FILE_COST / FAST_FILE_COST, rel=0.01)
    batches = [first]
    while queue:
        batches.append(queue.take(2))
    assert len(first.files) > 4000 >= len(batches[1].files)
    assert [file for batch in batches for file in batch.files] == files
    assert queue.left == pytest.approx(0)
