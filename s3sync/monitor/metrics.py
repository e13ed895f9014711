"""Render metrics for Prometheus, in the text format of node_exporter's textfile collector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
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


def render(history: History, scans: ScanStatus, free: Mapping[Path, int]) -> bytes:
    """Return all metrics; `free` are the free bytes on the file systems of folders."""
    from prometheus_client import CollectorRegistry, generate_latest  # imported only if metrics are written
    from prometheus_client.registry import Collector

    class Values(Collector):
        """Collect only our own metrics: none about this process, and no creation times."""

        def collect(self) -> Iterator[Metric]:
            """Yield each metric with its samples."""
            yield from _of_scans(scans.last or LastScan())
            yield from _of_now(history, scans)
            yield from _of_runs(history)
            yield from _of_machine(free)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Values())
    return generate_latest(registry)


def _gauges(*values: tuple[str, str, float]) -> Iterator[Metric]:
    """Yield a gauge for each name, help text and value."""
    from prometheus_client.core import GaugeMetricFamily

    for name, text, value in values:
        yield GaugeMetricFamily(f"s3sync_{name}", text, value)


def _by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge with a sample for each value of its label."""
    from prometheus_client.core import GaugeMetricFamily

    gauge = GaugeMetricFamily(f"s3sync_{name}", text, labels=[label])
    for key, value in values.items():
        gauge.add_metric([key], value)
    return gauge


def _of_scans(last: LastScan) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    yield from _gauges(
        ("last_tick_timestamp_seconds", "When the last scan ended, in seconds since the epoch.", last.ended),
        (
            "last_success_timestamp_seconds",
            "When the last scan without problems ended, in seconds since the epoch; 0 for never.",
            last.succeeded,
        ),
        ("tick_duration_seconds", "How long the last scan took, in seconds.", last.seconds),
    )
    counted = last.counted
    for name, text, value in (
        ("uploaded_runs", "Runs that were completed: every file verified in S3.", counted.runs),
        ("uploaded_files", "Files that were sent for the runs that were completed.", counted.files),
        ("uploaded_bytes", "Bytes that were sent for the runs that were completed.", counted.size),
    ):
        yield CounterMetricFamily(f"s3sync_{name}", text, value)
    found = Counter(problem.kind for problem in last.problems)
    by_kind = {str(kind): found[kind] for kind in KINDS}
    yield _by_label("problems", "Problems that the last scan found, by kind.", "kind", by_kind)


def _of_now(history: History, scans: ScanStatus) -> Iterator[Metric]:
    """Yield the metrics that are also updated while another process scans."""
    is_running = scans.running_since is not None
    seconds = max(0.0, history.at - scans.running_since) if scans.running_since is not None else 0.0
    level = LEVELS.index(health.verdict_of(history, scans).level)
    return _gauges(
        ("tick_running", "Whether a scan was running when this was written: 1 or 0.", float(is_running)),
        ("tick_running_seconds", "How long that scan had been running, in seconds; 0 if none was.", seconds),
        ("metrics_timestamp_seconds", "When this was written, in seconds since the epoch.", history.at),
        ("verdict", "What the dashboard says: 0 all is well, 1 something to know, 2 something needs attention.", level),
    )


def _of_runs(history: History) -> Iterator[Metric]:
    watched = [row for row in history.rows if row.is_watched]
    counts = Counter(row.state for row in watched)
    by_state = {str(state): counts[state] for state in inventory_history.STATES}
    yield _by_label("runs", "Runs in the monitored directories, by state.", "state", by_state)
    oldest = history.oldest_waiting
    yield from _gauges(
        (
            "failed_files",
            "Files that failed in the last call of their runs.",
            sum(row.failed_files for row in watched if row.state != "uploaded"),
        ),
        ("pending_restores", "Restores that wait for frozen objects.", len(history.restores)),
        ("frozen_objects", "Objects that they wait for.", sum(pending.frozen for pending in history.restores)),
        (
            "oldest_waiting_run_seconds",
            "How long ago the instrument finished the oldest complete run that is not verified, in seconds; 0 if none.",
            max(0.0, history.at - (oldest.done or 0)) if oldest else 0,
        ),
    )


def _of_machine(free: Mapping[Path, int]) -> Iterator[Metric]:
    by_path = {str(path): size for path, size in free.items()}
    yield _by_label("free_bytes", "Bytes that are free for this user, by folder.", "path", by_path)
    yield _by_label("build_info", "Always 1; the label is the version of s3sync.", "version", {__version__: 1})
