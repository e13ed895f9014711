"""Make the runs to upload: simulated, of several shapes, shared by all contenders."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from s3sync.runs.local_files import LocalFile, list_files
from s3sync.runs.run_folder import open_run
from s3sync.text import human_bytes, pluralize
from scripts.simulate.files import RunFile, run_files, text_file
from scripts.simulate.plan import Run, plan_run
from scripts.simulate.writing import begin_folder

OWN = "own"  # the name of a run that the user gave
_FEWEST = 10  # files, however small the scale
_TINY_BYTES = (100, 300)
_SMALL_BYTES = (8_000, 12_000)
_MIDDLING_BYTES = 2_000_000
_LARGE_BYTES = 800_000_000


class Shape(NamedTuple):
    """A kind of run. `files` returns the files of a run at a scale.

    `latency` is that of the server in seconds, `tls` whether it speaks TLS.
    """

    about: str
    instrument: str
    files: Callable[[Run, float], list[RunFile]]
    rounds: int
    latency: float = 0.0
    tls: bool = False


class Workload(NamedTuple):
    """A run folder on disk, the latency in seconds to its server, and the default number of rounds."""

    name: str
    folder: Path
    files: tuple[LocalFile, ...]
    latency: float
    rounds: int
    tls: bool = False

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return sum(file.size for file in self.files)

    def __str__(self) -> str:
        largest = max((file.size for file in self.files), default=0)
        how = f"{pluralize(len(self.files), 'file')}, {human_bytes(self.size)}, the largest {human_bytes(largest)}"
        return (
            f"{self.name}: {how}"
            + (f", {self.latency * 1000:g} ms latency" if self.latency else "")
            + ", TLS" * self.tls
        )


def _small_files(number: int, size: tuple[int, int] = _SMALL_BYTES) -> Callable[[Run, float], list[RunFile]]:
    """Return a shape with this many files at scale 1, each with a size between these two in bytes."""

    def files(run: Run, scale: float) -> list[RunFile]:
        sizes = random.Random(f"{run.seed} sizes")
        texts = [text_file(run, "RunInfo.xml"), text_file(run, "RTAComplete.txt")]
        data = [
            RunFile(
                f"Data/Intensities/BaseCalls/L001/C{i // 40 + 1}.1/s_1_{1101 + i % 40}.bcl",
                sizes.randint(*size),
            )
            for i in range(max(_FEWEST, round(number * scale)) - len(texts))
        ]
        return [*texts, *data]

    return files


def _mixed(small: int, middling: int) -> Callable[[Run, float], list[RunFile]]:
    """Return a shape with these numbers of files of about 10 kB and of 2 MB, at scale 1."""

    def files(run: Run, scale: float) -> list[RunFile]:
        larger = (f"Data/Intensities/BaseCalls/L001/C{i}.1/L001_1.cbcl" for i in range(round(middling * scale)))
        return [*_small_files(small)(run, scale), *(RunFile(path, _MIDDLING_BYTES) for path in larger)]

    return files


def _large(number: int) -> Callable[[Run, float], list[RunFile]]:
    """Return a shape with this many files of 800 MB at scale 1. A smaller scale makes the files smaller, not fewer."""

    def files(run: Run, scale: float) -> list[RunFile]:
        data = [
            RunFile(f"Data/Intensities/BaseCalls/L00{i}/L00{i}_1.cbcl", round(_LARGE_BYTES * scale))
            for i in range(1, number + 1)
        ]
        return [text_file(run, "RunInfo.xml"), text_file(run, "RTAComplete.txt"), *data]

    return files


def _thinned(part: int) -> Callable[[Run, float], list[RunFile]]:
    """One of every N files of a real run at scale 1, each as large as it really is.

    Every n-th by size is taken, so that the mix of sizes stays that of the real run.
    """

    def files(run: Run, scale: float) -> list[RunFile]:
        every = sorted(run_files(run, 1), key=lambda file: (file.size, file.path))
        step = max(1, min(round(part / scale), len(every) // _FEWEST))
        taken = every[step // 2 :: step]
        needed = [file for file in every if file.path == "RunInfo.xml" and file not in taken]
        return [*needed, *taken]

    return files


_FAR = 0.03  # seconds
SHAPES = {
    "small": Shape("4,000 files of 10 kB", "miseq", _small_files(4000), rounds=2),
    "tiny": Shape("4,000 files of 200 bytes", "miseq", _small_files(4000, _TINY_BYTES), rounds=2),
    "few": Shape("200 files of 10 kB", "miseq", _small_files(200), rounds=3),
    "tls": Shape("4,000 files of 10 kB over TLS", "miseq", _small_files(4000), rounds=2, tls=True),
    "away": Shape("4,000 files of 10 kB, 30 ms latency", "miseq", _small_files(4000), rounds=2, latency=_FAR),
    "far": Shape("12,000 files of 10 kB, 30 ms latency", "miseq", _small_files(12_000), rounds=1, latency=_FAR),
    "large": Shape("2 files of 800 MB", "novaseq6000", _large(2), rounds=2),
    "novaseq": Shape("a NovaSeq S1 run, 1/50 of its files", "novaseq6000", _thinned(50), rounds=2),
    "miseq": Shape("a MiSeq run, 1/10 of its files", "miseq", _thinned(10), rounds=2),
    "mixed": Shape(
        "8,000 files of 10 kB and 400 of 2 MB, 30 ms latency", "miseq", _mixed(8000, 400), rounds=2, latency=_FAR
    ),
}


def make_workload(name: str, parent: Path, scale: float, latency: float | None = None) -> Workload:
    """Write a run of this shape; `latency` (seconds) instead of the shape's own."""
    shape = SHAPES[name]
    run = plan_run(shape.instrument)
    writer = begin_folder(parent / name, run)
    for file in shape.files(run, scale):
        writer.write(file)
    seconds = shape.latency if latency is None else latency
    return Workload(name, writer.folder, _files(writer.folder), seconds, shape.rounds, shape.tls)


def own_workload(folder: Path, latency: float | None = None) -> Workload:
    """Return a run of the user. Raises RunError if there is no such folder."""
    return Workload(OWN, folder.absolute(), _files(folder), latency or 0.0, rounds=1)


def _files(folder: Path) -> tuple[LocalFile, ...]:
    return list_files(open_run(folder, need_run_info=False)).files
