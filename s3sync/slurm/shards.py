"""Divide the files of a run into shards of about equal cost, each a narrow range of keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeAlias

from s3sync.runs import LocalFile
from s3sync.transfer import batches

Shard: TypeAlias = tuple[LocalFile, ...]

SHARDS_A_NODE = 4  # so that a slow or dead node costs little
_LONG_COST = 30.0  # CPU-seconds that a shard must take if there are more shards than nodes
LEAST_COST = 2.0  # CPU-seconds that it must take otherwise


def shard_count_for(files: Iterable[LocalFile], nodes: int) -> int:
    """Return how many shards pay off for these files on this number of nodes; at least one.

    If there are more shards than nodes, it is a multiple of the nodes, so that all of them are busy to the end.
    """
    cost = batches.cost_of(files)
    long = min(nodes * SHARDS_A_NODE, int(cost / _LONG_COST))
    return max(1, min(nodes, int(cost / LEAST_COST)), long - long % nodes)


def make_shards(files: Sequence[LocalFile], number: int) -> list[Shard]:
    """Return at most `number` shards of equal cost, give or take a file.

    Their ranges of keys do not overlap, so that one short listing shows the objects of a shard.
    """
    ordered = sorted(files)
    ends = list(accumulate(batches.cost_of([file]) for file in ordered))
    shards: list[Shard] = []
    start = 0
    for left in range(number, 0, -1):
        if start == len(ordered):
            break
        before = ends[start - 1] if start else 0.0
        target = before + (ends[-1] - before) / left
        end = start + 1
        while end < len(ordered) and (left == 1 or (ends[end - 1] + ends[end]) / 2 <= target):
            end += 1
        shards.append(tuple(ordered[start:end]))
        start = end
    return shards
