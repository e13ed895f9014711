"""Run the AWS CLI with pinned settings, and collect what it prints."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from s3sync import processes
from s3sync.aws import argv as aws_argv
from s3sync.aws import cli_listing
from s3sync.aws.copy_events import MAX_LINE, CopyObserver, follow_events
from s3sync.aws.destination import BucketRef, Storage
from s3sync.aws.diagnosis import are_credentials_missing
from s3sync.aws.installation import find_aws, packaged_version
from s3sync.aws.launcher import Launcher
from s3sync.aws.plugin import CliPlugin
from s3sync.aws.process_set import ProcessSet
from s3sync.aws.receipts import ReceiptPipe
from s3sync.aws.result import CHECK_INSTALLATION
from s3sync.aws.result import AwsResult as AwsResult
from s3sync.aws.settings import (
    STALL_SECONDS,
    CliSettings,
    child_environment,
    redact,
    secrets_of,
    wants_few_checksums,
    write_config,
)
from s3sync.aws.warm_starts import WarmStarts
from s3sync.errors import AwsError
from s3sync.processes import Process, TimeoutExpired
from s3sync.signals import StopRequest
from s3sync.text import human_seconds, printable

PROCESS_COST = 0.7  # CPU-seconds of an `aws` process before its first byte,
WARM_PROCESS_COST = 0.15  # and of one that was forked, with what this program does for it
_TAIL_LINES = 20
_CHUNK_BYTES = 1024 * 1024
_CREDENTIAL_PAUSES = (0.5, 2.0, 5.0)  # seconds before a command that found no credentials is tried again


class AwsCli:
    """One AWS CLI with one environment. All methods can be called from any thread.

    A requested stop ends the running processes; the methods then raise InterruptedBySignal or LeaseLostError.
    """

    def __init__(
        self,
        launcher: Launcher,
        stop: StopRequest,
        stall_seconds: float = STALL_SECONDS,
        plugin: CliPlugin | None = None,
    ) -> None:
        """`s3 cp` loads the plugin. A process that moves no bytes for `stall_seconds` is terminated."""
        self.path = launcher.path
        self.processes = ProcessSet(stop, stall_seconds)
        self.version_text = ""  # what `version` returned
        self._printed_version = ""  # what `aws --version` has printed, if it was run
        self._launcher = launcher
        self._wants_few_checksums = wants_few_checksums(launcher.environ)
        self._has_answered = False  # S3, so there were credentials
        self._secrets = secrets_of(launcher.environ)
        self._stop = stop
        self._plugin = plugin

    def version(self, timeout: float | None = None) -> str:
        """Return the version, e.g. `aws-cli/1.46.3 Python/3.11.7 …`. Raises AwsError.

        It starts no process if the CLI is a package of this Python, and takes at most `timeout` seconds otherwise.
        """
        if not self.version_text:
            self.version_text = (
                packaged_version(self.path) or self._launcher.loaded_version() or self.check_usable(timeout)
            )
        return self.version_text

    def close(self) -> None:
        """End the process that forks `aws` commands; running commands continue."""
        self._launcher.close()

    @property
    def may_be_fast(self) -> bool:
        """Return whether the fast path may work; only a running process reports whether it does."""
        return self._plugin is not None and not self._plugin.problem

    @property
    def process_cost(self) -> float:
        """Return the CPU-seconds of a process before its first byte."""
        return WARM_PROCESS_COST if self._launcher.wait_until_loaded() else PROCESS_COST

    @property
    def may_take_lists(self) -> bool:
        """Return whether `s3 cp` may read its files from a list: its plugin is loaded like the one that forks."""
        return self.may_be_fast and self._launcher.wait_until_loaded()

    @property
    def uses_http(self) -> bool:
        """Return whether the options request plain HTTP, without TLS."""
        return any(option.startswith("--endpoint-url=http://") for option in self._launcher.endpoint_options)

    @property
    def may_have_other_server(self) -> bool:
        """Return whether the environment or the AWS config names an endpoint, so that it may not be Amazon's."""
        config = Path(self._launcher.environ.get("AWS_CONFIG_FILE", os.devnull))
        return bool(self._launcher.endpoint_options) or "endpoint_url" in config.read_text("utf-8", "surrogateescape")

    def report_plugin_problem(self, reason: str) -> str:
        """Return, only once, why the CLI itself sends small files: the plugin's reason, or why it is not loaded."""
        return self._plugin.report_once(reason) if self._plugin else ""

    @property
    def supports_crt(self) -> bool:
        """Return whether this version, once `version` was called, has the CRT transfer client."""
        return aws_argv.supports_crt(self.version_text)

    def upload_argv(self, folder: str, url: str, storage: Storage) -> tuple[str, ...]:
        """Return the options that upload a folder with the checksums that can be verified; call `version` before."""
        checksums = aws_argv.checksum_options(self.version_text, few=self._wants_few_checksums)
        return aws_argv.s3_cp_argv(folder, url, storage, checksums)

    def download_argv(self, url: str, target: str, includes: tuple[str, ...] | None) -> tuple[str, ...]:
        """Return the options that download a folder of keys, or, without `includes`, one object."""
        if includes is None:
            return aws_argv.download_object_argv(url, target)
        return aws_argv.download_folder_argv(url, target, includes)

    def read_object(self, bucket: BucketRef, key: str, limit: int) -> bytes | AwsResult:
        """Return the bytes of a small object, or the result that says why it could not be read.

        At most `limit` bytes are kept. Raises AwsError, StoppedError.
        """
        content = bytearray()
        result = self.read_bytes(
            aws_argv.read_object_argv(bucket, key), lambda chunk: content.extend(chunk[: limit - len(content)])
        )
        return bytes(content) if result.succeeded else result

    def check_usable(self, timeout: float | None = None) -> str:
        """Return what `aws --version` prints; it is run once. Raises AwsError if that fails."""
        self._printed_version = self._printed_version or self.sanitize(self._launcher.printed_version)
        if self._printed_version:
            return self._printed_version
        result = self.run(aws_argv.version_argv(), timeout)
        if not result.succeeded or not result.stdout:
            raise AwsError(
                f"cannot use {printable(self.path)}: `aws --version` failed: {result.reason} ({CHECK_INSTALLATION})",
                id="aws.unusable",
            )
        self._printed_version = self.sanitize(result.stdout.decode("utf-8", "replace"))
        return self._printed_version

    def run(self, argv: Sequence[str], timeout: float | None = None) -> AwsResult:
        """Run an `s3api` command and keep all of its output. It is killed after `timeout` seconds.

        It is run again if it finds no credentials where earlier commands found some.
        """
        for pause in _CREDENTIAL_PAUSES:
            result = self._run_once(argv, timeout)
            if not self.has_lost_credentials(result):
                return result
            self._stop.wait(pause)
        return self._run_once(argv, timeout)

    def run_despite_stop(self, argv: Sequence[str], timeout: float) -> AwsResult:
        """Run a command that cleans up: also after a stop was requested, which does not end it."""
        with self._running(argv, survives_stop=True) as process:
            stdout, stderr = self._communicate(process, timeout)
        return self._result(argv, process, stdout, stderr.splitlines())

    def read_bytes(self, argv: Sequence[str], on_bytes: Callable[[memoryview], None]) -> AwsResult:
        """Run a command that prints an object, and pass its output on in chunks."""
        self._stop.raise_if_requested()
        with self._running(argv) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            stdout = process.stdout
            for chunk in iter(lambda: stdout.read(_CHUNK_BYTES), b""):
                on_bytes(memoryview(chunk))
            errors = process.stderr.read()
            process.wait()
        self._stop.raise_if_requested()
        return self._result(argv, process, b"", errors.splitlines())

    def run_streaming(
        self,
        argv: Sequence[str],
        observer: CopyObserver,
        config: Path | None = None,
        file_list: Path | None = None,
        *,
        has_parts: bool = True,
    ) -> AwsResult:
        """Run an `s3 cp` command. The observer gets its process id, the lines of its output and errors, its receipts.

        `config` replaces the usual AWS config; `file_list` is a list that `cli_listing` reads. Lines that begin with
        `upload: ` or `download: ` are not errors. A CLI that cannot load the plugin has moved nothing; it is run again
        without it. One that has no multipart uploads (`has_parts`) ends faster when a stop is requested.
        """
        result = self._stream(argv, observer, config, file_list, has_parts=has_parts)
        if not result.succeeded and self._plugin and self._plugin.has_failed("\n".join(result.errors)):
            result = self._stream(argv, observer, config, file_list, has_parts=has_parts)
        return result

    def _stream(
        self,
        argv: Sequence[str],
        observer: CopyObserver,
        config: Path | None,
        file_list: Path | None,
        *,
        has_parts: bool,
    ) -> AwsResult:
        self._stop.raise_if_requested()
        tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        with contextlib.ExitStack() as stack:
            pipe = stack.enter_context(contextlib.closing(ReceiptPipe()))
            environ = {**self._copy_environment(config, file_list), **pipe.variables}
            process = stack.enter_context(
                self._running(argv, environ, [pipe.writer], merge_stderr=True, has_parts=has_parts)
            )
            pipe.close_writer()
            assert process.stdout is not None
            observer.started(process.pid)
            for event in follow_events(process.stdout, pipe):
                if not isinstance(event, bytes):
                    observer.received(event)
                    continue
                if not event.startswith((b"upload: ", b"download: ")):
                    tail.append(event)
                observer.printed(event.decode("utf-8", "replace"))
        return self._result(argv, process, b"", tail)

    def has_lost_credentials(self, result: AwsResult) -> bool:
        """Return whether a process found no credentials where earlier ones found some. That may pass."""
        return self._has_answered and result.returncode != 0 and are_credentials_missing(result.errors)

    def check_stop(self) -> None:
        """Raise InterruptedBySignal or LeaseLostError if a stop was requested."""
        self._stop.raise_if_requested()

    def pause(self, seconds: float) -> None:
        """Wait. Raises InterruptedBySignal or LeaseLostError if a stop is requested."""
        self._stop.pause(seconds)

    def sanitize(self, text: str) -> str:
        """Return output of the CLI as it may be shown and logged: one bounded line without secrets."""
        return redact(printable(text.strip()), self._secrets)[:MAX_LINE]

    def last_errors(self, lines: Iterable[bytes]) -> tuple[str, ...]:
        """Return the last lines of errors, each as it may be shown and logged."""
        texts = (self.sanitize(line.decode("utf-8", "replace")) for line in lines)
        return tuple(filter(None, texts))[-_TAIL_LINES:]

    def _run_once(self, argv: Sequence[str], timeout: float | None) -> AwsResult:
        self._stop.raise_if_requested()
        with self._running(argv) as process:
            stdout, stderr = self._communicate(process, timeout)
        self._stop.raise_if_requested()  # a process that was interrupted says nothing about S3
        result = self._result(argv, process, stdout, stderr.splitlines())
        is_answer = result.succeeded or any("An error occurred (" in line for line in result.errors)
        self._has_answered = self._has_answered or (tuple(argv[:1]) == ("s3api",) and is_answer)
        return result

    def _copy_environment(self, config: Path | None, file_list: Path | None) -> dict[str, str]:
        """Return the environment of an `s3 cp` process."""
        environ = dict(self._launcher.environ)
        if config:
            environ["AWS_CONFIG_FILE"] = str(config)
        if file_list:
            environ[cli_listing.VARIABLE] = str(file_list)
        return self._plugin.prepare(environ, self.version_text) if self._plugin else environ

    def _running(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str] | None = None,
        inherited: Sequence[int] = (),
        *,
        merge_stderr: bool = False,
        survives_stop: bool = False,
        has_parts: bool = True,
    ) -> AbstractContextManager[Process]:
        self._launcher.wait_until_loaded()  # not within the lock of the processes, which a stop needs

        def start() -> Process:
            return self._launcher.start(argv, environ, inherited, merge_stderr=merge_stderr)

        return self.processes.running(start, survives_stop=survives_stop, has_parts=has_parts)

    def _communicate(self, process: Process, timeout: float | None) -> tuple[bytes, bytes]:
        try:
            return process.communicate(timeout=timeout)
        except TimeoutExpired:
            self.processes.kill(process.pid, f"did not answer for {human_seconds(timeout or 0.0)}")
            return process.communicate()

    def _result(self, argv: Sequence[str], process: Process, stdout: bytes, errors: Iterable[bytes]) -> AwsResult:
        killed_reason = self.processes.pop_killed_reason(process.pid)
        return AwsResult(tuple(argv), process.returncode, stdout, self.last_errors(errors), killed_reason)


class RemoteFolder(NamedTuple):
    """The objects below one prefix of a bucket, and the AWS CLI that reaches them. The prefix ends in a slash."""

    aws: AwsCli
    bucket: BucketRef
    prefix: str

    def key(self, path: str) -> str:
        """Return the key of the object at a path below the prefix."""
        return self.prefix + path

    def url(self, path: str) -> str:
        """Return the URL of the object at a path below the prefix."""
        return f"{self.bucket.url}/{self.key(path)}"


def connect(
    settings: CliSettings, environ: Mapping[str, str], stop: StopRequest, folder: Path, inherited: Sequence[int] = ()
) -> AwsCli:
    """Return the AWS CLI with these settings, in an AWS config that it writes into this folder. Raises AwsError.

    `inherited` descriptors, such as those of locks, stay open in the processes.
    """
    config = folder / "aws-config"
    carried = write_config(environ, settings, config)
    # Its temporary files go to the same disk, and never into the current folder.
    child = {**child_environment(environ, config, carried), "TMPDIR": str(folder.parent.parent)}
    path = find_aws(settings.command, environ)
    if settings.client != "auto":
        return AwsCli(Launcher(path, child, inherited), stop, settings.stall_seconds)
    warm_starts = WarmStarts(processes.argv_to_start(path), child, stop, folder)
    return AwsCli(Launcher(path, child, inherited, warm_starts), stop, settings.stall_seconds, CliPlugin(folder))


def describe_installed(environ: Mapping[str, str], stop: StopRequest, timeout: float) -> str:
    """Return the version and path of the default AWS CLI, e.g. `aws-cli/1.46.3 (/usr/bin/aws)`, or what is wrong.

    A CLI that is no package of this Python has `timeout` seconds to answer.
    """
    try:
        path = find_aws(None, environ)
        version = AwsCli(Launcher(path, environ), stop).version(timeout)
    except AwsError as error:
        return f"no usable AWS CLI: {error}"
    return f"{version.partition(' ')[0]} ({printable(path)})"
