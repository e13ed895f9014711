"""Choose how many requests an `aws` process makes at once, by how long the requests of the run have taken so far.

Four of the CLI's own requests keep a core busy, and it keeps ten connections. On the fast path a request takes a fifth
of the CPU time, so with latency many more are needed to keep a core busy.
"""

from __future__ import annotations

import threading

from s3sync.aws.etag import Multipart
from s3sync.aws.receipts import FellBack, Hello, ObjectStored, Receipt
from s3sync.aws.settings import MAX_THREADS
from s3sync.transfer.batches import FAST_FILE_COST, FILE_COST, Batch

_UNKNOWN_LATENCY_THREADS = 32  # they cost no more CPU than four, and 64 no more than 32
_MIN_THREADS = 8


class ThreadChoice:
    """Chooses the number of requests at once for each batch of an upload. Any thread may call its methods."""

    def __init__(self, multipart: Multipart, chosen: int | None, *, is_fast: bool) -> None:
        """`chosen` is the number that the user set, if any; `is_fast` says whether the fast path should work."""
        self._multipart = multipart
        self._chosen = chosen
        self._is_fast = is_fast
        self._seconds = 0.0  # duration of the shortest request on the fast path; 0: unknown
        self._lock = threading.Lock()

    @property
    def file_cost(self) -> float:
        """Return the CPU-seconds that a small file takes."""
        return FAST_FILE_COST if self._is_fast else FILE_COST

    def note(self, receipt: Receipt) -> None:
        """Learn from a receipt."""
        with self._lock:
            if isinstance(receipt, Hello):
                self._is_fast = receipt.is_fast
            elif isinstance(receipt, FellBack):
                self._is_fast = False
            elif isinstance(receipt, ObjectStored) and receipt.is_fast and receipt.seconds:
                self._seconds = min(self._seconds or receipt.seconds, receipt.seconds)

    def threads_for(self, batch: Batch) -> int | None:
        """Return the number of requests at once for a batch; None for the usual number."""
        with self._lock:
            has_parts = any(self._multipart.part_size_for(file.size) for file in batch.files)
            if self._chosen or has_parts or not self._is_fast:
                return None
            if not self._seconds:
                return _UNKNOWN_LATENCY_THREADS
            return min(max(_MIN_THREADS, round(self._seconds / FAST_FILE_COST)), MAX_THREADS)
