"""Scan all runs once, and report what was found."""

from s3sync.monitor import config_failure, dashboard, health, notify, publish, reporting, scan, scan_status
from s3sync.monitor.scan_result import ScanResult
from s3sync.monitor.view import View

__all__ = [
    "ScanResult",
    "View",
    "config_failure",
    "dashboard",
    "health",
    "notify",
    "publish",
    "reporting",
    "scan",
    "scan_status",
]
