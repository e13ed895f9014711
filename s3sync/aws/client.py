"""The AWS CLI: which one, its arguments, and running it.

What it prints and its exit codes are hints, never proof: some versions exit 0 after a failed PUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from s3sync import process_tree, processes
from s3sync.aws import argv as aws_argv
from s3sync.aws.causes import Cause
from s3sync.aws.diagnosis import are_credentials_missing, describe_exit_code, fatal_error_in, strip_prefix
from s3sync.aws.settings import (
    S3Settings,
    child_environment,
    redact,
    secrets_of,
    wants_few_checksums,
    without_credentials,
    write_config,
)
from s3sync.errors import AwsError
from s3sync.process_tree import StallDetector
from s3sync.processes import Process, TimeoutExpired
from s3sync.signals import StopRequest
from s3sync.text import human_seconds, printable

PROCESS_COST = 0.7  # CPU-seconds of an `aws` process before its first byte
STALL_SECONDS = 600.0  # a child that moves no bytes for so long is ended
_CHECK_INSTALLATION = "check the installation, or --aws_command"
_TAIL_LINES = 20
_PIECE_BYTES = 1024 * 1024
_MAX_LINE = 10_000  # bytes of a line of output that are looked at; two paths and what S3 says are half of that
_CREDENTIAL_PAUSES = (0.5, 2.0, 5.0)  # seconds before a question is asked again that found no credentials
_WATCH_SECONDS = (0.2, 15.0)  # the least and the most between two looks at whether the children move


class AwsResult(NamedTuple):
    """An `aws` process that ended: the words after `aws`, and the last of its complaints, printable and redacted.

    `killed_reason` says why this program ended it, empty if it did not; what it was about to do is half done then.
    """

    words: tuple[str, ...]
    returncode: int
    stdout: bytes
    errors: tuple[str, ...]
    killed_reason: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it came to its own end and says that all went well. One that was ended may say 0, too."""
        return self.returncode == 0 and not self.killed_reason

    @property
    def reason(self) -> str:
        """Why it was ended, or its last complaint, or what is known without one."""
        if self.killed_reason:
            return f"aws {self.killed_reason}, so it was ended"
        said = (strip_prefix(line) for line in reversed(self.errors))
        return next(filter(None, said), "") or describe_exit_code(self.returncode)


def find_aws(command: str | None, environ: Mapping[str, str]) -> str:
    """The absolute path of the CLI: as given, else beside this Python, else on PATH; raises AwsError."""
    if command:
        found = shutil.which(os.path.expanduser(command), path=environ.get("PATH"))
        if not found:
            raise AwsError(f"cannot run {printable(command)}: no such program (check --aws_command)")
        return _behind_shim(os.path.abspath(found), environ)
    beside = os.path.join(os.path.dirname(sys.executable), "aws")
    found = beside if os.access(beside, os.X_OK) else shutil.which("aws", path=environ.get("PATH"))
    if not found:
        raise AwsError("no `aws` beside this Python or on PATH (install it: `pip install awscli`, or --aws_command)")
    return _behind_shim(os.path.abspath(found), environ)


def describe_installed(environ: Mapping[str, str], stop: StopRequest, seconds: float) -> str:
    """The CLI that is used where none is named, for people: `aws-cli/1.46.3 (/usr/bin/aws)`, or what is wrong.

    One that is no package of this Python is asked, and given no more than so many seconds.
    """
    try:
        path = find_aws(None, environ)
    except AwsError:
        return "no aws found: not beside this Python nor on PATH (pip install awscli)"
    try:
        name, _, _ = AwsCli(path, environ, stop).prompt_version(seconds).partition(" ")
    except AwsError as error:
        return f"no aws that works: {error}"
    return f"{name} ({printable(path)})"


def _version_beside(path: str) -> str:
    """What a CLI beside this Python, and run by it, says of its version: `aws-cli/1.46.3`; else an empty string."""
    with contextlib.suppress(OSError, metadata.PackageNotFoundError), open(path, "rb") as script:
        interpreter = os.fsdecode(script.readline(_MAX_LINE).removeprefix(b"#!").strip())
        ours = os.path.dirname(interpreter) == os.path.dirname(path) == os.path.dirname(sys.executable)
        if ours and os.access(interpreter, os.X_OK):
            return f"aws-cli/{metadata.version('awscli')}"
    return ""


class AwsCli:
    """Runs one AWS CLI, with one environment, from several threads; ends its processes when asked to stop."""

    def __init__(
        self,
        path: str,
        environ: Mapping[str, str],
        stop: StopRequest,
        inherited: Sequence[int] = (),
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        """`inherited` descriptors (the locks) stay open in the children; one that stalls for so long is ended."""
        self.path = path
        self.process_count = 0  # processes so far
        self.version_text = ""  # what `version` found
        self.has_answered = False  # S3, so that there were credentials
        self.wants_few_checksums = wants_few_checksums(environ)
        self._beside = ""  # the same, if it was found without a process
        self._environ = environ
        self._secrets = secrets_of(environ)
        self._command = (*processes.argv_to_start(path), *_endpoint_options(environ))
        self._inherited = tuple(inherited)
        self._lock = threading.Lock()
        self._live: dict[int, Process] = {}
        self._urgent: set[int] = set()  # live ones that clean up
        self._ended: dict[int, str] = {}  # live ones that are being ended, by process id, and why
        self._watch = StallDetector(stall_seconds)
        self._watcher: threading.Thread | None = None
        self._changed = threading.Condition(self._lock)
        self._stop = stop

    def version(self) -> str:
        """What `aws --version` says, e.g. `aws-cli/1.46.3 Python/3.11.7 …`; raises AwsError."""
        return self._version_in(self.run(aws_argv.version_argv()))

    def quick_version(self) -> str:
        """The same, without a process where the CLI is a package of this Python; raises AwsError."""
        self.version_text = self._beside = _version_beside(self.path)
        return self.version_text or self.version()

    def prompt_version(self, seconds: float) -> str:
        """The same for a person who waits: it is given no more than so many seconds; raises AwsError."""
        self.version_text = _version_beside(self.path)
        return self.version_text or self._version_in(self.run_despite_stop(aws_argv.version_argv(), seconds))

    def _version_in(self, ended: AwsResult) -> str:
        if ended.returncode != 0 or not ended.stdout:
            raise AwsError(f"cannot use {printable(self.path)}: `aws --version` failed: {ended.reason}")
        self.version_text = self.sanitize(ended.stdout.decode("utf-8", "replace"))
        return self.version_text

    def check_usable(self) -> None:
        """Raise AwsError if it cannot even tell its version; nothing is started if it has told it."""
        if self._beside:
            self.version()

    def run(self, words: Sequence[str], seconds: float | None = None) -> AwsResult:
        """Run to the end, given no more than so many `seconds`, and keep stdout whole; for the s3api commands.

        Asks again where it found no credentials, if others did. Raises InterruptedBySignal where it was ended because
        we were asked to stop: that says nothing of S3.
        """
        for pause in _CREDENTIAL_PAUSES:
            ended = self._run_once(words, seconds)
            if not self.has_lost_credentials(ended):
                return ended
            self._stop.wait(pause)
        return self._run_once(words, seconds)

    def _run_once(self, words: Sequence[str], seconds: float | None) -> AwsResult:
        self._stop.raise_if_requested()
        with self._running(words) as process:
            stdout, stderr = self._communicate(process, seconds)
        self._stop.raise_if_requested()
        ended = self._result(words, process, stdout, stderr.splitlines())
        is_of_s3 = ended.succeeded or any("An error occurred (" in line for line in ended.errors)
        self.has_answered = self.has_answered or (tuple(words[:1]) == ("s3api",) and is_of_s3)
        return ended

    def has_lost_credentials(self, ended: AwsResult) -> bool:
        """Whether a process found no credentials where others did: that may pass."""
        return self.has_answered and ended.returncode != 0 and are_credentials_missing(ended.errors)

    def read_bytes(self, words: Sequence[str], on_bytes: Callable[[memoryview], None]) -> AwsResult:
        """Run to the end and hand on what it prints, piece by piece; for whole objects.

        Raises InterruptedBySignal as `run` does.
        """
        self._stop.raise_if_requested()
        with self._running(words) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            stdout = process.stdout
            for piece in iter(lambda: stdout.read(_PIECE_BYTES), b""):
                on_bytes(memoryview(piece))
            errors = process.stderr.read()
            process.wait()
        self._stop.raise_if_requested()
        return self._result(words, process, b"", errors.splitlines())

    def run_despite_stop(self, words: Sequence[str], seconds: float) -> AwsResult:
        """A query that is made even after we were asked to stop, and not ended by that; it has so many `seconds`."""
        with self._running(words, urgent=True) as process:
            stdout, stderr = self._communicate(process, seconds)
        return self._result(words, process, stdout, stderr.splitlines())

    def _communicate(self, process: Process, seconds: float | None) -> tuple[bytes, bytes]:
        try:
            return process.communicate(timeout=seconds)
        except TimeoutExpired:
            self._ended[process.pid] = f"did not answer for {human_seconds(seconds or 0.0)}"
            process_tree.send_signal(process.pid, signal.SIGKILL)
            return process.communicate()

    def run_streaming(
        self,
        words: Sequence[str],
        on_line: Callable[[str], None],
        on_start: Callable[[int], None],
        config: Path | None = None,
    ) -> AwsResult:
        """Run to the end and hand on the process id and each line of stdout and stderr; keeps the last complaints.

        `upload: ` lines are progress, not complaints. `config` is an AWS config instead of the usual one.
        """
        self._stop.raise_if_requested()
        tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        with self._running(words, merged=True, config=config) as process:
            assert process.stdout is not None
            stdout = process.stdout
            on_start(process.pid)
            for line in iter(lambda: stdout.readline(_MAX_LINE), b""):
                if not line.startswith(b"upload: "):
                    tail.append(line)
                on_line(line.decode("utf-8", "replace").rstrip("\n"))
        return self._result(words, process, b"", tail)

    def running_pids(self) -> list[int]:
        """The process ids of those that run."""
        with self._lock:
            return list(self._live)

    def bytes_read(self) -> dict[int, int]:
        """For each live process: bytes that it and its children have read so far, files and libraries alike."""
        return {pid: process_tree.count_bytes_read(pid) for pid in self.running_pids()}

    def terminate(self, pid: int, why: str) -> None:
        """Ask one live process to end, and insist; returns at once. `why` goes into its `killed_reason`."""
        with self._lock:
            process = self._live.get(pid)
            if process is None or pid in self._ended:
                return
            self._ended[pid] = why
        arguments = (pid, lambda: process.returncode is not None)  # set by the thread that waits for it
        threading.Thread(target=process_tree.terminate, args=arguments, daemon=True).start()

    def check_stop(self) -> None:
        """Raise InterruptedBySignal if somebody asked for the end."""
        self._stop.raise_if_requested()

    def pause(self, seconds: float) -> None:
        """Wait so long; raises InterruptedBySignal if somebody asks for the end."""
        self._stop.wait(seconds)
        self._stop.raise_if_requested()

    def terminate_all(self) -> None:
        """Ask every live process to end, and insist; returns at once. Those that clean up come to their own end."""
        with self._lock:
            live = [pid for pid in self._live if pid not in self._urgent]
        for pid in live:
            self.terminate(pid, "was interrupted")

    @contextlib.contextmanager
    def _running(
        self, words: Sequence[str], *, merged: bool = False, urgent: bool = False, config: Path | None = None
    ) -> Iterator[Process]:
        """A process in a session of its own, so that signals for us reach it through us alone."""
        with self._lock:
            process = self._start((*self._command, *words), merged, {"AWS_CONFIG_FILE": str(config)} if config else {})
            self.process_count += 1
            if not self._live:  # only as long as there is something to end: nothing stays registered afterwards
                self._stop.on_request(self.terminate_all)
            self._live[process.pid] = process
            self._ended.pop(process.pid, None)
            if urgent:
                self._urgent.add(process.pid)
            self._see_to_watching()
        if self._stop.is_requested and not urgent:  # asked between the look at `stop` and the start
            self.terminate(process.pid, "was interrupted")
        try:
            with process:
                try:
                    yield process
                except BaseException:  # before the wait that the end of `with process` is
                    process_tree.send_signal(process.pid, signal.SIGKILL)
                    raise
        finally:
            with self._lock:
                del self._live[process.pid]
                if not self._live:
                    self._stop.remove_action(self.terminate_all)
                self._urgent.discard(process.pid)
                self._changed.notify_all()

    def _see_to_watching(self) -> None:
        """One thread looks whether they move, as long as there are any."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch_them, name="stalls", daemon=True)
            self._watcher.start()

    def _watch_them(self) -> None:
        least, most = _WATCH_SECONDS
        pause = min(most, max(least, self._watch.seconds / 10))
        while True:
            with self._lock:
                self._changed.wait_for(lambda: not self._live, pause)
                if not self._live:
                    self._watcher = None
                    return
                live = list(self._live)
            for pid in self._watch.stalled(live):
                self.terminate(pid, f"moved no bytes for {human_seconds(self._watch.seconds)}")

    def _start(self, argv: Sequence[str], merged: bool, more: Mapping[str, str]) -> Process:
        try:
            return processes.start(argv, {**self._environ, **more}, merge_stderr=merged, inherited=self._inherited)
        except (OSError, ValueError) as error:  # ValueError: a key in S3 may have characters that no word can
            why, advice = processes.explain_start_failure(self.path, error)
            raise AwsError(f"cannot run {printable(self.path)}: {why} ({advice or _CHECK_INSTALLATION})") from error

    def _result(self, words: Sequence[str], process: Process, stdout: bytes, errors: Iterable[bytes]) -> AwsResult:
        why = self._ended.pop(process.pid, "")
        return AwsResult(tuple(words), process.returncode, stdout, self._readable(errors), why)

    def sanitize(self, printed: str) -> str:
        """Something that the CLI printed, as it may be shown and logged: one bounded line, without credentials."""
        return redact(printable(printed.strip()), self._secrets)[:_MAX_LINE]

    def _readable(self, lines: Iterable[bytes]) -> tuple[str, ...]:
        texts = (self.sanitize(line.decode("utf-8", "replace")) for line in lines)
        return tuple(text for text in texts if text)[-_TAIL_LINES:]


def connect(
    command: str | None,
    settings: S3Settings,
    environ: Mapping[str, str],
    stop: StopRequest,
    work: Path,
    inherited: Sequence[int] = (),
    stall_seconds: float = STALL_SECONDS,
) -> AwsCli:
    """The CLI with these settings, in a config of its own in the work folder; raises AwsError."""
    config = work / "aws-config"
    carried = write_config(environ, settings, config)
    # Whatever it writes beside what it is asked to goes to the same disk, and never into its current folder.
    child = {**child_environment(environ, config, carried), "TMPDIR": str(work.parent.parent)}
    return AwsCli(find_aws(command, environ), child, stop, inherited, stall_seconds)


def parse_json(ended: AwsResult) -> Any:
    """The JSON that a successful query printed; None where it printed nothing. Raises AwsError if it is no JSON."""
    if not ended.stdout.strip():
        return None
    try:
        return json.loads(ended.stdout)
    except (ValueError, RecursionError) as error:
        raise AwsError(f"aws {' '.join(ended.words[:2])} printed no JSON: {error}") from error


def to_error(result: AwsResult, target: str, fallback: Cause | None = None) -> AwsError:
    """Return the error for a process that failed for good, with its cause, or with `fallback` if that is not known."""
    known, error = fatal_error_in(result.errors)
    if cause := known or fallback:
        return AwsError(f"{cause.message_for(target)}. aws said: {error or result.reason}", id=cause.id)
    return AwsError(f"aws {' '.join(result.words[:2])} failed for {target}: {result.reason}", id="aws.command-failed")


def _endpoint_options(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The endpoint of the environment as an option: versions 2 before 2.13 do not know the variables."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return (f"--endpoint-url={without_credentials(endpoint)}",) if endpoint and not ignored else ()


def _behind_shim(path: str, environ: Mapping[str, str]) -> str:
    """The real program behind a pyenv shim, which would cost a second or more at each start."""
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        if re.search(rb'pyenv" exec "\$program"', stream.read(1024)):  # a script of a pyenv Python has the word, too
            return processes.read_first_line(("pyenv", "which", os.path.basename(path)), environ, 30.0) or path
    return path
