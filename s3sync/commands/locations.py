"""Find the config and the log directory that a command uses."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from s3sync.commands.output import print_messages
from s3sync.errors import Notice, UsageError
from s3sync.state import log_dir
from s3sync.text import printable

if TYPE_CHECKING:
    from s3sync.config import Config  # importing pydantic takes long, and `upload` does without

_CONFIG_ENDINGS = (".yaml", ".yml", ".json")


def config_path(args: argparse.Namespace) -> Path:
    """Return the path from --config, or else the default path that exists. Raises UsageError if there is none."""
    from s3sync.config import default_path, search_paths

    if args.config is not None:
        return Path(args.config)
    if found := default_path(os.environ):
        return found
    if given := next((run for run in getattr(args, "run", None) or () if run.endswith(_CONFIG_ENDINGS)), None):
        raise UsageError(
            f"no config: {printable(given)} is not a run (write --config {printable(given)})", id="usage.no-config"
        )
    places = " or ".join(printable(str(path)) for path in search_paths(os.environ))
    raise UsageError(
        f"no config: there is no {places} (`s3sync init` writes one; --config FILE or $S3SYNC_CONFIG names another)",
        id="usage.no-config",
    )


def config_to_read(args: argparse.Namespace) -> Config:
    """Load the config for a command that only reads the log directory.

    Raises ConfigError, and StateError if this user cannot read the log directory.
    """
    from s3sync.config import load_config

    config = load_config(config_path(args), os.environ)
    if "log_dir" not in config.model_fields_set:
        place = log_dir.for_reading(os.environ)
        print_note(place)
        config = config.model_copy(update={"log_dir": place.path})
    log_dir.require_readable(config.log_dir)
    return config


def config_to_write(args: argparse.Namespace) -> Config:
    """Load the config for a command that writes to the log directory.

    Raises ConfigError, and StateError if this user cannot write to the log directory.
    """
    from s3sync.config import load_config

    config = load_config(config_path(args), os.environ)
    log_dir.require_writable(config.log_dir, config_path(args))
    return config


def warn_of_unwritable(folder: Path, config: Path | None = None) -> list[str]:
    """Return a warning for a dry run if the real command could not write to the log directory; none if it could."""
    problem = log_dir.unwritable(folder, config)
    return [Notice(f"would fail without --dry-run: {problem}", id="state.log-dir-unwritable").line] if problem else []


def upload_log_dir(args: argparse.Namespace) -> log_dir.LogDir:
    """Return the log directory of a command without a config. Raises StateError if this user has none."""
    if args.log_dir is not None:
        return log_dir.LogDir(Path(os.path.abspath(args.log_dir)), "")
    return log_dir.for_upload(os.environ)


def print_note(place: log_dir.LogDir) -> None:
    """Print a note if the log directory is not the default one, with the reason."""
    if place.note:
        print_messages([f"note: {place.note}"])
