"""The analyses that some instruments make of a run that they have copied: `Analysis/1`, `Analysis/2`, ... in it.

Each is a unit of its own, judged and uploaded as a run is: it is written after the run's own CopyComplete.txt, and the
next may be queued days later. That both markers count: the pipelines of two laboratories ask for both. Whether every
instrument writes both is not certain, so that one of them is enough when nothing has changed for a while.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from s3sync.errors import RunError
from s3sync.runs import completion, run_folder
from s3sync.runs.run_folder import ANALYSES, Run
from s3sync.text import human_seconds, printable

_MARKERS = (("", "CopyComplete.txt"), ("Data", "Secondary_Analysis_Complete.txt"))  # folder and name; any case


class Finish(NamedTuple):
    """Whether an analysis is complete, and what is waited for; `moment` of its newest marker, seconds since the epoch
    (that of its folder if there is none). `warning` is not empty if somebody should know why it counts as complete."""

    complete: bool
    reason: str
    moment: float
    warning: str = ""


def open_unit(folder: str | Path, *, need_run_info: bool = True) -> Run:
    """The run in a folder, without its analyses, or the analysis `RUN/Analysis/1` there; raises RunError.

    Without `need_run_info` any folder will do, and a run has everything in it.
    """
    path = Path(os.path.abspath(folder))
    if run_folder.is_analysis(f"{path.parent.name}/{path.name}") and (found := _open_analysis(path)):
        return found
    run = run_folder.open_run(path, need_run_info=need_run_info)
    return split(run) if need_run_info else run


def _open_analysis(path: Path) -> Run | None:
    """None if the folder around it is no run of an instrument that makes analyses."""
    try:
        run = split(run_folder.open_run(path.parent.parent))
    except RunError:
        return None
    if run.split and path.is_dir():
        return _unit(run, path.name)
    return None


def split(run: Run) -> Run:
    """The run without its analyses, if its instrument is one that makes them."""
    return run._replace(split=True) if are_made_in(run.path, run.info.instrument) else run


def are_made_in(folder: Path, instrument: str) -> bool:
    """Whether the run in this folder is of an instrument that analyses its runs, each time in a folder of its own; by
    its id or, if that is unknown, by RunParameters.xml."""
    family = completion.family_of_run(folder, instrument)
    return family is not None and family.analysis


def units(run: Run) -> list[Run]:
    """The analyses in a run folder, by number; one look at the disk where there are none. Raises RunError."""
    folder = run.path / ANALYSES
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunError(f"cannot read {printable(str(folder))}: {error.strerror}") from error
    numbers = sorted(
        (name for name in names if run_folder.is_analysis(f"{ANALYSES}/{name}")), key=lambda n: (int(n), n)
    )
    return [_unit(run, number) for number in numbers] if numbers and not folder.is_symlink() else []


def _unit(run: Run, number: str) -> Run:
    return Run(run.path / ANALYSES / number, f"{run.run_id}/{ANALYSES}/{number}", run.info, within=run.path)


def is_excluded(unit: Run, excludes: Iterable[re.Pattern[str]]) -> bool:
    """Whether a pattern leaves out all of it, as `/Analysis/` does: then nobody waits for it."""
    probes = [f"{unit.run_id}/{os.path.join(folder, name)}" for folder, name in (("", "any"), *_MARKERS)]
    return any(all(pattern.search(probe) for probe in probes) for pattern in excludes)


def judge(unit: Run, quiet_seconds: float = completion.QUIET_SECONDS, now: float | None = None) -> Finish:
    """Whether the instrument has finished the analysis and copied it; raises RunError.

    One of the two markers is enough when nothing has changed for `quiet_seconds`: the other may never come. Both are
    not enough while what a manifest names, or what the markers should follow, still arrives.
    """
    moments = {f"{folder}/{name}".lstrip("/"): _moment(unit.path / folder, name) for folder, name in _MARKERS}
    missing = [name for name, moment in moments.items() if moment is None]
    there = [moment for moment in moments.values() if moment is not None]
    newest = max(there) if there else _mtime(unit.path)
    if len(missing) == len(moments):
        return Finish(False, f"waits for {' and '.join(missing)}", newest)
    all_there = Finish(True, f"{' and '.join(moments)} are there", newest)
    if not missing and os.path.lexists(unit.path / "Manifest.tsv"):
        return all_there  # what that names and is not there is found when it is uploaded
    listing, moment = run_folder.list_files(unit), time.time() if now is None else now
    if not missing and not _is_later(listing):
        return all_there
    quiet = max(0.0, moment - run_folder.last_change(listing, moment))
    if quiet < quiet_seconds:
        late = "files came after its markers; waits until"
        waits = f"waits for {' and '.join(missing)}, or until" if missing else late
        return Finish(False, f"{waits} nothing changed for {human_seconds(quiet_seconds)}", newest)
    if not missing:
        return all_there
    only = next(name for name in moments if name not in missing)
    reason = f"{only} is there, {' and '.join(missing)} is not, and nothing changed for {human_seconds(quiet)}"
    return Finish(True, reason, newest, reason)


def _is_later(listing: run_folder.Listing) -> bool:
    """Whether a file came to this disk after the markers, which the instrument writes last."""
    names = {os.path.join(folder, name).lower() for folder, name in _MARKERS}
    arrivals = [(c, f.path.lower() in names) for f, c in zip(listing.files, listing.ctimes_ns, strict=True)]
    last_marker = max((ctime for ctime, is_marker in arrivals if is_marker), default=0)
    return any(ctime > last_marker for ctime, is_marker in arrivals if not is_marker)


def _moment(folder: Path, marker: str) -> float | None:
    """When a marker was written; None if it is not there."""
    try:
        name = next((name for name in sorted(os.listdir(folder)) if name.lower() == marker.lower()), None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"cannot read {printable(str(folder))}: {error.strerror}") from error
    return None if name is None else _mtime(folder / name)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise RunError(f"cannot read {printable(str(path))}: {error.strerror}") from error
