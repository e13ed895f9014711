"""Observers of a running `aws s3 cp`, for tests."""

from __future__ import annotations

from collections.abc import Callable

from s3sync.aws.receipts import Receipt


class Observer:
    """Passes lines and the process id on, and keeps the receipts."""

    def __init__(self, printed: Callable[[str], object], started: Callable[[int], object] = lambda pid: None) -> None:
        self._printed, self._started = printed, started
        self.receipts: list[Receipt] = []

    def started(self, pid: int) -> None:
        self._started(pid)

    def printed(self, line: str) -> None:
        self._printed(line)

    def received(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
