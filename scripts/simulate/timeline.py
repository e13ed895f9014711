"""Schedule all writes of a run, each at its time. Pure.

Data grow piece by piece during their cycle, InterOp and the long logs with every cycle. After the last cycle,
instruments that copy the run write RTAComplete.txt first, then the rest of the last cycle's data, of InterOp and of the
logs. An instrument's last write is its last completion marker.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from scripts.simulate.files import DEFAULT_SCALE, RunFile, data_files, text_files
from scripts.simulate.plan import Run

PIECES = 3  # in which a file of data is written
TEMPLATE_CYCLE = 5  # the positions of clusters are made from the first five cycles
FILTER_CYCLE = 26  # and which of them pass from the first 25
SHORT_SECONDS = 60.0  # for the texts of the start, for each marker
_OF_A_CYCLE = re.compile(r"/C(\d+)\.1/|_Cycle(\d+)_Log\.00\.log$|/(\d{4})\.bcl\.bgzf")
_BASE_CALLS = re.compile(r"bcl(\.gz|\.bgzf)?$")
_END_OF_READ = re.compile(r"RTARead(\d)Complete\.txt")


_Files = dict[int | None, list[RunFile]]  # by cycle; None: grown with all cycles


class Write(NamedTuple):
    """A file grows from `since` to `upto` bytes; from 0 on it is begun, or written anew.

    The bytes of a draft are not those that the file has in the end.
    """

    file: RunFile
    since: int
    upto: int
    draft: bool = False


class Moment(NamedTuple):
    """A write at its time: seconds since the start of the run, by the instrument's clock.

    Phases are `start`, `cycle 12/34`, `rewriting`, `late files`, and the markers by name, such as `RTAComplete`.
    """

    seconds: float
    phase: str
    write: Write

    @property
    def path(self) -> str:
        """Of the file that is written, relative to the run folder."""
        return self.write.file.path


class _Phase(NamedTuple):
    name: str
    seconds: float  # that it takes
    writes: list[Write]


def timeline(
    run: Run, scale: float = DEFAULT_SCALE, *, complete: bool = True, rewrite: int = 0, abandon: int | None = None
) -> list[Moment]:
    """Return all writes in order; at the end the folder contains what `run_files` says.

    So many files of base calls as `rewrite` says have other bytes until all cycles are over. `abandon` is the cycle
    after which nothing is written any more. Raises ValueError.
    """
    last, files = sum(run.instrument.cycles), _parted(run, scale)
    if abandon is None:
        drafts = _drafts(run, scale, rewrite)
        phases = [*_until_last_cycle(run, files, drafts), *_after_it(run, files, drafts, complete=complete)]
    elif rewrite or not 1 <= abandon <= last:
        raise ValueError(f"a run can be abandoned after one of its cycles, 1 to {last}, and then rewrites nothing")
    else:
        phases = _until_last_cycle(run, files, frozenset())[: 1 + abandon]
    return list(_moments(phases))


def _moments(phases: Iterable[_Phase]) -> Iterator[Moment]:
    """Yield the writes of each phase, spread evenly over its time."""
    began = 0.0
    for name, seconds, writes in phases:
        for number, write in enumerate(writes, start=1):
            yield Moment(began + seconds * number / len(writes), name, write)
        began += seconds


def _drafts(run: Run, scale: float, count: int) -> frozenset[str]:
    """Return the paths of this many files of base calls, of any cycle but the last. Raises ValueError."""
    last = sum(run.instrument.cycles)
    paths = [f.path for f in data_files(run, scale) if _BASE_CALLS.search(f.path) and cycle_of(run, f.path) != last]
    if not 0 <= count <= len(paths):
        raise ValueError(f"rewrite must be 0 to {len(paths)}, the files of base calls before the last cycle")
    return frozenset(random.Random(f"{run.seed} drafts").sample(paths, count))


def cycle_of(run: Run, path: str) -> int | None:
    """Return the cycle in which a data file or log is written; 0: before the first; None: it grows with all of them."""
    cycles = run.instrument.cycles
    if match := _OF_A_CYCLE.search(path):
        return int(match[1] or match[2] or match[3])
    if match := _END_OF_READ.fullmatch(path):
        return sum(cycles[: int(match[1])])
    if path.endswith(".locs"):
        return min(TEMPLATE_CYCLE, cycles[0])
    if path.endswith((".filter", ".control")):
        return min(FILTER_CYCLE, cycles[0])
    return None


def _parted(run: Run, scale: float) -> _Files:
    """Return the data files and the logs by `cycle_of`."""
    parted: _Files = {cycle: [] for cycle in (None, *range(sum(run.instrument.cycles) + 1))}
    for file in (*data_files(run, scale), *text_files(run, run.instrument.logs)):
        parted[cycle_of(run, file.path)].append(file)
    return parted


def _until_last_cycle(run: Run, files: _Files, drafts: frozenset[str]) -> list[_Phase]:
    """The start and each cycle; on instruments that copy the run the last cycle's data stay without their ends."""
    made, last = run.instrument, sum(run.instrument.cycles)
    phases = [_Phase("start", SHORT_SECONDS, [_whole(file) for file in (*text_files(run, made.texts), *files[0])])]
    for cycle in range(1, last + 1):
        rounds = _rounds(files[cycle], drafts)
        data = rounds[:-1] if cycle == last and _copies(run) else rounds
        grown = (_grown(file, cycle - 1, cycle, last + 1) for file in files[None])
        texts = (_whole(file) for file in files[cycle] if file.content is not None)
        writes = [*itertools.chain(*data), *grown, *texts]
        phases.append(_Phase(f"cycle {cycle}/{last}", 60 * made.cycle_minutes, writes))
    return phases


def _after_it(run: Run, files: _Files, drafts: frozenset[str], *, complete: bool) -> Iterator[_Phase]:
    """Yield the rewritten files, the late files, and the completion markers around them."""
    last = sum(run.instrument.cycles)
    if drafts:
        rewritten = [_whole(file) for file in itertools.chain(*files.values()) if file.path in drafts]
        yield _Phase("rewriting", SHORT_SECONDS, rewritten)
    markers = text_files(run, run.instrument.markers) if complete else []
    ends = [_Phase(PurePosixPath(marker.path).stem, SHORT_SECONDS, [_whole(marker)]) for marker in markers]
    before = 1 if _copies(run) else 0
    held_back = _rounds(files[last], drafts)[-1] if _copies(run) else []
    grown = (_grown(file, last, last + 1, last + 1) for file in files[None])
    yield from ends[:before]
    yield _Phase("late files", 60.0 * run.instrument.copy_minutes, [*held_back, *grown])
    yield from ends[before:]


def _copies(run: Run) -> bool:
    return run.instrument.markers.endswith("CopyComplete.txt")


def _rounds(files: list[RunFile], drafts: frozenset[str]) -> list[tuple[Write, ...]]:
    """Return the writes of data files that all grow at once: a piece of each, then the next piece of each."""
    return list(zip(*(_pieces(file, file.path in drafts) for file in files if file.content is None), strict=True))


def _pieces(file: RunFile, draft: bool) -> Iterator[Write]:
    cuts = [file.size * number // PIECES for number in range(PIECES + 1)]
    return (Write(file, since, upto, draft) for since, upto in itertools.pairwise(cuts))


def _grown(file: RunFile, since: int, upto: int, whole: int) -> Write:
    """Grown from one number of parts of the `whole` to another: logs are appended to, InterOp files written anew."""
    return Write(file, 0 if file.content is None else file.size * since // whole, file.size * upto // whole)


def _whole(file: RunFile) -> Write:
    return Write(file, 0, file.size)
