"""Run all contenders in alternation (A B C A B C ...), so that other load on the machine hits all alike."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync.text import pluralize, printable
from scripts.bench.contenders import CONTENDERS, Pair, Setting, Variation
from scripts.bench.measure import Usage, run_together
from scripts.bench.server import Served
from scripts.bench.sites import Place, Site, count_objects
from scripts.bench.workloads import Workload

_STORING = ("PutObject", "CompleteMultipartUpload")  # each makes an object


class Entry(NamedTuple):
    """A contender with its processes and threads; `label` is its name in tables."""

    contender: str
    pair: Pair
    label: str
    variation: Variation = Variation()


class Measurement(NamedTuple):
    """One upload. `requests` is None, and `server_cpu_seconds` 0, where the server is not ours.

    `trouble` says in one line what went wrong; such a measurement counts for nothing.
    """

    workload: Workload
    entry: Entry
    round: int  # from 1
    usage: Usage
    server_cpu_seconds: float
    requests: Counter[str] | None
    trouble: str = ""


def entries_of(contenders: Sequence[str], pairs: Sequence[Pair]) -> list[Entry]:
    """Return the entries: this program once for each pair, the others once."""
    entries = []
    for name in contenders:
        is_grid = name.startswith("s3sync") and len(pairs) > 1
        chosen = pairs if is_grid else pairs[:1]
        entries += [Entry(name, pair, f"{name} {pair}" if is_grid else name) for pair in chosen]
    return entries


def measure_all(
    site: Site,
    workloads: Sequence[Workload],
    entries: Sequence[Entry],
    rounds: int | None,
    aws: str,
    other_aws: str = "",
) -> Iterator[Measurement]:
    """Yield each measurement as soon as it is made. `rounds` replaces the default of each workload."""
    for workload in workloads:
        for number, entry in itertools.product(range(1, (rounds or workload.rounds) + 1), entries):
            yield measure(site, workload, entry, number, aws, other_aws)


def measure(site: Site, workload: Workload, entry: Entry, number: int, aws: str, other_aws: str = "") -> Measurement:
    """Measure one upload to an empty prefix."""
    work = Path(tempfile.mkdtemp(prefix="s3sync-benchmark-"))
    try:
        with site.place(workload.latency, workload.tls) as place:
            prefix = f"{place.base}/{workload.name}-{number}-{entry.label.replace(' ', '-')}"
            setting = Setting(
                workload=workload,
                bucket=place.bucket,
                prefix=prefix,
                environ=place.environ,
                work=work,
                aws=aws,
                pair=entry.pair,
                variation=entry.variation,
                other_aws=other_aws,
            )
            commands = CONTENDERS[entry.contender].prepare(setting)
            usage = run_together(commands, work / "output", ignored=[place.pid])
            served = place.stop()
            arrived = _arrived(served, place, prefix, aws)
        trouble = _trouble(usage, work / "output", arrived, len(workload.files))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    requests, cpu = (served.requests, served.cpu_seconds) if served else (None, 0.0)
    return Measurement(workload, entry, number, usage, cpu, requests, trouble)


def _arrived(served: Served | None, place: Place, prefix: str, aws: str) -> int:
    """Return how many objects there are now."""
    if served is None:
        return count_objects(aws, place, prefix)
    return sum(served.requests[operation] for operation in _STORING)


def _trouble(usage: Usage, output: Path, arrived: int, files: int) -> str:
    """Return what went wrong; empty if nothing did. Exit codes alone prove nothing, so arrived objects are counted."""
    if any(usage.returncodes):
        lines = output.read_text(errors="replace").split("\n")
        complaint = next((line for line in reversed(lines) if line.strip() and not line.startswith("upload: ")), "")
        return f"exit code {max(usage.returncodes, key=abs)}: {printable(complaint.strip())}"
    return "" if arrived >= files else f"only {arrived:,} of {pluralize(files, 'file')} arrived"
