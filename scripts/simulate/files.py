"""List the files of a run: paths, sizes, and the content of text files."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from scripts.simulate.plan import Run
from scripts.simulate.texts import text_of

DEFAULT_SCALE = 1 / 500
FLOOR_BYTES = 1024  # no scaled file gets smaller, unless the real one is


class RunFile(NamedTuple):
    """A file to write: path relative to the run folder, size in bytes, content (None: random bytes)."""

    path: str
    size: int
    content: bytes | None = None


def expanded(run: Run, template: str) -> list[str]:
    """Return all paths of a template, one for each value of each part in {}."""
    axes = {name: values for name, values in run.axes.items() if re.search(rf"{{{name}\b", template)}
    places = itertools.product(*axes.values())
    return [template.format(**vars(run), **dict(zip(axes, place, strict=True))) for place in places]


def text_file(run: Run, path: str) -> RunFile:
    content = text_of(run, path)
    return RunFile(path, len(content), content)


def text_files(run: Run, templates: str) -> list[RunFile]:
    return [text_file(run, path) for template in templates.split() for path in expanded(run, template)]


def data_files(run: Run, scale: float) -> Iterator[RunFile]:
    """Yield files of random bytes, with their real sizes multiplied by the scale. Raises ValueError."""
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, not {scale}")
    axes = run.axes
    for kind in run.instrument.data:
        size = kind.size * math.prod(len(axes[name]) for name in kind.each.split())
        for path in expanded(run, kind.path):
            yield RunFile(path, max(min(size, FLOOR_BYTES), round(size * scale)))


def run_files(run: Run, scale: float = DEFAULT_SCALE, *, complete: bool = True) -> list[RunFile]:
    """Return all files of the run in the order of writing, RunInfo.xml first. Raises ValueError.

    The scale multiplies the sizes of binary files (1: as large as the instrument's). Without `complete` the
    completion markers are left out, as while the run is still being copied (RTARead1Complete.txt etc. stay).
    """
    made = run.instrument
    markers = text_files(run, made.markers) if complete else []
    return [*text_files(run, made.texts), *data_files(run, scale), *text_files(run, made.logs), *markers]
