"""Starting processes: the only module that does. No shell, no terminal, and a session of their own."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple, TypeAlias

from s3sync import signals
from s3sync.text import printable

Process: TypeAlias = "subprocess.Popen[bytes]"
OutOfTime = subprocess.TimeoutExpired  # what waiting for a process with a limit raises


def start(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    merged: bool = False,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> Process:
    """Start a program; raises OSError, or ValueError for words that no argument can be.

    Its output goes to a pipe, or to `stdout`; its complaints to another pipe, or `merged` to the same place. It reads
    `stdin`, or nothing. The session of its own lets signals for us reach it through us alone, and those that we send
    reach its children, too. `inherited` descriptors stay open in it.
    """
    with _starting:
        process = subprocess.Popen(
            argv,
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
            pass_fds=inherited,
        )
        _started.add(process)
    return process


_SHORT_OF = {
    errno.EAGAIN: "raise `ulimit -u`, or end other processes of this user",
    errno.ENOMEM: "give it more memory, or use fewer --cores",
    errno.EMFILE: "raise `ulimit -n`, or use fewer --cores",
    errno.ENFILE: "raise `ulimit -n`, or use fewer --cores",
}
_MAX_SHEBANG = 256  # bytes that the kernel reads of a script's first line,
_SAFE_SHEBANG = 120  # and that of kernels before 5.1, almost


def reason_of(path: str, error: OSError | ValueError) -> tuple[str, str]:
    """Return why a program could not be started, and what to do about that if it is not the program's own fault.

    "No such file or directory" of a script that is there is about the interpreter that its first line names.
    """
    if not isinstance(error, OSError):
        return str(error), ""
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR) and (first := _shebang(path)):
        interpreter, _, rest = first.partition(" ")
        if not os.path.exists(interpreter):
            what = f"the interpreter that its first line names is not there: {printable(first)}"
            if rest and os.path.exists(first):
                what = f"its first line has a path with a space, which the kernel cannot follow: {printable(first)}"
            elif len(first) >= _MAX_SHEBANG - 3:
                what = f"its first line has a path that is too long: {printable(first)}"
            return what, "install it again, in a folder whose path is short and has no spaces"
    return error.strerror or str(error), _SHORT_OF.get(error.errno or 0, "")


def argv_of(path: str) -> tuple[str, ...]:
    """Return how to start a program. A script goes to its interpreter, where the kernel cannot follow its first line:
    pip writes such lines below a folder with a space in its name, or with a very long path.
    """
    first = _shebang(path)
    if (" " in first or len(first) > _SAFE_SHEBANG) and os.access(first, os.X_OK):
        return first, path
    return (path,)


def _shebang(path: str) -> str:
    """What follows `#!` in a script; empty if it is none."""
    try:
        with open(path, "rb") as script:
            first = script.readline(4096)
    except OSError:
        return ""
    return os.fsdecode(first[2:].strip()) if first.startswith(b"#!") else ""


_starting = threading.Lock()
_started: weakref.WeakSet[Process] = weakref.WeakSet()


def _kill_all() -> None:
    """Kill everything that was started and has not ended, with its children; nothing more is started then."""
    _starting.acquire(timeout=1.0)  # for good: the process ends
    for process in list(_started):
        if process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


signals.before_exit(_kill_all)


def first_line(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> str:
    """What a short command prints; empty if it fails, or takes longer."""
    try:
        asked = subprocess.run(
            argv, env=dict(environ), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return os.fsdecode(asked.stdout.partition(b"\n")[0].strip())


class Answer(NamedTuple):
    """A short command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def ask(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Answer:
    """Run a short command to its end; raises OSError, OutOfTime, or ValueError for words that no argument can be."""
    with start(argv, environ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return Answer(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))
