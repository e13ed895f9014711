"""What is remembered of a run and destination: a JSON log, and a journal while an upload is unfinished.

The log is always replaced as a whole (temporary file, fsync, rename), so it is the old or the new one.
The journal beside it gets a line for each file as soon as it is proven; reading adds its lines to the
log's, so a kill loses nothing that was proven. Both are for the run's owner only (0600).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import BusyError, StateError
from s3sync.runs import Run, local_files
from s3sync.state import lock
from s3sync.state.log_format import (
    CorruptError,
    Head,
    Logged,
    count_journaled,
    is_completed,
    is_cut_off,
    journal_head,
    journal_lines,
    owner,
    parse_journal,
    parse_log,
    read_failures,
    read_head,
    read_logged_run,
    to_json,
)
from s3sync.state.run_state import Proof, RunState
from s3sync.text import human_bytes, now_iso, pluralize, printable

LOG_SUFFIX = ".upload.log.json"
JOURNAL_SUFFIX = ".upload.journal.jsonl"
_BYTES_A_FILE = 700  # of journal, and of the log before and after: measured with paths of a usual length
_UPLOADS = "uploads"
_MAX_NAME_BYTES = 200  # leaves room for the suffixes in a file name's 255
_OF_AN_ANALYSIS = re.compile(r".+\.Analysis\.[0-9]+", re.DOTALL)


class Loaded(NamedTuple):
    """What was found: the state (None if there was none), and what a person should know about the finding."""

    state: RunState | None
    warnings: tuple[str, ...]


class StateStore:
    """The log and the journal of one run at one destination, in `log_dir/uploads`; their only writer.

    Two destinations of one run have two logs: the first that writes has the plain name, the others
    carry the destination's tag in it.
    """

    def __init__(self, log_dir: Path, run: Run, destination: Destination) -> None:
        self._log_dir = log_dir
        self._run = run
        self._destination = destination
        self._folder = log_dir / _UPLOADS
        name = _file_name(run.run_id)
        self.lock_path = log_dir / "locks" / f"{name}.{destination.tag}.lock"
        self._plain = self._folder / f"{name}{LOG_SUFFIX}"
        self._tagged = self._folder / f"{name}.{destination.tag}{LOG_SUFFIX}"
        # Ours alone, by the lock; always the same, so that the next call finds what a kill leaves.
        self._temporary = self._folder / f".{name}.{destination.tag}.tmp"
        self._journal: int | None = None
        self._check: Callable[[], None] = lambda: None

    def guard(self, check: Callable[[], None]) -> None:
        """Write nothing more of the upload as soon as `check` raises: that of the lock that it is under."""
        self._check = check

    def check(self) -> None:
        """To be asked before what only one upload at a time may do; raises LeaseLostError."""
        self._check()

    @property
    def destination(self) -> Destination:
        """Where the run goes."""
        return self._destination

    @property
    def log_path(self) -> Path:
        """Where this destination's log is, or will be if nobody else takes the place first; raises StateError."""
        with _readable(self._tagged):
            if files.is_there(self._tagged):
                return self._tagged
        return self._plain if owner(self._plain) in (None, self._destination) else self._tagged

    @property
    def usual_path(self) -> Path:
        """Where the log is, if this cannot be found out: `log_path` without a look at the disk."""
        return self._plain

    @property
    def journal_path(self) -> Path:
        """The journal beside the log."""
        return Path(str(self.log_path).removesuffix(LOG_SUFFIX) + JOURNAL_SUFFIX)

    def head(self) -> Head | None:
        """The log in short, None if there is none; raises OSError, StateError, or ValueError if it is corrupt."""
        try:
            log = read_head(self.log_path)
            if is_cut_off(self.log_path):
                raise ValueError("its end is missing")
        except FileNotFoundError:
            return None
        return Head.of(log)

    def require_readable(self) -> None:
        """See that what else is remembered can be read: the journal, the lock and its lease; raises StateError."""
        journal = self.journal_path
        with _readable(journal), contextlib.suppress(FileNotFoundError), journal.open("rb"):
            pass
        with _readable(self.lock_path):
            files.is_there(self.lock_path)
        leases = lock.lease_folder(self.lock_path)
        with _readable(leases), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(leases)

    def failures(self, most: int) -> dict[str, str]:
        """The first files that failed in the last call, printable paths in the run, and why; none without a log."""
        prefix = printable(str(self._run.path)).rstrip("/") + "/"
        try:
            return {name.removeprefix(prefix): reason for name, reason in read_failures(self.log_path, most)}
        except (OSError, StateError):
            return {}

    def journaled(self) -> int:
        """How many files the journal has: what an upload that is under way has proven so far."""
        try:
            return count_journaled(self.journal_path.read_bytes())
        except (OSError, StateError):
            return 0

    def prepare(self, expected_files: int = 0) -> None:
        """Make the folder and see that it can be written, before any upload, and that there is room for the log of so
        many files; raises StateError.
        """
        with self._explained("write", self._folder):
            files.make_private_folder(self._folder)
            if shortage := _shortage(self._folder, expected_files):
                raise OSError(errno.ENOSPC, shortage)
            self._temporary.unlink(missing_ok=True)  # a kill's; to write into it could be to write into the log: _claim
            with self._written(b"s3sync"):
                pass

    def obstacles(self, expected_files: int) -> list[str]:
        """Say what `prepare` and an upload would fail from, as far as that can be seen; nothing is written."""
        said = []
        with contextlib.suppress(OSError):
            above = next(folder for folder in (self._folder, *self._folder.parents) if os.path.exists(folder))
            if shortage := _shortage(above, expected_files):
                said.append(f"no room for the state log: {printable(str(self._folder))}: {shortage}")
        present = filter(os.path.lexists, (self.lock_path, self.log_path, self.journal_path))
        closed = (path for path in present if not os.access(path, os.R_OK | os.W_OK))
        said += (f"this user cannot read and write {printable(str(path))}" for path in closed)
        if (where := lock.current_holder(self.lock_path)) is not None:
            said.append(
                f"it is being uploaded already{f' by {where}' if where else ''}, so an upload would end at once"
            )
        return said

    def load(self, *, set_aside: bool = True) -> Loaded:
        """Log and journal as they are; raises StateError.

        A corrupt log counts as none and is renamed (unless `set_aside` is False: nothing is written),
        so that nothing is lost by writing a new one.
        """
        warnings: list[str] = []
        state = None
        log_path, journal_path = self.log_path, self.journal_path
        try:
            state = _read_log(log_path)
        except CorruptError as error:
            aside = self._set_aside(log_path) if set_aside else log_path
            warnings.append(
                f"the state log was corrupt ({error}); kept as {printable(str(aside))};"
                " every file is settled again against S3"
            )
        except OSError as error:
            raise StateError(f"cannot read {printable(str(log_path))}: {error.strerror}") from error
        proofs, torn = self._read_journal(journal_path)
        if torn:
            warnings.append(f"{torn} unreadable line(s) in {printable(str(journal_path))} do not count")
        if proofs:
            state = (state or RunState.of(self._run)).resumed(proofs)
        return Loaded(state, tuple(warnings))

    def set_aside(self, why: str) -> Path:
        """Keep log and journal under names that are no log's, `why` in them; gives the log's. Raises StateError."""
        log_path, journal_path = self.log_path, self.journal_path
        aside = self._set_aside(log_path, why)
        if journal_path.exists():
            self._set_aside(journal_path, why)
        return aside

    def _set_aside(self, path: Path, why: str = "corrupt") -> Path:
        stem = f"{path.name}.{why}-{now_iso().partition('+')[0].replace(':', '')}"
        names = (f"{stem}{number or ''}" for number in itertools.count())
        aside = next(place for place in map(path.with_name, names) if not place.exists())
        with self._explained("rename", path):
            return path.rename(aside)

    def begin(self, state: RunState) -> None:
        """Write the log of a starting upload, and open the journal; raises StateError, LeaseLostError."""
        self.check()
        with self._explained("write", self._folder):
            self._take_the_plain_name()
            if not files.is_there(self._plain) and not files.is_there(self._tagged):
                self._claim(state)
            self.save(state)
            self._journal = files.open_private(self.journal_path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            files.write_all(self._journal, journal_head(self._destination))
            files.sync_folder(self._folder)

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append what was proven to the journal and bring it to the disk; raises StateError, LeaseLostError."""
        assert self._journal is not None, "begin() comes first"
        self.check()
        with self._explained("write", self.journal_path):
            files.append_synced(self._journal, journal_lines(proofs))

    def save(self, state: RunState) -> None:
        """Replace the log atomically; raises StateError or LeaseLostError and leaves the old one intact."""
        self.check()
        state = replace(state, folder=local_files.read_folder_numbers(self._run.path) or state.folder)
        with self._explained("write", self.log_path):
            files.atomic_write(self.log_path, to_json(state, self._run.path, self._destination), self._temporary)

    def finish(self, state: RunState) -> None:
        """Replace the log, which now holds what the journal holds, and drop the journal."""
        self.save(state)
        self.close()
        with contextlib.suppress(FileNotFoundError), self._explained("remove", self.journal_path):
            self.journal_path.unlink()

    def withdraw(self) -> None:
        """Remove the log of a call that had nothing to remember; raises StateError."""
        self.check()
        self.close()
        with self._explained("remove", self.log_path):
            self.journal_path.unlink(missing_ok=True)
            self.log_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; its lines stay."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _take_the_plain_name(self) -> None:
        """From another destination whose log tells of nothing: a misspelt bucket should not keep it for ever."""
        theirs = owner(self._plain)
        if theirs in (None, self._destination) or files.is_there(self._tagged) or not self._tells_of_nothing():
            return
        assert theirs is not None
        other = StateStore(self._log_dir, self._run, theirs)
        with contextlib.suppress(BusyError), lock.hold(other.lock_path, "in use", wait_for_dead_holder=False):
            if self._tells_of_nothing():
                self._plain.rename(other._tagged)

    def _tells_of_nothing(self) -> bool:
        """Whether the log with the plain name, of whomever it is, has nothing that was proven."""
        journal = Path(str(self._plain).removesuffix(LOG_SUFFIX) + JOURNAL_SUFFIX)
        try:
            head = Head.of(read_head(self._plain))
        except (OSError, ValueError, RecursionError):
            return False
        return not head.completed and not head.uploaded_files and not files.is_there(journal)

    def _claim(self, state: RunState) -> None:
        """Take the plain name, unless an upload to another destination does so at the same moment."""
        content = to_json(state, self._run.path, self._destination)
        with self._written(content) as temporary, contextlib.suppress(FileExistsError):
            os.link(temporary, self._plain)

    @contextlib.contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        """The temporary file with this content while inside; raises OSError."""
        try:
            files.write_synced(self._temporary, content)
            yield self._temporary
        finally:
            self._temporary.unlink(missing_ok=True)

    def _read_journal(self, path: Path) -> tuple[list[Proof], int]:
        """This destination's proofs in the journal, and how many lines before the last were unreadable."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise StateError(f"cannot read {printable(str(path))}: {error.strerror}") from error
        return parse_journal(content, self._destination)

    @contextlib.contextmanager
    def _explained(self, verb: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"cannot {verb} the state log: {printable(str(path))}: {error.strerror}"
                " (give a writable folder with space left with --log_dir)"
            ) from error


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "repair that, or run this as the owner of the log directory"
        raise StateError(f"cannot read {printable(str(path))}: {error.strerror} ({advice})") from error


def unfinished_besides(log_dir: Path, known: Collection[Path]) -> list[tuple[Path, Logged]]:
    """The logs, but the known ones, of uploads that were begun and not completed. What is no log is left out."""
    found = []
    names = {path.name for path in known}
    for path in _logs_in(log_dir / _UPLOADS):
        if path.name not in names:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                if not is_completed(path) and not (logged := read_logged_run(path)).head.completed:
                    found.append((path, logged))
    return found


def _shortage(folder: Path, expected_files: int) -> str:
    """Whether there is too little room for the log of so many files, and how much; raises OSError."""
    needed = expected_files * _BYTES_A_FILE
    if (free := shutil.disk_usage(folder).free) >= needed:
        return ""
    left = f"{human_bytes(free)} left, {human_bytes(needed)} wanted for {pluralize(expected_files, 'file')}"
    return f"{os.strerror(errno.ENOSPC)}: {left}"


def logged_besides(log_dir: Path, known: Collection[Path]) -> list[Logged]:
    """All logs but the known ones, in short: of runs that are gone from the disk, or of folders that nobody watches.

    What is no log is left out; a folder that cannot be read has none.
    """
    found = []
    names = {path.name for path in known}
    for path in _logs_in(log_dir / _UPLOADS):
        if path.name not in names:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                found.append(read_logged_run(path))
    return found


def unreadable_besides(log_dir: Path, known: Collection[Path]) -> list[tuple[Path, str]]:
    """Logs but the known ones that cannot be read, and why: of a run that is gone nothing else would say so."""
    found, folder, names = [], log_dir / _UPLOADS, {path.name for path in known}
    try:
        logs = [name for name in sorted(os.listdir(folder)) if name.endswith(LOG_SUFFIX) and name not in names]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return [(folder, error.strerror or "")]
    for name in logs:
        try:
            os.close(os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append((folder / name, error.strerror or ""))
    return found


def _logs_in(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [folder / name for name in sorted(os.listdir(folder)) if name.endswith(LOG_SUFFIX)]
    return []


def _read_log(path: Path) -> RunState | None:
    try:
        return parse_log(path.read_bytes())
    except FileNotFoundError:
        return None


def _file_name(run_id: str) -> str:
    """The run's name, cut where it would be too long for a file name with our suffixes; `RUN.Analysis.1` of analyses.

    A run whose folder has such a name itself gets another one.
    """
    name = run_id.replace("/", ".")
    encoded = os.fsencode(name)
    if len(encoded) <= _MAX_NAME_BYTES and (name != run_id or not _OF_AN_ANALYSIS.fullmatch(run_id)):
        return name
    tag = Destination(run_id, "").tag
    return encoded[: _MAX_NAME_BYTES - 9].decode("utf-8", "ignore") + f"-{tag}"
