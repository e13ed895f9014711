"""Which files go, in which order, and how they are cut into batches."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s3sync.aws.client import PROCESS_COST
from s3sync.aws.destination import Destination
from s3sync.errors import RunError, UsageError
from s3sync.patterns import Pattern
from s3sync.runs.local_files import Listing, LocalFile, RejectedEntry
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.run_state import Proof
from s3sync.transfer.batches import _FULL_BATCH_COST as FULL
from s3sync.transfer.batches import (
    _MAX_BATCH_COST,
    _MAX_BATCH_FILES,
    FILE_COST,
    Batch,
    BatchQueue,
    cost_of,
    into_batches,
    is_verified,
    next_batch,
    smallest_batch,
    split_by_phase,
)
from s3sync.transfer.request import compile_excludes
from s3sync.transfer.selection import UploadSelection, require_files, select_files
from tests.helpers.errors import raises_error

RUN = Run(
    path=Path("/data/Thumbnail_Images/260101_A01295_0001_AHXXX"), run_id="260101_A01295_0001_AHXXX", info=RunInfo()
)
TO = Destination("lab-runs", "2026")
MB = 1_000_000


def file(path: str, size: int = 1) -> LocalFile:
    return LocalFile(path, size, 1)


def files_of(sizes: Sequence[int]) -> list[LocalFile]:
    return [file(f"Data/{number:06}", size) for number, size in enumerate(sizes)]


# UploadOrder


@pytest.mark.parametrize(
    ("phase", "path"),
    [
        ("metadata", "RunInfo.xml"),
        ("metadata", "RunParameters.xml"),
        ("metadata", "runParameters.xml"),
        ("metadata", "SampleSheet.csv"),
        ("metadata", "260101_sample-sheet_v2.csv"),
        ("metadata", "sample sheet.CSV"),
        ("metadata", "InterOp/TileMetricsOut.bin"),
        ("metadata", "InterOp/C1.1/x.bin"),
        ("metadata", "Manifest.tsv"),
        ("metadata", "InterOp/new\nline"),
        ("data", "Data/RunInfo.xml"),
        ("data", "Data/SampleSheet.csv"),
        ("data", "SampleSheet.csv.bak"),
        ("data", "RunInfoxml"),
        ("data", "InterOp"),
        ("data", "Data/InterOp/x.bin"),
        ("data", "Data/Intensities/BaseCalls/L001/C1.1/L001_1.cbcl"),
        ("data", "RTARead1Complete.txt"),
        ("data", "Basecalling_Netcopy_complete.txt"),
        ("markers", "Analysis/1/Data/Secondary_Analysis_Complete.txt"),
        ("data", "Analysis/1/Manifest.tsv"),
        ("data", "NotCopyComplete.txt"),
        ("data", "CopyComplete/x"),
        ("markers", "RTAComplete.txt"),
        ("markers", "RTAComplete.xml"),
        ("markers", "CopyComplete.txt"),
        ("markers", "copycomplete.txt"),
        ("markers", "SequenceComplete.txt"),
        ("markers", "RunCompletionStatus.xml"),
        ("markers", "Analysis/1/CopyComplete.txt"),
        ("markers", "InterOp/CopyComplete.txt"),
        ("markers", "Analysis/new\nline/CopyComplete.txt"),
    ],
)
def test_phase_by_path(phase: str, path: str) -> None:
    phases = split_by_phase([file(path)])
    assert {name: [f.path for f in group] for name, group in phases._asdict().items() if group} == {phase: [path]}


def test_phases_keep_the_order_and_lose_nothing() -> None:
    names = ["z", "CopyComplete.txt", "RunInfo.xml", "a", "Analysis/1/CopyComplete.txt", "InterOp/b", "InterOp/a"]
    phases = split_by_phase(map(file, names))
    assert [[f.path for f in group] for group in phases] == [
        ["RunInfo.xml", "InterOp/b", "InterOp/a"],
        ["z", "a"],
        ["CopyComplete.txt", "Analysis/1/CopyComplete.txt"],
    ]


# Excludes


def selection_of(excludes: Sequence[str], paths: Sequence[str], rejected: Sequence[str] = ()) -> UploadSelection:
    listing = Listing(files=tuple(map(file, paths)), rejected=tuple(RejectedEntry(path, "why") for path in rejected))
    return select_files(RUN, listing, TO, compile_excludes(excludes))


SOME = ["Data/a.cbcl", "RunInfo.xml", "Thumbnail_Images/L001/a.jpg"]


@pytest.mark.parametrize(
    ("excludes", "kept"),
    [
        ([], SOME),
        ([r"\.jpg$"], SOME[:2]),
        (["/Thumbnail_Images/"], SOME[:2]),
        (["Thumbnail_Images"], SOME[:2]),
        (["^260101_A01295_0001_AHXXX/Data/"], SOME[1:]),
        (["A01295.*RunInfo"], [SOME[0], SOME[2]]),
        (["^Data"], SOME),
        (["^/data"], SOME),
        (["data/"], SOME),
        (["(?i)DATA/"], SOME[1:]),
        ([r"\.jpg$", "RunInfo", "jpg"], SOME[:1]),
    ],
)
def test_excludes_are_searched_in_run_id_and_path(excludes: list[str], kept: list[str]) -> None:
    found = selection_of(excludes, SOME)
    assert [f.path for f in found.files] == kept
    assert (found.excluded, found.total) == (len(SOME) - len(kept), len(kept))


def test_excludes_apply_to_what_cannot_be_sent() -> None:
    found = selection_of([r"pipe"], ["a"], ["pipe", "socket", "Logs/"])
    assert [u.path for u in found.rejected] == ["socket", "Logs/"]
    assert (found.excluded, found.total, found.warnings) == (1, 3, ())


@pytest.mark.parametrize(
    ("excludes", "warnings"),
    [
        (["jpg"], []),
        (["png"], ["'png' matches nothing"]),
        (["png", "jpg", "^/data"], ["'png' matches nothing", "'^/data' matches nothing"]),
        (["."], ["'.' matches every file"]),
        (["", "png"], ["'png' matches nothing", "'' matches every file"]),
        (["AHXXX"], ["'AHXXX' matches every file"]),
        (["Data|Run", "Thumb"], []),
    ],
)
def test_patterns_that_cannot_be_meant_are_warned_of(excludes: list[str], warnings: list[str]) -> None:
    assert [warning.text for warning in selection_of(excludes, SOME).warnings] == [
        f"exclude pattern {warning}" for warning in warnings
    ]


def test_every_pattern_that_does_not_compile_is_named() -> None:
    with raises_error(UsageError, "usage.no-pattern", "--exclude-patterns") as caught:
        compile_excludes(["good", "*.jpg", "[a", "fine.*", "(\x1b", "[\x9b-\x1b]", "a{99999999999}", "(" * 9000])
    text = str(caught.value)
    assert all(repr(bad) in text for bad in ("*.jpg", "[a", "a{99999999999}", "(" * 9000))
    assert "good" not in text
    assert "fine" not in text
    assert text.isprintable()


def test_excludes_compile_in_order() -> None:
    assert compile_excludes(["b", "a"]) == (Pattern("b"), Pattern("a"))


def test_warnings_about_later_pythons_do_not_reach_the_user() -> None:
    """Warnings are errors here."""
    assert compile_excludes(["[[a]"])[0].search("[")


# Keys


@pytest.mark.parametrize("letter", ["x", "ü", "💥"])
def test_keys_may_have_1024_bytes_of_utf8(letter: str) -> None:
    width = len(letter.encode())
    room = 1024 - len(f"2026/{RUN.run_id}/")
    fits = letter * (room // width) + "x" * (room % width)
    found = selection_of(["leave-out"], [fits, fits + "x", "y" + fits, "leave-out" + fits])
    assert [f.path for f in found.files] == [fits]
    assert {u.path: u.reason for u in found.rejected} == dict.fromkeys(
        [fits + "x", "y" + fits], "key longer than S3's 1024 bytes"
    )
    assert (found.total, found.excluded) == (3, 1)


@pytest.mark.parametrize(
    ("excludes", "paths", "why"), [([], [], "the folder is empty"), (["."], ["a", "b"], "all 2 are excluded")]
)
def test_a_run_without_files_is_an_error(excludes: list[str], paths: list[str], why: str) -> None:
    with raises_error(RunError, "run.no-files", why):
        require_files(RUN, selection_of(excludes, paths))


@pytest.mark.parametrize(("paths", "rejected"), [(["a"], []), ([], ["pipe"])])
def test_anything_at_all_is_something_to_do(paths: list[str], rejected: list[str]) -> None:
    require_files(RUN, selection_of([], paths, rejected))


@pytest.mark.parametrize(
    ("proof", "same"),
    [
        (None, False),
        (Proof(path="a", size=5, mtime_ns=7, etag="etag", verified_by="etag"), True),
        (Proof(path="a", size=6, mtime_ns=7, etag="etag", verified_by="etag"), False),
        (Proof(path="a", size=5, mtime_ns=8, etag="etag", verified_by="etag"), False),
        (Proof(path="a", size=-1, mtime_ns=-1, etag="etag", verified_by="predecessor"), False),
    ],
)
def test_a_proof_is_of_a_size_and_a_time(proof: Proof | None, same: bool) -> None:
    assert is_verified(LocalFile("a", 5, 7), {"a": proof} if proof else {}) == same


# Batches

any_size = (
    st.integers(0, 100_000)
    | st.integers(8 * 1024**2 - 1, 8 * 1024**2 + 1)
    | st.integers(MB, 2000 * MB)
    | st.integers(0, 500_000 * MB)
)
any_sizes = st.lists(any_size, max_size=60) | st.builds(
    lambda size, count, more: [size] * count + more,
    st.integers(0, 8 * MB) | st.integers(8 * MB, 8000 * MB),
    st.integers(0, 3000),
    st.lists(any_size, max_size=20),
)


@settings(deadline=None, max_examples=150)
@given(sizes=any_sizes, processes=st.integers(1, 64), first_number=st.integers(1, 1000))
def test_batches_are_a_partition_of_the_files(sizes: list[int], processes: int, first_number: int) -> None:
    files = files_of(sizes)
    batches = into_batches(files, processes, first_number)
    assert [batch.number for batch in batches] == list(range(first_number, first_number + len(batches)))
    assert all(batch.files for batch in batches)
    assert Counter(f for batch in batches for f in batch.files) == Counter(files)
    assert sum(batch.size for batch in batches) == sum(sizes)


@settings(deadline=None, max_examples=150)
@given(sizes=any_sizes, processes=st.integers(1, 64))
@example(sizes=[4500 * MB] * 20, processes=1)
def test_no_batch_costs_more_than_the_maximum_unless_it_is_one_file(sizes: list[int], processes: int) -> None:
    for batch in into_batches(files_of(sizes), processes):
        assert len(batch.files) == 1 or cost_of(batch.files) <= _MAX_BATCH_COST * 1.01


def test_a_batch_of_files_that_cost_little_has_no_more_of_them_than_memory_allows() -> None:
    queue = BatchQueue([files_of([1] * 2 * _MAX_BATCH_FILES)], file_cost=1e-6)
    assert [len(queue.take(1).files) for _ in range(2)] == [_MAX_BATCH_FILES] * 2
    assert not queue


def test_nothing_needs_no_batch() -> None:
    assert into_batches([], 4) == []


def test_big_files_come_first_and_small_ones_in_the_order_of_their_keys() -> None:
    sizes = [10, 20 * MB, 5, 4000 * MB, 0, 9000 * MB]
    order = [f.size for batch in into_batches(files_of(sizes), 2) for f in batch.files]
    assert order == [9000 * MB, 4000 * MB, 20 * MB, 10, 5, 0]


def seconds_until_all_end(batches: Sequence[Batch], processes: int) -> float:
    """Each process takes the next batch from the queue as soon as it is free."""
    free_at = [0.0] * processes
    for batch in batches:
        heapq.heapreplace(free_at, free_at[0] + PROCESS_COST + cost_of(batch.files))
    return max(free_at)


SMALL = [10_000] * 12_000
MIXED = [min(int(random.Random(seed).lognormvariate(16, 2.0)), 500 * MB) for seed in range(500)]
LARGE = [1500 * MB + n for n in range(40)]


@pytest.mark.parametrize("processes", range(1, 17))
@pytest.mark.parametrize("sizes", [SMALL, MIXED, SMALL + MIXED], ids=["12,000 small", "500 mixed", "both"])
def test_all_processes_end_at_about_the_same_time(sizes: list[int], processes: int) -> None:
    files = files_of(sizes)
    bound = max(cost_of(files) / processes, max(cost_of([f]) for f in files))
    assert seconds_until_all_end(into_batches(files, processes), processes) <= 1.25 * bound + 3


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_large_files_are_spread_over_the_processes(processes: int) -> None:
    files = files_of(LARGE)
    bound = cost_of(files) / processes
    assert seconds_until_all_end(into_batches(files, processes), processes) <= 1.25 * bound + 3


@pytest.mark.parametrize("processes", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("count", [1, 2, 10, 90, 170])
def test_small_runs_are_not_cut_into_crumbs(count: int, processes: int) -> None:
    """A process costs as much as 175 small files: less than that is one batch."""
    assert len(into_batches(files_of([5000] * count), processes)) == 1


@pytest.mark.parametrize("processes", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("count", [200, 500, 1000, 3000, 12_000])
def test_batches_are_worth_their_start(count: int, processes: int) -> None:
    """All but the last of a queue send at least what another start would cost, and 4,000 files are not 20 batches."""
    batches = into_batches(files_of([5000] * count), processes)
    assert all(cost_of(batch.files) > 0.99 * PROCESS_COST for batch in batches[:-1])
    starts = PROCESS_COST * len(batches)
    assert starts <= max(PROCESS_COST * (processes + 1), 0.3 * count * FILE_COST + PROCESS_COST)


def test_a_hundred_thousand_files_are_planned() -> None:
    paths = [f"Data/Intensities/BaseCalls/L00{n % 8}/C{n % 300}.1/s_{n}.bcl.gz" for n in range(100_000)]
    listing = Listing(files=tuple(file(path, 50_000) for path in sorted(paths)), rejected=())
    found = select_files(RUN, listing, TO, compile_excludes([r"_999\d*\.bcl", "/Thumbnail_Images/"]))
    phases = split_by_phase(found.files)
    batches = into_batches(phases.data, 16)
    assert sum(len(batch.files) for batch in batches) == found.total < 100_000
    assert max(len(batch.files) for batch in batches) <= 4000


def test_what_is_handed_out_while_more_processes_may_come_leaves_work_for_them() -> None:
    queue = BatchQueue([files_of([0] * 12_000)])
    assert [len(queue.take(2, expected=8).files) for _ in range(2)] == [999, 999]  # sums of 0.004 never meet 4
    assert len(queue.take(2).files) == 2498
    assert len(BatchQueue([files_of([0] * 160_000)]).take(2, expected=8).files) == 3997


@pytest.mark.parametrize(("files", "processes"), [(1000, 2), (990, 1), (4000, 8), (500, 1), (490, 0), (0, 0)])
def test_more_processes_come_only_for_batches_that_are_worth_it(files: int, processes: int) -> None:
    queue = BatchQueue([files_of([0] * files)])
    assert [n for n in range(1, 20) if queue.has_work_for(n)] == list(range(1, processes + 1))


def test_a_limit_on_the_bandwidth_is_shared_by_all_processes_to_the_end() -> None:
    """Two processes of 1.5 MB/s each: no batch takes one of them longer than its half of all, or than 16 seconds."""
    files = files_of([400_000] * 100)
    queue = BatchQueue([files], byte_cost=1 / 1_500_000)
    batches = []
    while queue:
        batches.append(queue.take(2))
    assert len(batches) >= 4
    assert max(batch.size for batch in batches) <= min(sum(f.size for f in files) / 2, 16 * 1_500_000)
    assert len(into_batches(files, 2)) == 1


# The costs of batches, in those of a full one of 1,000 small files


@pytest.mark.parametrize(("process_cost", "sizes"), [(0.7, [400]), (0.15, [200, 200])])
def test_cheap_processes_share_a_small_run(process_cost: float, sizes: list[int]) -> None:
    queue = BatchQueue([files_of([1] * 400)], file_cost=0.001, process_cost=process_cost)
    assert [len(queue.take(2).files) for _ in sizes] == sizes
    assert not queue


def test_a_few_files_do_not_make_a_separate_batch() -> None:
    sizes = [10_000 + number % 7 * 300 for number in range(3998)]
    queue = BatchQueue([files_of(sizes)], file_cost=0.0007)
    assert sum(len(queue.take(2).files) for _ in range(2)) == len(sizes)
    assert not queue


@pytest.mark.parametrize(
    ("left", "processes", "smallest"),
    [
        (100, 4, 1.0),  # 25 rounds of four full batches
        (10, 4, 1.25),  # two rounds, of which each batch is a little larger
        (5, 4, 1.25),
        (1, 4, 0.25),  # one round
        (0.1, 4, PROCESS_COST / 4),  # less is not worth a process
    ],
)
def test_the_smallest_batch(left: float, processes: int, smallest: float) -> None:
    assert smallest_batch(left * FULL, processes) == pytest.approx(smallest * FULL)


@pytest.mark.parametrize(
    ("left", "smallest", "processes", "expected", "cost"),
    [
        (100, 1, 4, 4, 4),  # the most
        (20, 1, 4, 4, 2.5),  # half of an equal share
        (4, 1, 4, 4, 1),  # the smallest
        (100, 1, 4, 16, 3.125),  # leaves work for sixteen
        (20, 1, 4, 16, 1),  # but is a full one
        (1, 0.25, 4, 16, 0.25),
    ],
)
def test_the_next_batch(left: float, smallest: float, processes: int, expected: int, cost: float) -> None:
    assert next_batch(left * FULL, smallest * FULL, processes, expected) == pytest.approx(cost * FULL)
