"""Batches of a restore: each file once, of a useful size, and named by few patterns."""

from __future__ import annotations

import random

from s3sync.runs import LocalFile
from s3sync.transfer.restore import cutting, sources

RUN = [
    *(
        LocalFile(f"Data/L00{lane}/C{cycle}.1/L00{lane}_1.cbcl", 100_000_000, 0)
        for lane in (1, 2)
        for cycle in range(50)
    ),
    *(LocalFile(f"InterOp/C{cycle}.1/{name}Out.bin", 1000, 0) for cycle in range(300) for name in "ABCDEFGH"),
    LocalFile("RunInfo.xml", 1000, 0),
]


def test_each_file_is_in_one_batch() -> None:
    chance = random.Random(3)
    for _ in range(200):
        files = [
            LocalFile(f"{chance.randrange(20)}/{number}", chance.randrange(10 ** chance.randrange(1, 10)), 0)
            for number in range(chance.randrange(200))
        ]
        batches = cutting.cut_into_batches(files, chance.randint(1, 8))
        assert sorted(file for batch in batches for file in batch.files) == sorted(files)
        assert [batch.number for batch in batches] == list(range(1, len(batches) + 1))
        assert all(batch.files for batch in batches)


def test_a_run_is_cut_where_folders_end() -> None:
    index = sources.KeyIndex([file.path for file in RUN], "RUN/")
    found = [index.sources_of([file.path for file in batch.files]) for batch in cutting.cut_into_batches(RUN, 2)]
    assert 2 <= len(found) <= 10
    assert all(len(of_batch) == 1 for of_batch in found)
    assert max(len(source.includes or ()) for (source,) in found) <= 12


def test_little_is_one_batch() -> None:
    assert len(cutting.cut_into_batches(RUN[-300:], 16)) == 1
    assert cutting.cut_into_batches([], 2) == []
