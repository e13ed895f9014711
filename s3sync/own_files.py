"""Recognize the files that this program created: they never belong to a run, no matter where an old version left them.

Up to version 0.1.0 a temporary folder or a log directory could lie inside a run. Its remains may contain credentials
(`docs/SECURITY.md`), so they are recognized by their names, not uploaded, and reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence

REASON = "made by s3sync, so it is not uploaded (docs/SECURITY.md)"
TEMP_FOLDER = "s3sync-work-"  # and the user's number
_TEMP_FOLDER = re.compile(rf"{TEMP_FOLDER}\d+")
_LOG_DIR_ENTRY = re.compile(
    r"locks|uploads|leases|cleanups|restores|slurm|s3_upload\.log(\.\d{4}-\d\d-\d\d(\.\d+)?)?|last_tick\.json"
    r"|notifications\.json|(notified|noted)(\.\w+)?\.json|\.\d+\.probe|\.[^/]+\.tmp"
)
_SIGN_FOLDERS = re.compile("locks|uploads")  # two folders that every log directory has


class _Names(Container[str]):
    """The names that match one of several patterns."""

    def __init__(self, *patterns: re.Pattern[str]) -> None:
        self._patterns = patterns

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(pattern.fullmatch(name) for pattern in self._patterns)


_ANYWHERE = _Names(_TEMP_FOLDER)
_IN_A_LOG_DIR = _Names(_TEMP_FOLDER, _LOG_DIR_ENTRY)


def find_own_names(entries: Sequence[os.DirEntry[str]]) -> Container[str]:
    """Return the names of those entries of a folder that this program created, with everything in them."""
    signs = [entry for entry in entries if _SIGN_FOLDERS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)]
    return _IN_A_LOG_DIR if len(signs) == 2 and _has_locks(signs) else _ANYWHERE


def _has_locks(signs: Sequence[os.DirEntry[str]]) -> bool:
    """Return whether the folder `locks` has lock files like a log directory's, or cannot be read."""
    (locks,) = (entry.path for entry in signs if entry.name == "locks")
    try:
        return any(name.endswith(".lock") for name in os.listdir(locks))
    except OSError:
        return True
