"""Read the monitor's file as frozen values, or report all its errors with their positions."""

from s3sync.config.model import Config, MonitorEntry, load_config, watched_by

__all__ = ["Config", "MonitorEntry", "load_config", "watched_by"]
