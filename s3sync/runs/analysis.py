"""Find the analyses of a run (`Analysis/1`, `Analysis/2`, ...), and check whether one is complete.

Some instruments analyse a run after they have copied it. Each analysis is checked and uploaded separately, like a run:
it is written after the run's own CopyComplete.txt, and the next one may be queued days later.

An analysis ends with two markers, as the pipelines of two laboratories expect. It is uncertain whether every instrument
writes both, so one marker is enough if nothing has changed for a while.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from s3sync.errors import Notice, RunError
from s3sync.patterns import Pattern
from s3sync.runs import completion, local_files, run_folder
from s3sync.runs.local_files import Listing
from s3sync.runs.run_folder import ANALYSIS_FOLDER, Run, unreadable
from s3sync.text import human_seconds

_MARKERS = (("", "CopyComplete.txt"), ("Data", "Secondary_Analysis_Complete.txt"))  # folder and name, in any case


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisCompletion:
    """Whether an analysis is complete, and why, or what it waits for.

    `marker_time` is that of its newest marker, or of its folder if there is none, in seconds since the epoch. A
    warning says why an analysis counts as complete if that needs to be known.
    """

    is_complete: bool
    reason: str
    marker_time: float
    warnings: tuple[Notice, ...] = ()


def open_run_or_analysis(folder: str | Path, *, need_run_info: bool = True) -> Run:
    """Return the run in a folder, without its analyses, or the analysis `RUN/Analysis/1`. Raises RunError.

    Without `need_run_info` any folder is accepted, and a run contains everything in it.
    """
    path = Path(os.path.abspath(folder))
    if local_files.is_analysis(f"{path.parent.name}/{path.name}") and (found := _open_analysis(path)):
        return found
    run = run_folder.open_run(path, need_run_info=need_run_info)
    return without_analyses(run) if need_run_info else run


def _open_analysis(path: Path) -> Run | None:
    """Return the analysis; None if the folder around it is not a run of an instrument that makes analyses."""
    try:
        run = without_analyses(run_folder.open_run(path.parent.parent))
    except RunError:
        return None
    if run.excludes_analyses and path.is_dir():
        return _analysis_of(run, path.name)
    return None


def without_analyses(run: Run) -> Run:
    """Return the run without its analyses if its instrument makes some; else the run itself."""
    if instrument_makes_analyses(run.path, run.info.instrument):
        return replace(run, excludes_analyses=True)
    return run


def instrument_makes_analyses(folder: Path, instrument: str) -> bool:
    """Return whether the instrument of the run in this folder analyses its runs, each time in a separate folder.

    The family of the instrument is known by its id or, failing that, by RunParameters.xml.
    """
    family = completion.find_family_of_run(folder, instrument)
    return family is not None and family.makes_analyses


def list_analyses(run: Run) -> list[Run]:
    """Return the analyses in a run folder, sorted by number. Raises RunError."""
    folder = run.path / ANALYSIS_FOLDER
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(folder, error) from error
    numbers = [name for name in names if local_files.is_analysis(f"{ANALYSIS_FOLDER}/{name}")]
    if not numbers or folder.is_symlink():
        return []
    return [_analysis_of(run, number) for number in sorted(numbers, key=lambda number: (int(number), number))]


def _analysis_of(run: Run, number: str) -> Run:
    return Run(
        path=run.path / ANALYSIS_FOLDER / number,
        run_id=f"{run.run_id}/{ANALYSIS_FOLDER}/{number}",
        info=run.info,
        parent_run=run.path,
    )


def is_excluded(analysis: Run, excludes: Iterable[Pattern]) -> bool:
    """Return whether a pattern excludes all of the analysis, as `/Analysis/` does; then nothing waits for it."""
    probes = [f"{analysis.run_id}/{os.path.join(folder, name)}" for folder, name in (("", "any"), *_MARKERS)]
    return any(all(pattern.search(probe) for probe in probes) for pattern in excludes)


@dataclass(frozen=True, slots=True)
class _Markers:
    present: tuple[str, ...]
    missing: tuple[str, ...]
    newest: float  # seconds since the epoch; the mtime of the analysis without markers

    def complete(self, reason: str, *warnings: Notice) -> AnalysisCompletion:
        return AnalysisCompletion(is_complete=True, reason=reason, marker_time=self.newest, warnings=warnings)

    def incomplete(self, reason: str) -> AnalysisCompletion:
        return AnalysisCompletion(is_complete=False, reason=reason, marker_time=self.newest)


def check_completion(
    analysis: Run, quiet_seconds: float = completion.QUIET_SECONDS, now: float | None = None
) -> AnalysisCompletion:
    """Return whether the instrument has finished the analysis and copied it. Raises RunError.

    One marker is enough if nothing has changed for `quiet_seconds`: the other may never come. Both are not enough while
    files that the markers should follow still arrive, unless there is a manifest that names every file.
    """
    markers = _read_markers(analysis)
    missing, present = " and ".join(markers.missing), " and ".join(markers.present)
    if not markers.present:
        return markers.incomplete(f"waits for {missing}")
    if not missing and os.path.lexists(analysis.path / "Manifest.tsv"):
        return markers.complete(f"{present} exist")  # the upload finds the files that it names and are missing
    listing, now = local_files.list_files(analysis), time.time() if now is None else now
    if not missing and not _has_files_after_markers(listing):
        return markers.complete(f"{present} exist")
    quiet = max(0.0, now - local_files.last_change(listing, now))
    if quiet < quiet_seconds:
        cause = f"waits for {missing}, or until" if missing else "files arrived after its markers; waits until"
        return markers.incomplete(f"{cause} nothing changed for {human_seconds(quiet_seconds)}")
    if not missing:
        return markers.complete(f"{present} exist")
    reason = f"{present} exists, {missing} does not, and nothing changed for {human_seconds(quiet)}"
    return markers.complete(reason, Notice(reason, id="run.one-marker"))


def _read_markers(analysis: Run) -> _Markers:
    times = {f"{folder}/{name}".lstrip("/"): _marker_time(analysis.path / folder, name) for folder, name in _MARKERS}
    found = [time for time in times.values() if time is not None]
    return _Markers(
        present=tuple(name for name, time in times.items() if time is not None),
        missing=tuple(name for name, time in times.items() if time is None),
        newest=max(found) if found else _mtime(analysis.path),
    )


def _has_files_after_markers(listing: Listing) -> bool:
    """Return whether a file came to this disk after the markers, which the instrument writes last."""
    marker_paths = {os.path.join(folder, name).lower() for folder, name in _MARKERS}
    arrivals = [(c, f.path.lower() in marker_paths) for f, c in zip(listing.files, listing.ctimes_ns, strict=True)]
    last_marker = max((ctime for ctime, is_marker in arrivals if is_marker), default=0)
    return any(ctime > last_marker for ctime, is_marker in arrivals if not is_marker)


def _marker_time(folder: Path, marker: str) -> float | None:
    """Return the mtime of a marker; None if it is missing."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(folder, error) from error
    name = next((name for name in names if name.lower() == marker.lower()), None)
    return None if name is None else _mtime(folder / name)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise unreadable(path, error) from error
