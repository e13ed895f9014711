"""The edge of the program: whatever ends it, it ends with one message and an exit code, never with a traceback."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from s3sync import logs, signals
from s3sync.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, S3SyncError
from s3sync.files import make_private_folder, write_synced
from s3sync.text import printable

EXIT_READER_LEFT = 128 + signal.SIGPIPE  # as of a program that the signal ends: the reader of a pipe has gone away
_EXIT_INTERRUPTED = 128 + signal.SIGINT

_MEMORY = "out of memory (give it more, or use fewer --cores or a lower max_cores)"
_PROCESSES = "no further process or thread can be started (raise `ulimit -u`, or end other processes of this user)"
_FILES = "too many open files (raise `ulimit -n`, or use fewer --cores or a lower max_cores)"
_SPACE = "{reason}{where} (make room, or give another place)"
_NOWHERE = "the current folder is not there any more (change to another one: `cd`)"
_BY_ERRNO = {
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _PROCESSES,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "{reason}{where} (give a place that can be written)",
    errno.EIO: "{reason}{where} (a disk or a file server has failed)",
    errno.ESTALE: "{reason}{where} (a file server was restarted or changed: mount it again)",
}


def finish(load: Callable[[], Callable[[], int]]) -> int:
    """Import the program and run it; returns its exit code when all that it printed has been written."""
    _open_standard_streams()
    threading.excepthook = _in_a_thread
    try:
        with signals.exit_on_second_interrupt():
            main = load()
            _take_interrupts(signal.default_int_handler)
            try:
                code = main()
            finally:
                _take_interrupts(_end_at_once)
    except SystemExit as exit_:  # argparse's
        code = exit_.code if isinstance(exit_.code, int) else EXIT_USAGE if exit_.code else EXIT_DONE
    except BrokenPipeError:
        code = EXIT_READER_LEFT
    except BaseException as error:
        text, code = explain(error, os.environ)
        _say(text)
    code = _flushed(code)
    if code == _EXIT_INTERRUPTED:
        os._exit(code)  # Python may remember an interrupt that was caught long ago, and end itself by the signal
    return code


def explain(error: BaseException, environ: Mapping[str, str]) -> tuple[str, int]:
    """Return what to say of an error, a line for each thing that is wrong, and the exit code."""
    if isinstance(error, S3SyncError):
        return with_id(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted by SIGINT", _EXIT_INTERRUPTED
    if advice := _advice(error):
        return advice, EXIT_FAILED
    if isinstance(error, ImportError):
        return f"the installation is not complete: {printable(str(error))} (install s3sync again)", EXIT_FAILED
    said = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    kept = _keep(error, environ)
    return f"unexpected error: {_redacted(said, environ)} (please report it{kept})", EXIT_FAILED


def with_id(error: S3SyncError) -> str:
    """Return the message of an error, followed by its id; a message of several lines has an id in each line."""
    message = str(error)
    return f"{message} [{error.id}]" if error.id and "\n" not in message else message


def _advice(error: BaseException) -> str:
    """What to do about an error of the machine; empty if it is none."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _PROCESSES
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        return _NOWHERE
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        where = f": {printable(os.fsdecode(error.filename))}" if isinstance(error.filename, (str, bytes)) else ""
        return _BY_ERRNO[error.errno].format(reason=error.strerror, where=where)
    return ""


def _keep(error: BaseException, environ: Mapping[str, str]) -> str:
    """Write the traceback where it can be found; returns where that is, for people."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    text = _redacted("\n".join(map(printable, lines)), environ)
    if main_log := logs.main_log():
        for line in text.splitlines():
            main_log.handle(logging.LogRecord("s3sync", logging.CRITICAL, "", 0, "%s", (line,), None))
        return f"; the details are in {printable(main_log.baseFilename)}"
    try:
        path = _report_path(environ)
        write_synced(path, f"{text}\n".encode("utf-8", "backslashreplace"))
    except (OSError, S3SyncError):
        return f"; the details: {' / '.join(line.strip() for line in text.splitlines())}"
    return f"; the details are in {printable(str(path))}"


def _report_path(environ: Mapping[str, str]) -> Path:
    """A new file in the user's folder for the state of programs, never in a run. Raises OSError."""
    from s3sync.runs import off_limits

    home = environ.get("XDG_STATE_HOME", "")
    state = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.local/state"))
    folder = state / "s3sync" / "errors"
    if off_limits.enclosing(folder) or not folder.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "it is in a run", str(folder))
    make_private_folder(folder)
    return folder / f"{time.strftime('%Y-%m-%dT%H%M%S')}.{os.getpid()}.txt"


def _redacted(text: str, environ: Mapping[str, str]) -> str:
    from s3sync.aws import settings

    return settings.redact(printable(text) if "\n" not in text else text, settings.secrets_of(environ))


def _in_a_thread(failed: threading.ExceptHookArgs) -> None:
    """What a helper's thread did not catch: said in one line, unless it is that nobody reads any more."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, (BrokenPipeError, SystemExit)):
        _say(explain(failed.exc_value, os.environ)[0])


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr may be gone as well
        for line in text.splitlines():
            os.write(2, f"s3sync: {printable(line)}\n".encode("utf-8", "backslashreplace"))


def _flushed(code: int) -> int:
    """The exit code, when what is left to write has been written, or cannot be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BrokenPipeError:
            _discard(stream.fileno())
            code = code or EXIT_READER_LEFT
        except OSError as error:
            _discard(stream.fileno())
            _say(f"cannot write all of the output: {error.strerror} (make room, or send it elsewhere)")
            code = code or EXIT_FAILED
    return code


def _discard(descriptor: int) -> None:
    """What is still in the buffer goes nowhere, else the interpreter would try again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _open_standard_streams() -> None:
    """A standard stream that is closed becomes /dev/null: the next file would take its number, and get our output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _take_interrupts(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have Ctrl-C do this, unless it is ignored, as in a shell's background."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, handler)


def _end_at_once(signum: int, _frame: FrameType | None) -> None:
    """For the time after the work: there is nothing left to save."""
    signals.exit_at_once(signum)
