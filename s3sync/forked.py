"""Wait for child processes that another process has forked for this one."""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from s3sync.processes import TimeoutExpired

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

_PR_SET_CHILD_SUBREAPER = 36  # from <sys/prctl.h> of Linux
_POLL_SECONDS = 0.02
_CHUNK_BYTES = 65536


def adopt_orphans() -> bool:
    """Become the parent of descendants whose own parent has ended. Return whether the system supports that."""
    with contextlib.suppress(OSError, AttributeError, ImportError):  # a Python may have been built without `ctypes`
        ctypes = importlib.import_module("ctypes")
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def is_child(pid: int) -> bool:
    """Return whether a process is a child of this program, which can then wait for it."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class ForkedProcess:
    """A child process with pipes for its output and errors; `processes.Process` describes its methods."""

    def __init__(self, pid: int, args: Sequence[str], stdout: IO[bytes], stderr: IO[bytes] | None) -> None:
        self.pid = pid
        self.args = tuple(args)
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self._received = {stream: bytearray() for stream in (stdout, stderr) if stream}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for stream in self._received:
            stream.close()
        self.wait()

    def communicate(self, *, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Return all of its output and errors; call it again after it has raised TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            for stream in self._received:
                if not stream.closed:
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise TimeoutExpired(self.args, timeout or 0.0)
                for key, _ in selector.select(remaining):
                    if piece := os.read(key.fd, _CHUNK_BYTES):
                        self._received[key.fileobj] += piece  # type: ignore[index]
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        self.wait(None if deadline is None else deadline - time.monotonic())
        return bytes(self._received[self.stdout]), bytes(self._received[self.stderr]) if self.stderr else b""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code; negative for a signal. Raises TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._poll(blocks=deadline is None) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """Kill it, unless it was waited for."""
        with contextlib.suppress(ProcessLookupError):
            if self.returncode is None:
                os.kill(self.pid, signal.SIGKILL)

    def _poll(self, *, blocks: bool) -> int | None:
        with self._waiting:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, 0 if blocks else os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode
