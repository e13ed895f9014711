"""Start processes and run commands: the only module that does, always without a shell and in a separate session."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar

from s3sync import signals
from s3sync.text import printable

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

TimeoutExpired = subprocess.TimeoutExpired


class Process(Protocol):
    """A child process: the methods of `subprocess.Popen` that this program uses."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | Any: ...  # None while it runs

    @property
    def stdout(self) -> IO[bytes] | None: ...

    @property
    def stderr(self) -> IO[bytes] | None: ...

    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T_Process = TypeVar("T_Process", bound=Process)

_RESOURCE_ADVICE = {
    errno.EAGAIN: "raise `ulimit -u`, or end other processes of this user",
    errno.ENOMEM: "add memory, or use fewer --cores",
    errno.EMFILE: "raise `ulimit -n`, or use fewer --cores",
    errno.ENFILE: "raise `ulimit -n`, or use fewer --cores",
}
_MAX_SHEBANG = 256  # bytes of a script's first line that the kernel reads;
_SAFE_SHEBANG = 120  # a kernel before 5.1 reads 127
_start_lock = threading.Lock()
_started: weakref.WeakSet[Process] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """The exit code of a command that has ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def start(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    merge_stderr: bool = False,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    inherited: Sequence[int] = (),
) -> Process:
    """Start a program. Raises OSError, or ValueError for text that cannot be an argument.

    It reads `stdin`, or nothing. Its output goes to `stdout`, or to a pipe; its errors go to another pipe or, with
    `merge_stderr`, to the same place as the output. The descriptors in `inherited` stay open in it.

    Because the process has its own session, signals for this program reach it only through this program, and
    signals for its process group reach its children too.
    """
    return track(
        lambda: subprocess.Popen(
            argv,
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
            pass_fds=inherited,
        )
    )


def track(start: Callable[[], T_Process]) -> T_Process:
    """Start a process with `start`, and kill it if this program ends at once. Starts nothing while it ends."""
    with _start_lock:
        process = start()
        _started.add(process)
    return process


def run_captured(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> CompletedCommand:
    """Run a short command to its end. Raises OSError, TimeoutExpired, or ValueError for text that is no argument."""
    with start(argv, environ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return CompletedCommand(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def explain_start_failure(path: str, error: OSError | ValueError) -> tuple[str, str]:
    """Return why a program could not be started, and what to do if that is not the program's own fault.

    For a script, "No such file or directory" is often about the interpreter that its first line names.
    """
    if not isinstance(error, OSError):
        return str(error), ""
    if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC, errno.ENOTDIR) and (shebang := _read_shebang(path)):
        interpreter, _, rest = shebang.partition(" ")
        if error.errno == errno.EACCES and not os.access(interpreter, os.X_OK):  # one below /root, perhaps
            reason = f"this user cannot run the interpreter that its first line names: {printable(shebang)}"
            return reason, "install it again, in a folder that this user can access"
        if not os.path.exists(interpreter):
            reason = f"the interpreter that its first line names does not exist: {printable(shebang)}"
            if rest and os.path.exists(shebang):
                reason = f"its first line has a path with a space, which the kernel cannot follow: {printable(shebang)}"
            elif len(shebang) >= _MAX_SHEBANG - 3:
                reason = f"its first line has a path that is too long: {printable(shebang)}"
            return reason, "install it again, in a folder whose path is short and has no spaces"
    return error.strerror or str(error), _RESOURCE_ADVICE.get(error.errno or 0, "")


def argv_to_start(path: str) -> tuple[str, ...]:
    """Return the argv that starts a program.

    A script is given to its interpreter if the kernel cannot follow its first line: pip writes such lines below a
    folder with a space in its name, or with a very long path.
    """
    shebang = _read_shebang(path)
    if (" " in shebang or len(shebang) > _SAFE_SHEBANG) and os.access(shebang, os.X_OK):
        return shebang, path
    return (path,)


def _read_shebang(path: str) -> str:
    """Return what follows `#!` in a script; empty for other files."""
    try:
        with open(path, "rb") as script:
            line = script.readline(4096)
    except OSError:
        return ""
    return os.fsdecode(line[2:].strip()) if line.startswith(b"#!") else ""


def _kill_all() -> None:
    """Kill all running processes with their children, and prevent further starts."""
    _start_lock.acquire(timeout=1.0)  # never released: this program exits next
    for process in list(_started):
        if process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


signals.run_before_exit(_kill_all)
