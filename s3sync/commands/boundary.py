"""Turn every error into one message and an exit code; a traceback is never shown."""

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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from s3sync import logs, signals
from s3sync.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, S3SyncError, explain_machine
from s3sync.files import make_private_folder, write_synced
from s3sync.text import printable

EXIT_READER_LEFT = 128 + signal.SIGPIPE  # the code of a program killed by the signal: the reader of a pipe has gone
_EXIT_INTERRUPTED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The report of an error: its message, with a line for each problem, and its id, if any."""

    message: str
    exit_code: int = EXIT_FAILED
    id: str = ""

    @property
    def lines(self) -> list[str]:
        """The message for a terminal: its id follows in brackets, or is in each line of a message of several lines."""
        lines = self.message.splitlines()
        return [f"{self.message} [{self.id}]"] if self.id and len(lines) == 1 else lines


def finish(load: Callable[[], Callable[[], int]]) -> int:
    """Import the program and run it. Return its exit code after everything that it printed has been written."""
    _open_standard_streams()
    threading.excepthook = _report_thread
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
        explanation = explain(error, os.environ)
        code = explanation.exit_code
        _write(explanation)
    code = _flushed(code)
    if code == _EXIT_INTERRUPTED:
        os._exit(code)  # Python may remember an interrupt that was caught long ago, and end itself by the signal
    return code


def explain(error: BaseException, environ: Mapping[str, str]) -> Explanation:
    """Return the report of an error. The traceback of a bug is written to a file, which the message names."""
    if isinstance(error, S3SyncError):
        return Explanation(message=str(error), exit_code=error.exit_code, id=error.id)
    if isinstance(error, KeyboardInterrupt):
        return Explanation(message="interrupted by SIGINT", exit_code=_EXIT_INTERRUPTED)
    if known := explain_machine(error):
        return Explanation(message=str(known), id=known.id)
    if isinstance(error, ImportError):
        advice = f"the installation is not complete: {printable(str(error))} (install s3sync again)"
        return Explanation(message=advice, id="internal.incomplete-installation")
    summary = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    kept = _keep_traceback(error, environ)
    text = f"unexpected error: {_redacted(summary, environ)} (please report it{kept})"
    return Explanation(message=text, id="internal.bug")


def _keep_traceback(error: BaseException, environ: Mapping[str, str]) -> str:
    """Write the traceback to the log or to a file, and return the end of a sentence that names it."""
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
    """Return a new file in the user's state directory (XDG), never in a run. Raises OSError."""
    from s3sync.runs import off_limits

    home = environ.get("XDG_STATE_HOME", "")
    state = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.local/state"))
    folder = state / "s3sync" / "errors"
    if off_limits.find_enclosing_folder(folder) or not folder.is_absolute():
        raise FileNotFoundError(errno.ENOENT, "the home directory is in a run", str(folder))
    make_private_folder(folder)
    return folder / f"{time.strftime('%Y-%m-%dT%H%M%S')}.{os.getpid()}.txt"


def _redacted(text: str, environ: Mapping[str, str]) -> str:
    from s3sync.aws import settings

    return settings.redact(printable(text) if "\n" not in text else text, settings.secrets_of(environ))


def _report_thread(failed: threading.ExceptHookArgs) -> None:
    """Report an uncaught error of a thread in one line, unless the reader of the output is gone."""
    if failed.exc_value is not None and not isinstance(failed.exc_value, (BrokenPipeError, SystemExit)):
        _write(explain(failed.exc_value, os.environ))


def _write(explanation: Explanation) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr may be gone as well
        for line in explanation.lines:
            os.write(2, f"s3sync: {printable(line)}\n".encode("utf-8", "backslashreplace"))


def _flushed(code: int) -> int:
    """Flush the buffers, and return the exit code, which changes if that fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BrokenPipeError:
            _discard(stream.fileno())
            code = code or EXIT_READER_LEFT
        except OSError as error:
            _discard(stream.fileno())
            advice = "make room, or redirect it to another disk"
            text = f"cannot write all of the output: {error.strerror} ({advice})"
            _write(Explanation(message=text, id="internal.output-lost"))
            code = code or EXIT_FAILED
    return code


def _discard(descriptor: int) -> None:
    """Send the rest of the buffer to /dev/null: the interpreter would try to write it again when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _open_standard_streams() -> None:
    """Open /dev/null for each closed standard stream: the next file would get its number, and then our output."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _take_interrupts(handler: Callable[[int, FrameType | None], object]) -> None:
    """Set the handler of Ctrl-C, unless it is ignored, as for jobs in a shell's background."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, handler)


def _end_at_once(signum: int, _frame: FrameType | None) -> None:
    """End the process; the work is done, and nothing is left to save."""
    signals.exit_at_once(signum)
