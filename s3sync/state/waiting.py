"""Runs that a scan has found to be uploaded: they never become too old, however long S3 or the rest of a copy is away.

They are remembered by the names of their locks, since nothing has a log of them yet.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path

from s3sync import files

MEMORY = "waiting.json"  # in the log directory


def load(log_dir: Path) -> set[str]:
    """Return what was remembered; nothing if that cannot be read."""
    try:
        known = json.loads((log_dir / MEMORY).read_bytes())
        return {str(name) for name in known} if isinstance(known, list) else set()
    except (OSError, ValueError, RecursionError):
        return set()


def save(log_dir: Path, names: Collection[str]) -> None:
    """Remember these names, if they are others than before."""
    if set(names) != load(log_dir):
        with contextlib.suppress(OSError):
            files.atomic_write(log_dir / MEMORY, json.dumps(sorted(names), indent=1).encode("ascii") + b"\n")
