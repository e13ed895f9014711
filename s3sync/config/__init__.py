"""Read the monitor's file as frozen values, or report all its errors with their positions."""

from s3sync.config.checks import config_warnings
from s3sync.config.entry import MonitorEntry
from s3sync.config.load import load_config
from s3sync.config.model import Config, watched_by
from s3sync.config.places import default_path, default_places

__all__ = [
    "Config",
    "MonitorEntry",
    "config_warnings",
    "default_path",
    "default_places",
    "load_config",
    "watched_by",
]
