"""Files that this program made: they are never files of a run, wherever an old version left them.

Up to version 0.1.0 a work folder or a log directory could be inside a run. What is left of one may hold credentials
(`docs/SECURITY.md`), so it is left out by its name, and reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence

REASON = "made by s3sync, so it is not uploaded (docs/SECURITY.md)"
WORK_FOLDER = "s3sync-work-"  # and the user's number
_WORK_FOLDER = re.compile(rf"{WORK_FOLDER}\d+")
_OF_A_LOG_DIR = re.compile(
    r"locks|uploads|leases|cleanups|slurm|s3_upload\.log(\.\d{4}-\d\d-\d\d(\.\d+)?)?|last_tick\.json"
    r"|(notified|noted)(\.\w+)?\.json|\.\d+\.probe|\.[^/]+\.tmp"
)
_SIGNS = re.compile("locks|uploads")  # folders that every log directory has, both of them


class _Names(Container[str]):
    """Names of a folder's entries that are ours."""

    def __init__(self, *patterns: re.Pattern[str]) -> None:
        self._patterns = patterns

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(pattern.fullmatch(name) for pattern in self._patterns)


_USUAL = _Names(_WORK_FOLDER)
_IN_A_LOG_DIR = _Names(_WORK_FOLDER, _OF_A_LOG_DIR)


def own_names(entries: Sequence[os.DirEntry[str]]) -> Container[str]:
    """Return which of a folder's entries this program made, folders with all that is in them."""
    signs = [entry for entry in entries if _SIGNS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    return _IN_A_LOG_DIR if len(signs) == 2 and _has_locks(signs) else _USUAL


def _has_locks(signs: Sequence[os.DirEntry[str]]) -> bool:
    """Whether the folder `locks` has the lock files of a log directory, or may not be looked into."""
    (locks,) = (entry.path for entry in signs if entry.name == "locks")
    try:
        return any(name.endswith(".lock") for name in os.listdir(locks))
    except OSError:
        return True
