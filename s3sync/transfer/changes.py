"""Changes of a run after it was completed: tools write into it, analyses come, a samplesheet is corrected.

A scan looks at a few folders and files of each run; only where one of them has changed, and now and then anyway, it
compares a listing of the whole run with the state log. What it found is remembered between scans.
"""

from __future__ import annotations

import contextlib
import json
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
from s3sync.state import RunState, StateStore, identity, log_format, waiting
from s3sync.text import parse_iso, printable
from s3sync.transfer import batches, selection

Spots: TypeAlias = Mapping[str, tuple[int, int]]  # path in the run -> mtime in ns, and of a file its size

MEMORY = "rechecks.json"  # in the log directory
RECHECK_HOURS = 6.0  # between two listings of a run that show nothing new
ROUTINE_SECONDS = 0.25  # of a scan that such listings may take; the others wait for the next scan
_CHANGED_SECONDS = 30.0  # the same of listings of runs that have changed
_NAMED = 3
_MOST_SPOTS = 40
_FOLDERS = ("", "InterOp", "Data", "Data/Intensities", "Data/Intensities/BaseCalls")
_FILES = ("InterOp/IndexMetricsOut.bin",)  # a new one is seen by its folder, one that is written again is not
_SHEET = re.compile(r"[^/]*sample[-_ ]?sheet[^/]*\.csv", re.IGNORECASE | re.DOTALL)
_ALIGNMENT = re.compile(r"Alignment[^/]*", re.IGNORECASE | re.DOTALL)


class Change(NamedTuple):
    """How many `files` are new or changed, and the first of them; `another` says why it is not the same run at all."""

    files: int
    named: tuple[str, ...]
    another: str = ""

    @property
    def text(self) -> str:
        """For people."""
        names = ", ".join(map(printable, self.named)) + (", ..." if self.files > len(self.named) else "")
        are = "1 file is" if self.files == 1 else f"{self.files:,} files are"
        return f"{are} new or changed since it was uploaded: {names}"


class _Known(NamedTuple):
    """What was found when a run was last listed, at a moment in seconds since the epoch."""

    finished: str  # of the upload that this goes with
    at: float
    spots: Spots | None
    change: Change | None = None


def spots_of(run: Run) -> dict[str, tuple[int, int]]:
    """Where tools and instruments write to later, as it is now. To be looked at before the run is listed: then what
    comes meanwhile is seen by the next look."""
    names = _names_in(run.path)
    places = [*_FOLDERS, *_FILES, *(name for name in names if _SHEET.fullmatch(name))]
    for name in names:
        if _ALIGNMENT.fullmatch(name) or (name == run_folder.ANALYSIS_FOLDER and not run.excludes_analyses):
            below = [f"{name}/{inner}" for inner in _names_in(run.path / name)]
            places += [name, *below, *(f"{inner}/Fastq" for inner in below)]
    seen = _seen(run, places)
    return dict(list(seen.items())[:_MOST_SPOTS])


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _seen(run: Run, places: list[str]) -> dict[str, tuple[int, int]]:
    """Those that are there."""
    found = {}
    for place in places:
        try:
            status = os.stat(os.path.join(run.path, place))
        except OSError:
            continue
        is_folder = stat.S_ISDIR(status.st_mode)
        found[place] = status.st_mtime_ns, 0 if is_folder else status.st_size
    return found


class Watch:
    """What is known of completed runs. Only a `scanning` one lists runs by routine, and remembers.

    With `days` 0 nobody looks at a completed run again; else it is listed by routine for so many days.
    """

    def __init__(self, log_dir: Path, days: float, *, scanning: bool = False, now: float | None = None) -> None:
        self._path = log_dir / MEMORY
        self._days = days
        self._scanning = scanning
        self._now = time.time() if now is None else now
        self._known = _load(self._path) if days else {}
        self._before = dict(self._known)
        self._seen: set[str] = set()
        self.waiting = waiting.load(log_dir)  # runs that were not too old when they were first seen to be complete
        self._routine = self._changed = 0.0  # seconds that listings took

    def look(
        self,
        run: Run,
        store: StateStore,
        head: log_format.Head,
        excludes: tuple[Pattern, ...],
        opened: Callable[[], Run],
    ) -> Change | None:
        """What has changed of a run whose log, in short `head`, is completed; `opened` gives the run to be listed.

        Raises S3SyncError if it cannot be listed, or its log not be read.
        """
        if not self._days:
            return None
        name = store.log_path.name
        self._seen.add(name)
        known = self._known.get(name)
        if known is None or known.finished != head.finished:
            known = _Known(head.finished, parse_iso(head.finished) or 0.0, head.watched)
        if known.spots is None and head.by_predecessor:  # completed is completed: what comes after that is looked for
            self._known[name] = known = _Known(head.finished, self._now, spots_of(run))
        has_changed = known.spots is not None and _seen(run, list(known.spots)) != dict(known.spots)
        if not (self._changed < _CHANGED_SECONDS if has_changed else self._is_routine_due(known, head)):
            return known.change
        started = time.monotonic()
        spots = spots_of(opened())
        change = _compare(opened(), store, head, excludes, known.at)
        self._known[name] = _Known(head.finished, self._now, spots, change)
        seconds = time.monotonic() - started
        self._changed += seconds
        self._routine += 0 if has_changed else seconds  # a run that changes all the time does not stop the routine
        return change

    def save(self) -> None:
        """Remember what a scan over all runs has found. If that fails they are listed again: nothing is lost."""
        known = {name: entry for name, entry in self._known.items() if name in self._seen}
        if self._scanning and known != self._before:
            with contextlib.suppress(OSError):
                files.atomic_write(self._path, json.dumps(known).encode("ascii") + b"\n")

    def _is_routine_due(self, known: _Known, head: log_format.Head) -> bool:
        if not self._scanning or self._routine >= ROUTINE_SECONDS:
            return False
        if known.spots is None:
            return True
        since_completion = self._now - (parse_iso(head.finished) or 0.0)
        is_recent = 0 <= self._now - known.at < RECHECK_HOURS * 3600  # a wrong clock may have dated it in the future
        return since_completion < self._days * 86_400 and not is_recent


def _compare(
    run: Run, store: StateStore, head: log_format.Head, excludes: tuple[Pattern, ...], since: float
) -> Change | None:
    """A fresh listing of a run against its log. What was deleted is no change."""
    listing = local_files.list_files(run)
    state = store.load(set_aside=False).state
    if state is None:
        return None
    reserved = destination.COMPLETION_OBJECT if state.completion_object else ""
    scope = selection.select_files(run, listing, store.destination, excludes, reserved)
    if head.by_predecessor:  # which did not say how the files were
        new = {file.path for file, ctime in zip(listing.files, listing.ctimes_ns, strict=True) if ctime > since * 1e9}
        changed = [file.path for file in scope.files if file.path in new]
    else:
        pending = batches.pending(scope.files, state.proven)
        changed = [*(file.path for file in pending), *(item.path for item in scope.rejected)]
    if not changed:
        return None
    return Change(len(changed), tuple(changed[:_NAMED]), _why_another(run, listing, state, changed))


def _why_another(run: Run, listing: local_files.Listing, state: RunState, changed: list[str]) -> str:
    """Why the folder holds another run than before; empty if it is the same, with changes."""
    known = [path for path in changed if path in state.proven]
    both = sum(file.path in state.proven for file in listing.files)
    if run_folder.RUN_INFO not in known or 2 * len(known) <= both:
        return ""
    return identity.difference(run, listing, state.proven)


def _load(path: Path) -> dict[str, _Known]:
    """What was remembered; nothing of what cannot be understood: then the runs are listed again."""
    try:
        loaded = json.loads(path.read_bytes())
        return {name: _parse(entry) for name, entry in loaded.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _parse(entry: list[Any]) -> _Known:
    """Raises ValueError, TypeError, AttributeError."""
    finished, at, spots, change = entry
    seen = {str(path): (int(mtime), int(size)) for path, (mtime, size) in spots.items()}
    found = Change(int(change[0]), tuple(map(str, change[1])), str(change[2])) if change else None
    return _Known(str(finished), float(at), seen, found)
