"""Find out whether a disk has room for a restore."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3sync.aws.objects import RemoteObject
from s3sync.errors import StateError
from s3sync.text import human_bytes, printable

SPARE_BYTES = 64 * 1024 * 1024  # the reserve: they stay free on the disk
_BLOCK_BYTES = 4096


def needed_bytes(remote: Mapping[str, RemoteObject], paths: Iterable[str]) -> int:
    """Return the bytes of these files on a disk with blocks of the usual size."""
    return sum(-(-remote[path].size // _BLOCK_BYTES) * _BLOCK_BYTES for path in paths)


def is_enough(needed: int, free: int) -> bool:
    """Return whether `needed` of `free` bytes can be written so that the reserve stays free."""
    return not needed or free >= needed + SPARE_BYTES


def require_space(parent: Path, needed: int) -> None:
    """Raise StateError if the disk of a folder has no room for this number of bytes."""
    free = shutil.disk_usage(parent).free
    if not is_enough(needed, free):
        raise StateError(
            f"not enough room in {printable(str(parent))}: {human_bytes(needed)} are to be restored, and"
            f" {human_bytes(free)} are free, of which {human_bytes(SPARE_BYTES)} must stay free (make room, restore"
            " less with --only, or give another --local-path)",
            id="restore.no-room",
        )
