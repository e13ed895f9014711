"""Scan all runs once, and report what was found."""

from s3sync.monitor import activity, config_failure, dashboard, health, publish, scan

__all__ = ["activity", "config_failure", "dashboard", "health", "publish", "scan"]
