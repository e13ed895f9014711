"""Write a run over time: step by step, or at the pace of an instrument."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.simulate.files import DEFAULT_SCALE
from scripts.simulate.plan import Run
from scripts.simulate.timeline import Moment, timeline
from scripts.simulate.writing import begin_folder


class LiveRun:
    """A run folder in the making: each `next` makes one write and gives its moment; nothing waits here.

        live = LiveRun(parent, plan_run("novaseq6000", cycles=(3, 2, 2, 3), lanes=1, tiles=2))
        live.write_until("cycle 4/10")
        for moment in live: ...  # the rest

    At the end the folder holds the names and bytes that `make_run` gives it; modification times are those of
    writing. The options are those of `timeline`. Raises ValueError and FileExistsError as `make_run` does.
    """

    def __init__(
        self,
        parent: Path,
        run: Run,
        scale: float = DEFAULT_SCALE,
        *,
        complete: bool = True,
        rewrite: int = 0,
        abandon: int | None = None,
    ) -> None:
        moments = timeline(run, scale, complete=complete, rewrite=rewrite, abandon=abandon)
        self._left = deque(moments)
        self._writer = begin_folder(parent, run)

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self._writer.folder

    @property
    def upcoming(self) -> Moment | None:
        """Return the next write; None if the run is over."""
        return self._left[0] if self._left else None

    def __iter__(self) -> Iterator[Moment]:
        return self

    def __next__(self) -> Moment:
        if not self._left:
            raise StopIteration
        moment = self._left.popleft()
        file, since, upto, draft = moment.write
        self._writer.write(file, since, upto, draft=draft)
        return moment

    def write_until(self, phase: str) -> list[Moment]:
        """Make all writes up to the end of that phase; raises ValueError if it does not come any more."""
        ends = [number for number, moment in enumerate(self._left, start=1) if moment.phase == phase]
        if not ends:
            raise ValueError(f"{phase} does not come any more")
        return [next(self) for _ in range(ends[-1])]


def at_pace(live: LiveRun, speed: float, wait: Callable[[float], bool]) -> Iterator[Moment]:
    """Make each write at its time, `speed` times as fast as the instrument, and give its moment.

    `wait` sleeps for so many seconds and says whether to stop instead.
    """
    began = time.monotonic()
    while moment := live.upcoming:
        if wait(max(began + moment.seconds / speed - time.monotonic(), 0)):
            return
        yield next(live)
