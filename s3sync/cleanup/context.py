"""Hold the values that all steps of a cleanup need."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from s3sync.config import Config
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.transfer import displays
from s3sync.transfer.context import Runtime

DisplayMaker: TypeAlias = Callable[[], displays.Display]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupContext:
    """The values that all steps of a cleanup need."""

    config: Config
    older_than: float  # seconds since a run was completed
    require_restorable: bool = True  # whether a run that could not be restored is kept
    environ: Mapping[str, str]
    stop: StopRequest
    make_display: DisplayMaker

    def runtime(self, display: displays.Display) -> Runtime:
        """Return what a comparison with S3 that has this display needs."""
        return Runtime(self.environ, self.stop, display)

    def lock(self, path: Path, key: str) -> contextlib.AbstractContextManager[lock.HeldLock]:
        """Return a context manager that holds the lock of the run `key`. Raises BusyError and StoppedError."""
        return lock.hold(path, f"{key} is in use", stop=self.stop, show=self._print)

    def _print(self, line: str) -> None:
        with self.make_display() as display:
            display.print(line)
