"""Measure how long after its last marker a run is verified in S3: streamed while it is written, or not.

All contenders get the same run and the same slow line to the server.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from s3sync.aws.destination import Destination
from s3sync.runs import run_folder
from s3sync.state.store import StateStore
from s3sync.text import human_bytes, human_seconds, pluralize
from scripts.bench.contenders import ROOT
from scripts.bench.measure import Ended, end_all, wait_for
from scripts.simulate.files import run_files
from scripts.simulate.live import LiveRun, at_pace
from scripts.simulate.plan import Run, plan_run
from scripts.simulate.timeline import timeline
from tests.helpers.s3server import S3Server, StoredObject

MARKER = "CopyComplete.txt"
_BUCKET = "lab-runs"
_CYCLES = (10, 3, 3, 10)
_BYTES = 200_000_000  # of the run
_RATE = 3_000_000  # bytes a second that get through to the server: the whole run takes 67 s
_WRITING_SECONDS = 110.0  # of the instrument: in life, too, writing takes longer than sending
_SCAN_SECONDS = 1.0  # from the start of a scan to the start of the next, unless it takes longer; crontabs have minutes
_SETTLE_SECONDS = 2.0
_WHOLE_COPY = 318  # cycles after which the instrument's copying takes as long as its table says


class Order(NamedTuple):
    """The run that is written and uploaded. `scale` is the simulator's; `writing` takes this many seconds."""

    run: Run
    scale: float
    writing: float
    rate: int  # bytes a second that the line takes
    cores: int
    threads: int
    aws: str
    most_seconds: float = 900.0  # after CopyComplete.txt; then it is given up


class Tail(NamedTuple):
    """One upload. `seconds` is from CopyComplete.txt until all is in S3; `left` what went up in that time.

    `scans` ended in that time, `all_scans` are those before it, too. CPU-seconds are of everything that was started,
    `late_cpu_seconds` of what ended after CopyComplete.txt; requests are all of them. `last_seconds` is from the
    start of the last scan, which finds the marker, until the log says completed, whenever that scan comes.
    """

    way: str
    round: int  # from 1
    files: int
    size: int  # bytes
    seconds: float
    left_files: int
    left_size: int  # bytes
    scans: int
    all_scans: int
    cpu_seconds: float
    late_cpu_seconds: float
    last_seconds: float
    requests: Counter[str]
    trouble: str = ""


class _Scan(NamedTuple):
    """A process, and when it ended and began (seconds since the epoch)."""

    ended: Ended
    when: float
    began: float


class _Bench(NamedTuple):
    """One run at one server."""

    order: Order
    live: LiveRun
    work: Path
    environ: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"s3://{_BUCKET}/{self.live.folder.name}/"

    def copied(self) -> float | None:
        """Return when CopyComplete.txt was written, in seconds since the epoch; None before that."""
        try:
            return (self.live.folder / MARKER).stat().st_mtime
        except FileNotFoundError:
            return None


class Way(NamedTuple):
    """A way to upload. `upload` writes and uploads the run; it returns the scans, and when all was in S3 (or None)."""

    about: str
    upload: Callable[[_Bench], tuple[list[_Scan], float | None]]


def make_order(scale: float, cores: int, threads: int, aws: str) -> Order:
    """Return a small NovaSeq 6000 run. `scale` multiplies its bytes and the seconds of writing, not the line."""
    run = plan_run("novaseq6000", cycles=_CYCLES, tiles=4)
    # The instrument copies for a part of the run, not for 93 minutes of two hours.
    minutes = max(1, round(run.instrument.copy_minutes * sum(_CYCLES) / _WHOLE_COPY))
    run = replace(run, instrument=replace(run.instrument, copy_minutes=minutes))
    at_full_size = sum(file.size for file in run_files(run, 1))
    return Order(run, _BYTES * scale / at_full_size, _WRITING_SECONDS * scale, _RATE, cores, threads, aws)


def measure_live(order: Order, rounds: int, environ: Mapping[str, str]) -> Iterator[Tail]:
    """Measure all ways in alternation; yield each measurement as soon as it is made."""
    for number in range(1, rounds + 1):
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="s3sync-benchmark-live-") as folder:
                yield measure(order, way, number, Path(folder), environ)


def measure(order: Order, way: str, number: int, work: Path, environ: Mapping[str, str]) -> Tail:
    """Measure one way with a run in an empty folder, and an empty server."""
    with S3Server("hashes", rate=order.rate) as server:
        server.create_bucket(_BUCKET)
        live = LiveRun(work / "instrument", order.run, order.scale)
        bench = _Bench(order, live, work, {**environ, "AWS_ENDPOINT_URL": server.url, "PYTHONPATH": str(ROOT)})
        scans, arrived = WAYS[way].upload(bench)
        copied = bench.copied() or 0.0
        sizes = {str(p.relative_to(live.folder)): p.stat().st_size for p in live.folder.rglob("*") if p.is_file()}
        objects = server.objects(_BUCKET)
        missing = sum(f"{live.folder.name}/{path}" not in objects for path in sizes)
        left = sizes_since(objects.values(), copied)
        late = [scan for scan in scans if scan.when >= copied]
        return Tail(
            way=way,
            round=number,
            files=len(sizes),
            size=sum(sizes.values()),
            seconds=(arrived or time.time()) - copied,
            left_files=len(left),
            left_size=sum(left),
            scans=len(late),
            all_scans=len(scans),
            cpu_seconds=sum(scan.ended.cpu_seconds for scan in scans),
            late_cpu_seconds=sum(scan.ended.cpu_seconds for scan in late),
            last_seconds=(arrived or time.time()) - scans[-1].began,
            requests=server.counters,
            trouble=_trouble(scans, arrived, missing, work / "output"),
        )


def sizes_since(objects: Iterable[StoredObject], moment: float) -> list[int]:
    """Return the bytes of each object that was stored at this time (seconds since the epoch) or later."""
    return [stored.size for stored in objects if stored.last_modified >= moment]


def _streamed(bench: _Bench) -> tuple[list[_Scan], float | None]:
    with _being_written(bench):
        return _scan_until_uploaded(bench, stream=True)


def _afterwards(bench: _Bench) -> tuple[list[_Scan], float | None]:
    """Write the whole run at once, since nothing happens before its end, and then scan."""
    list(bench.live)
    return _scan_until_uploaded(bench, stream=False)


def _synced(bench: _Bench) -> tuple[list[_Scan], float | None]:
    list(bench.live)
    argv = (bench.order.aws, "s3", "sync", str(bench.live.folder), bench.url, "--no-progress")
    scan = _run(bench, argv)
    return [scan], scan.when


WAYS = {
    "streamed": Way("scans of the monitor with `stream: true`, from the first cycle on", _streamed),
    "afterwards": Way("the same scans without `stream`, from CopyComplete.txt on", _afterwards),
    "sync": Way("one `aws s3 sync`, from CopyComplete.txt on", _synced),
}
_FIRST = "afterwards"  # what all are compared with


@contextlib.contextmanager
def _being_written(bench: _Bench) -> Iterator[None]:
    """Write the run at its pace during the `with`; leaving that early ends the writing."""
    stop = threading.Event()
    end = timeline(bench.order.run, bench.order.scale)[-1].seconds
    pace = at_pace(bench.live, end / bench.order.writing, stop.wait)
    writer = threading.Thread(target=lambda: list(pace), name="instrument", daemon=True)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def _scan_until_uploaded(bench: _Bench, *, stream: bool) -> tuple[list[_Scan], float | None]:
    """Scan until the log says that the run is uploaded; return the scans, and when the log said so."""
    config = _config(bench, stream=stream)
    argv = (sys.executable, "-m", "s3sync", "monitor", "--config", str(config))
    run = run_folder.Run(path=bench.live.folder, run_id=bench.live.folder.name, info=run_folder.RunInfo())
    store = StateStore(bench.work / "log", run, Destination(_BUCKET, ""))
    scans: list[_Scan] = []
    while True:
        next_one = time.monotonic() + _SCAN_SECONDS
        scans.append(_run(bench, argv))
        head = store.head()
        if head and head.completed:
            return scans, store.log_path.stat().st_mtime
        if _is_too_late(bench):
            return scans, None
        time.sleep(max(0.0, next_one - time.monotonic()))


def _is_too_late(bench: _Bench) -> bool:
    copied = bench.copied()
    return copied is not None and time.time() - copied > bench.order.most_seconds


def _config(bench: _Bench, *, stream: bool) -> Path:
    order, path = bench.order, bench.work / "config.json"
    watched = {"monitored_directories": [str(bench.live.folder.parent)], "bucket": _BUCKET, "remote_path": "/"}
    limits = {"max_cores": order.cores, "max_threads": order.threads}
    more = {"settle_minutes": _SETTLE_SECONDS / 60, "aws_command": order.aws, "log_dir": str(bench.work / "log")}
    path.write_text(json.dumps({"monitor": [{**watched, "stream": stream}], **limits, **more}))
    return path


def _run(bench: _Bench, argv: Sequence[str]) -> _Scan:
    """Run a process to its end, with its output in the file `output`."""
    with (bench.work / "output").open("ab") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        began = time.time()
        process = subprocess.Popen(argv, env=dict(bench.environ), **streams)  # type: ignore[call-overload]
        try:
            return _Scan(wait_for(process), time.time(), began)
        finally:
            end_all([process])


def _trouble(scans: Sequence[_Scan], arrived: float | None, missing: int, output: Path) -> str:
    """Return what went wrong, in one line; empty if nothing did."""
    codes = [scan.ended.returncode for scan in scans if scan.ended.returncode]
    if codes:
        said = output.read_text(errors="replace").strip().rpartition("\n")[2]
        return f"exit code {codes[0]} ({pluralize(len(codes), 'time')}); the last output: {said}"
    if arrived is None:
        return f"not completed after {pluralize(len(scans), 'scan')}"
    return f"{pluralize(missing, 'file')} did not arrive" if missing else ""


# Results


TSV_HEAD = (*(name for name in Tail._fields if name != "trouble"), "trouble")
_HEAD = ("way", "s after", "min-max", "ratio", "last", "files", "MB", "scans", "CPU s", "requests")


def tsv_row(one: Tail) -> list[str]:
    """Return a row of the table of all measurements, in the order of TSV_HEAD."""
    numbers = {"seconds": f"{one.seconds:.3f}", "cpu_seconds": f"{one.cpu_seconds:.3f}"}
    numbers |= {"last_seconds": f"{one.last_seconds:.3f}"}
    numbers |= {"late_cpu_seconds": f"{one.late_cpu_seconds:.3f}", "requests": f"{sum(one.requests.values())}"}
    return [numbers.get(name, str(getattr(one, name))) for name in TSV_HEAD]


def rows_of(tails: Sequence[Tail]) -> list[tuple[str, ...]]:
    """Return a header and a row for each way: medians of successful measurements."""
    good = [one for one in tails if not one.trouble]
    first = [one.seconds for one in good if one.way == _FIRST]
    groups = {way: [one for one in good if one.way == way] for way in WAYS}
    return [_HEAD, *(_row(way, group, median(first) if first else None) for way, group in groups.items() if group)]


def _row(way: str, group: Sequence[Tail], first: float | None) -> tuple[str, ...]:
    seconds = [one.seconds for one in group]
    return (
        way,
        f"{median(seconds):.1f}",
        f"{min(seconds):.1f}-{max(seconds):.1f}",
        "" if first is None else f"{median(seconds) / first:.2f}",
        f"{median(one.last_seconds for one in group):.1f}",
        f"{median(one.left_files for one in group):,.0f}",
        f"{median(one.left_size for one in group) / 1e6:,.1f}",
        f"{median(one.all_scans for one in group):,.0f}",
        f"{median(one.cpu_seconds for one in group):.1f}",
        f"{median(sum(one.requests.values()) for one in group):,.0f}",
    )


def about(order: Order, tails: Sequence[Tail]) -> list[str]:
    """Return lines about how the numbers were measured."""
    files, size = (tails[0].files, tails[0].size) if tails else (0, 0)
    what = f"{pluralize(files, 'file')}, {human_bytes(size)}, written in {human_seconds(order.writing)}"
    return [
        f"A NovaSeq 6000 run of {sum(order.run.instrument.cycles)} cycles: {what};",
        f"a line of {human_bytes(order.rate)}/s, through which all of it takes {human_seconds(size / order.rate)};",
        f"settled after {_SETTLE_SECONDS:g} s, a scan every {_SCAN_SECONDS:g} s or back to back.",
        f"Seconds from {MARKER} until the log says completed, or sync ends;",
        "last: from the start of the last scan, which finds the marker;",
        "files and MB that were left then; all scans, CPU-seconds and requests; medians.",
        *(f"- {name}: {way.about}" for name, way in WAYS.items()),
    ]


def line_of(one: Tail) -> str:
    """Return a measurement as one line."""
    what = (
        f"{one.seconds:.1f} s after {MARKER}, {pluralize(one.left_files, 'file')} and {human_bytes(one.left_size)} left"
    )
    return f"live round {one.round} {one.way}: {one.trouble or what}"
