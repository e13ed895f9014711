"""Run s3sync, and kill it with SIGKILL right before a step to the disk: `python killed.py STEP FOLDER ARGV...`.

A step changes a file or folder below FOLDER; the first is 0, whichever thread takes it. Those to leases do not count,
since their number depends on the time, nor those to temporary files. Its children continue, as with any SIGKILL.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from s3sync.__main__ import entry_point

STEPS = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "remove", "rmdir", "mkdir", "chmod", "utime")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killer:
    """Counts the steps of this process, and kills it."""

    def __init__(self, last: int, folder: str) -> None:
        self._last = last
        self._folder = folder.rstrip("/") + "/"
        self._others = os.environ["TMPDIR"].rstrip("/") + "/"
        self._taken = itertools.count()
        self._lock = threading.Lock()

    def patched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of `os` that counts."""

        def step(*args: Any, **options: Any) -> Any:
            if (name != "open" or args[1] & _WRITING) and self._counts(args, options):
                with self._lock:
                    if next(self._taken) == self._last:
                        os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return step

    def _counts(self, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Return whether the first argument, or what it is relative to, lies in the folder, and is no lease."""
        relative_to = options.get("dir_fd", options.get("dst_dir_fd"))
        what = args[0] if relative_to is None or not isinstance(args[0], str) or "/" in args[0] else relative_to
        if isinstance(what, int):
            what = os.readlink(f"/proc/self/fd/{what}")
        path = os.path.join(os.path.abspath(os.fspath(what)), "")
        return path.startswith(self._folder) and not path.startswith(self._others) and "/leases/" not in path


if __name__ == "__main__":
    killer = Killer(int(sys.argv[1]), sys.argv[2])
    for name in STEPS:
        setattr(os, name, killer.patched(name, getattr(os, name)))
    sys.argv = ["s3sync", *sys.argv[3:]]
    entry_point()
