"""Remember of each monitored directory how many runs it had, and on which file system.

An empty mount point looks like a directory without runs; what was there before shows the difference. Only the scan that
holds the lock writes. To confirm that a directory is meant to be empty, people remove its file.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.inventory.mounts import Mount
from s3sync.text import pluralize, printable

_VERSION = 1
_FOLDER = "directories"  # in the log directory
_MAX_NAMES = 1000  # of runs that are remembered
_NAME_CHARS = 80
_CHANGING_INODES = ("fuse", "cifs", "smb", "9p", "overlay", "vboxsf", "virtiofs")  # file systems that make them up


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a directory has, or had: the newest names of runs, the number of runs, its file system and its inode."""

    names: tuple[str, ...]
    runs: int
    mount: Mount | None
    inode: int  # 0 where it changes with each mount


def contents_of(names: list[str], mount: Mount | None, inode: int) -> Contents:
    """Return the contents of a directory with runs of these names."""
    is_stable = mount is not None and not mount.kind.startswith(_CHANGING_INODES)
    newest = tuple(sorted(names)[-_MAX_NAMES:])
    return Contents(names=newest, runs=len(names), mount=mount, inode=inode if is_stable else 0)


def memory_file(log_dir: Path, directory: str) -> Path:
    """Return the file in which a directory is remembered."""
    tag = hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in os.path.basename(directory))
    return log_dir / _FOLDER / f"{name[:_NAME_CHARS]}.{tag}.json"


def recall(log_dir: Path, directory: str) -> Contents | None:
    """Return what a directory had at the last scan, or None. Raises OSError, or ValueError if the file is corrupt."""
    try:
        return _parse(files.read_json(memory_file(log_dir, directory)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


def remember(log_dir: Path, directory: str, now: Contents) -> None:
    """Write what a directory has, if that is new. Raises OSError."""
    try:
        if recall(log_dir, directory) == now:
            return
    except (OSError, ValueError):
        pass  # it is written again
    path = memory_file(log_dir, directory)
    facts = {"version": _VERSION, "path": directory, **asdict(now)}
    files.make_private_folder(path.parent)
    files.write_json(path, facts)


def reason_to_doubt(before: Contents | None, now: Contents, file: Path) -> str:
    """Return why a directory seems not to be mounted, as the end of a sentence about it; empty if it seems to be."""
    if before is None or not before.runs or before.mount is None or now.mount is None:
        return ""
    if (before.mount, before.inode) == (now.mount, now.inode) or set(before.names) & set(now.names):
        return ""
    had = f"had {pluralize(before.runs, 'run')} on {before.mount}"
    has = f"has {pluralize(now.runs, 'other run')}" if now.runs else "has none"
    on = f"on {now.mount}" if now.mount != before.mount else "and is another folder than before"
    what = f"{had}, and now {has}, {on}"
    return f"{what}: is its file system not mounted? (mount it; if this is meant, remove {printable(str(file))})"


def _parse(facts: Any) -> Contents:
    if facts["version"] != _VERSION:
        raise ValueError("of another version")
    mount = Mount(**{key: str(facts["mount"][key]) for key in Mount.__slots__}) if facts["mount"] else None
    names = tuple(str(name) for name in facts["names"])
    return Contents(names=names, runs=int(facts["runs"]), mount=mount, inode=int(facts["inode"]))
