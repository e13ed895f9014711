"""Run the real program as its users run it: as a process with its own environment, against an S3 server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from s3sync import delays
from tests.helpers.errors import error_ids

BUCKET = "lab-runs"
WIDE_FILES = 1100  # of data: two shards, since one of less than 500 files is not worth a node
QUICK_AWS = Path(__file__).with_name("quick_aws.py")
AWS_V1 = str(Path(sys.executable).with_name("aws"))
AWS_V2 = os.environ.get("S3SYNC_TEST_AWS_V2", "/usr/bin/aws")


def why_no_v2() -> str:
    """Empty if a CLI of version 2 is there."""
    if not Path(AWS_V2).exists():
        return f"no AWS CLI version 2 at {AWS_V2}"
    asked = subprocess.run([AWS_V2, "--version"], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"})
    return "" if asked.stdout.startswith("aws-cli/2") else f"{AWS_V2} is not version 2: {asked.stdout.strip()}"


def skip_or_fail(why: str) -> NoReturn:
    """Skip for want of a Debian package; `make test-real` sets S3SYNC_REQUIRE_REAL, so that there it fails."""
    if os.environ.get("S3SYNC_REQUIRE_REAL"):
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Result:
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded

    @property
    def error_ids(self) -> list[str]:
        """Which errors and warnings stderr names, in the order of its lines."""
        return error_ids(self.err)


# Of a `Lab`: nothing is gained from waiting. The grace of a signal stays: the CLI uses it to abort its parts.
NO_DELAYS = {
    "upload_retries": [0, 0],
    "connection_retries": [0, 0],
    "read_retries": [0, 0, 0],
    "lock_polls": 0.1,
    "work_folder_polls": 0.1,
    "slurm_polls": 0.5,
    "thaw_polls": 0.1,
}

IMPATIENT = (1, 1, 5)  # `signal_grace` where the CLI cannot end by the first signals, so that waiting changes nothing


class Lab:
    """A machine with s3sync on it: a home, a folder for temporary files, a log folder, and credentials."""

    transfer_client = ""  # of each upload that names none; the fixture of this name sets it

    def __init__(self, root: Path, endpoint: str, aws: str = "quick") -> None:
        """`aws` is the CLI's path: that of its quick double unless given; empty: s3sync finds the real one."""
        self.root = root
        self.aws = write_quick_aws(root / "double" / "aws") if aws == "quick" else aws
        self.log_dir = root / "log"
        self.tmp = root / "tmp"
        self.home = root / "home"
        self.tmp.mkdir()
        self.home.mkdir()
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            delays.VARIABLE: json.dumps(NO_DELAYS),
        }
        if self.aws:
            self.env["AWS_MAX_ATTEMPTS"] = "1"  # the double has no backoff to be tested

    def set_delays(self, **seconds: float | Sequence[float]) -> None:
        """Change some of the program's delays, which are `NO_DELAYS` otherwise."""
        self.env[delays.VARIABLE] = json.dumps({**NO_DELAYS, **seconds})

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start s3sync with these arguments; stdout and stderr are pipes."""
        if (
            self.aws
            and arguments
            and arguments[0] in ("upload", "verify", "restore")
            and "--aws_command" not in arguments
        ):
            arguments = (*arguments, "--aws_command", self.aws)
        argv = [sys.executable, "-W", "error", "-m", "s3sync", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(argv, env={**self.env, **(env or {})}, text=True, **pipes)

    def run(self, *argv: str, env: Mapping[str, str] | None = None, **options: Any) -> Result:
        """Run s3sync with these arguments to its end."""
        with self.start(*argv, env=env, **options) as process:
            out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    def upload_argv(self, run: Path | str, *more: str, bucket: str = BUCKET) -> tuple[str, ...]:
        """Return the argv of an `upload` of this run."""
        if self.transfer_client and "--transfer_client" not in more:
            more = (*more, "--transfer_client", self.transfer_client)
        return ("upload", "--local_path", str(run), "--bucket", bucket, "--log_dir", str(self.log_dir), *more)

    def upload(self, run: Path | str, *more: str, env: Mapping[str, str] | None = None, **options: Any) -> Result:
        """`s3sync upload` of this run."""
        return self.run(*self.upload_argv(run, *more), env=env, **options)

    def watch(self, run: Path, *argv: str, env: Mapping[str, str] | None = None, **keys: Any) -> Result:
        """A scan of `s3sync monitor` over the folder that this run lies in; `keys` are more of the config."""
        return self.run("monitor", "--config", self.config_for(run, **keys), *argv, env=env)

    def config_for(self, run: Path, entry: Mapping[str, Any] | None = None, **keys: Any) -> str:
        """A config that watches the folder that this run lies in; `entry` and `keys` are more of it."""
        watched = {"monitored_directories": [str(run.parent)], "bucket": BUCKET, "remote_path": "/", **(entry or {})}
        config = self.root / "scan.json"
        usual = {"log_dir": str(self.log_dir), "max_age": 1e6, "alert_free_percent": 0, "monitor": [watched]}
        config.write_text(json.dumps({**usual, **self.cli_keys(), **keys}))
        return str(config)

    def cli_keys(self) -> dict[str, str]:
        """The config keys of the CLI: which one, if it is not the one that s3sync finds, and its client."""
        client = {"transfer_client": self.transfer_client} if self.transfer_client else {}
        return {**client, "aws_command": self.aws} if self.aws else client

    def log_path(self, run: Path) -> Path:
        return self.log_dir / "uploads" / f"{run.name}.upload.log.json"

    def log(self, run: Path) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.log_path(run).read_text())
        return loaded

    def log_in(self, bucket: str, run: Path) -> dict[str, Any]:
        """Return the log of the upload to a bucket: of several, any may have the plain name."""
        paths = (self.log_dir / "uploads").glob(f"{run.name}*.upload.log.json")
        (log,) = (log for log in (json.loads(path.read_text()) for path in paths) if log["bucket"] == bucket)
        return dict(log)


FakeAws = Callable[[str], str]


def write_quick_aws(script: Path, code: str = "") -> str:
    """Write a double of the CLI that first runs this Python code; returns its path.

    Without such code it forks for each command, as the real one does, so that the code runs in each process.
    """
    script.parent.mkdir(exist_ok=True)
    last = "sys.exit(quick_aws.main(argv))" if code else "quick_aws.fork_if_asked()\nsys.exit(quick_aws.main(argv))"
    path = f"import os, sys, signal, time\nsys.path.insert(0, {str(QUICK_AWS.parent)!r})\nargv = sys.argv[1:]"
    script.write_text(f"#!{sys.executable} -IS\n# in place of awscli\n{path}\n{code}\nimport quick_aws\n{last}\n")
    script.chmod(0o755)
    return str(script)


def kill_family(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it started, and wait until these are gone. It may have ended by itself."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    kill_all(family)


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Kill these processes, and wait until they are gone."""
    send_to_all(signal.SIGKILL, processes)
    psutil.wait_procs(processes, timeout=120)


def send_to_all(signum: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    """Send a signal to those of these processes that still exist: what one of them does may end another one."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def is_running(pid: int) -> bool:
    """Return whether a process exists that is not a zombie: init may reap an orphan late."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def argv_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process, empty if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def pause_family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Stop a process, then all that it has started, each parent before its children: none starts another one."""
    first = psutil.Process(process.pid)
    paused: list[psutil.Process] = []
    running = [first]
    while running:
        send_to_all(signal.SIGSTOP, running)
        paused += running
        running = [child for child in first.children(recursive=True) if child not in paused]
    return paused


def modes_below(folder: Path) -> dict[Path, int]:
    """The mode of everything below a folder; what a program that is at work there removes meanwhile is left out."""
    modes = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            modes[path] = path.stat().st_mode
    return modes


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
