"""Find the config file if the command line names none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "S3SYNC_CONFIG"  # the environment variable that names the config file
FOR_ALL_USERS = Path("/etc/s3sync.yaml")


def search_paths(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the paths where the config is looked for without `--config`, in order.

    If S3SYNC_CONFIG is set, its path is the only one.
    """
    if named := environ.get(VARIABLE):
        return (Path(named),)
    home = environ.get("HOME") or os.path.expanduser("~")
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return Path(folder, "s3sync.yaml"), FOR_ALL_USERS


def default_path(environ: Mapping[str, str]) -> Path | None:
    """Return the config file to use without `--config`; None if there is none.

    The path in S3SYNC_CONFIG is returned even if nothing is there, so that `load_config` reports that.
    """
    paths = search_paths(environ)
    if environ.get(VARIABLE):
        return paths[0]
    return next((path for path in paths if os.path.lexists(path)), None)
