"""Put files into the order in which they are sent, and cut them into batches.

Starting an `aws` process costs far more CPU time than one more file in a running one, so files are sent in batches.
The constants were measured with awscli 1.46, on 4,000 files of 10 kB and on 1.6 GB over TLS.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from s3sync.aws import client
from s3sync.runs import LocalFile
from s3sync.state import Proof

FILE_COST = 0.004  # CPU-seconds a file
FAST_FILE_COST = 0.0007  # the same on the fast path of the plugin (4,000 files of 10 kB)
BYTE_COST = 3.5e-9  # CPU-seconds a byte
_FULL_BATCH_COST = 1000 * FILE_COST  # smaller batches waste start-ups: 1,000 small files or about 1 GB
_SMALL_BATCH_COST = _FULL_BATCH_COST / 2
_WHOLE = 1.05  # a batch takes all that is left if that is at most this many times its cost
_MAX_BATCH_COST = 4 * _FULL_BATCH_COST  # larger ones save nothing, and are verified late
_MAX_BATCH_FILES = 10_000  # each takes a kilobyte of memory until it is verified
_BIG_FILE = 8 * 1024 * 1024  # bytes; from here on the bytes decide the cost, not the file

_METADATA = re.compile(
    r"(RunInfo\.xml|RunParameters\.xml|Manifest\.tsv|[^/]*sample[-_ ]?sheet[^/]*\.csv|InterOp/.*)",
    re.IGNORECASE | re.DOTALL,
)
_MARKER = re.compile(
    r"(.*/)?((RTAComplete|CopyComplete|SequenceComplete)[^/]*"
    r"|RunCompletionStatus\.xml|Secondary_Analysis_Complete\.txt)",
    re.IGNORECASE | re.DOTALL,
)

ClassOf: TypeAlias = Callable[[str], str]  # the storage class to request for a path in the run; empty: none


class Batch(NamedTuple):
    """Files that one `aws s3 cp --recursive` sends. Numbers begin with 1 and are unique in a call.

    They have one `storage_class`; empty is that of the request.
    """

    number: int
    files: tuple[LocalFile, ...]
    storage_class: str = ""

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return sum(file.size for file in self.files)


class UploadOrder(NamedTuple):
    """Files in the order in which they become visible: a program that waits for a marker finds a complete run."""

    metadata: tuple[LocalFile, ...]
    data: tuple[LocalFile, ...]
    markers: tuple[LocalFile, ...]


def is_verified(file: LocalFile, verified: Mapping[str, Proof]) -> bool:
    """Return whether there is a proof of the file as it is now."""
    proof = verified.get(file.path)
    return proof is not None and proof.is_of(file)


def pending(files: Iterable[LocalFile], verified: Mapping[str, Proof]) -> tuple[LocalFile, ...]:
    """Return the files that are not verified as they are now."""
    return tuple(file for file in files if not is_verified(file, verified))


def is_metadata(path: str) -> bool:
    """Return whether a path in a run is metadata, which is uploaded first."""
    return _METADATA.fullmatch(path) is not None


def is_marker(path: str) -> bool:
    """Return whether a path in a run is a completion marker, which is uploaded last."""
    return _MARKER.fullmatch(path) is not None


def split_by_phase(files: Iterable[LocalFile]) -> UploadOrder:
    """Split files into metadata, data and completion markers; each group keeps the order given."""
    metadata, data, markers = [], [], []
    for file in files:
        if is_marker(file.path):
            markers.append(file)
        elif is_metadata(file.path):
            metadata.append(file)
        else:
            data.append(file)
    return UploadOrder(tuple(metadata), tuple(data), tuple(markers))


def cost_of(files: Iterable[LocalFile], byte_cost: float = BYTE_COST, file_cost: float = FILE_COST) -> float:
    """Return the CPU-seconds that a running `aws s3 cp` needs for these files.

    With a higher `byte_cost`, for a limited bandwidth, these are seconds of time.
    """
    return sum(file_cost + file.size * byte_cost for file in files)


def smallest_batch(left: float, processes: int, process_cost: float = client.PROCESS_COST) -> float:
    """Return the cost of the smallest batch that is worth a process, where `left` is to be shared.

    The work is split into rounds of full batches, with one batch for each process in a round: a single batch left over
    would be one more round.
    """
    rounds = max(1, round(left / processes / _FULL_BATCH_COST))
    return max(process_cost, left / processes / rounds)


def next_batch(left: float, smallest: float, processes: int, expected: int) -> float:
    """Return the cost of the next batch: half of an equal share of the remaining work, so that batches shrink to the
    end.

    It is at least `smallest`, and at most _MAX_BATCH_COST. If more processes are expected than run now, it also leaves
    work for them: half of their equal share, but at least a full batch.
    """
    largest = _MAX_BATCH_COST if expected <= processes else max(left / (2 * expected), _FULL_BATCH_COST)
    return min(max(left / (2 * processes), smallest), largest, _MAX_BATCH_COST)


class BatchQueue:
    """Cuts groups of files, one after the other, into batches as processes ask for them.

    In each group big files come first, the largest first. Small ones follow in the order of their keys, so that a batch
    is a narrow range of keys, which one listing reads back. `byte_cost` and `file_cost` are as for `cost_of`; a batch
    has only files for which `class_of`, given their paths, returns the same storage class; `process_cost` is that of
    another process, in seconds.
    """

    def __init__(
        self,
        groups: Iterable[Sequence[LocalFile]],
        first_number: int = 1,
        byte_cost: float = BYTE_COST,
        file_cost: float = FILE_COST,
        class_of: ClassOf = lambda _path: "",
        process_cost: float = client.PROCESS_COST,
    ) -> None:
        self.next_number = first_number
        self._byte_cost = byte_cost
        self._file_cost = file_cost
        self._groups = deque(_Group(files, byte_cost, file_cost, class_of, process_cost) for files in groups if files)

    def __bool__(self) -> bool:
        return bool(self._groups)

    def take(self, processes: int, expected: int = 0, most_bytes: float = math.inf) -> Batch:
        """Return the next batch, if `processes` share the remaining files, or soon `expected` ones.

        It has at most `most_bytes`, unless that is less than one file. Raises IndexError if nothing is left.
        """
        group = self._groups[0]
        batch = Batch(self.next_number, *group.take(processes, expected, most_bytes))
        self.next_number += 1
        if not group.queues:
            self._groups.popleft()
        return batch

    def has_work_for(self, processes: int) -> bool:
        """Return whether each of them would get a batch that is worth starting a process."""
        return self.left >= 0.999 * processes * _SMALL_BATCH_COST

    def cost(self, batch: Batch) -> float:
        """Return the cost of sending a batch, in seconds."""
        return cost_of(batch.files, self._byte_cost, self._file_cost)

    def use_file_cost(self, file_cost: float) -> None:
        """Replace the cost of a file besides its bytes, which is known only once files were sent."""
        if file_cost != self._file_cost:
            self._file_cost = file_cost
            for group in self._groups:
                group.use_file_cost(file_cost)

    @property
    def left(self) -> float:
        """Return the cost of sending all files that are left, in seconds."""
        return sum(group.left for group in self._groups)

    def clear(self) -> None:
        """Drop all files that are left."""
        self._groups.clear()


class _Group:
    """The files of one group that are left, and their cost."""

    def __init__(
        self, files: Sequence[LocalFile], byte_cost: float, file_cost: float, class_of: ClassOf, process_cost: float
    ) -> None:
        self._process_cost = process_cost
        self._byte_cost = byte_cost
        self._file_cost = file_cost
        big = sorted((file for file in files if file.size >= _BIG_FILE), key=lambda file: (-file.size, file.path))
        small = sorted((file for file in files if file.size < _BIG_FILE), key=lambda file: file.path)
        self.queues = deque(queue for kind in (big, small) for queue in _split_by_class(kind, class_of))
        self.left = cost_of(files, byte_cost, file_cost)
        self._processes = 0
        self._smallest = 0.0

    def use_file_cost(self, file_cost: float) -> None:
        self._file_cost, self._processes = file_cost, 0
        self.left = sum(cost_of(queue, self._byte_cost, file_cost) for _, queue in self.queues)

    def take(self, processes: int, expected: int, most_bytes: float) -> tuple[tuple[LocalFile, ...], str]:
        if processes != self._processes:
            self._processes = processes
            self._smallest = smallest_batch(self.left, processes, self._process_cost)
        if self.left < processes * self._smallest / 2:  # processes were added that have not had their share yet
            self._smallest = max(_SMALL_BATCH_COST, self.left / processes)
        target = next_batch(self.left, self._smallest, processes, expected)
        if target < self.left < target * _WHOLE:
            target = 2 * self.left  # all of it: a few files are not worth a process
        storage_class, queue = self.queues[0]
        files, cost = _take_until(target, queue, self._byte_cost, self._file_cost, most_bytes)
        self.left -= cost
        if not queue:
            self.queues.popleft()
        return files, storage_class


def _split_by_class(files: Iterable[LocalFile], class_of: ClassOf) -> Iterable[tuple[str, deque[LocalFile]]]:
    """Return the files of each storage class, in the order given."""
    queues: dict[str, deque[LocalFile]] = {}
    for file in files:
        queues.setdefault(class_of(file.path), deque()).append(file)
    return queues.items()


def into_batches(
    files: Sequence[LocalFile], processes: int, first_number: int = 1, class_of: ClassOf = lambda _path: ""
) -> list[Batch]:
    """Return all batches of one group of files, for a constant number of processes."""
    queue = BatchQueue([files], first_number, class_of=class_of)
    batches = []
    while queue:
        batches.append(queue.take(processes))
    return batches


def _take_until(
    target: float, queue: deque[LocalFile], byte_cost: float, file_cost: float, most_bytes: float
) -> tuple[tuple[LocalFile, ...], float]:
    """Take files off the front of the queue, at least one, until they cost `target`; return them and their cost."""
    taken: list[LocalFile] = []
    cost, size = 0.0, 0
    while queue and cost < target * 0.999:  # sums of 0.004 never equal a bound exactly
        more = file_cost + queue[0].size * byte_cost
        size += queue[0].size
        if taken and (cost + more > _MAX_BATCH_COST or size > most_bytes or len(taken) == _MAX_BATCH_FILES):
            break
        taken.append(queue.popleft())
        cost += more
    return tuple(taken), cost
