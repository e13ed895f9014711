"""Measure what the defaults rest on: vary one of them at a time, in alternation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync.aws.etag import Multipart
from s3sync.transfer.batches import FILE_COST
from scripts.bench.contenders import Pair, Variation
from scripts.bench.sites import Site
from scripts.bench.trials import Entry, Measurement, measure_all
from scripts.bench.workloads import make_workload

_MIB = 1024 * 1024
_FAR_SECONDS = 0.03


class Knob(NamedTuple):
    """Something that is set: its values, the default among them, and where it matters (workload, latency)."""

    about: str
    values: tuple[float, ...]
    default: float
    vary: Callable[[float], Variation]
    workloads: tuple[tuple[str, float], ...]
    contender: str = "s3sync"


def _constants(*names: str, unit: float = 1.0) -> Callable[[float], Variation]:
    return lambda value: Variation(constants=tuple((name, value * unit) for name in names))


def _batch(files: float) -> Variation:
    cost = files * FILE_COST
    return Variation(
        constants=(("transfer.batches._FULL_BATCH_COST", cost), ("transfer.batches._SMALL_BATCH_COST", cost / 2))
    )


def _processes(number: float) -> Variation:
    return Variation(options=(f"--cores={number:g}", f"--max_processes={number:g}"))


def _parts(mib: float) -> Variation:
    return Variation(multipart=Multipart(threshold=round(mib * _MIB), part_size=round(mib * _MIB)))


KNOBS = {
    "parts": Knob("MiB: part size and threshold", (8, 16, 32, 64), 8, _parts, (("novaseq", 0.0),), "bare"),
    "batch": Knob("small files in a full batch", (500, 1000, 2000, 4000), 1000, _batch, (("far", 0.0),)),
    "readback": Knob(
        "read back while others are sent, as a share of the cost of sending; 0: at the end",
        (0, 0.05, 0.1, 0.2, 0.4),
        0.05,
        _constants("transfer.pipeline._MAX_READBACK_COST_RATIO"),
        (("far", 0.0),),
    ),
    "hashers": Knob(
        "hashing threads a core",
        (0.5, 1, 2),
        0.5,
        _constants("transfer.sharing.HASH_THREADS_PER_CORE"),
        (("novaseq", 0),),
    ),
    "processes": Knob(
        "aws processes at once, none added", (1, 2, 3, 4, 8), 2, _processes, (("small", 0.0), ("small", _FAR_SECONDS))
    ),
    "threads": Knob(
        "requests at once in each process",
        (1, 2, 4, 8, 10, 16),
        4,
        lambda number: Variation(options=(f"--threads={number:g}",)),
        (("small", 0.0), ("small", _FAR_SECONDS)),
    ),
}


def label_of(name: str, value: float) -> str:
    """Return the label of a value, such as `batch 1000`."""
    return f"{name} {value:g}"


def measure_knob(
    name: str, site: Site, folder: Path, scale: float, rounds: int, aws: str, pair: Pair
) -> Iterator[Measurement]:
    """Yield each measurement as soon as it is made; `name` is a key of KNOBS."""
    knob = KNOBS[name]
    entries = [Entry(knob.contender, pair, label_of(name, value), knob.vary(value)) for value in knob.values]
    for number, (shape, latency) in enumerate(knob.workloads):
        workload = make_workload(shape, folder / f"{name}-{number}", scale, latency)
        yield from measure_all(site, [workload], entries, rounds, aws)
