"""Work on several runs at once, each in its own thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

from s3sync.inventory import RunStatus
from s3sync.transfer import request

Outcome: TypeAlias = "request.UploadResult | None"  # None: not finished, but handed to a cluster


class Workers:
    """Threads that work on runs. One thread calls all methods, and gets the results."""

    def __init__(self, work: Callable[[RunStatus], Outcome]) -> None:
        self.others: set[Future[Any]] = set()  # other work, whose end also ends `wait`
        self._work = work
        self._runs: dict[Future[Outcome], RunStatus] = {}
        self._threads = ThreadPoolExecutor(max_workers=1_000, thread_name_prefix="run")  # the schedule sets the limit

    @property
    def runs(self) -> list[RunStatus]:
        """The runs that are being worked on."""
        return list(self._runs.values())

    def start(self, run: RunStatus) -> None:
        """Start work on a run."""
        self._runs[self._threads.submit(self._work, run)] = run

    def wait(self, seconds: float | None) -> list[tuple[RunStatus, Future[Outcome]]]:
        """Wait until some work has ended, at most for these seconds; return the ended runs with their results."""
        done = wait({*self._runs, *self.others}, seconds, return_when=FIRST_COMPLETED).done
        return [(self._runs.pop(future), future) for future in done if future in self._runs]

    def close(self) -> None:
        """Wait until all work has ended."""
        self._threads.shutdown()
