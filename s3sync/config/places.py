"""Find the config file where none is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "S3SYNC_CONFIG"  # the environment variable that names the config file
FOR_ALL_USERS = Path("/etc/s3sync.yaml")


def default_places(environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return where the config is looked for without `--config`, in this order.

    With S3SYNC_CONFIG set that is the only one.
    """
    if named := environ.get(VARIABLE):
        return (Path(named),)
    home = environ.get("HOME") or os.path.expanduser("~")
    folder = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    return Path(folder, "s3sync.yaml"), FOR_ALL_USERS


def default_path(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the config file to use without `--config`; None if there is none.

    A file that S3SYNC_CONFIG names is returned even if it is missing: `load_config` then reports that.
    """
    places = default_places(environ)
    if environ.get(VARIABLE):
        return places[0]
    return next((path for path in places if os.path.lexists(path)), None)
