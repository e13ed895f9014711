"""What can go wrong, each with the exit code that the command line gives for it.

A message says what happened, to what, and what to do next, in one line: it is all that a person at
2 a.m. sees. Nothing below `cli` prints or exits; it raises one of these.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_BUSY = 75  # EX_TEMPFAIL of sysexits.h: try again later
EXIT_CONFIG = 78  # EX_CONFIG


class S3SyncError(Exception):
    """An error that this program can name; the message is meant for people.

    `id` names the kind of error, such as `aws.no-credentials`: it stays the same when the message is reworded, so that
    tests, docs and searches can rely on it. The terminal shows it in brackets behind the message.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, id: str = "") -> None:  # noqa: A002 - as callers and docs call it
        super().__init__(message)
        self.id = id


class UsageError(S3SyncError):
    """The command's words are wrong."""

    exit_code = EXIT_USAGE


class ConfigError(S3SyncError):
    """The configuration cannot be used; the message has a line for each thing that is wrong with it."""

    exit_code = EXIT_CONFIG


class RunError(S3SyncError):
    """The folder cannot be uploaded as a run: not there, not a run, not complete, not readable."""


class StateError(S3SyncError):
    """The state log, a manifest, or the folder of either cannot be read or written."""


class BusyError(S3SyncError):
    """Another process holds the lock of this run and destination."""

    exit_code = EXIT_BUSY


class AwsError(S3SyncError):
    """The AWS CLI cannot work at all: trying again by itself would not help."""


class DeniedError(AwsError):
    """S3 takes none of the files of a run; it may take those of others, since a policy may be about some keys."""


class SlurmError(S3SyncError):
    """Slurm does not take a job, or does not answer."""


class InterruptedBySignal(S3SyncError):
    """A signal asked for the end; the state has been written.

    `exit_code` is 128 + the signal's number, as shells have it.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class LeaseLostError(InterruptedBySignal):
    """Another host has taken the lock over, or may have: like a signal, but what only a holder may write is not."""

    def __init__(self, message: str) -> None:
        super().__init__(EXIT_BUSY - 128, message)
