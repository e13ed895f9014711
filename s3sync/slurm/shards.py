"""Which node sends what: files cut into shards of about equal cost, each a narrow range of keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TypeAlias

from s3sync.runs import LocalFile
from s3sync.transfer import batches

Shard: TypeAlias = tuple[LocalFile, ...]

SHARDS_A_NODE = 4  # so that nodes of different speed, and one that dies, cost little
_LONG_COST = 30.0  # CPU-seconds: a shard more than there are nodes has to be worth its start,
LEAST_COST = 2.0  # and one for a node that would have nothing to do


def shard_count_for(files: Iterable[LocalFile], nodes: int) -> int:
    """How many shards pay for these files on so many nodes; at least one, and if there are more than nodes, so many
    that none is left over for a round of its own.
    """
    cost = batches.cost_of(files)
    long = min(nodes * SHARDS_A_NODE, int(cost / _LONG_COST))
    return max(1, min(nodes, int(cost / LEAST_COST)), long - long % nodes)


def make_shards(files: Sequence[LocalFile], number: int) -> list[Shard]:
    """At most so many shards, in the order of their keys, no two of which overlap, so that one short listing tells
    what S3 has of each. Each is an equal share, give or take a file.
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
