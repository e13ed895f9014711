"""Holds the `aws` processes together to what may be sent at this time of the day.

The CLI reads its limit when it starts, so each process gets its share then: of what the others leave, and more if much
of what is to be sent is its own, so that the last one is not left with the share of one of many. One that outlives a
window and would go on faster than the next one allows is ended after a while, and its files are sent again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import settings as aws_settings
from s3sync.transfer.bandwidth import BandwidthSchedule

_LEAST = 8  # a process gets no less than such a part of an equal share
_TOLERANCE = 1 + 2 / _LEAST  # where processes started unexpectedly, the least that they got may be too much
GRACE_SECONDS = 120.0  # most batches are done by then, and nothing is sent twice


class Ahead(NamedTuple):
    """What a process that starts now may expect."""

    coming: int  # more processes will start beside it
    part: float = 0.0  # of what is to be sent yet, that process sends so much


class Throttle:
    """The shares of so many processes; may be asked from several threads."""

    def __init__(
        self,
        timetable: BandwidthSchedule,
        processes: int,
        environ: Mapping[str, str],
        settings: aws_settings.S3Settings,
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
        """What one of all processes may send, bytes a second, if all of them run; None: no limit."""
        rate = self._timetable.rate(self._now())
        return None if rate is None else max(1, rate // self._processes)

    def share_beside(self, others: Iterable[int | None], ahead: Ahead | None = None) -> int | None:
        """What a process that starts now beside others with these shares may send, bytes a second; None: no limit.

        As much as its part of the work wants, but each that is still to come is left a part of an equal share.
        """
        rate, others = self._timetable.rate(self._now()), list(others)
        if rate is None:
            return None
        coming, part = ahead or Ahead(max(0, self._processes - 1 - len(others)))
        least = rate // (_LEAST * self._processes)
        free = rate - sum(rate // self._processes if other is None else other for other in others)
        wanted = max(free // (coming + 1), int(rate * part))
        return max(1, least, min(wanted, free - coming * least))

    def config(self, share: int) -> Path:
        """An AWS config with this limit; raises AwsError."""
        with self._lock:
            if share not in self._configs:
                path = self._work / f"aws-config-{share}"
                aws_settings.write_config(self._environ, self._settings._replace(max_bandwidth=share), path)
                self._configs[share] = path
            return self._configs[share]

    def too_fast(self, shares: Mapping[int, int | None]) -> list[int]:
        """Which processes, given the share that each began with, have to be ended by now.

        Those that began without a limit; and if the others together exceed it, those with more than an equal share.
        """
        equal = self.share()
        if equal is None:
            self._tight_since = None
            return []
        known = [began for began in shares.values() if began is not None]
        is_too_much = sum(known) > equal * self._processes * _TOLERANCE
        fast = [pid for pid, began in shares.items() if began is None or (is_too_much and began > equal)]
        if not fast:
            self._tight_since = None
            return []
        if self._tight_since is None:
            self._tight_since = self._clock()
        return fast if self._clock() - self._tight_since >= GRACE_SECONDS else []
