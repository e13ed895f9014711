"""Render metrics for Prometheus, in the text format that node_exporter's textfile collector reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from s3sync import __version__
from s3sync.inventory import History
from s3sync.inventory import history as inventory_history
from s3sync.monitor import health
from s3sync.monitor.health import LEVELS
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.problems import KINDS
from s3sync.monitor.scan_status import ScanStatus

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def render(history: History, scans: ScanStatus, free: dict[Path, int]) -> bytes:
    """Return all metrics; `free` has the free bytes of the file systems of these folders."""
    from prometheus_client import CollectorRegistry, generate_latest  # only where there are metrics to write
    from prometheus_client.registry import Collector

    class Values(Collector):
        """Yield known values only: nothing about this process, and no times of creation."""

        def collect(self) -> Iterator[Metric]:
            """Yield each metric with its samples."""
            yield from _of_scans(scans.last or LastScan())
            yield from _of_now(history, scans)
            yield from _of_runs(history)
            yield from _of_machine(free)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Values())
    return generate_latest(registry)


def _of_scans(last: LastScan) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, text, value in (
        ("last_tick_timestamp_seconds", "When the last scan ended, in seconds since the epoch.", last.ended),
        (
            "last_success_timestamp_seconds",
            "When the last scan without problems ended, in seconds since the epoch; 0 for never.",
            last.succeeded,
        ),
        ("tick_duration_seconds", "How long the last scan took, in seconds.", last.seconds),
    ):
        yield GaugeMetricFamily(f"s3sync_{name}", text, value)
    counted = last.counted
    for name, text, value in (
        ("uploaded_runs", "Runs that were completed: every file proven in S3.", counted.runs),
        ("uploaded_files", "Files that were sent for the runs that were completed.", counted.files),
        ("uploaded_bytes", "Bytes that were sent for the runs that were completed.", counted.size),
    ):
        yield CounterMetricFamily(f"s3sync_{name}", text, value)
    problems = GaugeMetricFamily("s3sync_problems", "Problems that the last scan found, by kind.", labels=["kind"])
    found = Counter(problem.kind for problem in last.problems)
    for kind in KINDS:
        problems.add_metric([kind], found[kind])
    yield problems


def _of_now(history: History, scans: ScanStatus) -> Iterator[Metric]:
    """Yield what is updated while another process scans, too."""
    from prometheus_client.core import GaugeMetricFamily

    running = 0.0 if scans.running_since is None else max(0.0, history.at - scans.running_since)
    level = LEVELS.index(health.verdict_of(history, scans).level)
    for name, text, value in (
        (
            "tick_running",
            "Whether a scan was running when this was written: 1 or 0.",
            float(scans.running_since is not None),
        ),
        ("tick_running_seconds", "For how long that scan had been running, in seconds; 0 if none was.", running),
        ("metrics_timestamp_seconds", "When this was written, in seconds since the epoch.", history.at),
        ("verdict", "What the dashboard says: 0 all is well, 1 something to know, 2 something needs attention.", level),
    ):
        yield GaugeMetricFamily(f"s3sync_{name}", text, value)


def _of_runs(history: History) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    watched = [entry for entry in history.rows if entry.is_watched]
    counts = Counter(entry.state for entry in watched)
    runs = GaugeMetricFamily("s3sync_runs", "Runs in the monitored directories, by state.", labels=["state"])
    for state in inventory_history.STATES:
        runs.add_metric([state], counts[state])
    yield runs
    failed = sum(entry.failed_files for entry in watched if entry.state != "uploaded")
    yield GaugeMetricFamily("s3sync_failed_files", "Files that failed in the last call of their runs.", failed)
    for name, text, value in (
        ("pending_restores", "Restores that wait for frozen objects.", len(history.restores)),
        ("frozen_objects", "Objects that they wait for.", sum(pending.frozen for pending in history.restores)),
    ):
        yield GaugeMetricFamily(f"s3sync_{name}", text, value)
    oldest = history.oldest_waiting
    yield GaugeMetricFamily(
        "s3sync_oldest_waiting_run_seconds",
        "How long ago the instrument finished the run that has waited longest of those that are complete and not "
        "proven, in seconds; 0 if none waits.",
        max(0.0, history.at - (oldest.done or 0)) if oldest else 0,
    )


def _of_machine(free: dict[Path, int]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    space = GaugeMetricFamily("s3sync_free_bytes", "Bytes that are free for this user, by folder.", labels=["path"])
    for path, size in free.items():
        space.add_metric([str(path)], size)
    yield space
    build = GaugeMetricFamily("s3sync_build_info", "Always 1; the label is the version of s3sync.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
