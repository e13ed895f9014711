"""Define the errors of this program, with their exit codes.

A message says what happened, to what, and what to do next, in one line: it is all that a person at 2 a.m. sees.
Nothing below `commands` prints or exits; it raises one of these.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from s3sync.text import printable

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later
EXIT_CONFIG = 78  # EX_CONFIG


class S3SyncError(Exception):
    """An error that this program can name, with a message for people.

    `id` names the kind of error, such as `aws.no-credentials`. It stays the same when the message is reworded, so that
    tests, docs and searches can rely on it. The terminal shows it in brackets after the message.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, id: str) -> None:  # noqa: A002 - as callers and docs call it
        super().__init__(message)
        self.id = id


class Notice(NamedTuple):
    """A message that is not an exception, such as a warning or a bad result; `id` is stable, as for errors."""

    text: str
    id: str

    def __str__(self) -> str:
        return f"{self.text} [{self.id}]"

    @property
    def line(self) -> str:
        """The line for a display: its first word makes it a warning."""
        return f"warning: {self}"


class UsageError(S3SyncError):
    """The options of the command are wrong."""

    exit_code = EXIT_USAGE


class ConfigError(S3SyncError):
    """The configuration cannot be used; the message has one line for each problem."""

    exit_code = EXIT_CONFIG


class RunError(S3SyncError):
    """The folder cannot be uploaded as a run: it is missing, not a run, incomplete or unreadable."""


class StateError(S3SyncError):
    """The state log, a manifest, or the folder of either cannot be read or written."""


class BusyError(S3SyncError):
    """Another process holds the lock of this run and destination."""

    exit_code = EXIT_BUSY


class AwsError(S3SyncError):
    """The AWS CLI cannot work at all, and a retry would not help."""


class DeniedError(AwsError):
    """S3 rejects every file of a run. It may accept other runs, since a policy may concern only some keys."""


class SlurmError(S3SyncError):
    """Slurm does not accept a job, or does not answer."""


class StoppedError(S3SyncError):
    """Something asked the program to stop before it was done."""


class InterruptedBySignal(StoppedError):
    """A signal asked the program to stop, and the state has been written.

    `exit_code` is 128 + the number of the signal, as in a shell.
    """

    def __init__(self, signum: int, message: str, *, id: str = "run.interrupted") -> None:  # noqa: A002 - as above
        super().__init__(message, id=id)
        self.exit_code = 128 + signum


class LeaseLostError(StoppedError):
    """Another host has taken over the lock, or may have: this process must write nothing that only its holder may."""

    exit_code = EXIT_BUSY


@contextlib.contextmanager
def explained(verb: str, path: Path, advice: str, *, id: str) -> Iterator[None]:  # noqa: A002 - as above
    """Turn an OSError into a StateError: `verb` (such as "write") is what could not be done, `advice` what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"cannot {verb} {printable(str(path))}: {reason} ({advice_for(error, advice)})"
        raise StateError(text, id=id) from error


def advice_for(error: OSError, otherwise: str) -> str:
    """Return what to do about an error that has the same cause for every path, such as a limit; else `otherwise`."""
    if advice := _LIMITS.get(error.errno or 0):
        return advice
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and not otherwise.startswith("make room"):
        return f"make room, or {otherwise}"
    if isinstance(error, PermissionError) and isinstance(error.filename, (str, bytes)):
        path = os.fsdecode(error.filename)
        with contextlib.suppress(OSError):
            found = os.lstat(path)
            if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode) and ~found.st_mode & _OWNER_MAY:
                return f"`chmod u+rw {shlex.quote(printable(path))}`"
    return otherwise


_OWNER_MAY = stat.S_IRUSR | stat.S_IWUSR
_OPEN_FILES = "raise `ulimit -n`, or use fewer --cores or a lower max_cores"
_FILE_SIZE = "raise `ulimit -f`, or use a file system without that limit"
_LIMITS = {errno.EMFILE: _OPEN_FILES, errno.ENFILE: _OPEN_FILES, errno.EFBIG: _FILE_SIZE}


_MEMORY = S3SyncError(
    "out of memory (add memory, or use fewer --cores or a lower max_cores)", id="internal.out-of-memory"
)
_PROCESSES = S3SyncError(
    "cannot start another process or thread (raise `ulimit -u`, or end other processes of this user)",
    id="internal.too-many-processes",
)
_FILES = S3SyncError(f"too many open files ({_OPEN_FILES})", id="internal.too-many-files")
_SPACE = S3SyncError("{reason}{where} (make room, or use another disk)", id="internal.no-space")
_NO_CURRENT_FOLDER = S3SyncError(
    "the current folder no longer exists (change to another one with `cd`)", id="internal.no-current-folder"
)
_BY_ERRNO = {
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: S3SyncError(f"{{reason}}{{where}} ({_FILE_SIZE})", id="internal.file-too-large"),
    errno.EROFS: S3SyncError("{reason}{where} (use another disk)", id="internal.read-only"),
    errno.EIO: S3SyncError("{reason}{where} (a disk or a file server has failed)", id="internal.input-output"),
    errno.ESTALE: S3SyncError(
        "{reason}{where} (a file server was restarted or changed: mount it again)", id="internal.stale-mount"
    ),
}


def explain_machine(error: BaseException) -> S3SyncError | None:
    """Return the error to report if the machine is at fault, such as a full disk; None otherwise."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _PROCESSES
    if isinstance(error, FileNotFoundError) and error.filename is None:  # raised by os.getcwd
        return _NO_CURRENT_FOLDER
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        where = f": {printable(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
        known = _BY_ERRNO[error.errno]
        return S3SyncError(str(known).format(reason=error.strerror, where=where), id=known.id)
    return None
