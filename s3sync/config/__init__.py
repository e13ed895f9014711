"""Read the monitor's file as frozen values, or report all its errors with their positions."""

from s3sync.config.model import Config, MonitorEntry, load_config, watched_by
from s3sync.config.places import default_path, default_places

__all__ = ["Config", "MonitorEntry", "default_path", "default_places", "load_config", "watched_by"]
