"""Move what is proven into the run folder, markers last, and give folders their old times."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from s3sync.errors import explained
from s3sync.transfer.batches import is_marker, is_metadata
from s3sync.transfer.restore import names
from s3sync.transfer.restore.place import InTheWayError, OpenFolders, PrivateFolder
from s3sync.transfer.restore.request import RestoreRequest

_ADVICE = "make it writable, and run the same command again"


def move_into_place(
    request: RestoreRequest,
    folder: PrivateFolder,
    proven: Iterable[str],
    folders: Mapping[str, int],
    *,
    is_new: bool,
    with_markers: bool,
) -> dict[str, str]:
    """Move the proven files into the run folder, markers last; return why files could not be moved.

    A run that `is_new` appears at once, with the times of its `folders`, in ns.
    """
    ordered = sorted(proven, key=lambda path: (is_marker(path), not is_metadata(path), path))
    if not ordered:
        return {}
    with explained("write", request.target, _ADVICE, id="restore.cannot-move"):
        if is_new:
            set_folder_times(folder.ready, folders, ordered)
            if folder.become_target():
                return {}
        others = [path for path in ordered if not is_marker(path)]
        markers = [path for path in ordered if is_marker(path)]
        failed = dict(folder.add_to_target(others, overwrite=request.overwrite))
        if not failed and with_markers:
            failed.update(folder.add_to_target(markers, overwrite=request.overwrite))
        return failed


def set_folder_times(root: Path, folders: Mapping[str, int], files: Iterable[str]) -> None:
    """Make these folders below `root` where they are missing, and set their times in ns, the innermost first.

    `files` are those of the run. A folder that holds anything else keeps its time: somebody has changed it. Raises
    StateError.
    """
    usable = {path for path in folders if not path or not names.why_no_path(path)}
    known: dict[str, set[str]] = {path: set() for path in usable}
    for path in [*usable - {""}, *files]:
        above, _, name = path.rpartition("/")
        known.setdefault(above, set()).add(name)
    with explained("write", root, _ADVICE, id="restore.cannot-move"), OpenFolders(root) as opened:
        for path in sorted(usable, reverse=True):
            with contextlib.suppress(InTheWayError):
                descriptor = opened.open(path)
                if set(os.listdir(descriptor)) <= known[path]:
                    with contextlib.suppress(PermissionError):  # another user's, where this one may write
                        os.utime(descriptor, ns=(folders[path], folders[path]))
