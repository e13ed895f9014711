"""Remember in LOG_DIR when a run was restored: `cleanup` treats it as a new run from then on."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from s3sync import files
from s3sync.errors import explained
from s3sync.state.thaw_log import RESTORES
from s3sync.text import now_iso, parse_iso

_SUFFIX = ".restored"
_MAX_BYTES = 100


def record(log_dir: Path, name: str, folder: Path) -> None:
    """Remember that files of a run are moved into this folder now; `name` is its lock's name. Raises StateError."""
    path = _path(log_dir, name, folder)
    with explained("write", path, "give a writable folder with --log-dir", id="state.log-unwritable"):
        files.make_private_folder(path.parent)
        files.atomic_write(path, f"{now_iso()}\n".encode("ascii"))


def last_restored(log_dir: Path, name: str, folder: Path) -> float | None:
    """Return when a run was last restored to this folder, in seconds since 1970; None if that is not known."""
    try:
        return parse_iso(files.read_limited(_path(log_dir, name, folder), _MAX_BYTES).decode("ascii").strip())
    except (OSError, ValueError):
        return None


def _path(log_dir: Path, name: str, folder: Path) -> Path:
    real = os.path.join(os.path.realpath(folder.parent), folder.name)
    return log_dir / RESTORES / f"{name}.{hashlib.sha256(os.fsencode(real)).hexdigest()[:8]}{_SUFFIX}"
