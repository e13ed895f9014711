"""Render dashboards of made-up runs."""

from __future__ import annotations

from dataclasses import replace

from s3sync.inventory.history import History, HistoryRow
from s3sync.monitor import dashboard
from s3sync.monitor.last_scan import LastScan
from s3sync.monitor.scan_status import ScanStatus

HOUR, DAY = 3600.0, 86400.0


NOW = 1_795_000_000.0


DONE = HistoryRow(
    run_id="20261118_LH00130_0061_A22CC55LT4",
    state="uploaded",
    reason="90 files verified in S3",
    instrument="NovaSeq X LH00130",
    destination="s3://lab-runs/2026",
    is_watched=True,
    files=90,
    total_files=90,
    failed_files=0,
    size=207_300_000,
    rate=50e6,
    began=NOW - 2 * DAY,
    done=NOW - DAY - HOUR,
    verified=NOW - DAY,
    tried=NOW - DAY,
)


FAILED = replace(
    DONE,
    run_id="20261117_M00146_0060_BBBBB",
    state="failed",
    reason="88 of 90 files verified, 22 failed; tried again at the next scan",
    files=68,
    failed_files=22,
    verified=None,
    failures=tuple((f"Data/{number}.bcl", "S3 has other bytes") for number in range(20)),
)


NEW = replace(
    DONE,
    run_id="20261119_M00146_0062_CCCCC",
    state="new",
    reason="complete, not uploaded yet",
    files=0,
    total_files=0,
    size=0,
    rate=None,
    done=NOW - 3 * HOUR,
    verified=None,
    tried=None,
)


def rendered(history: History, scan: LastScan | None) -> bytes:
    return dashboard.render(dashboard.build_view(history, ScanStatus(last=scan)))
