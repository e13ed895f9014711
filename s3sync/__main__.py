"""Start the program: prepare signals and encoding before anything else is imported."""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without its milliseconds
import os
import sys
from collections.abc import Callable


def _end_at_once(_signum: int, _frame: object) -> None:
    """End the process without a traceback, while modules are still being imported."""
    os.write(2, b"s3sync: interrupted by SIGINT\n")
    os._exit(130)


def _use_utf8() -> None:
    """Restart with UTF-8 as the encoding of file names if the locale has another one, because keys in S3 are UTF-8."""
    if sys.flags.utf8_mode or sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same argv


def _load() -> Callable[[], int]:
    from s3sync.commands.main import main

    return main


def entry_point() -> None:
    """Run the program, and exit."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not ignored by the parent
        _signal.signal(_signal.SIGINT, _end_at_once)
    _use_utf8()
    from s3sync.commands import boundary

    sys.exit(boundary.finish(_load))


if __name__ == "__main__":  # a child of multiprocessing imports this under another name
    entry_point()
