"""Find the runs that may be deleted here, and the reasons to keep the others, before S3 is asked. Reads only.

A run is verified if its logs say that it was completed long enough ago, and every destination of its folder is done
with it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from s3sync.cleanup import delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.reasons import Reason
from s3sync.cleanup.record import Record
from s3sync.config import Config
from s3sync.errors import S3SyncError
from s3sync.inventory import Problem, RunStatus, discovery, states, statuses
from s3sync.runs import local_files
from s3sync.state import restored, summary
from s3sync.text import human_seconds, parse_iso, printable


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupCandidate:
    """A run folder, with the statuses of the run and its analyses at each entry of the config that watches it.

    `keep` is why it is kept without a comparison; None if it is to be verified. `age` is in seconds since the last
    destination was `completed` (ISO 8601); None if no log says so.
    """

    folder: Path
    units: tuple[RunStatus, ...]
    keep: Reason | None
    completed: str
    age: float | None

    @property
    def runs(self) -> tuple[RunStatus, ...]:
        """The run at each destination, without its analyses; the whole folder is compared there."""
        return tuple(unit for unit in self.units if not unit.run.parent_run)

    @property
    def uploaded(self) -> tuple[RunStatus, ...]:
        """The run at the destinations that have it, as their logs say."""
        return tuple(run for run in self.runs if run.state == "uploaded")

    @property
    def files(self) -> int:
        """The number of files, as the logs say."""
        return max((head.uploaded_files for head in self._heads()), default=0)

    @property
    def size(self) -> int:
        """Their bytes, as the logs say."""
        return max((head.size for head in self._heads()), default=0)

    def _heads(self) -> Iterator[summary.LogSummary]:
        """Yield the summary of each destination's log, with the sums of the run and its analyses there."""
        for run in self.uploaded:
            heads = [unit.head for unit in self.units if unit.entry is run.entry and unit.state == "uploaded"]
            known = [head for head in heads if head]
            if known:
                files, size = sum(head.uploaded_files for head in known), sum(head.size for head in known)
                yield replace(known[0], uploaded_files=files, size=size)


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """The runs that were asked for, what could not be examined, and names that no run has."""

    candidates: tuple[CleanupCandidate, ...]
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]

    @property
    def to_verify(self) -> list[CleanupCandidate]:
        """The runs of which only S3 can show whether they may be deleted."""
        return [candidate for candidate in self.candidates if not candidate.keep]


def plan_cleanup(config: Config, names: Iterable[str], older_than: float, now: float | None = None) -> CleanupPlan:
    """Return all run folders, or those with these names, oldest first. `older_than` is in seconds."""
    now = time.time() if now is None else now
    found = discovery.discover(config)
    wanted = set(discovery.resolve_names(names, found.candidates))
    by_folder: dict[object, list[discovery.Candidate]] = {}  # all entries that watch a folder, by whatever path
    for candidate in found.candidates:
        by_folder.setdefault(_identity(candidate.run.path), []).append(candidate)
    chosen = [group for group in by_folder.values() if not wanted or not wanted.isdisjoint(c.run.run_id for c in group)]
    protected = _protected_paths(config, {os.path.realpath(candidate.run.path) for candidate in found.candidates})
    candidates = [
        _candidate(_Group(statuses.run_statuses(config, group), config, older_than, now, protected)) for group in chosen
    ]
    candidates.sort(key=lambda candidate: (candidate.completed or "~", candidate.folder))
    unknown = wanted - {candidate.run.run_id for candidate in found.candidates}
    return CleanupPlan(tuple(candidates), tuple(found.problems), tuple(sorted(unknown)))


def record_of(record: Record | None, folder: Path) -> Record | None:
    """Return the record if it is of an interrupted cleanup of this very folder; raises RunError without a folder."""
    if record is None or record.finished or not record.is_of(folder):
        return None
    return record if record.identity == delete.identity_of(folder) else None


def mounted_in(folder: Path) -> Reason | None:
    """Keep a run if its folder (a real path) is a mount point, or has one in it."""
    for partition in psutil.disk_partitions(all=True):  # only the names: a look at a dead share hangs
        path = partition.mountpoint
        if path == str(folder):
            return Reason(id="cleanup.mount-point", text="the folder is a mount point")
        if local_files.is_inside(path, str(folder)):
            return Reason(id="cleanup.mount-point", text=f"a mount point is in it: {printable(path)}")
    return None


def _identity(folder: Path) -> object:
    """Return the same value for two paths to one folder, by links or by mounting it twice."""
    try:
        status = os.stat(folder)
    except OSError:
        return os.path.realpath(folder)
    return status.st_dev, status.st_ino


def _protected_paths(config: Config, runs: Iterable[str]) -> dict[str, str]:
    """Return the real paths that must not be in a folder that is deleted, and what each of them is."""
    directories = {directory for entry in config.monitor for directory in entry.monitored_directories}
    return {
        **dict.fromkeys(runs, "another run"),
        **{os.path.realpath(directory): "a monitored directory" for directory in directories},
        os.path.realpath(config.log_dir): "log_dir",
    }


@dataclass(frozen=True, slots=True)
class _Group:
    """The statuses of all units in one folder, and what decides about it."""

    units: Sequence[RunStatus]
    config: Config
    older_than: float
    now: float
    protected: Mapping[str, str]


def _candidate(group: _Group) -> CleanupCandidate:
    runs = [unit for unit in group.units if not unit.run.parent_run]
    path = runs[0].run.path
    folder = Path(os.path.realpath(path.parent)) / path.name  # the same for every path to it
    completed, age = _completed(group.units, group.now)
    keep = (
        _keep_for_state(group.units, _interrupted_record(group.config, folder))
        or _keep_for_age(group.units, age, group.older_than)
        or _keep_for_restore(group, folder)
        or _keep_for_folder(runs, group.protected)
    )
    return CleanupCandidate(folder=folder, units=tuple(group.units), keep=keep, completed=completed, age=age)


def _keep_for_state(runs: Sequence[RunStatus], record: Record | None) -> Reason | None:
    for run in runs:
        if run.state != "uploaded" and not _is_skipped(run, record):
            return Reason(id="cleanup.not-uploaded", text=f"{run.state} at {printable(run.url)}: {run.reason}")
    if not any(run.state == "uploaded" for run in runs):
        return Reason(id="cleanup.never-uploaded", text=f"never uploaded: {runs[0].state}: {runs[0].reason}")
    return None


def _is_skipped(run: RunStatus, record: Record | None) -> bool:
    """Return whether a run will not be uploaded there; files that an interrupted cleanup has deleted do not count."""
    if run.state in states.SKIPPED_STATES:
        return True
    before = {target.url: target.state for target in record.targets} if record else {}
    return (
        run.head is None
        and run.state in ("sequencing", "settling", "incomplete")
        and before.get(run.url) in states.SKIPPED_STATES
    )


def _completed(runs: Iterable[RunStatus], now: float) -> tuple[str, float | None]:
    """Return when the last destination was completed, and how many seconds ago; None if that is not known of all."""
    texts = [run.head.finished for run in runs if run.state == "uploaded" and run.head]
    times = [(seconds, text) for text in texts if (seconds := parse_iso(text)) is not None]
    if not times or len(times) < len(texts):
        return "", None
    last, text = max(times)
    return text, now - last


def _keep_for_age(runs: Iterable[RunStatus], age: float | None, older_than: float) -> Reason | None:
    if age is None:
        log = next(run.log_path for run in runs if run.state == "uploaded")
        text = f"its age is not known: {printable(str(log))} has no valid `finished` time"
        return Reason(id="cleanup.age-unknown", text=text)
    if age < 0:
        text = "not old enough: its log says that it was completed in the future (is the clock right?)"
        return Reason(id="cleanup.completed-in-the-future", text=text)
    if age < older_than:
        return Reason(id="cleanup.too-young", text=f"not old enough: completed {human_seconds(age)} ago")
    return None


def _keep_for_restore(group: _Group, folder: Path) -> Reason | None:
    """Keep a run that somebody has restored since: it is needed again."""
    log_dir = group.config.log_dir
    names = {unit.store(log_dir).lock_path.stem for unit in group.units}
    times = [seconds for name in names if (seconds := restored.last_time(log_dir, name, folder)) is not None]
    ago = group.now - max(times, default=float("-inf"))
    if 0 <= ago < group.older_than:
        return Reason(id="cleanup.too-young", text=f"not old enough: restored {human_seconds(ago)} ago")
    return None


def _keep_for_folder(runs: Sequence[RunStatus], protected: Mapping[str, str]) -> Reason | None:
    for run in runs:
        if os.path.islink(run.run.path):
            path, target = printable(str(run.run.path)), printable(os.path.realpath(run.run.path))
            text = f"{path} is a link, to {target} (the folder of the run itself has to be monitored)"
            return Reason(id="cleanup.link", text=text)
    if len({run.run.run_id for run in runs}) > 1:
        paths = ", ".join(sorted({printable(str(run.run.path)) for run in runs}))
        return Reason(id="cleanup.several-names", text=f"it is monitored under several names: {paths}")
    root = os.path.realpath(runs[0].run.path)
    for path, what in protected.items():
        if text := _overlap(root, path, what):
            return Reason(id="cleanup.protected-path", text=text)
    return mounted_in(Path(root))


def _overlap(root: str, path: str, what: str) -> str:
    """Return how a protected path and a run folder overlap; empty if they do not."""
    if path == root:
        return "" if what == "another run" else f"the folder is {what}"
    if local_files.is_inside(path, root):
        return f"{what} is in it: {printable(path)}"
    if what == "another run" and local_files.is_inside(root, path):
        return f"it is a folder of another run: {printable(path)}"
    return ""


def _interrupted_record(config: Config, folder: Path) -> Record | None:
    """Return the record of an interrupted cleanup of this very folder; a problem with it is reported later."""
    try:
        return record_of(cleanup_record.load(cleanup_record.path_for(config.log_dir, folder)), folder)
    except S3SyncError:
        return None
