"""Run commands in forks of one process of the AWS CLI, which need not load the CLI again.

Most of a command's time is spent on loading the CLI. This file is copied into a private folder, and the CLI loads it as
a plugin (`[plugins]` in its config). If S3SYNC_FORK_SERVER_FD names an inherited socket, the process then becomes a
server: it forks for each request, and the fork runs the CLI's own `main` with the options, the environment and the
descriptors of the request. It ends when the socket is closed. Without the variable nothing happens.

A message is its length (4 bytes) and a JSON object. The server begins with `{"version": "aws-cli/1.46.3"}`. A request
is `{"argv": [], "environ": {}, "descriptors": [0, 1, 2]}`, with these descriptors as ancillary data and the variables
that differ from those of the server (null: not set); the answer is `{"pid": 1234}` or `{"errno": 11}`. One more
descriptor is a pipe: the fork runs the command when it has read a byte, and ends if there is none. So a command whose
answer was lost can be started in another way, and never runs twice. The server uses only the standard library, and runs
on any Python that the CLI runs on.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import mimetypes
import os
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

VARIABLE = "S3SYNC_FORK_SERVER_FD"
MAX_DESCRIPTORS = 64  # per request
_LENGTH = struct.Struct("!I")
_DESCRIPTIONS = (("s3", "paginators-1"), ("s3", "waiters-2"), ("sdb", "service-2"))  # read for each command
_CANNOT_FLUSH = 120  # Python's exit code if it cannot write what is left of its output


def awscli_initialize(_event_hooks: object) -> None:
    """Serve, and never return, if the variable is set; called by the CLI when it loads its plugins."""
    # Version 2 has added this name as a folder: in the current one, which others may be able to write to.
    sys.path[:] = [folder for folder in sys.path if folder != __name__]
    descriptor = os.environ.pop(VARIABLE, "")
    if descriptor.isdecimal() and sys.argv[-1] == "--version":  # as this program starts it
        _serve(socket.socket(fileno=int(descriptor)))


def send(control: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message, with open descriptors. Raises OSError."""
    body = json.dumps(message).encode("ascii")  # bytes of names that are not UTF-8 are lone surrogates
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    control.sendmsg([_LENGTH.pack(len(body))], ancillary)
    control.sendall(body)


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next message and its descriptors. Raises EOFError if the other side has ended, OSError."""
    header, ancillary, _flags, _address = control.recvmsg(_LENGTH.size, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    header += _read(control, _LENGTH.size - len(header))
    return json.loads(_read(control, _LENGTH.unpack(header)[0])), list(descriptors)


def _read(control: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        piece = control.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    return bytes(content)


def _serve(control: socket.socket) -> NoReturn:
    """Answer requests until the other side has ended; forks that still run continue."""
    try:
        control.set_inheritable(False)
        version = f"aws-cli/{importlib.import_module('awscli').__version__}"
        with contextlib.suppress(Exception):
            _read_descriptions()
        gc.collect()
        gc.freeze()  # the forks share these pages
        send(control, {"version": version})
        while True:
            request, descriptors = receive(control)
            send(control, _fork(control, request, descriptors))
            for descriptor in descriptors:
                os.close(descriptor)
    except BaseException:  # the program starts its commands without this server
        os._exit(0)


def _read_descriptions() -> None:
    """Read the CLI's descriptions of S3 and of its services once for all forks, which takes half of their time."""
    botocore = next(name for name in ("awscli.botocore", "botocore") if name in sys.modules)
    loaders = importlib.import_module(f"{botocore}.loaders")
    loaders.JSONFileLoader.load_file = _remembering(
        loaders.JSONFileLoader.load_file, lambda _loader, file_path: file_path
    )
    loaders.Loader.list_available_services = _remembering(
        loaders.Loader.list_available_services, lambda loader, type_name: (type_name, *loader.search_paths)
    )
    no_profile = {"profile": (None, None, None, None)}  # the user's is not in the config that loads this server
    session = importlib.import_module(f"{botocore}.session").Session(no_profile)
    session.get_available_services()
    session.create_client("s3", "us-east-1", **dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "-"))
    mimetypes.init()
    loader = session.get_component("data_loader")
    for service, kind in _DESCRIPTIONS:
        with contextlib.suppress(Exception):  # not all versions have them
            loader.load_service_model(service, kind)
    session.get_data("cli")


def _remembering(function: Callable[..., Any], key_of: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a memory of its results."""
    results: dict[Any, Any] = {}

    @functools.wraps(function)
    def remember(*args: Any, **options: Any) -> Any:
        try:
            key = key_of(*args, **options)
        except TypeError:  # its parameters have other names
            return function(*args, **options)
        if key not in results:
            results[key] = function(*args, **options)
        return results[key]

    return remember


def _fork(control: socket.socket, request: Mapping[str, Any], descriptors: Sequence[int]) -> dict[str, int]:
    """Fork twice, so that the program, a subreaper, becomes the parent of the process that runs the command."""
    reader, writer = os.pipe()
    try:
        middle = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        return {"errno": error.errno or 0}
    if not middle:
        try:
            if not os.fork():
                os.setsid()  # before its id is known: signals are for its group
                os.write(writer, str(os.getpid()).encode())
                control.close()
                os.close(reader)
                os.close(writer)
                _run(request, descriptors)
        except OSError as error:
            os.write(writer, f"-{error.errno or 0}".encode())
        finally:
            os._exit(1)
    os.close(writer)
    os.waitpid(middle, 0)
    number = int(os.read(reader, 16) or b"0")
    os.close(reader)
    return {"pid": number} if number > 0 else {"errno": -number}


def _run(request: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Run the command as a new process of the CLI would, once the program knows this process."""
    *descriptors, gate = descriptors
    if not os.read(gate, 1):
        os._exit(1)
    os.close(gate)
    _place(descriptors, request["descriptors"])
    for name, value in request["environ"].items():  # the CLI has added some while it was loaded, which stay
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    sys.argv[1:] = request["argv"]
    with contextlib.suppress(OSError, ValueError, IndexError):
        _show_argv()
    for folder in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if folder and folder not in sys.path:
            sys.path.insert(1, folder)
    code = _main()
    with contextlib.suppress(Exception):
        for module, action in ((threading, "_shutdown"), (atexit, "_run_exitfuncs")):  # as at the end of Python
            getattr(module, action)()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or _CANNOT_FLUSH
    os._exit(code)


def _show_argv() -> None:
    """Let `ps` show these options: they take the place of those that the server was started with."""
    with open("/proc/self/cmdline", "rb") as stream:
        old = stream.read().split(b"\0")
    shown = [*old[: old.index(os.fsencode(sys.argv[0])) + 1], *map(os.fsencode, sys.argv[1:])]
    with open("/proc/self/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()  # from the third one on
    start, end = int(fields[48 - 3]), int(fields[49 - 3])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(b"\0".join(shown)[: end - start - 1].ljust(end - start, b"\0"))


def _place(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give the descriptors the numbers that they have in the program."""
    above = max(numbers) + 1
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for copy, number in zip(copies, numbers):  # noqa: B905 - Python 3.8 has no `strict`
        os.dup2(copy, number)
        os.close(copy)


def _main() -> int:
    """Run the CLI; return the exit code that its process would have."""
    try:
        code = importlib.import_module("awscli.clidriver").main()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    if isinstance(code, str):
        os.write(2, f"{code}\n".encode("utf-8", "backslashreplace"))
        return 1
    return (code or 0) & 0xFF
