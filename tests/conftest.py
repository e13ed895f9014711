"""The real program, run as its users run it: a process with an environment of its own against a real S3 server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from scripts.simulate_run import make_run
from tests.helpers.radosgw import Gateway, radosgw, why_not
from tests.helpers.s3server import S3Server
from tests.helpers.slurm_cluster import SlurmCluster, slurm_cluster, why_no_slurm

BUCKET = "lab-runs"
WIDE_FILES = 1100  # of data: two shards, since one of less than 500 files is not worth a node
QUICK_AWS = Path(__file__).with_name("helpers") / "quick_aws.py"
AWS_V1 = str(Path(sys.executable).with_name("aws"))
AWS_V2 = os.environ.get("S3SYNC_TEST_AWS_V2", "/usr/bin/aws")


# As in the background of a script, and under nohup; children would inherit it.
for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, usual)


def _why_no_v2() -> str:
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


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that only this suite's fixtures read."""
    why = "with the AWS CLI beside this Python instead of its quick double, as the CLI itself matters"
    config.addinivalue_line("markers", f"real_aws: {why}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests took with `record_property("figures", {name: number})`: sums, maxima of "most …"."""
    tests: dict[str, dict[str, int]] = {}
    for report in terminalreporter.getreports("passed"):
        for figures in (value for name, value in report.user_properties if name == "figures"):
            total = tests.setdefault(report.nodeid.partition("[")[0], {})
            for name, value in figures.items():
                total[name] = max(total.get(name, 0), value) if name.startswith("most") else total.get(name, 0) + value
    for test, figures in tests.items():
        terminalreporter.write_line(f"{test}: {', '.join(f'{name} {value}' for name, value in figures.items())}")


@pytest.fixture(scope="session")
def aws_v2() -> str:
    """A CLI of version 2."""
    if why := _why_no_v2():
        skip_or_fail(why)
    return AWS_V2


@pytest.fixture(params=["v1", pytest.param("v2", marks=pytest.mark.real)])
def each_aws(request: pytest.FixtureRequest) -> str:
    """Both generations of the CLI in turn."""
    return AWS_V1 if request.param == "v1" else str(request.getfixturevalue("aws_v2"))


@pytest.fixture(scope="session")
def ceph() -> Iterator[Gateway]:
    """A radosgw of this test session, for the xdist_group "real servers"; its socket paths have to be short."""
    if why := why_not():
        skip_or_fail(why)
    with tempfile.TemporaryDirectory(prefix="rgw-") as folder, radosgw(Path(folder)) as gateway:
        yield gateway


@pytest.fixture
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm cluster of two nodes, for the xdist_group "slurm"; its socket paths have to be short."""
    if why := why_no_slurm():
        skip_or_fail(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_cluster(Path(folder)) as cluster:
        yield cluster


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


# What a `Lab` that need not wait for anything runs first.
NO_DELAYS = """
from s3sync.aws import objects
from s3sync.transfer import passes, pipeline
pipeline.PATIENCE, objects.BACKOFF, passes.BACKOFF = (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
"""


class Lab:
    """A machine with s3sync on it: a home, a folder for temporary files, a log folder, and credentials."""

    def __init__(self, root: Path, endpoint: str, aws: str = "quick") -> None:
        """`aws` is the CLI's path: that of its quick double unless given; empty: s3sync finds the real one."""
        self.root = root
        self.delays = ""  # code that sets those of the program, before it starts
        self.aws = _write_quick_aws(root / "double" / "aws") if aws == "quick" else aws
        self.log_dir = root / "log"
        self.tmp = root / "tmp"
        self.home = root / "home"
        self.tmp.mkdir()
        self.home.mkdir()
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "S3SYNC_RETRY_DELAYS": "0,0",
        }
        if self.aws:
            self.env["AWS_MAX_ATTEMPTS"] = "1"  # the double has no backoff of its own to be tested

    def start(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start s3sync with these words; stdout and stderr are pipes."""
        if self.aws and words and words[0] in ("upload", "verify") and "--aws_command" not in words:
            words = (*words, "--aws_command", self.aws)
        program = (
            ("-c", f"{self.delays}\nfrom s3sync.commands.main import main\nraise SystemExit(main())")
            if self.delays
            else ()
        )
        argv = [sys.executable, "-W", "error", *(program or ("-m", "s3sync")), *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(argv, env={**self.env, **(env or {})}, text=True, **pipes)

    def run(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> Result:
        """Run s3sync with these words to its end."""
        with self.start(*words, env=env, **options) as process:
            out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    def words(self, run: Path | str, *more: str, bucket: str = BUCKET) -> tuple[str, ...]:
        """The words of an `upload` of this run."""
        return ("upload", "--local_path", str(run), "--bucket", bucket, "--log_dir", str(self.log_dir), *more)

    def upload(self, run: Path | str, *more: str, env: Mapping[str, str] | None = None, **options: Any) -> Result:
        """`s3sync upload` of this run."""
        return self.run(*self.words(run, *more), env=env, **options)

    def watch(self, run: Path, *words: str, env: Mapping[str, str] | None = None, **keys: Any) -> Result:
        """A scan of `s3sync monitor` over the folder that this run lies in; `keys` are more of the config."""
        return self.run("monitor", "--config", self.config_for(run, **keys), *words, env=env)

    def config_for(self, run: Path, entry: Mapping[str, Any] | None = None, **keys: Any) -> str:
        """A config that watches the folder that this run lies in; `entry` and `keys` are more of it."""
        watched = {"monitored_directories": [str(run.parent)], "bucket": BUCKET, "remote_path": "/", **(entry or {})}
        config = self.root / "scan.json"
        usual = {"log_dir": str(self.log_dir), "max_age": 1e6, "alert_free_percent": 0, "monitor": [watched]}
        config.write_text(json.dumps({**usual, **self.aws_key(), **keys}))
        return str(config)

    def aws_key(self) -> dict[str, str]:
        """The config key that names the CLI, if it is not the one that s3sync finds."""
        return {"aws_command": self.aws} if self.aws else {}

    def log_path(self, run: Path) -> Path:
        return self.log_dir / "uploads" / f"{run.name}.upload.log.json"

    def log(self, run: Path) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.log_path(run).read_text())
        return loaded


@pytest.fixture
def server() -> Iterator[S3Server]:
    """An S3 server with one empty bucket."""
    with S3Server() as running:
        running.create_bucket(BUCKET)
        yield running


@pytest.fixture
def aws_of_lab(request: pytest.FixtureRequest) -> str:
    """The `aws` of a lab's machine: the quick double, or for tests with the marker `real_aws` the one that is found."""
    return "" if request.node.get_closest_marker("real_aws") else "quick"


@pytest.fixture
def lab(tmp_path: Path, server: S3Server, aws_of_lab: str) -> Lab:
    """A machine that reaches `server`."""
    return Lab(tmp_path, server.url, aws_of_lab)


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A complete MiSeq run of about 90 small files."""
    return make_run(tmp_path / "instrument", "miseq", cycles=(2, 1, 2), tiles=4, scale=0.0001)


_TINY_RUN_INFO = (  # no cycles, so that no base calls have to be there
    '<RunInfo><Run Id="{id}" Number="7"><Flowcell>HFAULTDRX7</Flowcell><Instrument>A01234</Instrument>'
    '<Reads><Read NumCycles="0"/></Reads></Run></RunInfo>'
)


@pytest.fixture
def tiny_run(tmp_path: Path) -> Path:
    """A complete NovaSeq 6000 run of as few files as there are kinds: metadata, two of data, the marker."""
    run = tmp_path / "instrument" / "261123_A01234_0007_AHFAULTDRX7"
    (run / "Data").mkdir(parents=True)
    (run / "RunInfo.xml").write_text(_TINY_RUN_INFO.format(id=run.name))
    for name in ("first", "second"):
        (run / "Data" / f"{name}.cbcl").write_bytes(f"the {name} file of data\n".encode())
    (run / "CopyComplete.txt").write_text("")
    return run


@pytest.fixture
def wide_run(tiny_run: Path) -> Path:
    """A run of so many files that two nodes get a shard each."""
    for number in range(WIDE_FILES):
        (tiny_run / "Data" / f"{number:04}.cbcl").write_text(str(number))
    return tiny_run


FakeAws = Callable[[str], str]


@pytest.fixture
def fake_aws(tmp_path: Path) -> FakeAws:
    """Makes an `aws` that runs this Python code before it hands over to the real one; gives its path.

    The code sees `argv` (the words after `aws`); where it does not exit, the real CLI does the work.
    """

    def make(code: str) -> str:
        script = tmp_path / "fake" / "aws"
        script.parent.mkdir()
        script.write_text(
            f"#!{sys.executable}\nimport os, sys, signal, time\nargv = sys.argv[1:]\n{code}\n"
            f"os.execv({AWS_V1!r}, [{AWS_V1!r}, *argv])\n"
        )
        script.chmod(0o755)
        return str(script)

    return make


@pytest.fixture
def quick_aws(tmp_path: Path) -> FakeAws:
    """Makes a double of the CLI that starts in a tenth of its time and first runs this Python code; gives its path.

    As with `fake_aws`, the code sees `argv`.
    """

    def make(code: str = "") -> str:
        return _write_quick_aws(tmp_path / "quick" / "aws", code)

    return make


def _write_quick_aws(script: Path, code: str = "") -> str:
    """Write a double of the CLI that first runs this Python code; returns its path."""
    script.parent.mkdir(exist_ok=True)
    start = f"sys.path.insert(0, {str(QUICK_AWS.parent)!r})\nimport quick_aws\nsys.exit(quick_aws.main(argv))"
    script.write_text(f"#!{sys.executable} -IS\nimport os, sys, signal\nargv = sys.argv[1:]\n{code}\n{start}\n")
    script.chmod(0o755)
    return str(script)


def kill_family(process: subprocess.Popen[str]) -> None:
    """Kill a process with all that it started, and wait until these are gone."""
    family = psutil.Process(process.pid).children(recursive=True)
    for member in (psutil.Process(process.pid), *family):
        member.kill()
    psutil.wait_procs(family, timeout=60)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
