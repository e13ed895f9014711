"""Find the runs that may be deleted, and the reasons to keep the others, without asking S3. Only reads.

A run may be deleted if its logs say that it was completed long enough ago, and no destination still waits for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """A run folder, with the statuses of the run and its analyses for each entry of the config that watches it."""

    folder: Path
    units: tuple[RunStatus, ...]
    keep: Reason | None  # why the run is kept without a comparison; None if it is to be verified
    completed: str  # when the last destination was completed (ISO 8601); empty if a log does not say
    age: float | None  # seconds since then

    @property
    def runs(self) -> tuple[RunStatus, ...]:
        """The run at each destination, without its analyses, since the whole folder is compared."""
        return tuple(unit for unit in self.units if not unit.run.parent_run)

    @property
    def uploaded(self) -> tuple[RunStatus, ...]:
        """The run at each destination that has it according to the log."""
        return tuple(run for run in self.runs if run.state == "uploaded")

    @property
    def files(self) -> int:
        """The number of files according to the logs."""
        return max((sum(head.uploaded_files for head in heads) for heads in self._heads()), default=0)

    @property
    def size(self) -> int:
        """The size in bytes according to the logs."""
        return max((sum(head.size for head in heads) for heads in self._heads()), default=0)

    def _heads(self) -> Iterator[list[summary.LogSummary]]:
        """Yield for each destination the summaries of the logs of the run and its analyses."""
        for run in self.uploaded:
            units = (unit for unit in self.units if unit.entry is run.entry and unit.state == "uploaded")
            yield [unit.head for unit in units if unit.head]


@dataclass(frozen=True, slots=True)
class CleanupPlan:
    """The selected runs, the problems of directories, and the names that no run has."""

    candidates: tuple[CleanupCandidate, ...]
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]

    @property
    def to_verify(self) -> list[CleanupCandidate]:
        """The runs that may be deleted if a comparison with S3 shows that they are identical."""
        return [candidate for candidate in self.candidates if not candidate.keep]


def plan_cleanup(config: Config, names: Iterable[str], older_than: float) -> CleanupPlan:
    """Return all run folders, or those with these names, oldest first.

    Runs that were completed less than `older_than` seconds ago are kept.
    """
    now = time.time()
    found = discovery.discover(config)
    wanted = set(discovery.resolve_names(names, found.candidates))
    by_folder: dict[object, list[discovery.Candidate]] = {}  # the candidates of all entries that watch a folder
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
    """Return the record if it is of an interrupted cleanup of this folder. Raises RunError if there is no folder."""
    if record is None or record.finished or not record.is_of(folder):
        return None
    return record if record.identity == delete.identity_of(folder) else None


def mounted_in(folder: Path) -> Reason | None:
    """Keep a run if its folder (a real path) is a mount point, or contains one."""
    for partition in psutil.disk_partitions(all=True):  # reads names only, since a dead share would hang
        path = partition.mountpoint
        if path == str(folder):
            return Reason(id="cleanup.mount-point", text="the folder is a mount point")
        if local_files.is_inside(path, str(folder)):
            return Reason(id="cleanup.mount-point", text=f"it contains a mount point: {printable(path)}")
    return None


def _identity(folder: Path) -> object:
    """Return a value that is equal for all paths to a folder, by links or by several mounts."""
    try:
        status = os.stat(folder)
    except OSError:
        return os.path.realpath(folder)
    return status.st_dev, status.st_ino


def _protected_paths(config: Config, runs: Iterable[str]) -> dict[str, str]:
    """Return the real paths that a deleted folder must not contain, each with a description."""
    return {
        **dict.fromkeys(runs, "another run"),
        **{os.path.realpath(directory): "a monitored directory" for directory in config.monitored_directories},
        os.path.realpath(config.log_dir): "log_dir",
    }


@dataclass(frozen=True, slots=True)
class _Group:
    """The statuses of all units in one folder, and the conditions for deleting it."""

    units: Sequence[RunStatus]
    config: Config
    older_than: float
    now: float
    protected: Mapping[str, str]


def _candidate(group: _Group) -> CleanupCandidate:
    runs = [unit for unit in group.units if not unit.run.parent_run]
    path = runs[0].run.path
    folder = Path(os.path.realpath(path.parent)) / path.name  # equal for all paths to the folder
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
    """Return whether a run will not be uploaded, now or before an interrupted cleanup deleted some of its files."""
    if run.state in states.SKIPPED_STATES:
        return True
    before = {target.url: target.state for target in record.targets} if record else {}
    return (
        run.head is None
        and run.state in ("sequencing", "settling", "incomplete")
        and before.get(run.url) in states.SKIPPED_STATES
    )


def _completed(runs: Iterable[RunStatus], now: float) -> tuple[str, float | None]:
    """Return when the last destination was completed, and how many seconds ago; "" and None if a log does not say."""
    texts = [run.head.finished for run in runs if run.state == "uploaded" and run.head]
    times = [(seconds, text) for text in texts if (seconds := parse_iso(text)) is not None]
    if not times or len(times) < len(texts):
        return "", None
    last, text = max(times)
    return text, now - last


def _keep_for_age(runs: Iterable[RunStatus], age: float | None, older_than: float) -> Reason | None:
    if age is None:
        log = next(run.log_path for run in runs if run.state == "uploaded")
        text = f"its age is unknown: {printable(str(log))} has no valid `finished` time"
        return Reason(id="cleanup.age-unknown", text=text)
    if age < 0:
        text = "not old enough: its log says that it was completed in the future (is the clock right?)"
        return Reason(id="cleanup.completed-in-the-future", text=text)
    if age < older_than:
        return Reason(id="cleanup.too-young", text=f"not old enough: completed {human_seconds(age)} ago")
    return None


def _keep_for_restore(group: _Group, folder: Path) -> Reason | None:
    """Keep a run that was restored recently: it is needed."""
    log_dir = group.config.log_dir
    names = {unit.store(log_dir).lock_path.stem for unit in group.units}
    times = [seconds for name in names if (seconds := restored.last_restored(log_dir, name, folder)) is not None]
    ago = group.now - max(times, default=float("-inf"))
    if 0 <= ago < group.older_than:
        return Reason(id="cleanup.too-young", text=f"not old enough: restored {human_seconds(ago)} ago")
    return None


def _keep_for_folder(runs: Sequence[RunStatus], protected: Mapping[str, str]) -> Reason | None:
    for run in runs:
        if os.path.islink(run.run.path):
            path, target = printable(str(run.run.path)), printable(os.path.realpath(run.run.path))
            text = f"{path} is a link to {target} (monitor the folder of the run itself)"
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
    """Return the record of an interrupted cleanup of this folder; None if there is none, or it cannot be read."""
    try:
        return record_of(cleanup_record.load(cleanup_record.path_for(config.log_dir, folder)), folder)
    except S3SyncError:
        return None
