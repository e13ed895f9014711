"""The fixtures of all tests: a machine with s3sync on it, an S3 server, and runs to upload."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync.aws.fork_server import VARIABLE as FORK_SERVER
from scripts.simulate_run import make_run
from tests.helpers import clients, tiers
from tests.helpers.lab import AWS_V1, AWS_V2, BUCKET, WIDE_FILES, FakeAws, Lab, skip_or_fail, why_no_v2, write_quick_aws
from tests.helpers.radosgw import Gateway, radosgw, why_not
from tests.helpers.s3server import S3Server
from tests.helpers.slurm_cluster import SlurmCluster, slurm_cluster, why_no_slurm

# As in the background of a script, and under nohup; children would inherit it.
for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, usual)


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers that this suite sets or reads itself."""
    why = "with the AWS CLI beside this Python instead of its quick double, as the CLI itself matters"
    config.addinivalue_line("markers", f"real_aws: {why}")
    config.addinivalue_line("markers", f"{clients.MARKER}: the second run of a test, with `transfer_client: default`")
    config.addinivalue_line("markers", "any_client: it runs once, as it chooses the client or sends nothing by the CLI")
    for tier in tiers.TIERS:
        config.addinivalue_line("markers", f"{tier}: the tests in tests/{tier}/")
    config.pluginmanager.register(KeepsGroups())
    config.addinivalue_line("markers", "promise: a test that tests/README.md names")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that send files with each way of sending them."""
    clients.parametrize_client(metafunc)


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, and start with those that may take longest, so that none runs alone at the end."""
    items[:] = [item for item in items if not clients.is_in_vain(item)]
    items.sort(key=tiers.priority_of)
    for item in items:
        for marker in tiers.markers_of(item.path, getattr(item, "originalname", item.name)):
            item.add_marker(marker)


class KeepsGroups:
    """Keep the tests of an xdist_group together: pytest 9.2 does not read what pytest-xdist 3.8 writes for that."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if config.getoption("loadgroup", False):
            for item in items:
                group = item.get_closest_marker("xdist_group")
                if group and hasattr(item, "_id"):
                    item._id = type(item._id).parse(item.__dict__["_nodeid"])
                if group and not item.nodeid.endswith(f"@{group.args[0]}"):
                    raise pytest.UsageError(f"{item.nodeid} is not in its xdist_group: correct KeepsGroups")


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if a test was skipped although everything it needs must be there: `make test-real`, `make test-sweep`."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("S3SYNC_REQUIRE_REAL") and reporter and reporter.stats.get("skipped") and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def aws_v2() -> str:
    """A CLI of version 2."""
    if why := why_no_v2():
        skip_or_fail(why)
    return AWS_V2


@pytest.fixture(params=["v1", pytest.param("v2", marks=pytest.mark.real)])
def each_real_aws(request: pytest.FixtureRequest) -> str:
    """Return each generation of the CLI in turn."""
    return AWS_V1 if request.param == "v1" else str(request.getfixturevalue("aws_v2"))


@pytest.fixture(params=["quick", *(pytest.param(name, marks=pytest.mark.real) for name in ("v1", "v2"))])
def each_aws(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the quick double of the CLI; `make test-real` adds each generation of the CLI itself."""
    if request.param == "quick":
        return write_quick_aws(tmp_path / "quick" / "aws")
    return AWS_V1 if request.param == "v1" else str(request.getfixturevalue("aws_v2"))


@pytest.fixture(scope="session")
def ceph() -> Iterator[Gateway]:
    """A radosgw of this test session, for the xdist_group "real servers"; its socket paths must be short."""
    if why := why_not():
        skip_or_fail(why)
    with tempfile.TemporaryDirectory(prefix="rgw-") as folder, radosgw(Path(folder)) as gateway:
        yield gateway


@pytest.fixture
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm cluster of two nodes, for the xdist_group "slurm"; its socket paths must be short."""
    if why := why_no_slurm():
        skip_or_fail(why)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm_cluster(Path(folder)) as cluster:
        yield cluster


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


@pytest.fixture(autouse=True)
def transfer_client(request: pytest.FixtureRequest) -> None:
    """Each lab uses this client unless the test chooses one."""
    Lab.transfer_client = getattr(request, "param", "")


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """A command that a test runs in this process may change the umask, which later tests would inherit."""
    before = os.umask(0o022)
    yield
    os.umask(before)


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
    """A complete NovaSeq 6000 run with as few files as possible: metadata, two data files, the marker."""
    run = tmp_path / "instrument" / "261123_A01234_0007_AHFAULTDRX7"
    (run / "Data").mkdir(parents=True)
    (run / "RunInfo.xml").write_text(_TINY_RUN_INFO.format(id=run.name))
    for name in ("first", "second"):
        (run / "Data" / f"{name}.cbcl").write_bytes(f"the {name} file of data\n".encode())
    (run / "CopyComplete.txt").write_text("")
    return run


@pytest.fixture
def wide_run(tiny_run: Path) -> Path:
    """A run with enough files for a shard on each of two nodes."""
    for number in range(WIDE_FILES):
        (tiny_run / "Data" / f"{number:04}.cbcl").write_text(str(number))
    return tiny_run


@pytest.fixture
def fake_aws(tmp_path: Path) -> FakeAws:
    """Makes an `aws` that runs this Python code before it hands over to the real one; gives its path.

    The code sees `argv`, the arguments after `aws`; where it does not exit, the real CLI does the work. It runs for
    each command, since that CLI is not asked to fork.
    """

    def make(code: str) -> str:
        script = tmp_path / "fake" / "aws"
        script.parent.mkdir()
        script.write_text(
            f"#!{sys.executable}\nimport os, sys, signal, time\nargv = sys.argv[1:]\n"
            f"os.environ.pop({FORK_SERVER!r}, None)\n{code}\n"
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
        return write_quick_aws(tmp_path / "quick" / "aws", code)

    return make


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This Python's path, in a folder without an `aws`."""
    path = tmp_path / "venv" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(path))
    return path
