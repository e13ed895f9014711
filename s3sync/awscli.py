"""The AWS CLI: which one, its arguments, and running it; the only starter of processes.

What it prints and its exit codes are hints, never proof: some versions exit 0 after a failed PUT.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from s3sync.awsconfig import S3Settings, child_environment, redact, write_config
from s3sync.awserrors import Cause, cause_of, meaning_of, without_prefix
from s3sync.errors import AwsError
from s3sync.interrupt import Stop
from s3sync.text import printable

LIST_PAGE = 50_000  # objects a listing process returns at most: bounds its memory
_TAIL_LINES = 20
_GRACE = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # seconds to end after each

_CONNECT_TIMEOUT = "--cli-connect-timeout=10"  # seconds
_LIST_QUERY = "Contents[].[Key,Size,ETag]"
_HEAD_QUERY = "[ContentLength,ETag,ServerSideEncryption,SSECustomerAlgorithm,ChecksumCRC32]"


class Ended(NamedTuple):
    """An `aws` process that ended: the words after `aws`, and the last of its complaints, printable and redacted."""

    words: tuple[str, ...]
    returncode: int
    stdout: bytes
    errors: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Its last complaint, or what is known without one."""
        if self.errors:
            return without_prefix(self.errors[-1])
        return meaning_of(self.returncode)


def cp_words(folder: str, url: str) -> tuple[str, ...]:
    """Send every file in a folder; `url` ends in a slash."""
    return ("s3", "cp", folder, url, "--recursive", "--no-progress", _CONNECT_TIMEOUT)


def head_words(bucket: str, key: str) -> tuple[str, ...]:
    """Size, ETag, encryption and checksum of an object; `--key=` since a key may begin with a dash."""
    what = (f"--bucket={bucket}", f"--key={key}", "--checksum-mode=ENABLED")
    return ("s3api", "head-object", *what, "--output=json", f"--query={_HEAD_QUERY}", _CONNECT_TIMEOUT)


def head_bucket_words(bucket: str) -> tuple[str, ...]:
    """Whether there is such a bucket, and whether these credentials may see it."""
    return ("s3api", "head-bucket", f"--bucket={bucket}", _CONNECT_TIMEOUT)


def create_upload_words(bucket: str, key: str) -> tuple[str, ...]:
    """Begin a multipart upload; prints its id."""
    what = (f"--bucket={bucket}", f"--key={key}")
    return ("s3api", "create-multipart-upload", *what, "--output=json", "--query=UploadId", _CONNECT_TIMEOUT)


def abort_upload_words(bucket: str, key: str, upload_id: str) -> tuple[str, ...]:
    """Abort a multipart upload, and so remove its parts."""
    what = (f"--bucket={bucket}", f"--key={key}", f"--upload-id={upload_id}")
    return ("s3api", "abort-multipart-upload", *what, _CONNECT_TIMEOUT)


def list_words(bucket: str, prefix: str, start_after: str, max_items: int) -> tuple[str, ...]:
    """Key, size and ETag of up to `max_items` objects under a prefix, after a key, in the order of their keys."""
    what = (f"--bucket={bucket}", f"--prefix={prefix}", f"--max-items={max_items}")
    after = (f"--start-after={start_after}",) if start_after else ()
    return ("s3api", "list-objects-v2", *what, *after, "--output=json", f"--query={_LIST_QUERY}", _CONNECT_TIMEOUT)


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


class Aws:
    """Runs one AWS CLI, with one environment, from several threads; ends its processes when asked to stop."""

    def __init__(self, path: str, environ: Mapping[str, str], stop: Stop, inherited: Sequence[int] = ()) -> None:
        """`inherited` descriptors (the locks) stay open in the children."""
        self.path = path
        self.started = 0  # processes so far
        self._environ = environ
        self._command = (path, *_endpoint_words(environ))
        self._inherited = tuple(inherited)
        self._lock = threading.Lock()
        self._live: dict[int, subprocess.Popen[bytes]] = {}
        self._stop = stop
        stop.on_request(self.end_all)

    def version(self) -> str:
        """What `aws --version` says, e.g. `aws-cli/1.46.3 Python/3.11.7 …`; raises AwsError."""
        ended = self.query(("--version",))
        if ended.returncode != 0 or not ended.stdout:
            raise AwsError(f"cannot use {printable(self.path)}: `aws --version` failed: {ended.reason}")
        return printable(ended.stdout.decode("utf-8", "replace").strip())

    def query(self, words: Sequence[str]) -> Ended:
        """Run to the end and keep stdout whole; for the s3api commands.

        Raises InterruptedBySignal where it was ended because we were asked to stop: that says nothing of S3.
        """
        with self._running(words, stderr=subprocess.PIPE) as process:
            stdout, stderr = process.communicate()
        self._stop.check()
        return Ended(tuple(words), process.returncode, stdout, self._readable(stderr.splitlines()))

    def follow(self, words: Sequence[str], on_line: Callable[[str], None], on_start: Callable[[int], None]) -> Ended:
        """Run to the end and hand on the process id and each line of stdout and stderr; keeps the last complaints.

        `upload: ` lines are progress, not complaints.
        """
        tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        with self._running(words, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            on_start(process.pid)
            for line in process.stdout:
                if not line.startswith(b"upload: "):
                    tail.append(line)
                on_line(line.decode("utf-8", "replace").rstrip("\n"))
        return Ended(tuple(words), process.returncode, b"", self._readable(tail))

    def bytes_read(self) -> dict[int, int]:
        """For each live process: bytes that it and its children have read so far, files and libraries alike."""
        with self._lock:
            pids = list(self._live)
        return {pid: _read_by_tree(pid) for pid in pids}

    def end_all(self) -> None:
        """Ask every live process to end, and insist; returns at once."""
        with self._lock:
            live = list(self._live.values())
        for process in live:
            threading.Thread(target=_end_tree, args=(process,), daemon=True).start()

    @contextlib.contextmanager
    def _running(self, words: Sequence[str], stderr: int) -> Iterator[subprocess.Popen[bytes]]:
        """A process in a session of its own, so that signals for us reach it through us alone."""
        with self._lock:
            self._stop.check()
            process = self._start((*self._command, *words), stderr)
            self.started += 1
            self._live[process.pid] = process
        try:
            with process:
                try:
                    yield process
                except BaseException:  # before the wait that the end of `with process` is
                    _signal_tree(process, signal.SIGKILL)
                    raise
        finally:
            with self._lock:
                del self._live[process.pid]

    def _start(self, argv: Sequence[str], stderr: int) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=self._environ,
                start_new_session=True,
                pass_fds=self._inherited,
            )
        except OSError as error:
            raise AwsError(
                f"cannot run {printable(self.path)}: {error.strerror} (check the installation, or --aws_command)"
            ) from error

    def _readable(self, lines: Sequence[bytes] | deque[bytes]) -> tuple[str, ...]:
        texts = (printable(line.decode("utf-8", "replace").strip()) for line in lines)
        return tuple(redact(text, self._environ) for text in texts if text)[-_TAIL_LINES:]


def connect(
    command: str | None,
    settings: S3Settings,
    environ: Mapping[str, str],
    stop: Stop,
    work: Path,
    inherited: Sequence[int] = (),
) -> Aws:
    """The CLI with these settings, in a config of its own in the work folder; raises AwsError."""
    config = work / "aws-config"
    write_config(environ, settings, config)
    return Aws(find_aws(command, environ), child_environment(environ, config), stop, inherited)


def parse_json(ended: Ended) -> Any:
    """The JSON that a successful query printed; None where it printed nothing. Raises AwsError if it is no JSON."""
    if not ended.stdout.strip():
        return None
    try:
        return json.loads(ended.stdout)
    except (ValueError, RecursionError) as error:
        raise AwsError(f"aws {' '.join(ended.words[:2])} printed no JSON: {error}") from error


def failure(ended: Ended, where: str, fallback: Cause | None = None) -> AwsError:
    """The one clear line for a process that failed for good."""
    cause = cause_of(ended.errors) or fallback
    if cause is None:
        return AwsError(f"aws {' '.join(ended.words[:2])} failed for {where}: {ended.reason}")
    return AwsError(f"{cause.what}: {where} ({cause.advice}). aws said: {ended.reason}")


def _endpoint_words(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The endpoint of the environment as an option: versions 2 before 2.13 do not know the variables."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true"
    return (f"--endpoint-url={endpoint}",) if endpoint and not ignored else ()


def _behind_shim(path: str, environ: Mapping[str, str]) -> str:
    """The real program behind a pyenv shim, which would cost a second or more at each start."""
    with contextlib.suppress(OSError, subprocess.SubprocessError), open(path, "rb") as stream:
        if re.search(rb'pyenv" exec "\$program"', stream.read(1024)):  # a script of a pyenv Python has the word, too
            argv = ("pyenv", "which", os.path.basename(path))
            asked = subprocess.run(argv, env=dict(environ), capture_output=True, timeout=30, check=True)
            return os.fsdecode(asked.stdout.strip()) or path
    return path


def _read_by_tree(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error, AttributeError):
                total += process.io_counters().read_chars
    return total


def _end_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGINT lets the CLI abort its multipart uploads; what does not end gets SIGTERM, then SIGKILL."""
    for signum, seconds in _GRACE:
        _signal_tree(process, signum)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if process.returncode is not None:  # set by the thread that waits for it
                return
            time.sleep(0.05)


def _signal_tree(process: subprocess.Popen[bytes], signum: int) -> None:
    """To the whole process group: version 2 is a launcher with a child."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
