"""Cut the files of a run into batches that a few patterns name: ranges of keys that end where folders do.

Each process lists the folder of its batch and compares each key with each pattern, twice. So batches are large, and a
cut is made where the keys on both sides of it have the least in common.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from s3sync.runs import LocalFile
from s3sync.transfer.batches import BYTE_COST, FILE_COST, Batch
from s3sync.transfer.restore.sources import common_prefix

_USUAL_SECONDS = 10.0  # CPU-seconds for the files of a batch; starting its process takes another one
_LEAST_SECONDS = 2.0  # CPU-seconds that make a batch worth a process
_TOLERANCE = 0.35  # share of a batch within which the best place for a cut is searched


def cut_into_batches(files: Sequence[LocalFile], cores: int) -> list[Batch]:
    """Return the batches of these files, the most expensive first."""
    files = sorted(files)
    costs = [0.0, *accumulate(FILE_COST + file.size * BYTE_COST for file in files)]
    rounds = max(1, round(costs[-1] / cores / _USUAL_SECONDS))  # a batch that is left over would take a whole round
    target = max(_LEAST_SECONDS, costs[-1] / (rounds * cores))
    bounds = list(_bounds(files, costs, target))
    ranges = sorted(zip([0, *bounds], bounds, strict=False), key=lambda pair: costs[pair[0]] - costs[pair[1]])
    return [Batch(number, tuple(files[start:end])) for number, (start, end) in enumerate(ranges, 1)]


def _bounds(files: Sequence[LocalFile], costs: Sequence[float], target: float) -> Iterator[int]:
    """Yield the end of each batch; `costs` are sums, with a zero in front."""
    start = 0
    while costs[-1] - costs[start] > target * (1 + _TOLERANCE):
        first = max(start + 1, bisect_left(costs, costs[start] + target * (1 - _TOLERANCE)))
        last = max(first, bisect_left(costs, costs[start] + target * (1 + _TOLERANCE)) - 1)
        start = min(
            range(first, min(last, len(files) - 1) + 1),
            key=lambda end: len(common_prefix(files[end - 1].path, files[end].path)),
            default=len(files),
        )
        yield start
    if start < len(files):
        yield len(files)
