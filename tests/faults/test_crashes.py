"""Killed at any moment, nothing is torn, nothing is claimed that is not so, and the next call costs what was in flight.

The sweeps (`make test-sweep`) kill at every step in the log folder and at a hundred random moments; without
the marker there are a few telling ones.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from s3sync.aws import etag
from tests.helpers.crashes import Before, Cost, Scene, scene, summary
from tests.helpers.lab import BUCKET, Lab, skip_or_fail
from tests.helpers.s3server import MIB, Request

pytestmark = pytest.mark.real_aws

Record = Callable[[str, object], None]


def make_files(run: Path, **sizes: int) -> Path:
    """Files of random bytes and these sizes; `__` in a name stands for a slash."""
    for name, size in sizes.items():
        path = run / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(size))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ten files: one of metadata, data, a marker."""
    data = {f"Data__{number}.cbcl": 1000 for number in range(8)}
    return make_files(tmp_path / "instrument" / "RUN", **{"RunInfo.xml": 100, **data, "RTAComplete.txt": 10})


def is_sent(request: Request) -> bool:
    """Whether bytes of a file were sent."""
    return request.operation in ("PutObject", "UploadPart")


# A few telling moments


class Moment(NamedTuple):
    """Kill as soon as S3 holds a request back: one that matches, after the first `after` that do."""

    method: str = "PUT"
    operation: str | None = None
    after: int = 0
    children_too: bool = True


MOMENTS = {
    "the first question": Moment("GET"),
    "in the middle of the data": Moment(after=4),
    "between the parts of a file": Moment(operation="UploadPart", after=1),
    "before the parts are put together": Moment("POST", "CompleteMultipartUpload", children_too=False),
    "data sent and not yet read back": Moment("GET", after=1),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_kill_at_a_telling_moment(tmp_path: Path, name: str) -> None:
    moment = MOMENTS[name]
    run = make_files(tmp_path / "instrument" / "RUN", **{f"Data__{number}": 1000 for number in range(8)})
    if moment.operation:
        make_files(run, Data__big=9 * MIB)
    with scene(tmp_path / "lab", run) as here:
        with here.server.hold(moment.after, method=moment.method, operation=moment.operation) as gate:
            process = here.lab.start(*here.argv)
            gate.wait_held()
            assert here.kill(process, children_too=moment.children_too)
        cost = here.check()
    assert cost.log == "begun"


# Every step in the log folder

STEPS = (
    *("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
    *("write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync"),
)
LINE = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\) += ")


class Step(NamedTuple):
    """The main thread's `number`th call of this name, and the paths that it is about, without times."""

    call: str
    number: int
    paths: tuple[str, ...]


@pytest.fixture
def strace(tmp_path: Path) -> str:
    """The program, where it is there and permitted."""
    found = shutil.which("strace")
    if not found:
        skip_or_fail("no strace")
    argv = (found, "-qq", "-o", str(tmp_path / "probe"), "-e", "inject=fsync:signal=SIGKILL:when=1", "true")
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not do its work here: {tried.stderr.strip()}")
    return found


def traced(strace: str, here: Scene, *options: str) -> subprocess.Popen[str]:
    """The upload under strace, which ends as the upload does; its trace is beside the lab's folders."""
    argv = (strace, "-qq", "-y", "-s0", "-esignal=none", "-o", str(trace_of(here)), *options)
    steps = "-etrace=" + ",".join(f"?{call}" for call in STEPS)  # not every processor has them all
    program = (sys.executable, "-m", "s3sync", *here.argv)
    pipe = subprocess.PIPE
    return subprocess.Popen((*argv, steps, *program), env=here.lab.env, text=True, stdout=pipe, stderr=pipe)


def trace_of(here: Scene) -> Path:
    return here.lab.root / "trace"


def steps_in(here: Scene) -> Iterator[Step]:
    """The steps of a traced upload in the folder of logs and locks, in their order."""
    numbers: dict[str, int] = {}
    for line in filter(None, map(LINE.match, trace_of(here).read_text().splitlines())):
        call = line["call"]
        numbers[call] = numbers.get(call, 0) + 1
        if str(here.lab.log_dir) in line["arguments"]:
            paths = re.findall(rf'[<"]{re.escape(str(here.lab.log_dir))}([^>"]*)', line["arguments"])
            yield Step(call, numbers[call], tuple(map(without_chance, paths)))


def without_chance(path: str) -> str:
    """Without times, the tokens of leases, and the chance in the names of temporary files."""
    path = re.sub(r"\.[0-9]+\.[0-9a-f]{16}\.tmp", ".tmp", path)
    return re.sub(r"(/leases/.*/\.[0-9]+)\..*\.tmp", r"\1.tmp", re.sub(r"corrupt-.*", "corrupt", path))


def finished(process: subprocess.Popen[str]) -> int:
    """The exit code of a process that must come to its end."""
    process.communicate(timeout=240)
    return process.returncode


def nothing(folder: Path, run: Path) -> Before:
    """A run that was never begun."""
    return Before()


def interrupted(folder: Path, run: Path) -> Before:
    """Killed while the marker was being sent, so that the journal has the rest; then another file arrived."""
    with scene(folder, run) as here:
        with here.server.hold(key_contains="RTAComplete") as gate:
            process = here.lab.start(*here.argv)
            gate.wait_held()
            here.kill(process, children_too=True)
        make_files(run, Data__late=1000)
        return here.snapshot()


def corrupted(folder: Path, run: Path) -> Before:
    """The same, but half of the log is lost."""
    before = interrupted(folder, run)
    logs = {
        name: content[: len(content) // 2] if name.endswith(".json") else content
        for name, content in before.logs.items()
    }
    return Before(logs, before.objects)


def completed(folder: Path, run: Path) -> Before:
    """All files were uploaded; then one was rewritten and another one arrived."""
    with scene(folder, run) as here:
        assert here.lab.run(*here.argv).code == 0
        before = here.snapshot()
    make_files(run, Data__late=1000)
    (run / "RunInfo.xml").write_bytes(b"another")
    return before


@pytest.mark.sweep
@pytest.mark.any_client  # the double
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("found", [nothing, interrupted, corrupted, completed], ids=lambda found: found.__name__)
def test_a_kill_at_every_step_in_the_log_folder(
    tmp_path: Path, run: Path, strace: str, found: Callable[[Path, Path], Before], record_property: Record
) -> None:
    """The kernel kills before the step is taken, so that the next one shows what this one leaves."""
    before = found(tmp_path / "before", run)
    with scene(tmp_path / "clean", run, before, aws="quick") as here:
        assert finished(traced(strace, here)) == 0
        steps = list(steps_in(here))
    assert {"write", "fsync", "rename", "unlink"} <= {step.call.removesuffix("at") for step in steps}
    costs: list[Cost] = []
    for number, step in enumerate(steps):
        with scene(tmp_path / str(number), run, before, aws="quick") as here:
            inject = f"-einject={step.call}:signal=SIGKILL:when={step.number}"
            assert finished(traced(strace, here, inject)) == -signal.SIGKILL
            assert list(steps_in(here)) == steps[: number + 1]
            assert trace_of(here).read_text().endswith("= ?\n")
            costs.append(here.check())
    record_property("figures", summary(costs))


@pytest.mark.sweep
def test_only_the_main_thread_takes_steps_in_the_log_folder(tmp_path: Path, run: Path, strace: str) -> None:
    """So tracing only that thread, as above, misses nothing but the heartbeats of leases."""
    with scene(tmp_path / "lab", run) as here:
        assert finished(traced(strace, here, "-f", "--seccomp-bpf")) == 0
        lines = trace_of(here).read_text().splitlines()
        first = lines[0].split()[0]
        pids = {line.split()[0] for line in lines}
        beats = f"{here.lab.log_dir}/leases/"
        steps = {line.split()[0] for line in lines if str(here.lab.log_dir) in line.replace(beats, "")}
    assert len(pids) > 1
    assert steps == {first}


# Random moments

SEED = 20261123
TESTS = 10
KILLS = {"": 10, "auto": 10, "default": 5}  # by the transfer client
LATENCY = 0.01  # seconds: more is in flight then


@pytest.fixture(scope="module")
def big_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several batches for two processes, and two files of parts."""
    sizes = {f"Data__L001__{number:03}.bcl": 2000 for number in range(360)}
    sizes |= {"RunInfo.xml": 100, "InterOp__Tile.bin": 500, "Data__small.cbcl": 9 * MIB, "Data__big.cbcl": 20 * MIB}
    return make_files(tmp_path_factory.mktemp("instrument") / "RUN", **sizes, **{"RTAComplete.txt": 10})


class Clean(NamedTuple):
    """How long an upload takes that nobody kills, in seconds, and how many requests it needs to bring its files."""

    seconds: float
    requests: int


@pytest.fixture(scope="module")
def measured() -> dict[str, Clean]:
    """What was measured, by the transfer client."""
    return {}


@pytest.fixture
def clean(big_run: Path, tmp_path: Path, measured: dict[str, Clean]) -> Clean:
    if Lab.transfer_client not in measured:
        with scene(tmp_path / "clean", big_run, cores=2, latency=LATENCY) as here:
            start = time.monotonic()
            assert here.lab.run(*here.argv).code == 0
            seconds = time.monotonic() - start
            etags = [stored.etag for stored in here.server.objects(BUCKET).values()]  # some requests may be retries
            requests = sum(max(1, etag.number_of_parts(each)) for each in etags)
            measured[Lab.transfer_client] = Clean(seconds, requests)
    return measured[Lab.transfer_client]


def killed_at_random(here: Scene, clean: Clean, chance: random.Random) -> bool:
    """Kill after some requests, or after a time, in case there are none; return False if it was too late."""
    process = here.lab.start(*here.argv)
    if chance.random() < 0.5:
        here.server.wait_for(is_sent, chance.randint(1, clean.requests), timeout=240)
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, clean.seconds))
    return here.kill(process, children_too=chance.random() < 0.5)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(TESTS))
def test_kills_at_random_moments(
    tmp_path: Path, big_run: Path, clean: Clean, number: int, record_property: Record
) -> None:
    """Of s3sync alone, whose children then continue, or of all processes; at other times for each transfer client."""
    chance = random.Random(f"{SEED + number}{Lab.transfer_client}")
    costs: list[Cost] = []
    tries = 0
    while len(costs) < KILLS[Lab.transfer_client]:
        tries += 1
        with scene(tmp_path / str(tries), big_run, cores=2, latency=LATENCY) as here:
            if killed_at_random(here, clean, chance):
                costs.append(here.check())
    record_property("figures", summary(costs))
