"""Work on several runs at once, each in its own thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

from s3sync.inventory import RunStatus
from s3sync.transfer import request

Outcome: TypeAlias = "request.UploadResult | None"  # None: not finished, and others work on it


class Workers:
    """Threads that work on runs. All methods are for one thread, which gets the results."""

    def __init__(self, work: Callable[[RunStatus], Outcome]) -> None:
        self.beside: set[Future[Any]] = set()  # other work, whose end is waited for, too
        self._work = work
        self._runs: dict[Future[Outcome], RunStatus] = {}
        self._threads = ThreadPoolExecutor(max_workers=1_000, thread_name_prefix="run")  # as many as are needed

    @property
    def runs(self) -> list[RunStatus]:
        """Return the runs that are being worked on."""
        return list(self._runs.values())

    def start(self, run: RunStatus) -> None:
        """Begin to work on a run."""
        self._runs[self._threads.submit(self._work, run)] = run

    def wait(self, seconds: float | None) -> list[tuple[RunStatus, Future[Outcome]]]:
        """Wait until some work has ended, but at most this long; return the ended runs with their results."""
        done = wait({*self._runs, *self.beside}, seconds, return_when=FIRST_COMPLETED).done
        return [(self._runs.pop(future), future) for future in done if future in self._runs]

    def close(self) -> None:
        """Wait until all work has ended."""
        self._threads.shutdown()
