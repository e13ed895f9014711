"""Read the monitor's file as frozen values, or report all its errors with their positions."""

from s3sync.config.checks import config_warnings
from s3sync.config.entry import MonitorEntry
from s3sync.config.load import load_config
from s3sync.config.model import Config
from s3sync.config.search_path import default_path, search_paths

__all__ = [
    "Config",
    "MonitorEntry",
    "config_warnings",
    "default_path",
    "load_config",
    "search_paths",
]
