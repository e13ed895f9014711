"""Record the share of the bandwidth that each running process of all uploads was given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

Share: TypeAlias = "int | None"  # bytes a second; None without a limit
Decision: TypeAlias = Callable[[Sequence[Share], Sequence[Share]], Share]


class RunningShares:
    """The shares of all processes that run or are about to start. Any thread may call its methods."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_batch: dict[tuple[object, int], Share] = {}  # by upload and the number of the batch
        self._by_pid: dict[int, Share] = {}

    def add(self, upload: object, batch: int, decide: Decision) -> Share:
        """Let `decide` say the share of a batch from those of the upload itself and of the others, and return it."""
        with self._lock:
            own = [share for (other, _), share in self._by_batch.items() if other is upload]
            others = [share for (other, _), share in self._by_batch.items() if other is not upload]
            share = self._by_batch[upload, batch] = decide(own, others)
            return share

    def forget(self, upload: object, batch: int) -> None:
        """Forget the share of a batch that has ended."""
        with self._lock:
            del self._by_batch[upload, batch]

    def note_start(self, pid: int, share: Share) -> None:
        """Note that a process with this share runs."""
        with self._lock:
            self._by_pid[pid] = share

    def note_end(self, pid: int) -> None:
        """Note that a process has ended."""
        with self._lock:
            self._by_pid.pop(pid, None)

    def by_pid(self) -> dict[int, Share]:
        """Return the shares of all processes that run, by process id."""
        with self._lock:
            return dict(self._by_pid)
