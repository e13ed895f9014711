"""Remember the runs and the file system of each monitored directory, to notice one that is not mounted.

An empty mount point looks like a directory without runs; only its former content shows the difference. Only the scan
that holds the lock writes these files. To confirm that a directory is meant to be empty, people remove its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.mounts import Mount
from s3sync.text import pluralize, printable

_VERSION = 1
_FOLDER = "directories"  # in the log directory
_MAX_NAMES = 1000  # runs to remember
_NAME_CHARS = 80
_CHANGING_INODES = ("fuse", "cifs", "smb", "9p", "overlay", "vboxsf", "virtiofs")  # file systems that invent inodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The contents of a directory now or before."""

    names: tuple[str, ...]  # the last 1,000 runs by name
    runs: int
    mount: Mount | None
    inode: int  # the directory's; 0 if it changes with each mount


def contents_of(names: list[str], mount: Mount | None, inode: int) -> Contents:
    """Return the contents of a directory with runs of these names, on this file system."""
    is_stable = mount is not None and not mount.kind.startswith(_CHANGING_INODES)
    newest = tuple(sorted(names)[-_MAX_NAMES:])
    return Contents(names=newest, runs=len(names), mount=mount, inode=inode if is_stable else 0)


def memory_file(log_dir: Path, directory: str) -> Path:
    """Return the path of the file that remembers a directory."""
    tag = hashlib.sha256(os.fsencode(directory)).hexdigest()[:8]
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in os.path.basename(directory))
    return log_dir / _FOLDER / f"{name[:_NAME_CHARS]}.{tag}.json"


def recall(log_dir: Path, directory: str) -> Contents | None:
    """Return the contents of a directory at the last scan; None if it is new.

    Raises OSError, or ValueError if the file is corrupt.
    """
    try:
        return _parse(files.read_json(memory_file(log_dir, directory)))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (LookupError, TypeError) as error:
        raise ValueError(str(error)) from error


def remember(log_dir: Path, directory: str, now: Contents) -> None:
    """Remember the contents of a directory, if they have changed. Raises OSError."""
    with contextlib.suppress(OSError, ValueError):  # a file that cannot be read is replaced
        if recall(log_dir, directory) == now:
            return
    path = memory_file(log_dir, directory)
    facts = {"version": _VERSION, "path": directory, **asdict(now)}
    files.make_private_folder(path.parent)
    files.write_json(path, facts)


def reason_to_doubt(before: Contents | None, now: Contents, file: Path) -> str:
    """Return why a directory seems not to be mounted, as the end of a sentence about it; empty if nothing is odd.

    `file` is the one to remove if the change was intended.
    """
    if before is None or not before.runs or before.mount is None or now.mount is None:
        return ""
    if (before.mount, before.inode) == (now.mount, now.inode) or set(before.names) & set(now.names):
        return ""
    had = f"had {pluralize(before.runs, 'run')} on {before.mount}"
    has = f"has {pluralize(now.runs, 'other run')}" if now.runs else "has none"
    on = f"on {now.mount}" if now.mount != before.mount else "and is another folder than before"
    what = f"{had}, and now {has}, {on}"
    return f"{what}: is its file system not mounted? (mount it; if this is intended, remove {printable(str(file))})"


def _parse(facts: Any) -> Contents:
    if facts["version"] != _VERSION:
        raise ValueError("of another version")
    mount = Mount(**{key: str(facts["mount"][key]) for key in Mount.__slots__}) if facts["mount"] else None
    names = tuple(str(name) for name in facts["names"])
    return Contents(names=names, runs=int(facts["runs"]), mount=mount, inode=int(facts["inode"]))
