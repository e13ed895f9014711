"""Check where this program may write: never inside a run or a watched folder.

All files in a run folder are uploaded. Paths alone do not show whether something is inside it, so links are followed,
and bind mounts are recognized by inodes and by the kernel's mount table.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from s3sync.errors import StateError
from s3sync.runs.run_folder import RUN_INFO
from s3sync.text import printable

_MOUNTS = "/proc/self/mountinfo"
_LAST_RESORTS = ("/tmp", "/var/tmp")  # noqa: S108 - after TMPDIR; everything made there is private
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of the kernel's mount table."""

    device: str
    root: str  # the folder of the file system that is mounted
    point: str  # where


def find_enclosing_folder(
    path: str | Path, folders: Iterable[str | Path] = (), mounts: Iterable[Mount] | None = None
) -> str:
    """Return which of `folders`, or which run folder, is `path` or contains it; an empty string if there is none.

    `path` need not exist. `mounts` is the mount table; by default the kernel's.
    """
    real = os.path.realpath(path)
    above = [real, *map(str, Path(real).parents)]
    unwanted = {os.path.realpath(folder): str(folder) for folder in folders}
    by_identity = {identity: folder for folder in unwanted.values() if (identity := _identity(folder))}
    for one in above:
        if one in unwanted:
            return unwanted[one]
        identity = _identity(one)
        if identity in by_identity:
            return by_identity[identity]
        if os.path.isfile(os.path.join(one, RUN_INFO)):
            return one
    return _mounted_below(real, unwanted, _mounts() if mounts is None else tuple(mounts))


def choose_temp_dir(environ: Mapping[str, str], outside: Iterable[str | Path] = ()) -> Path:
    """Return the folder for temporary files: the first of TMPDIR, /tmp and /var/tmp that can be written.

    Raises StateError if there is none, or if it is in a run or in one of the folders `outside`. The `tempfile` module
    would fall back to the current folder, which may be a run.
    """
    folders = tuple(outside)
    reasons: list[tuple[str, str]] = []
    for candidate in (environ.get("TMPDIR", ""), *_LAST_RESORTS):
        path = os.path.abspath(candidate)
        if not candidate or path in (seen for seen, _ in reasons):
            continue
        if around := find_enclosing_folder(path, folders):
            raise StateError(_misplaced(path, around), id="state.temp-dir-in-run")
        if reason := _explain_unwritable(path):
            reasons.append((path, reason))
            continue
        tempfile.tempdir = path  # libraries use the same folder
        return Path(path)
    tried = "; ".join(f"{printable(path)}: {reason}" for path, reason in reasons)
    raise StateError(f"no folder for temporary files can be used: {tried} (set TMPDIR)", id="state.no-temp-dir")


def explain_misplaced_temp_dir(environ: Mapping[str, str], folders: Iterable[str | Path]) -> str:
    """Return why temporary files would be written into a run or one of these folders; empty if they would not."""
    path = os.path.abspath(environ.get("TMPDIR") or _LAST_RESORTS[0])
    around = find_enclosing_folder(path, folders)
    return _misplaced(path, around) if around else ""


def _misplaced(path: str, around: str) -> str:
    where = f"{printable(path)} is inside {printable(around)}, whose files are uploaded"
    return f"temporary files: {where} (set TMPDIR to a folder outside of it)"


def _explain_unwritable(path: str) -> str:
    """Return why no file can be written there; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"probe")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _mounted_below(real: str, unwanted: Mapping[str, str], mounts: tuple[Mount, ...]) -> str:
    """Return the folder that contains `real` if a part of that folder is also mounted elsewhere; else empty."""
    if not unwanted or (place := _in_file_system(real, mounts)) is None:
        return ""
    device, path = place
    for folder, name in unwanted.items():
        where = _in_file_system(folder, mounts)
        if where and where[0] == device and f"{path}/".startswith(f"{where[1]}/"):
            return name
    return ""


def _in_file_system(real: str, mounts: tuple[Mount, ...]) -> tuple[str, str] | None:
    """Return a real path as its device and the path in that file system, which do not depend on the mount point."""
    found = None
    for mount in mounts:  # later ones cover earlier ones
        point = mount.point.rstrip("/")
        if f"{real}/".startswith(f"{point}/") and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    if found is None:
        return None
    return found.device, found.root.rstrip("/") + real[len(found.point.rstrip("/")) :].rstrip("/")


def _mounts() -> tuple[Mount, ...]:
    """Return the kernel's table; nothing where there is none."""
    try:
        lines = Path(_MOUNTS).read_bytes().splitlines()
    except OSError:
        return ()
    return tuple(mount for line in lines if (mount := parse_mount(os.fsdecode(line))))


def parse_mount(line: str) -> Mount | None:
    """Parse a line of /proc/self/mountinfo; None if it is not one."""
    fields = line.split(" ")
    if len(fields) < 5:
        return None
    root, point = (_ESCAPED.sub(lambda match: chr(int(match[1], 8)), field) for field in fields[3:5])
    return Mount(fields[2], root, point)
