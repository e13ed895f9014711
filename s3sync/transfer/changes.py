"""Find changes to a run after it was completed: tools write into it, analyses arrive, a samplesheet is corrected.

A scan reads the times of a few folders and files of each run. If one of them has changed, and regularly even if not, it
compares a listing of the whole run with the state log. Results are remembered between scans.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from s3sync import files
from s3sync.aws import destination
from s3sync.patterns import Pattern
from s3sync.runs import Run, local_files, run_folder
from s3sync.state import RunState, StateStore, identity, summary, waiting
from s3sync.text import parse_iso, printable
from s3sync.transfer import batches, selection

Marks: TypeAlias = Mapping[str, tuple[int, int]]  # path in the run -> mtime in ns, and the size of a file

MEMORY = "rechecks.json"  # in the log directory
RECHECK_HOURS = 6.0  # between two listings of an unchanged run
ROUTINE_SECONDS = 0.25  # time for such listings in one scan; the rest waits for the next scan
_CHANGED_SECONDS = 30.0  # the same for listings of runs that have changed
_MAX_NAMES_SHOWN = 3
_MAX_MARKS = 40
_FOLDERS = ("", "InterOp", "Data", "Data/Intensities", "Data/Intensities/BaseCalls")
_FILES = ("InterOp/IndexMetricsOut.bin",)  # a folder's time reveals a new file, but not a rewritten one
_SHEET = re.compile(r"[^/]*sample[-_ ]?sheet[^/]*\.csv", re.IGNORECASE | re.DOTALL)
_ALIGNMENT = re.compile(r"Alignment[^/]*", re.IGNORECASE | re.DOTALL)


class Change(NamedTuple):
    """The number of new or changed `files`, and the first of them; `another` is why the folder holds another run."""

    files: int
    named: tuple[str, ...]
    another: str = ""

    @property
    def text(self) -> str:
        """Return a description for people."""
        names = ", ".join(map(printable, self.named)) + (", ..." if self.files > len(self.named) else "")
        are = "1 file is" if self.files == 1 else f"{self.files:,} files are"
        return f"{are} new or changed since it was uploaded: {names}"


class _Known(NamedTuple):
    """The result of the last listing of a run. Times are in seconds since the epoch."""

    finished: str  # when the upload ended that the run was compared with
    at: float
    marks: Marks | None
    change: Change | None = None


def read_marks(run: Run) -> dict[str, tuple[int, int]]:
    """Return the times of folders and files that tools and instruments write to later.

    Call this before the run is listed, so that the next scan finds what arrives meanwhile.
    """
    names = _names_in(run.path)
    places = [*_FOLDERS, *_FILES, *(name for name in names if _SHEET.fullmatch(name))]
    for name in names:
        if _ALIGNMENT.fullmatch(name) or (name == run_folder.ANALYSIS_FOLDER and not run.excludes_analyses):
            below = [f"{name}/{inner}" for inner in _names_in(run.path / name)]
            places += [name, *below, *(f"{inner}/Fastq" for inner in below)]
    seen = _seen(run, places)
    return dict(list(seen.items())[:_MAX_MARKS])


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _seen(run: Run, places: list[str]) -> dict[str, tuple[int, int]]:
    """Return the times of the places that exist."""
    found = {}
    for place in places:
        try:
            status = os.stat(os.path.join(run.path, place))
        except OSError:
            continue
        is_folder = stat.S_ISDIR(status.st_mode)
        found[place] = status.st_mtime_ns, 0 if is_folder else status.st_size
    return found


class ChangeWatch:
    """Remembers completed runs, and finds their changes. Only if it is `scanning`, it lists runs by routine.

    A completed run is listed by routine for `days`; with 0 it is not checked at all.
    """

    def __init__(self, log_dir: Path, days: float, *, scanning: bool = False, now: float | None = None) -> None:
        self._path = log_dir / MEMORY
        self._days = days
        self._scanning = scanning
        self._now = time.time() if now is None else now
        self._known = _load(self._path) if days else {}
        self._before = dict(self._known)
        self._seen: set[str] = set()
        self.waiting = waiting.load(log_dir)  # runs that were not too old when a scan first found them complete
        self._routine = self._changed = 0.0  # seconds that listings took

    def find_change(
        self,
        run: Run,
        store: StateStore,
        head: summary.LogSummary,
        excludes: tuple[Pattern, ...],
        opened: Callable[[], Run],
    ) -> Change | None:
        """Return what has changed in a completed run; `head` is the summary of its log, and `opened` opens the run.

        Raises S3SyncError if the run cannot be listed, or its log cannot be read.
        """
        if not self._days:
            return None
        name = store.log_path.name
        self._seen.add(name)
        known = self._known.get(name)
        if known is None or known.finished != head.finished:
            known = _Known(head.finished, parse_iso(head.finished) or 0.0, head.watched)
        if known.marks is None and head.is_from_predecessor:  # it was complete: only later changes count
            self._known[name] = known = _Known(head.finished, self._now, read_marks(run))
        has_changed = known.marks is not None and _seen(run, list(known.marks)) != dict(known.marks)
        if not (self._changed < _CHANGED_SECONDS if has_changed else self._is_routine_due(known, head)):
            return known.change
        started = time.monotonic()
        marks = read_marks(opened())
        change = _compare(opened(), store, head, excludes, known.at)
        self._known[name] = _Known(head.finished, self._now, marks, change)
        seconds = time.monotonic() - started
        self._changed += seconds
        self._routine += 0 if has_changed else seconds  # a run that changes all the time must not use up the routine
        return change

    def save(self) -> None:
        """Save what a scan of all runs found. If that fails, nothing is lost: the runs are listed again."""
        known = {name: entry for name, entry in self._known.items() if name in self._seen}
        if self._scanning and known != self._before:
            with contextlib.suppress(OSError):
                files.write_json(self._path, known, indent=None)

    def _is_routine_due(self, known: _Known, head: summary.LogSummary) -> bool:
        if not self._scanning or self._routine >= ROUTINE_SECONDS:
            return False
        if known.marks is None:
            return True
        since_completion = self._now - (parse_iso(head.finished) or 0.0)
        is_recent = 0 <= self._now - known.at < RECHECK_HOURS * 3600  # a wrong clock may have dated it in the future
        return since_completion < self._days * 86_400 and not is_recent


def _compare(
    run: Run, store: StateStore, head: summary.LogSummary, excludes: tuple[Pattern, ...], since: float
) -> Change | None:
    """Return how a listing of the run differs from its log. A deleted file is not a change."""
    listing = local_files.list_files(run)
    state = store.load(set_aside=False).state
    if state is None:
        return None
    reserved_path = destination.COMPLETION_OBJECT if state.completion_object else ""
    selected = selection.select_files(run, listing, store.destination, excludes, reserved_path)
    if head.is_from_predecessor:  # its log does not record the files
        new = {file.path for file, ctime in zip(listing.files, listing.ctimes_ns, strict=True) if ctime > since * 1e9}
        changed = [file.path for file in selected.files if file.path in new]
    else:
        pending = batches.pending(selected.files, state.verified)
        changed = [*(file.path for file in pending), *(item.path for item in selected.rejected)]
    if not changed:
        return None
    return Change(len(changed), tuple(changed[:_MAX_NAMES_SHOWN]), _why_another(run, listing, state, changed))


def _why_another(run: Run, listing: local_files.Listing, state: RunState, changed: list[str]) -> str:
    """Return why the folder holds another run than before; empty if it is the same run with changes."""
    known = [path for path in changed if path in state.verified]
    both = sum(file.path in state.verified for file in listing.files)
    if run_folder.RUN_INFO not in known or 2 * len(known) <= both:
        return ""
    return identity.explain_difference(run, listing, state.verified)


def _load(path: Path) -> dict[str, _Known]:
    """Return what was remembered; nothing if the file is invalid, and then all runs are listed again."""
    try:
        return {name: _parse(entry) for name, entry in files.read_json(path).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _parse(entry: list[Any]) -> _Known:
    """Parse an entry; raises ValueError, TypeError, AttributeError."""
    finished, at, marks, change = entry
    seen = {str(path): (int(mtime), int(size)) for path, (mtime, size) in marks.items()}
    found = Change(int(change[0]), tuple(map(str, change[1])), str(change[2])) if change else None
    return _Known(str(finished), float(at), seen, found)
