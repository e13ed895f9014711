"""Copy a run the way rsync does: the root first, and with it the completion markers."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from scripts.simulate.files import DEFAULT_SCALE, RunFile, run_files
from scripts.simulate.plan import Run
from scripts.simulate.writing import begin_folder

HOUR = 3600.0


class Step(NamedTuple):
    """The disk after a step: a file under its temporary name, half of it, or the whole file."""

    path: str  # of the file, relative to the run folder
    whole: bool

    @property
    def part(self) -> str:
        """Of the run, which is copied without a break: the root (empty), a folder in it, or a lane's base calls."""
        folders = PurePosixPath(self.path).parts[:-1]
        lane = folders[:4] if folders[:3] == ("Data", "Intensities", "BaseCalls") else folders[:1]
        return "/".join(lane)


class MirroredRun:
    """A run folder that is copied: each `next` makes one step and gives it; nothing waits here.

        copy = MirroredRun(parent, plan_run("novaseqx", cycles=(3, 2, 2, 3), lanes=2, tiles=2))
        copy.copy_until("Data/Intensities/BaseCalls/L001")
        for step in copy: ...  # the rest

    As rsync does it: in a folder first the files, by name, then the folders in it; each file under a temporary name
    (`.L001_1.cbcl.Xa12Bc`) until it is whole; with the times of the instrument, which finished the run `hours_ago`. At
    the end the folder holds the names and bytes that `make_run` gives it. Raises ValueError and FileExistsError as
    `make_run` does.
    """

    def __init__(self, parent: Path, run: Run, scale: float = DEFAULT_SCALE, *, hours_ago: float = 0.0) -> None:
        files = sorted(run_files(run, scale), key=lambda file: _place(file.path))
        self._left = deque((file, whole) for file in files for whole in (False, True))
        self._writer = begin_folder(parent, run)
        self._ended = time.time() - hours_ago * HOUR

    @property
    def folder(self) -> Path:
        """Return the run folder."""
        return self._writer.folder

    @property
    def upcoming(self) -> Step | None:
        """Return the next step; None if everything is copied."""
        return Step(self._left[0][0].path, self._left[0][1]) if self._left else None

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        if not self._left:
            raise StopIteration
        file, whole = self._left.popleft()
        temporary = file._replace(path=_temporary(file.path))
        self._writer.write(temporary, 0, file.size // 2)
        if whole:
            self._finish(file, temporary)
        return Step(file.path, whole)

    def copy_until(self, part: str) -> list[Step]:
        """Make all steps up to the end of that part: the root (empty), a folder in it, or a lane's base calls; raises
        ValueError if it does not come any more."""
        ends = [n for n, (file, whole) in enumerate(self._left, start=1) if Step(file.path, whole).part == part]
        if not ends:
            raise ValueError(f"{part or 'the root'} does not come any more")
        return [next(self) for _ in range(ends[-1])]

    def _finish(self, file: RunFile, temporary: RunFile) -> None:
        """Write the bytes of a file. They depend on its name, so a temporary file has other bytes than the whole."""
        place = self.folder / file.path
        (self.folder / temporary.path).unlink()
        self._writer.write(file)
        os.utime(place, (self._ended, self._ended))


def copied(copy: MirroredRun, pause: float, wait: Callable[[float], bool]) -> Iterator[Step]:
    """Make each step and give it, with a pause before each part of the run; `wait` sleeps for that long and says
    whether to stop instead."""
    part = ""
    while step := copy.upcoming:
        if step.part != part and wait(pause):
            return
        part = step.part
        yield next(copy)


def _place(path: str) -> list[tuple[bool, str]]:
    """Sorts as rsync does: in each folder the files before the folders, both by name."""
    parts = PurePosixPath(path).parts
    return [(number < len(parts) - 1, name) for number, name in enumerate(parts)]


def _temporary(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.Xa12Bc".lstrip("/")
