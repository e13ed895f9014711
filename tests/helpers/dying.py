"""A program that dies at a step to the disk, in microseconds: SIGKILL and power cuts by the thousand."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

_STEPS = {
    os: ("open", "write", "fsync", "fdatasync", "link", "rename", "replace", "unlink", "remove", "mkdir", "ftruncate"),
    Path: ("mkdir", "rename", "replace", "unlink", "touch"),  # Python 3.10 does not look at `os` again for these
}


class Died(BaseException):
    """The process is gone; nothing that it would still do is done."""


class Death(NamedTuple):
    """Before the step of this number, from 0; if that is a write, with this part of the bytes written.

    SIGKILL leaves with the kernel what was written. If the `power` fails, what was not synced is lost, or zeros.
    """

    step: int
    part: float = 0.0
    power: Literal["", "lost", "zeros"] = ""


@dataclass
class Disk:
    """What lies below `folder`; the program that writes it there is one process after the other."""

    folder: Path
    _pid: int = 1000
    _synced: dict[int, int] = field(default_factory=dict)  # inode -> bytes, of files that are not synced as a whole

    @contextlib.contextmanager
    def process(self, death: Death | None) -> Iterator[None]:
        """While inside, we are a process that will die so, if it takes as many steps; raises Died."""
        steps = _Steps(death, self._synced)

        def getpid() -> int:  # a thousand mocks take seconds to make
            return self._pid

        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(os, "getpid", getpid))
            for owner, names in _STEPS.items():
                for name in names:
                    patches.enter_context(mock.patch.object(owner, name, steps.of(name, getattr(owner, name))))
            yield

    def bury(self, death: Death) -> None:
        """What the disk has after a death; the next process has another id."""
        self._pid += 1
        if not death.power:
            return
        for path in self.folder.rglob("*"):
            synced = self._synced.get(path.lstat().st_ino)
            if synced is not None:
                size = path.stat().st_size
                kept = synced + int((size - synced) * death.part)
                os.truncate(path, kept)
                if death.power == "zeros":
                    os.truncate(path, size)
        self._synced.clear()


class _Steps:
    """Counts those of the thread that made it, and stops at the last: other threads of this process live on."""

    def __init__(self, death: Death | None, synced: dict[int, int]) -> None:
        self._death = death
        self._synced = synced
        self._taken = 0
        self._within = False  # some call others of ours
        self._thread = threading.get_ident()

    def of(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        ours: dict[str, Callable[..., Any]] = {"write": self._write, "fsync": self._sync, "fdatasync": self._sync}
        does = ours.get(name, real)

        def step(*args: Any, **options: Any) -> Any:
            if self._within or threading.get_ident() != self._thread:
                return real(*args, **options)
            self._within = True
            try:
                if self._death and self._taken >= self._death.step:
                    if name == "write" and self._taken == self._death.step:
                        self._write(args[0], args[1][: int(len(args[1]) * self._death.part)])
                    raise Died
                return does(*args, **options)
            finally:
                self._within = False
                self._taken += 1

        return step

    def _write(self, descriptor: int, content: bytes) -> int:
        status = os.fstat(descriptor)
        if status.st_size == 0:  # a new file, maybe with the number of one that is gone
            self._synced.pop(status.st_ino, None)
        self._synced.setdefault(status.st_ino, status.st_size)
        return os.write(descriptor, content)

    def _sync(self, descriptor: int) -> None:
        """Nobody waits for a disk."""
        self._synced.pop(os.fstat(descriptor).st_ino, None)
