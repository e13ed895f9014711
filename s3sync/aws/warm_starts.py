"""Start commands of the AWS CLI in forks of one process that has loaded it: each takes a quarter of the CPU time.

`fork_server` is the other side. If that cannot work here (a version or wrapper that does not load it, another operating
system), all commands are started in the usual way.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from s3sync import files, forked, process_tree, processes
from s3sync.aws import argv, fork_server
from s3sync.aws.plugin import write_module
from s3sync.forked import ForkedProcess
from s3sync.processes import Process, TimeoutExpired
from s3sync.signals import StopRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # in `typing` only from Python 3.11 on

_MODULE = "s3sync_fork_server"
_ROOM_FOR_OPTIONS = f"--query={'forks for each command of s3sync':_<400}"  # `ps` shows this where the options would be
_START_SECONDS = 60.0  # a CLI that has not loaded within this time counts as one that ignores plugins
_POLL_MILLISECONDS = 100
_MAX_HEAD = 4096  # bytes of a script, with its first line and its imports
_ANSWER_SECONDS = 30.0  # without an answer within this time, the process counts as dead


class WarmStarts:
    """One process of the AWS CLI that forks for each command. Its methods can be called from any thread."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], stop: StopRequest, folder: Path) -> None:
        """Start to load the CLI. `command` precedes the options; `folder` is private."""
        self.version = ""  # the CLI's version, once `wait_until_ready` has returned True: `aws-cli/1.46.3`
        self.printed_version = ""  # the version that a CLI printed which does not load the server
        self._program = command[-1]
        self._stop = stop
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: Process | None = None
        self._loaded_identity = _identity(self._program)
        self._is_ready = False
        self._environ: Mapping[str, str] = {}  # the environment of the process
        with contextlib.suppress(OSError, ValueError):
            if _is_cli_itself(self._program) and forked.adopt_orphans():
                self._environ = _write_plugin(environ, folder / "fork-server", self._program)
                self._start(command)

    def wait_until_ready(self) -> bool:
        """Wait until the CLI is loaded; return whether it forks. A requested stop ends the waiting."""
        with self._lock:
            if self._control is None or self._is_ready:
                return self._is_ready
            answer = select.poll()  # `select.select` takes no descriptor from 1024 on
            answer.register(self._control, select.POLLIN)
            for _ in self._stop.poll(0.0, _START_SECONDS):
                if answer.poll(_POLL_MILLISECONDS):
                    self._is_ready = self._receive_hello(self._control)
                    break
            else:
                if self._stop.is_requested:
                    return False
            if not self._is_ready:
                self._end(reads_version=True)
            return self._is_ready

    def start(
        self, options: Sequence[str], environ: Mapping[str, str], *, merge_stderr: bool, inherited: Sequence[int]
    ) -> ForkedProcess | None:
        """Start a command, as `processes.start` does; None if it must be started in the usual way."""
        with self._lock:
            if self._control is None or not self._is_ready or any("\0" in option for option in options):
                return None
            if _identity(self._program) != self._loaded_identity:  # an update: its files are not those in memory
                self._end()
                return None
            try:
                return self._fork(self._control, options, environ, merge_stderr=merge_stderr, inherited=inherited)
            except (OSError, EOFError, ValueError, KeyError):
                self._end()
                return None

    def close(self) -> None:
        """End the process that forks; the commands continue."""
        with self._lock:
            self._end()

    def _start(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as stack, theirs:
            stack.enter_context(ours)
            number = theirs.fileno()
            variables = {**self._environ, fork_server.VARIABLE: str(number)}
            # A CLI that ignores the plugin prints its version and ends.
            full_command = (*command, _ROOM_FOR_OPTIONS, *argv.version_argv())
            self._process = processes.start(full_command, variables, merge_stderr=True, inherited=[number])
            stack.pop_all()
        self._control = ours

    def _receive_hello(self, control: socket.socket) -> bool:
        control.settimeout(_ANSWER_SECONDS)
        try:
            hello, _ = fork_server.receive(control)
            self.version = str(hello["version"])
        except (OSError, EOFError, ValueError, KeyError):
            return False
        return True

    def _fork(
        self,
        control: socket.socket,
        options: Sequence[str],
        environ: Mapping[str, str],
        *,
        merge_stderr: bool,
        inherited: Sequence[int],
    ) -> ForkedProcess:
        """Request a process. Raises OSError, EOFError, ValueError, KeyError if the other side fails."""
        numbers = [0, 1, 2, *inherited]
        request = {"argv": list(options), "environ": self._difference(environ), "descriptors": numbers}
        with open(os.devnull, "rb") as null, _Pipes(merge_stderr=merge_stderr) as pipes, _Gate() as gate:
            descriptors = [null.fileno(), *pipes.writers, *inherited, gate.reader]

            def fork() -> ForkedProcess:
                fork_server.send(control, request, descriptors)
                answer, _ = fork_server.receive(control)
                return ForkedProcess(int(answer["pid"]), (self._program, *options), *pipes.readers())

            process = processes.track(fork)
            if not forked.is_child(process.pid):  # something between it and this program has adopted it
                raise ChildProcessError
            gate.open()
        return process

    def _difference(self, environ: Mapping[str, str]) -> dict[str, str | None]:
        """Return the variables that differ from the forking process; the value None unsets one."""
        names = environ.keys() | self._environ.keys()
        return {name: environ.get(name) for name in names if environ.get(name) != self._environ.get(name)}

    def _end(self, *, reads_version: bool = False) -> None:
        if self._control is None or self._process is None:
            return
        self._control.close()
        self._control, self._is_ready = None, False
        with self._process as process:
            if reads_version:
                with contextlib.suppress(TimeoutExpired):
                    text = process.communicate(timeout=_ANSWER_SECONDS)[0].decode("utf-8", "replace")
                    self.printed_version = text if process.returncode == 0 and text.startswith("aws-cli/") else ""
            if process.returncode is None:  # afterwards its id may belong to another process
                process_tree.send_signal(process.pid, signal.SIGKILL)


class _Gate:
    """A pipe that a fork reads before it runs its command: it ends if the gate is closed, or this program has ended."""

    def __enter__(self) -> Self:
        self.reader, self._writer = os.pipe()
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.reader)
        os.close(self._writer)

    def open(self) -> None:
        """Let the fork run its command. Raises OSError if it is gone."""
        os.write(self._writer, b"\n")


class _Pipes:
    """Pipes for the output and the errors of a process, or one for both."""

    def __init__(self, *, merge_stderr: bool) -> None:
        self._merge_stderr = merge_stderr
        self._unused: list[int] = []  # descriptors of this side, until a process has them
        self.writers: tuple[int, int] = (-1, -1)

    def __enter__(self) -> Self:
        out, out_writer = os.pipe()
        self._unused = [out]
        self.writers = (out_writer, out_writer)
        if not self._merge_stderr:
            err, err_writer = os.pipe()
            self._unused.append(err)
            self.writers = (out_writer, err_writer)
        return self

    def __exit__(self, *_exception: object) -> None:
        for descriptor in {*self.writers, *self._unused}:
            os.close(descriptor)

    def readers(self) -> tuple[IO[bytes], IO[bytes] | None]:
        """Return the streams to read, which belong to the caller now."""
        streams = [os.fdopen(descriptor, "rb") for descriptor in self._unused]
        self._unused = []
        return streams[0], streams[1] if streams[1:] else None


def _identity(program: str) -> tuple[int, int, int] | None:
    """Return values that change when the CLI is updated."""
    with contextlib.suppress(OSError):
        status = os.stat(program)
        return status.st_ino, status.st_mtime_ns, status.st_size
    return None


def _write_plugin(environ: Mapping[str, str], folder: Path, program: str) -> dict[str, str]:
    """Write the server and an AWS config that loads it; return the environment for both. Raises OSError."""
    write_module(folder, _MODULE, Path(fork_server.__file__))
    config = folder / "aws-config"
    # The first value is a folder for version 2, and the name of another plugin for version 1. Both find the module by
    # PYTHONPATH, except the packed version 2 of AWS.
    where = str(folder) if _is_binary(program) else _MODULE
    files.create_private(config, f"[plugins]\ncli_legacy_plugin_path = {where}\n{_MODULE} = {_MODULE}\n".encode())
    search = os.pathsep.join(filter(None, (str(folder), environ.get("PYTHONPATH", ""))))
    return {**environ, "AWS_CONFIG_FILE": str(config), "PYTHONPATH": search}


def _is_cli_itself(program: str) -> bool:
    """Return whether it seems to be the CLI itself: a wrapper may have to run for each command."""
    first_line, _, rest = _first_bytes(program).partition(b"\n")
    return _is_binary(program) or (b"python" in first_line and b"awscli" in rest)


def _is_binary(program: str) -> bool:
    return _first_bytes(program).startswith(b"\x7fELF")


def _first_bytes(program: str) -> bytes:
    with open(program, "rb") as stream:
        return stream.read(_MAX_HEAD)
