"""Holds the `aws` processes together to what may be sent at this time of the day.

The CLI reads its limit when it starts, so each process gets its share then; one that outlives a window and would go
on faster than the next one allows is ended after a while, and its files are sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from s3sync.awsconfig import S3Settings, write_config
from s3sync.bandwidth import Timetable

GRACE_SECONDS = 120.0  # most batches are done by then, and nothing is sent twice


class Throttle:
    """The shares of so many processes; may be asked from several threads."""

    def __init__(
        self,
        timetable: Timetable,
        processes: int,
        environ: Mapping[str, str],
        settings: S3Settings,
        work: Path,
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timetable = timetable
        self._processes = processes
        self._environ = environ
        self._settings = settings
        self._work = work
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._configs: dict[int, Path] = {}
        self._tight_since: float | None = None  # since when processes run that are faster than they may

    def share(self) -> int | None:
        """What a process that starts now may send, bytes a second; None: no limit."""
        rate = self._timetable.rate(self._now())
        return None if rate is None else max(1, rate // self._processes)

    def config(self, share: int) -> Path:
        """An AWS config with this limit; raises AwsError."""
        with self._lock:
            if share not in self._configs:
                path = self._work / f"aws-config-{share}"
                write_config(self._environ, self._settings._replace(max_bandwidth=share), path)
                self._configs[share] = path
            return self._configs[share]

    def too_fast(self, shares: Mapping[int, int | None]) -> list[int]:
        """Which processes, given the share that each began with, have to be ended by now."""
        share = self.share()
        fast = [pid for pid, began in shares.items() if share is not None and (began is None or began > share)]
        if not fast:
            self._tight_since = None
            return []
        if self._tight_since is None:
            self._tight_since = self._clock()
        return fast if self._clock() - self._tight_since >= GRACE_SECONDS else []
