"""What is remembered of each monitored directory: how many runs it had, and on which file system.

An empty mount point looks like a directory without runs. What it was before says which of the two it is. Only a scan
that holds the lock writes; who wants an empty directory to count as one removes its file.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from s3sync import files
from s3sync.inventory.mounts import Mount
from s3sync.text import pluralize, printable

VERSION = 1
_FOLDER = "directories"  # in the log directory
_MOST_NAMES = 1000  # of runs that are remembered
_NAME_CHARS = 80
_NO_LASTING_INODES = ("fuse", "cifs", "smb", "9p", "overlay", "vboxsf", "virtiofs")  # of these file systems


class Contents(NamedTuple):
    """What a directory has, or had: the names of runs, how many there are, and where it lies."""

    names: tuple[str, ...]
    runs: int
    mount: Mount | None
    inode: int  # of the directory; 0 where this says nothing


def contents(names: list[str], mount: Mount | None, inode: int) -> Contents:
    """Of a directory as it is now."""
    lasts = mount is not None and not mount.kind.startswith(_NO_LASTING_INODES)
    return Contents(tuple(sorted(names)[-_MOST_NAMES:]), len(names), mount, inode if lasts else 0)


def place(log_dir: Path, directory: str) -> Path:
    """The file of a directory."""
    tag = hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in os.path.basename(directory))
    return log_dir / _FOLDER / f"{name[:_NAME_CHARS]}.{tag}.json"


def recall(log_dir: Path, directory: str) -> Contents | None:
    """None if nothing is known of it; raises OSError, or ValueError if the file is corrupt."""
    try:
        return _parse(json.loads(place(log_dir, directory).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def remember(log_dir: Path, directory: str, now: Contents) -> None:
    """Write it if it is not what is known; raises OSError."""
    try:
        if recall(log_dir, directory) == now:
            return
    except (OSError, ValueError):
        pass  # it is written anew
    path = place(log_dir, directory)
    facts = {"version": VERSION, "path": directory, **now._asdict(), "mount": now.mount and now.mount._asdict()}
    files.make_private_folder(path.parent)
    files.atomic_write(path, json.dumps(facts, indent=1).encode("ascii") + b"\n")


def why_not_the_same(before: Contents | None, now: Contents, file: Path) -> str:
    """Why a directory does not seem to be what it was, as the end of a sentence about it; empty if nothing says so."""
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
    if facts["version"] != VERSION:
        raise ValueError("of another version")
    mount = Mount(*(str(facts["mount"][key]) for key in Mount._fields)) if facts["mount"] else None
    return Contents(tuple(str(name) for name in facts["names"]), int(facts["runs"]), mount, int(facts["inode"]))
