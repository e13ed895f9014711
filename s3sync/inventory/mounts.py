"""Which file system a folder lies on, by the kernel's mount table: the number of a device changes with each boot."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from s3sync.text import printable

MOUNT_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")  # a space is \040


class Mount(NamedTuple):
    """A mounted file system: where, what kind, from what, and which folder of it."""

    point: str
    kind: str
    source: str
    root: str

    def __str__(self) -> str:
        return printable(f"{self.kind} {self.source} at {self.point}")


def mount_of(folder: str | Path, table: Path = MOUNT_TABLE) -> Mount | None:
    """The file system that a folder lies on; None where that cannot be known (not Linux)."""
    real = os.path.realpath(folder)
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        mount = _parse(line)
        if mount and _is_below(real, mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount  # of several at one point the last one is on top
    return found


def _parse(line: bytes) -> Mount | None:
    """See proc_pid_mountinfo(5): the fields after ` - ` come after any number of optional ones."""
    before, _, after = line.partition(b" - ")
    first, second = before.split(b" "), after.split(b" ")
    if len(first) < 5 or len(second) < 2:
        return None
    return Mount(_text(first[4]), _text(second[0]), _text(second[1]), _text(first[3]))


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def _is_below(path: str, point: str) -> bool:
    return point in ("/", path) or path.startswith(point.rstrip("/") + "/")
