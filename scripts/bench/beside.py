"""Measure how long a small run takes beside a large one that is being uploaded, and what the large one loses.

All ways get the same runs and the same slow line to the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from s3sync.aws.destination import Destination
from s3sync.runs import run_folder
from s3sync.state.store import StateStore
from s3sync.text import human_bytes
from scripts.bench.contenders import ROOT
from scripts.bench.measure import end_all
from scripts.simulate_run import make_run
from tests.helpers.s3server import S3Server

_BUCKET = "lab-runs"
_SMALL, _LARGE = "261123_A01234_0008_AHSMALLDRX", "261123_A01234_0007_AHLARGEDRX"
_LARGE_BYTES = 800_000_000
_SMALL_BYTES = 40_000_000
_RATE = 10_000_000  # bytes a second that get through to the server: the large run takes 80 s
_MARKER = "CopyComplete.txt"
_CYCLES = (10, 3, 3, 10)
_MOST_SECONDS = 1200.0  # then it is given up
_POLL_SECONDS = 0.1


class Order(NamedTuple):
    """The uploads to measure. Sizes are in bytes."""

    large: int
    small: int
    cores: int
    threads: int
    aws: str


class Times(NamedTuple):
    """A measurement: seconds from the end of a run until its log says "completed"; None without this run."""

    way: str
    round: int  # from 1
    small: float | None
    large: float | None
    trouble: str = ""


class _Bench(NamedTuple):
    order: Order
    server: S3Server
    work: Path
    environ: Mapping[str, str]

    @property
    def watched(self) -> Path:
        return self.work / "instrument"

    def make(self, name: str, size: int) -> Path:
        """Make a complete run beside the watched folder."""
        at_full_size = 1_000_000_000_000
        run = make_run(self.work / "made", cycles=_CYCLES, tiles=4, scale=1 / at_full_size, run_id=name)
        data = run / "Data" / "Intensities"
        for number in range(20):
            (data / f"{number:02}.bin").write_bytes(bytes([number + 1]) * (size // 20))
        (run / _MARKER).touch()  # it comes last
        return run

    def hand_over(self, run: Path) -> Path:
        """Let the monitor see a run, which is complete at this moment."""
        self.watched.mkdir(exist_ok=True)
        return run.rename(self.watched / run.name)

    def start(self, runs_at_once: int) -> subprocess.Popen[bytes]:
        """Start a scan."""
        order, path = self.order, self.work / "config.json"
        entry = {"monitored_directories": [str(self.watched)], "bucket": _BUCKET, "remote_path": "/"}
        limits = {"max_cores": order.cores, "max_threads": order.threads, "max_runs_at_once": runs_at_once}
        more = {"aws_command": order.aws, "log_dir": str(self.work / "log"), "max_age": 1e6, "alert_free_percent": 0}
        path.write_text(json.dumps({"monitor": [entry], **limits, **more}))
        argv = (sys.executable, "-m", "s3sync", "monitor", "--config", str(path))
        with (self.work / "output").open("ab") as output:
            return subprocess.Popen(
                argv, env=dict(self.environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def completed(self, run: Path) -> float | None:
        """Return when the log said that a run is uploaded, in seconds since the epoch; None before that."""
        store = StateStore(
            self.work / "log",
            run_folder.Run(path=run, run_id=run.name, info=run_folder.RunInfo()),
            Destination(_BUCKET, ""),
        )
        head = store.head()
        return store.log_path.stat().st_mtime if head and head.completed else None


def make_order(scale: float, cores: int, threads: int, aws: str) -> Order:
    """Return a large and a small run. `scale` multiplies their sizes, but not the speed of the line."""
    return Order(round(_LARGE_BYTES * scale), round(_SMALL_BYTES * scale), cores, threads, aws)


def measure_beside(order: Order, rounds: int, environ: Mapping[str, str]) -> Iterator[Times]:
    """Measure all ways in alternation; yield each measurement as soon as it is made."""
    for number in range(1, rounds + 1):
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="s3sync-benchmark-beside-") as folder:
                yield measure(order, way, number, Path(folder), environ)


def measure(order: Order, way: str, number: int, work: Path, environ: Mapping[str, str]) -> Times:
    """Measure one way in an empty folder, with an empty server."""
    with S3Server("hashes", rate=_RATE) as server:
        server.create_bucket(_BUCKET)
        bench = _Bench(order, server, work, {**environ, "AWS_ENDPOINT_URL": server.url, "PYTHONPATH": str(ROOT)})
        try:
            small, large = WAYS[way](bench)
        except (TimeoutError, ValueError) as error:
            return Times(way, number, None, None, str(error))
        return Times(way, number, small, large)


def _alone(name: str) -> Callable[[_Bench], tuple[float | None, float | None]]:
    def upload(bench: _Bench) -> tuple[float | None, float | None]:
        run = bench.hand_over(bench.make(name, bench.order.small if name == _SMALL else bench.order.large))
        seconds = _wait(bench, bench.start(4), {run: time.time()})[0]
        return (seconds, None) if name == _SMALL else (None, seconds)

    return upload


def _both(runs_at_once: int) -> Callable[[_Bench], tuple[float | None, float | None]]:
    def upload(bench: _Bench) -> tuple[float | None, float | None]:
        small = bench.make(_SMALL, bench.order.small)
        large = bench.hand_over(bench.make(_LARGE, bench.order.large))
        began = time.time()
        process = bench.start(runs_at_once)
        bench.server.wait_for("PutObject", timeout=_MOST_SECONDS)
        small = bench.hand_over(small)
        whole = {small: time.time(), large: began}
        took = _wait(bench, process, whole, again=lambda: bench.start(runs_at_once))
        return took[0], took[1]

    return upload


def _wait(
    bench: _Bench,
    process: subprocess.Popen[bytes],
    began: Mapping[Path, float],
    again: Callable[[], subprocess.Popen[bytes]] | None = None,
) -> tuple[float, ...]:
    """Wait until all runs are complete; return the seconds that each took. Raises TimeoutError, ValueError."""
    processes, deadline = [process], time.monotonic() + _MOST_SECONDS
    try:
        while time.monotonic() < deadline:
            completed = [bench.completed(run) for run in began]
            if all(completed):
                processes[-1].wait(60)
                return tuple((done or 0.0) - since for done, since in zip(completed, began.values(), strict=True))
            if processes[-1].poll() is not None:
                if processes[-1].returncode or again is None:
                    raise ValueError(f"exit code {processes[-1].returncode}, and not all is complete")
                processes.append(again())  # as cron does
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"not complete after {_MOST_SECONDS:g} s")
    finally:
        end_all(processes)


WAYS: Mapping[str, Callable[[_Bench], tuple[float | None, float | None]]] = {
    "small alone": _alone(_SMALL),
    "large alone": _alone(_LARGE),
    "beside": _both(4),
    "one by one": _both(1),
}


# Results


HEAD = ("way", "small s", "large s")
TSV_HEAD = Times._fields


def tsv_row(one: Times) -> list[str]:
    """Return a row of the table of all measurements, in the order of TSV_HEAD."""
    return [one.way, str(one.round), _seconds(one.small), _seconds(one.large), one.trouble]


def rows_of(times: Sequence[Times]) -> list[tuple[str, ...]]:
    """Return a header and a row for each way: medians of successful measurements."""
    rows: list[tuple[str, ...]] = [HEAD]
    for way in WAYS:
        good = [one for one in times if one.way == way and not one.trouble]
        if good:
            small = [one.small for one in good if one.small is not None]
            large = [one.large for one in good if one.large is not None]
            rows.append((way, _seconds(median(small) if small else None), _seconds(median(large) if large else None)))
    return rows


def about(order: Order) -> list[str]:
    """Return lines about how the numbers were measured."""
    return [
        f"A run of {human_bytes(order.large)} is being uploaded when one of {human_bytes(order.small)}",
        f"is complete; a line of {human_bytes(_RATE)}/s. Seconds until the log says",
        "completed; the scan looks for new runs every 30 s; medians.",
    ]


def line_of(one: Times) -> str:
    """Return a measurement as one line."""
    return (
        f"{one.way} round {one.round}: {one.trouble or f'small {_seconds(one.small)} s, large {_seconds(one.large)} s'}"
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
