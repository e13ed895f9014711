"""Remember the runs that a scan has selected for upload, so that none becomes too old while S3 or a disk is away.

They are remembered by the names of their locks, because they have no log yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path

from s3sync import files

MEMORY = "waiting.json"  # in LOG_DIR


def load(log_dir: Path) -> set[str]:
    """Return the remembered names; none if they cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        known = files.read_json(log_dir / MEMORY)
        return {str(name) for name in known} if isinstance(known, list) else set()
    return set()


def save(log_dir: Path, names: Collection[str]) -> None:
    """Remember these names if they have changed."""
    if set(names) != load(log_dir):
        with contextlib.suppress(OSError):
            files.write_json(log_dir / MEMORY, sorted(names))
