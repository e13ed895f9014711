"""Find the file system of a folder in the kernel's mount table, because device numbers change with each boot."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from s3sync.text import printable

_DEVICES = "/dev/"
MOUNT_TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")  # a space is \040


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted file system."""

    point: str  # where it is mounted
    kind: str  # such as ext4 or nfs4
    source: str  # such as a device or server
    root: str  # the folder of the source that is mounted

    def __str__(self) -> str:
        return printable(f"{self.kind} {self.source} at {self.point}")

    def may_be(self, other: Mount) -> bool:
        """Return whether two may be one file system, before and after a boot: that may rename its device."""
        is_device = self.source.startswith(_DEVICES) and other.source.startswith(_DEVICES)
        same_source = is_device or self.source == other.source
        return same_source and (self.point, self.kind, self.root) == (other.point, other.kind, other.root)


def mount_of(folder: str | Path, table: Path = MOUNT_TABLE) -> Mount | None:
    """Return the file system of a folder; None without a mount table (not on Linux).

    A file system that is mounted on demand is mounted.
    """
    with contextlib.suppress(OSError):
        os.scandir(folder).close()
    real = os.path.realpath(folder)
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        mount = _parse(line)
        if mount and _is_below(real, mount.point) and (found is None or len(mount.point) >= len(found.point)):
            found = mount  # the last of several mounts at one point is the visible one
    return found


def _parse(line: bytes) -> Mount | None:
    """Parse a line as in proc_pid_mountinfo(5), where any number of optional fields precede the ` - `."""
    before, _, after = line.partition(b" - ")
    first, second = before.split(b" "), after.split(b" ")
    if len(first) < 5 or len(second) < 2:
        return None
    point, kind, source, root = map(_text, (first[4], second[0], second[1], first[3]))
    return Mount(point=point, kind=kind, source=source, root=root)


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def _is_below(path: str, point: str) -> bool:
    return point in ("/", path) or path.startswith(point.rstrip("/") + "/")
