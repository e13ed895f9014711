"""Leases: what keeps two hosts from one run. Other hosts are played by other places, where `flock` means nothing."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import EXIT_BUSY, BusyError, InterruptedBySignal, LeaseLostError, StateError
from s3sync.runs.run_folder import open_run
from s3sync.signals import StopRequest
from s3sync.state import lease, lease_files, lock
from s3sync.state.lease import Lease, LeaseTiming
from s3sync.state.lease_files import KEEP_GENERATIONS, LeaseFiles
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from tests.helpers.errors import raises_error
from tests.helpers.lab import BUCKET, tree
from tests.helpers.lease_text import theirs
from tests.helpers.leases import LASTING, QUICK, left_behind, take, taken_over, unheard, wish

SLOW = LeaseTiming(heartbeat=60.0, missed_beats=12)  # nothing happens by itself
FAR_FUTURE = 4_000_000_000  # seconds since the epoch


@pytest.fixture
def numbers(tmp_path: Path) -> LeaseFiles:
    return LeaseFiles(tmp_path / "leases" / "RUN")


def no_pause(_seconds: float) -> None:
    raise AssertionError("there is nothing to wait for")


def names(numbers: LeaseFiles) -> list[str]:
    return sorted(os.listdir(numbers.path(1).parent))


def leases(numbers: LeaseFiles) -> list[str]:
    """The names without the temporary files that a live holder's heartbeat makes at any moment."""
    return [name for name in names(numbers) if not name.endswith(".tmp")]


@pytest.fixture(autouse=True)
def _no_lease_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the threads of every lease, also where a failed assertion kept a test from releasing its own."""
    started: list[Lease] = []
    start = Lease.start

    def start_and_remember(held: Lease) -> None:
        started.append(held)
        start(held)

    monkeypatch.setattr(Lease, "start", start_and_remember)
    yield
    for held in started:
        held._stopped.set()
    for thread in (thread for held in started for thread in held._threads):
        thread.join(120)
        assert not thread.is_alive(), "a lease's thread outlives its test"


# Taken, held, released


def test_a_lease_is_taken_released_and_taken_again_at_once(numbers: LeaseFiles) -> None:
    for place in ("here", "there", "here"):
        take(numbers, place, SLOW, pause=no_pause).release()
    assert names(numbers) == ["1", "2", "3"], "and nothing else is left"


def test_its_files_are_private(numbers: LeaseFiles) -> None:
    held = take(numbers, "here")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (numbers.path(1).parents[1], numbers.path(1).parent)]
    assert modes == [0o700, 0o700]
    assert stat.S_IMODE(numbers.path(1).stat().st_mode) == 0o600
    held.release()
    assert stat.S_IMODE(numbers.path(1).stat().st_mode) == 0o600


@pytest.mark.parametrize("moment", [0, FAR_FUTURE])
def test_a_live_holder_is_busy_regardless_of_the_clocks(numbers: LeaseFiles, moment: int) -> None:
    class Skewed(LeaseFiles):
        """All that is written has a wrong time."""

        def replace(self, number: int, content: bytes, token: str) -> None:
            super().replace(number, content, token)
            os.utime(self.path(number), (moment, moment))

    held = take(Skewed(numbers.path(1).parent), "here", LASTING)
    with raises_error(BusyError, "lock.busy", f"process {os.getpid()} on {os.uname().nodename} since "):
        take(numbers, "there", LeaseTiming(heartbeat=0.1, missed_beats=600))
    held.check()
    held.release()


def test_without_waiting_a_holder_is_busy_at_once(numbers: LeaseFiles) -> None:
    left_behind(numbers)
    with raises_error(BusyError, "lock.busy", "process 7 on sequencer-2 since 2026"):
        take(numbers, "here", wait_for_dead_holder=False, pause=no_pause)
    assert names(numbers) == ["1"]


@pytest.mark.parametrize("moment", [0, FAR_FUTURE])
def test_a_dead_holder_is_replaced_after_its_missed_beats(numbers: LeaseFiles, moment: int) -> None:
    left_behind(numbers)
    os.utime(numbers.path(1), (moment, moment))
    said: list[str] = []
    began = lease.now()
    held = take(numbers, "here", LeaseTiming(heartbeat=0.05, missed_beats=6), show=said.append)
    assert lease.now() - began >= 6 * 0.05
    assert said == ["sequencer-2 holds the lease of RUN; checking for 0.3 s whether it is alive ..."]
    held.release()
    assert names(numbers) == ["1", "2"]


def test_a_second_lease_of_a_process_that_died_is_taken_without_another_wait(tmp_path: Path) -> None:
    """As those of the monitor and of a run, of a host that lost power; one that has a beat meanwhile is looked at."""
    first, second, alive = (LeaseFiles(tmp_path / "leases" / name) for name in ("monitor", "RUN", "ANOTHER"))
    for numbers in (first, second, alive):
        left_behind(numbers)
    held = take(first, "here", LeaseTiming(0.02, 3))
    alive.replace(1, theirs(beat=4), "theirs")
    looked: list[float] = []

    def pause(seconds: float) -> None:
        looked.append(seconds)
        alive.replace(1, theirs(beat=5 + len(looked)), "theirs")

    others = take(second, "here", SLOW, pause=no_pause)
    with pytest.raises(BusyError):
        take(alive, "here", SLOW, pause=pause)
    assert len(looked) == 1
    assert names(second) == ["1", "2"], "nothing else is left"
    others.release()
    held.release()


def test_a_lease_that_only_seems_unchanged_is_watched(tmp_path: Path) -> None:
    """A client of NFS shows what it remembers of a folder, until it changes something there."""

    class Cached(LeaseFiles):
        """The file server has a newer beat."""

        def read(self, number: int) -> bytes:
            changed = any(".probe." in path.name for path in made)
            return theirs(beat=99) if changed else super().read(number)

    made: list[Path] = []
    write_synced = files.write_synced

    def note(path: Path, content: bytes) -> None:
        made.append(path)
        write_synced(path, content)

    first, second = LeaseFiles(tmp_path / "leases" / "monitor"), Cached(tmp_path / "leases" / "RUN")
    for numbers in (first, second):
        left_behind(numbers)
    held = take(first, "here", LeaseTiming(0.02, 3))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(files, "write_synced", note)
        with pytest.raises(BusyError):
            take(second, "here", SLOW, pause=lambda _seconds: None)
    held.release()


def test_a_holder_that_died_where_its_flock_is_ours_is_replaced_at_once(numbers: LeaseFiles) -> None:
    left_behind(numbers, place="here")
    take(numbers, "here", SLOW, pause=no_pause).release()


def test_a_lease_that_is_released_while_it_is_watched_is_taken_at_once(numbers: LeaseFiles) -> None:
    left_behind(numbers)
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        numbers.replace(1, theirs(released=True), "theirs")

    take(numbers, "here", SLOW, pause=pause).release()
    assert looks == [SLOW.heartbeat / 5]


# The file server


class Away(LeaseFiles):
    """Of a file server that answers one look, then `looks` of them as `answer` does; then the holder beats again."""

    def __init__(self, folder: Path, looks: int, answer: Callable[[], None]) -> None:
        super().__init__(folder)
        self._left = looks + 1
        self._looks = looks
        self._answer = answer

    def read(self, number: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            self.replace(number, b"another beat", "theirs")
        elif self._left < self._looks:
            self._answer()
        return super().read(number)


def refused() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def slow() -> None:
    threading.Event().wait(1.5 * QUICK.heartbeat)


@pytest.mark.parametrize(("answer", "looks"), [(refused, 100), (slow, 3 * QUICK.missed_beats)])
def test_an_absent_file_server_makes_no_holder_seem_dead(
    numbers: LeaseFiles, answer: Callable[[], None], looks: int
) -> None:
    left_behind(numbers)
    said: list[str] = []
    with pytest.raises(BusyError):
        lease.acquire(Away(numbers.path(1).parent, looks, answer), wish("here", show=said.append), unheard)
    assert said == [], "no look has counted"


@pytest.mark.parametrize("error", [errno.EEXIST, errno.EIO])
def test_a_lost_answer_is_made_up_for_by_a_read(
    numbers: LeaseFiles, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The link is made, and the client asks again, or hears of an error."""
    link = os.link

    def link_and_fail(source: Path, target: Path) -> None:
        link(source, target)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", link_and_fail)
    take(numbers, "here", SLOW, pause=no_pause).release()
    assert names(numbers) == ["1"]


def test_a_link_that_was_not_made_is_an_error(numbers: LeaseFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(PermissionError):
        take(numbers, "here")
    assert names(numbers) == [], "nothing is left"


class Outdated(LeaseFiles):
    """Of a client that at first sees a folder as it was long ago, when 1 was released."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._is_outdated = True

    def highest(self) -> int:
        was_outdated, self._is_outdated = self._is_outdated, False
        return 1 if was_outdated else super().highest()

    def read(self, number: int) -> bytes:
        return theirs(released=True) if number == 1 else super().read(number)


@pytest.mark.parametrize("later", [2, 1 + KEEP_GENERATIONS, 2 * KEEP_GENERATIONS])
def test_an_outdated_listing_makes_no_second_holder(numbers: LeaseFiles, later: int) -> None:
    """Whether the next number still exists or has been tidied away."""
    for _ in range(later - 1):
        take(numbers, "there", SLOW).release()
    held = take(numbers, "there", LASTING)
    before = leases(numbers)
    with pytest.raises(BusyError):
        lease.acquire(Outdated(numbers.path(1).parent), wish("here", LeaseTiming(0.1, 600)), unheard)
    assert leases(numbers) == before
    held.check()
    held.release()


def test_only_the_last_few_files_stay(numbers: LeaseFiles) -> None:
    for number in range(3 * KEEP_GENERATIONS):
        if number == 2:
            (numbers.path(1).parent / ".2.killed.tmp").touch()
        take(numbers, "here", SLOW).release()
    assert names(numbers) == sorted(str(number) for number in range(2 * KEEP_GENERATIONS + 1, 3 * KEEP_GENERATIONS + 1))


# What is no lease

HOSTILE = [
    b"",
    b"\0" * 5000,
    b"[" * 4096,
    b"null",
    b'"released"',
    b'{"released": true}',
    b'{"host": 1, "pid": 1e999, "since": [], "place": {}, "released": 1}',
    b'{"host": "\\ud800\\u001b[31m", "pid": 1, "since": "", "place": "", "released": "true"}',
]


@pytest.mark.parametrize("content", HOSTILE)
def test_invalid_content_counts_as_a_lease_without_heartbeat(numbers: LeaseFiles, content: bytes) -> None:
    numbers.prepare()
    numbers.path(7).write_bytes(content)
    said: list[str] = []
    take(numbers, "here", show=said.append).release()
    assert len(said) == 1
    assert said[0].isprintable()
    assert names(numbers) == ["7", "8"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_anything_but_a_file_counts_as_a_lease_without_heartbeat(
    numbers: LeaseFiles, tmp_path: Path, kind: str
) -> None:
    numbers.prepare()
    (tmp_path / "elsewhere").write_bytes(theirs(released=True))
    if kind == "link":
        numbers.path(7).symlink_to(tmp_path / "elsewhere")
    else:
        {"folder": os.mkdir, "pipe": os.mkfifo}[kind](numbers.path(7))
    said: list[str] = []
    take(numbers, "here", show=said.append).release()
    assert len(said) == 1, "a link is not followed"
    assert (tmp_path / "elsewhere").read_bytes() == theirs(released=True)


def test_invalid_content_that_changes_is_alive(numbers: LeaseFiles) -> None:
    numbers.prepare()
    numbers.path(7).write_bytes(b"?")
    changes = iter(range(1000))
    with raises_error(BusyError, "lock.busy", "another process"):
        take(numbers, "here", pause=lambda _: numbers.replace(7, b"?" * next(changes), "theirs"))


def test_files_with_other_names_are_not_leases(numbers: LeaseFiles) -> None:
    numbers.prepare()
    for name in ("0", "-1", "1e3", "007", "lost+found", ".nfs0001", ".9.tmp"):
        (numbers.path(1).parent / name).touch()
    assert numbers.highest() == 0
    take(numbers, "here", SLOW, pause=no_pause).release()


# Several at once


def test_one_of_many_hosts_gets_the_lease_of_a_dead_holder(numbers: LeaseFiles) -> None:
    numbers.prepare()
    for round_ in range(3):
        left_behind(numbers, numbers.highest() + 1, round=round_)
        won: list[Lease] = []

        def contend(place: str, won: list[Lease] = won) -> None:
            try:
                won.append(take(numbers, place, LeaseTiming(0.05, 20)))
            except BusyError:
                return

        threads = [threading.Thread(target=contend, args=(f"host {number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(won) == 1
        won[0].check()
        won[0].release()


# Lost


def test_a_holder_notices_at_its_next_beat_that_it_has_lost(numbers: LeaseFiles) -> None:
    lost: list[LeaseLostError] = []
    heard = threading.Event()

    def on_lost(why: LeaseLostError) -> None:
        lost.append(why)
        heard.set()

    held = lease.acquire(numbers, wish("here", LASTING), on_lost)
    winner = taken_over(numbers)
    assert heard.wait(120)
    with raises_error(LeaseLostError, "lock.taken-over", "sequencer-2: RUN "):
        held.check()
    held.release()
    assert [why.exit_code for why in lost] == [EXIT_BUSY], "reported once"
    assert numbers.read(2) == winner
    assert numbers.highest() == 2


def test_a_holder_that_asks_learns_at_once_that_it_has_lost(numbers: LeaseFiles) -> None:
    held = take(numbers, "here", SLOW)
    held.check()
    taken_over(numbers)
    with pytest.raises(LeaseLostError):
        held.check()
    held.release()


def test_a_holder_that_cannot_renew_its_lease_gives_it_up_in_time(numbers: LeaseFiles, tmp_path: Path) -> None:
    heard = threading.Event()
    many_beats = LeaseTiming(heartbeat=0.05, missed_beats=24)  # on a busy machine some come late
    held = lease.acquire(numbers, wish("here", many_beats), lambda _why: heard.set())
    numbers.path(1).parent.rename(tmp_path / "elsewhere")  # at once: a beat would bring new files into its way
    assert heard.wait(120)
    with raises_error(LeaseLostError, "lock.not-renewed", "(No such file or directory)"):
        held.check()
    held.release()


class Hanging(LeaseFiles):
    """Of a file server that does not answer any more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gone = threading.Event()
        self.back = threading.Event()
        self.called = threading.Event()

    def replace(self, number: int, content: bytes, token: str) -> None:
        if self.gone.is_set():
            self.called.set()
            assert self.back.wait(120)
        super().replace(number, content, token)


def test_a_holder_whose_file_server_hangs_gives_it_up_in_time(numbers: LeaseFiles) -> None:
    hanging = Hanging(numbers.path(1).parent)
    heard = threading.Event()
    held = lease.acquire(hanging, wish("here", LeaseTiming(0.2, 6)), lambda _why: heard.set())
    hanging.gone.set()
    assert heard.wait(120)
    with raises_error(LeaseLostError, "lock.not-renewed", "the file server does not answer"):
        held.check()
    hanging.back.set()
    held.release()
    take(numbers, "there", SLOW, pause=no_pause).release()


def test_a_release_ends_even_if_the_file_server_does_not_answer(numbers: LeaseFiles) -> None:
    """Whether the beat or the release itself hangs: others find the lease dead. Released once the server is back."""
    for beat in (0.02, 60.0):
        hanging = Hanging(numbers.path(1).parent)
        held = lease.acquire(hanging, wish("here", LeaseTiming(beat, 10**6, release_wait=0.02)), unheard)
        hanging.gone.set()
        if beat < 1:
            assert hanging.called.wait(120)
        held.release()
        last = lease_files.parse(numbers.read(numbers.highest()))
        assert last
        assert not last.is_released
        hanging.back.set()
        for thread in threading.enumerate():
            if thread.name.endswith("(_write_released)"):
                thread.join(120)
        last = lease_files.parse(numbers.read(numbers.highest()))
        assert last
        assert last.is_released


# The lock


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "locks" / "RUN.lock"


def leases_of(lock_path: Path) -> LeaseFiles:
    return LeaseFiles(lock_path.parents[1] / "leases" / "RUN")


def test_a_lock_is_a_lease_too(lock_path: Path) -> None:
    with lock.hold(lock_path, "RUN"):
        holder = lease_files.parse(leases_of(lock_path).read(1))
        assert holder is not None
        assert (holder.pid, holder.is_released) == (os.getpid(), False)
    holder = lease_files.parse(leases_of(lock_path).read(1))
    assert holder is not None
    assert holder.is_released


def test_a_lock_that_another_host_holds_is_busy_and_its_file_is_left_alone(lock_path: Path) -> None:
    """It is signed by who holds it, and since when counts."""
    lock_path.parent.mkdir(parents=True)
    lock_path.write_text("process 7 on sequencer-2 since 2026\n")
    other = take(leases_of(lock_path), "there", LASTING)
    with pytest.raises(BusyError), lock.hold(lock_path, "RUN"):
        pass
    other.release()
    assert lock_path.read_text() == "process 7 on sequencer-2 since 2026\n"


def test_a_lost_lock_requests_a_stop(lock_path: Path) -> None:
    stop = StopRequest()
    with lock.hold(lock_path, "RUN", stop=stop, timing=LASTING) as held:
        taken_over(leases_of(lock_path))
        assert stop.wait(120)
        for check in (stop.raise_if_requested, held.check):
            with raises_error(LeaseLostError, "lock.taken-over", "sequencer-2") as caught:
                check()
            assert caught.value.exit_code == EXIT_BUSY
    assert stop.has_lost_lease


def test_looking_at_a_lease_can_be_interrupted(lock_path: Path) -> None:
    left_behind(leases_of(lock_path))
    stop = StopRequest()
    stop.request(15)
    ended = raises_error(InterruptedBySignal, "run.interrupted", "SIGTERM")
    with ended, lock.hold(lock_path, "RUN", stop=stop, timing=SLOW):
        pass
    assert names(leases_of(lock_path)) == ["1"]


def test_a_place_where_no_lease_can_be_made_is_a_clear_error(lock_path: Path) -> None:
    lock_path.parents[1].mkdir()
    (lock_path.parents[1] / "leases").touch()
    with raises_error(StateError, "lock.cannot-lock", "RUN.lock: ", "--log-dir"), lock.hold(lock_path, "RUN"):
        pass


def test_a_full_disk_that_takes_no_lock_wants_room(lock_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lock, "open_private", full)
    with raises_error(StateError, "lock.cannot-lock", "RUN.lock: No space left on device "):
        lock.hold(lock_path, "RUN").__enter__()


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_lock_can_be_waited_for(lock_path: Path, where: str) -> None:
    lock_path.parent.mkdir(parents=True)
    asked: list[int] = []
    with lock_path.open("w") as stream:
        other = None
        if where == "here":
            assert lock.try_lock(stream.fileno())
        else:
            other = take(leases_of(lock_path), "there", LASTING)

        def give_up() -> bool:
            asked.append(1)
            if len(asked) == 3:
                stream.close()
                if other:
                    other.release()
            return False

        with lock.wait_for(lock_path, "RUN", StopRequest(), give_up, timing=LeaseTiming(0.5, 12)) as held:
            assert held
            held.check()
    assert len(asked) >= 3


@pytest.mark.parametrize("where", ["here", "there"])
def test_waiting_for_a_lock_has_a_time_limit(lock_path: Path, where: str) -> None:
    """Also while it looks whether a holder is dead."""
    lock_path.parent.mkdir(parents=True)
    with lock_path.open("w") as stream:
        if where == "here":
            assert lock.try_lock(stream.fileno())
        else:
            left_behind(leases_of(lock_path))
        answers = iter([False, True])
        with lock.wait_for(lock_path, "RUN", StopRequest(), lambda: next(answers), timing=LeaseTiming(0.5, 12)) as held:
            assert held is None


def test_waiting_for_a_lock_can_be_interrupted(lock_path: Path) -> None:
    lock_path.parent.mkdir(parents=True)
    stop = StopRequest()
    stop.request(15)
    with lock_path.open("w") as stream:
        assert lock.try_lock(stream.fileno())
        with pytest.raises(InterruptedBySignal), lock.wait_for(lock_path, "RUN", stop, lambda: False):
            pass


# What is shown


@pytest.mark.parametrize(
    ("more", "age", "shown"),
    [
        ({}, 0, "sequencer-2"),
        ({}, 500, "sequencer-2"),
        ({}, -500, "sequencer-2"),
        ({}, 700, ""),
        ({}, -700, ""),
        ({"released": True}, 0, ""),
        ({"place": "ours"}, 0, ""),
    ],
)
def test_a_holder_elsewhere_is_shown_while_it_seems_alive(
    lock_path: Path, more: dict[str, Any], age: float, shown: str
) -> None:
    if more.get("place"):
        with lock_path.parents[2].joinpath("any").open("w") as stream:
            more = {"place": lease_files.find_lock_domain(stream.fileno())}
    left_behind(leases_of(lock_path), **more)
    moment = time.time() - age
    os.utime(leases_of(lock_path).path(1), (moment, moment))
    assert lock.remote_holder(lock_path) == shown


def test_machines_with_the_same_boot_id_differ_by_their_names(lock_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual machines that were resumed from one snapshot: the lease of a live twin is not one of a dead process."""
    with lock.hold(lock_path, "RUN"):
        monkeypatch.setattr("socket.gethostname", lambda: "clone-2")
        with lock_path.open() as stream:
            elsewhere = lease_files.find_lock_domain(stream.fileno())
        with pytest.raises(BusyError):
            lease.acquire(leases_of(lock_path), wish(elsewhere, wait_for_dead_holder=False), unheard)
        assert lock.remote_holder(lock_path) == os.uname().nodename


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({}, True),
        ({"pid": 2**22 + 1}, False),  # no process has this id
        ({"pid": 2**22 + 1, "pids": "pid:[1]"}, True),  # of another container, whose processes are not seen here
        ({"released": True}, False),
    ],
)
def test_a_lock_that_the_kernel_lists_under_another_device_is_shown_by_its_lease(
    lock_path: Path, change: dict[str, Any], shown: bool
) -> None:
    """As on btrfs; a process that was killed holds nothing."""
    (lock_path.parent / "empty").parent.mkdir(parents=True)
    (lock_path.parent / "empty").touch()
    lock_path.touch()
    with lock_path.open() as stream:
        facts = {"place": lease_files.find_lock_domain(stream.fileno()), "pid": os.getpid(), "host": "here"}
    left_behind(leases_of(lock_path), **{**facts, "pids": lease_files.pid_namespace(), **change})
    assert lock.is_held(lock_path, lock_path.parent / "empty") is shown
    os.utime(leases_of(lock_path).path(1), (0, 0))
    assert not lock.is_held(lock_path, lock_path.parent / "empty")


def test_looking_up_the_holder_writes_nothing(lock_path: Path) -> None:
    assert lock.remote_holder(lock_path) == ""
    assert not lock_path.parents[1].exists()


# The program


def test_a_log_is_not_written_after_the_lock_was_lost(tmp_path: Path, tiny_run: Path) -> None:
    store = StateStore(tmp_path / "log", open_run(tiny_run), Destination(BUCKET, ""))
    state = RunState(run_id=tiny_run.name, run_path=str(tiny_run))
    store.prepare()
    store.begin(state)
    before = tree(tmp_path / "log")

    def lost() -> None:
        raise LeaseLostError("lost", id="lock.taken-over")

    store.set_lock_check(lost)
    with pytest.raises(LeaseLostError):
        store.record([Proof(path="RunInfo.xml", size=1, mtime_ns=1, etag="etag", verified_by="etag")])
    for write in (store.begin, store.save, store.finish):
        with pytest.raises(LeaseLostError):
            write(state)
    store.close()
    assert tree(tmp_path / "log") == before


# Two hosts for real: each with its own name, boot and locks, as on NFS without locks
