"""Decide which keys can be files in a folder. A key may contain anything, and must never lead out of the folder."""

from __future__ import annotations

from collections.abc import Iterable

_ADVICE = "rename or delete it in S3"
_MAX_NAME_BYTES = 255  # longest name of a file or folder on usual file systems
_MAX_PATH_BYTES = 3800  # below the target; Linux takes 4,096 in all


def why_unusable(path: str) -> str:
    """Return why a key, without the run's prefix, cannot be the path of a file; empty if it can."""
    parts = path.split("/")
    if path.endswith("/"):
        return "its key ends with a slash, so it names a folder"
    if "" in parts:
        return "its key has an empty name between two slashes"
    if "." in parts or ".." in parts:
        return "its key has `.` or `..` as a name, which would lead to another folder"
    if "\0" in path:
        return "its key contains a zero byte"
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "its key is not valid Unicode"
    if longest > _MAX_NAME_BYTES:
        return f"its key has a name of {longest:,} bytes, and files can have {_MAX_NAME_BYTES}"
    if len(path.encode()) > _MAX_PATH_BYTES:
        return "its key is too long for a path"
    return ""


def find_unusable(paths: Iterable[str]) -> dict[str, str]:
    """Return the keys of a run, without its prefix, that cannot be restored as files, each with the reason."""
    found = {path: f"{why} ({_ADVICE})" for path in paths if (why := why_unusable(path))}
    usable = set(paths) - found.keys()
    folders = {folder for path in usable for folder in parents_of(path)}
    found.update((path, f"its key is also the folder of other keys ({_ADVICE})") for path in usable & folders)
    return found


def parents_of(path: str) -> list[str]:
    """Return the folders that a path lies in, the innermost first."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
