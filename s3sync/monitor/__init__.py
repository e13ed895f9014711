"""Scan all runs once, and report what was found."""

from s3sync.monitor import config_failure, dashboard, health, notify, publish, scan, scan_status
from s3sync.monitor.scan_result import ScanResult

__all__ = [
    "ScanResult",
    "config_failure",
    "dashboard",
    "health",
    "notify",
    "publish",
    "scan",
    "scan_status",
]
