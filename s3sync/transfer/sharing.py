"""Share one machine among the uploads of this program: `aws` processes, hashing threads and bandwidth."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from s3sync.resources import usable_cores
from s3sync.transfer.concurrency import ConcurrencyController, LoadMeter
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.request.bandwidth import UNLIMITED, BandwidthSchedule
from s3sync.transfer.slots import BEHIND_UPLOADS, SlotPool, SlotUser
from s3sync.transfer.throttle import RunningShares, Throttle

HASH_THREADS_PER_CORE = 0.5  # one thread hashes as much as several `aws` send
_BATCH_SECONDS = 15.0  # the longest that a batch should take, to make room; a start costs a twentieth of that
_FIRST_BYTES = 64_000_000  # size of a batch before anything was measured
_MEASURED_BYTES = 8_000_000  # smaller batches reveal little about the network


class SharedMachine:
    """The resources that all uploads of this program share. The one with the least left to send goes first."""

    def __init__(
        self, cores: int, max_processes: int, schedule: BandwidthSchedule | None = None, *, is_shared: bool = True
    ) -> None:
        """Without `is_shared` there is only one upload, which may keep what it has."""
        self.is_shared = is_shared
        self.hash_threads = max(1, round(cores * HASH_THREADS_PER_CORE))
        self.processes = SlotPool(cores, max_processes)
        self.hashing = SlotPool(self.hash_threads)
        # Processes that ask S3 about single objects have separate slots: files that were sent must not wait for those
        # that are being sent. Each upload has at least one slot, and none holds one while it waits, so there is no
        # deadlock. Listings take none: an upload makes one at a time.
        self.reading = SlotPool(cores)
        self.running_shares = RunningShares()
        self._pids: dict[SlotUser, Callable[[], Iterable[int]]] = {}  # the process ids of each upload
        self._controlling = threading.Lock()
        self._controller = ConcurrencyController(
            cores,
            max_processes,
            LoadMeter(usable_cores(), self._all_pids),
            is_limited=lambda: bool(schedule and schedule.rate(datetime.now()) is not None),  # noqa: DTZ005 - local
        )

    @classmethod
    def of(cls, request: UploadRequest) -> SharedMachine:
        """Return the machine for one request that shares it with no other."""
        return cls(request.cores, request.process_limit, request.max_bandwidth, is_shared=False)

    @contextlib.contextmanager
    def join(self, pids: Callable[[], Iterable[int]]) -> Iterator[MachineShare]:
        """Let an upload take part for the time of the `with`; `pids` returns its running processes."""
        with self.processes.join() as processes, self.hashing.join() as hashing, self.reading.join() as reading:
            self._pids[processes] = pids
            try:
                yield MachineShare(self, processes, hashing, reading)
            finally:
                del self._pids[processes]

    def _all_pids(self) -> list[int]:
        return [pid for pids in tuple(self._pids.values()) for pid in pids()]

    @contextlib.contextmanager
    def controller(self) -> Iterator[ConcurrencyController]:
        """Lock the controller of the number of processes, and yield it."""
        with self._controlling:
            yield self._controller


@dataclass(frozen=True, slots=True)
class MachineShare:
    """The share of the machine that one upload has."""

    machine: SharedMachine
    _processes: SlotUser
    _hashing: SlotUser
    _reading: SlotUser

    @property
    def fraction(self) -> float:
        """Return this upload's part of all processes, from 0 to 1."""
        return self.machine.processes.fraction(self._processes)

    def concurrency(self) -> UploadConcurrency:
        """Return the object that decides how many processes of this upload may run."""
        return UploadConcurrency(self.machine, self._processes, self._hashing)

    def throttle(self, schedule: BandwidthSchedule | None, processes: int) -> Throttle:
        """Return the throttle that divides the bandwidth of this upload among its processes, of which this number
        usually run.
        """
        return Throttle(schedule or UNLIMITED, processes, self.machine.running_shares, lambda: self.fraction)

    def note_left(self, seconds: float) -> None:
        """Note how much work this upload has left, in seconds."""
        self._processes.left = self._hashing.left = self._reading.left = seconds

    def stay_behind_uploads(self) -> None:
        """Let all uploads go first: from now on this is the share of a restore."""
        self.note_left(BEHIND_UPLOADS)

    def background_concurrency(self) -> BackgroundConcurrency:
        """Return the object that decides how many processes of a restore may run."""
        return BackgroundConcurrency(self.concurrency())

    def reading_turn(self) -> AbstractContextManager[None]:
        """Wait until this upload may ask S3 with one more process, and count that process during the `with`."""
        return self.machine.reading.turn(self._reading)

    def hashing_turn(self) -> AbstractContextManager[None]:
        """Wait until this upload may hash with one more thread, and count that thread during the `with`."""
        return self.machine.hashing.turn(self._hashing)


class BatchPace:
    """Bounds batches by the speed of earlier ones. An upload that does not share the machine needs no bound."""

    def __init__(self, *, is_bounded: bool) -> None:
        self.most_bytes = _FIRST_BYTES if is_bounded else math.inf
        self._is_bounded = is_bounded

    def note(self, size: int, seconds: float) -> None:
        """Note how many seconds a process took for a batch of this size in bytes."""
        if self._is_bounded and size >= _MEASURED_BYTES and seconds > 0:
            self.most_bytes = max(_FIRST_BYTES, size / seconds * _BATCH_SECONDS)


class UploadConcurrency:
    """Decides how many of the processes on the machine one upload may run."""

    def __init__(self, machine: SharedMachine, processes: SlotUser, hashing: SlotUser) -> None:
        self._machine = machine
        self._processes = processes
        self._hashing = hashing
        self.pace = BatchPace(is_bounded=machine.is_shared)
        with machine.controller() as controller:
            self.size = controller.size
            self.usual_size = controller.size  # while there is work for more processes than one
            self.max_size = controller.max_size

    def reset(self) -> None:
        """Start to measure the load, unless other uploads have done so."""
        if not self._machine.processes.taken_by_others(self._processes):
            with self._machine.controller() as controller:
                controller.reset()

    def update(self, running: int, *, has_work: bool, left: float, is_waiting: bool) -> int:
        """Return the number of processes that may run, given the number that run now.

        `has_work` says whether there is work for one more process, `left` is the remaining work in seconds, and
        `is_waiting` says whether some of it has not started.
        """
        pool = self._machine.processes
        others = pool.taken_by_others(self._processes)
        with self._machine.controller() as controller:
            size = controller.update(running + others, has_work=has_work) if has_work or not others else controller.size
        pool.resize(size)
        self._hashing.left = left
        wanted = max(size, running) if is_waiting else running
        self.size = pool.request(self._processes, left=left, wanted=wanted, taken=running)
        return self.size

    def note_running(self, running: int) -> None:
        """Note how many processes run now."""
        user = self._processes
        wanted = user.wanted if running else 0
        self._machine.processes.request(user, left=user.left, wanted=wanted, taken=running)

    @property
    def expected_size(self) -> int:
        """Return how many may run soon: batches must leave work for them."""
        with self._machine.controller() as controller:
            return controller.expected_size


class BackgroundConcurrency:
    """Decides how many processes of a restore may run: as many as uploads leave, but at least one."""

    def __init__(self, concurrency: UploadConcurrency) -> None:
        self._concurrency = concurrency
        self.max_size = concurrency.max_size

    @property
    def size(self) -> int:
        """Return how many processes may run, by the last update."""
        return self._concurrency.size

    def reset(self) -> None:
        """Start to measure the load, unless other uploads have done so."""
        self._concurrency.reset()

    def update(self, running: int, *, has_work: bool) -> int:
        """Return the number of processes that may run, given the number that run now, and whether one more has work."""
        return self._concurrency.update(running, has_work=has_work, left=BEHIND_UPLOADS, is_waiting=has_work)

    def note_end(self) -> None:
        """Note that no process runs any more."""
        self._concurrency.note_running(0)
