"""Store the state of a run and destination: a JSON log, and a journal while an upload is unfinished.

The log is always replaced as a whole (temporary file, fsync, rename), so it is either the old or the new one. The
journal beside it gets a line for each file as soon as it is verified, and `load` adds these lines to the log. So no
verified file is lost if the process is killed. Only the owner can read both files (0600).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import BusyError, Notice, StateError, explained
from s3sync.runs import Run, local_files
from s3sync.signals import StopRequest
from s3sync.state import lock
from s3sync.state.journal import count_journaled, journal_head, journal_lines, parse_journal
from s3sync.state.log_format import CorruptError, parse_log, to_pieces
from s3sync.state.log_head import LogSummary, destination_of_log, is_truncated, read_failures, read_head
from s3sync.state.log_paths import LogPaths, journal_beside
from s3sync.state.run_state import Proof, RunState
from s3sync.text import human_bytes, now_iso, pluralize, printable

_BYTES_PER_FILE = 700  # in the journal, the old log and the new one together; measured with usual paths


class LoadedState(NamedTuple):
    """The state (None without a log), and warnings for people."""

    state: RunState | None
    warnings: tuple[Notice, ...]


class StateStore:
    """The log and the journal of one run at one destination, in `log_dir/uploads`, and their only writer.

    Each destination of a run has its own log. The first one to write gets the untagged name; the names of the others
    contain the tag of the destination.
    """

    def __init__(
        self, log_dir: Path, run: Run, destination: Destination, *, leaves_untagged_name: bool = False
    ) -> None:
        """With `leaves_untagged_name`, that name is left to a running upload of the run to another destination."""
        self._leaves_untagged_name = leaves_untagged_name
        self._log_dir = log_dir
        self._run = run
        self._destination = destination
        paths = LogPaths(log_dir, run.run_id, destination)
        self.lock_path = paths.lock
        self._folder, self._temporary = paths.folder, paths.temporary
        self._untagged, self._tagged = paths.untagged, paths.tagged
        self._journal: int | None = None
        self._check: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def locked(
        self, busy: str, *, stop: StopRequest | None = None, show: Callable[[str], None] = lambda _line: None
    ) -> Iterator[lock.HeldLock]:
        """Hold the lock of the run and destination, which each write checks from then on; see `lock.hold`."""
        with lock.hold(self.lock_path, busy, stop=stop, show=show) as held:
            self.set_lock_check(held.check)
            yield held

    def set_lock_check(self, check: Callable[[], None]) -> None:
        """Call the `check` of the upload's lock before each write; it raises if the lock is lost."""
        self._check = check

    def check(self) -> None:
        """Raise LeaseLostError if the lock is lost. Call this before any write that needs the lock."""
        self._check()

    @property
    def destination(self) -> Destination:
        """Return the destination of the run."""
        return self._destination

    @property
    def log_path(self) -> Path:
        """Return where the log of this destination is, or will be if its name stays free. Raises StateError."""
        with _explain_read(self._tagged):
            if files.is_there(self._tagged):
                return self._tagged
        return self._untagged if destination_of_log(self._untagged) in (None, self._destination) else self._tagged

    @property
    def untagged_path(self) -> Path:
        """Return the untagged path of the log, without looking at the disk: for messages if `log_path` raises."""
        return self._untagged

    @property
    def journal_path(self) -> Path:
        """Return the path of the journal beside the log. Raises StateError."""
        return journal_beside(self.log_path)

    def head(self) -> LogSummary | None:
        """Return the summary of the log; None without one. Raises OSError, StateError, and ValueError if corrupt."""
        try:
            log = read_head(self.log_path)
            if is_truncated(self.log_path):
                raise ValueError("its end is missing")
        except FileNotFoundError:
            return None
        return LogSummary.of(log)

    def require_readable(self) -> None:
        """Raise StateError if the journal, the lock or its lease cannot be read."""
        journal = self.journal_path
        with _explain_read(journal), contextlib.suppress(FileNotFoundError), journal.open("rb"):
            pass
        with _explain_read(self.lock_path):
            files.is_there(self.lock_path)
        leases = lock.lease_folder(self.lock_path)
        with _explain_read(leases), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(leases)

    def failures(self, limit: int) -> dict[str, str]:
        """Return the first `limit` files that failed in the last call (printable, relative to the run) and why."""
        prefix = printable(str(self._run.path)).rstrip("/") + "/"
        try:
            return {name.removeprefix(prefix): reason for name, reason in read_failures(self.log_path, limit)}
        except (OSError, StateError):
            return {}

    def count_journaled(self) -> int:
        """Return how many files the journal has: those that the present upload has verified so far."""
        try:
            return count_journaled(self.journal_path.read_bytes())
        except (OSError, StateError):
            return 0

    def prepare(self, expected_files: int = 0) -> None:
        """Make the folder before an upload. Raises StateError if it cannot be written or is too full."""
        with _explain_write("write", self._folder):
            files.make_private_folder(self._folder)
            if shortage := _shortage(self._folder, expected_files):
                raise OSError(errno.ENOSPC, shortage)
            # A killed call may have left it, as a second name of the log: see _reserve_name.
            self._temporary.unlink(missing_ok=True)
            with self._temporary_file(b"s3sync"):
                pass

    def obstacles(self, expected_files: int) -> list[Notice]:
        """Return why an upload would fail in this folder. Writes nothing."""
        problems = []
        with contextlib.suppress(OSError):
            above = next(folder for folder in (self._folder, *self._folder.parents) if os.path.exists(folder))
            if shortage := _shortage(above, expected_files):
                text = f"no room for the state log: {printable(str(self._folder))}: {shortage}"
                problems.append(Notice(text, id="state.no-room"))
        present = filter(os.path.lexists, (self.lock_path, self.log_path, self.journal_path))
        closed = (path for path in present if not os.access(path, os.R_OK | os.W_OK))
        problems += (
            Notice(f"this user cannot read and write {printable(str(path))}", id="state.log-unwritable")
            for path in closed
        )
        if (where := lock.current_holder(self.lock_path)) is not None:
            text = f"it is already being uploaded{f' by {where}' if where else ''}, so an upload would end at once"
            problems.append(Notice(text, id="lock.busy"))
        return problems

    def load(self, *, set_aside: bool = True) -> LoadedState:
        """Return the state from log and journal. Raises StateError.

        A corrupt log counts as missing. With `set_aside` it is renamed, so that no new one overwrites it; without it
        nothing is written.
        """
        warnings: list[Notice] = []
        state = None
        log_path, journal_path = self.log_path, self.journal_path
        try:
            with _explain_read(log_path):
                state = _read_log(log_path)
        except CorruptError as error:
            aside = self._set_aside(log_path) if set_aside else log_path
            text = f"the state log was corrupt ({error}); kept as {printable(str(aside))}"
            warnings.append(Notice(f"{text}; every file is compared with S3 again", id="state.corrupt"))
        proofs, unreadable = self._read_journal(journal_path)
        if unreadable:
            text = f"{pluralize(unreadable, 'unreadable line')} in {printable(str(journal_path))}: not counted"
            warnings.append(Notice(text, id="state.journal-damaged"))
        if proofs:
            state = (state or RunState.of(self._run)).resumed(proofs)
        return LoadedState(state, tuple(warnings))

    def set_aside(self, why: str) -> Path:
        """Rename log and journal, with `why` in their names, so that they no longer count. Raises StateError.

        Returns the new path of the log.
        """
        log_path, journal_path = self.log_path, self.journal_path
        aside = self._set_aside(log_path, why)
        if journal_path.exists():
            self._set_aside(journal_path, why)
        return aside

    def _set_aside(self, path: Path, why: str = "corrupt") -> Path:
        stem = f"{path.name}.{why}-{now_iso().partition('+')[0].replace(':', '')}"
        names = (f"{stem}{number or ''}" for number in itertools.count())
        aside = next(place for place in map(path.with_name, names) if not place.exists())
        with _explain_write("rename", path):
            return path.rename(aside)

    def begin(self, state: RunState) -> None:
        """Write the log of an upload that starts, and open the journal. Raises StateError, LeaseLostError."""
        self.check()
        with _explain_write("write", self._folder):
            self._choose_name(state)
            self.save(state)
            self._journal = files.open_private(self.journal_path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            files.write_all(self._journal, journal_head(self._destination))
            files.sync_folder(self._folder)

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append proofs to the journal and flush it to the disk. Raises StateError, LeaseLostError."""
        assert self._journal is not None, "call begin() first"
        self.check()
        with _explain_write("write", self.journal_path):
            files.append_synced(self._journal, journal_lines(proofs))

    def save(self, state: RunState) -> None:
        """Replace the log atomically. Raises StateError, LeaseLostError; then the old log is intact."""
        self.check()
        state = replace(state, folder=local_files.read_folder_numbers(self._run.path) or state.folder)
        with _explain_write("write", self.log_path):
            files.atomic_write(self.log_path, to_pieces(state, self._run.path, self._destination), self._temporary)

    def finish(self, state: RunState) -> None:
        """Replace the log, which now contains the journal, and remove the journal. Raises like `save`."""
        self.save(state)
        self.close()
        with contextlib.suppress(FileNotFoundError), _explain_write("remove", self.journal_path):
            self.journal_path.unlink()

    def withdraw(self) -> None:
        """Remove log and journal of a call that has nothing to record. Raises StateError."""
        self.check()
        self.close()
        with _explain_write("remove", self.log_path):
            self.journal_path.unlink(missing_ok=True)
            self.log_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal and keep its lines."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _choose_name(self, state: RunState) -> None:
        """Create the log with the name that it will keep, unless there is one. Raises OSError, StateError."""
        if not self._leaves_untagged_name:
            self._claim_untagged_name()
            if not files.is_there(self._untagged) and not files.is_there(self._tagged):
                self._reserve_name(self._untagged, state)
        elif destination_of_log(self._untagged) != self._destination and not files.is_there(self._tagged):
            self._reserve_name(self._tagged, state)

    def _claim_untagged_name(self) -> None:
        """Take over the untagged name from a log without uploads, for example of a misspelt bucket."""
        theirs = destination_of_log(self._untagged)
        if theirs in (None, self._destination) or files.is_there(self._tagged) or not self._is_untagged_log_empty():
            return
        assert theirs is not None
        other = StateStore(self._log_dir, self._run, theirs)
        with contextlib.suppress(BusyError), lock.hold(other.lock_path, "in use", wait_for_dead_holder=False):
            if self._is_untagged_log_empty():
                self._untagged.rename(other._tagged)

    def _is_untagged_log_empty(self) -> bool:
        """Return whether the log with the untagged name, of any destination, contains no verified file."""
        try:
            head = LogSummary.of(read_head(self._untagged))
        except (OSError, ValueError, RecursionError):
            return False
        return not head.completed and not head.uploaded_files and not files.is_there(journal_beside(self._untagged))

    def _reserve_name(self, path: Path, state: RunState) -> None:
        """Create the log with this name, unless an upload to another destination does so at the same time."""
        content = to_pieces(state, self._run.path, self._destination)
        with self._temporary_file(content) as temporary, contextlib.suppress(FileExistsError):
            os.link(temporary, path)

    @contextlib.contextmanager
    def _temporary_file(self, content: bytes | Iterable[bytes]) -> Iterator[Path]:
        """Write the temporary file, and remove it afterwards. Raises OSError."""
        try:
            files.write_synced(self._temporary, content)
            yield self._temporary
        finally:
            self._temporary.unlink(missing_ok=True)

    def _read_journal(self, path: Path) -> tuple[list[Proof], int]:
        """Return the proofs of this destination, and how many lines before the last were unreadable."""
        with _explain_read(path), contextlib.suppress(FileNotFoundError):
            return parse_journal(path.read_bytes(), self._destination)
        return [], 0


def _explain_write(verb: str, path: Path) -> contextlib.AbstractContextManager[None]:
    advice = "give a writable folder with space left with --log-dir"
    return explained(f"{verb} the state log:", path, advice, id="state.log-unwritable")


def _explain_read(path: Path) -> contextlib.AbstractContextManager[None]:
    return explained("read", path, "repair that, or run this as the owner of the log directory", id="state.unreadable")


def _shortage(folder: Path, expected_files: int) -> str:
    """Return how much space is missing for the log of this many files; empty if there is enough. Raises OSError."""
    needed = expected_files * _BYTES_PER_FILE
    if (free := shutil.disk_usage(folder).free) >= needed:
        return ""
    left = f"{human_bytes(free)} left, {human_bytes(needed)} needed for {pluralize(expected_files, 'file')}"
    return f"{os.strerror(errno.ENOSPC)}: {left}"


def _read_log(path: Path) -> RunState | None:
    try:
        return parse_log(path.read_bytes())
    except FileNotFoundError:
        return None
