"""Measure what a run of very many files on a cluster costs the submitting host and the finalizer job.

Four scripts play Slurm, and this process plays the tasks: it writes to the work folder and to S3 what they would.
Coordinator and finalizer job are real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from s3sync.aws.destination import Destination
from s3sync.runs import local_files, run_folder
from s3sync.slurm.client import COMMANDS
from s3sync.slurm.job_spec import Result
from s3sync.slurm.work_folder import WorkFolder
from s3sync.state.run_state import Proof
from s3sync.state.store import StateStore
from s3sync.text import pluralize
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import UploadCounters
from scripts.bench.contenders import ROOT
from scripts.bench.measure import Command, end_all, run_together, wait_for
from scripts.bench.planning import made_up_files
from tests.helpers.s3server import S3Server

FILES = 100_000
SHARDS = 64
FOLLOWED_SECONDS = 30.0
_SHOW_SECONDS = 5.0  # between two messages of a task on its progress, as in life
_WAIT_SECONDS = 600.0
_PAUSE = 0.02
_BUCKET = "lab-runs"
_RUN_ID = "261123_A00000_0000_AHFAULTDRX7"
_LAST_JOB = 2  # its number; the array's is 1


class Phase(NamedTuple):
    """What a part of it cost: seconds, CPU-seconds of the process and all it started, and its memory's peak so far."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Cost(NamedTuple):
    """All parts, and bytes on disk: of the plan, of all journals, and of the state log that is left."""

    files: int
    shards: int
    phases: tuple[Phase, ...]
    plan_bytes: int
    journal_bytes: int
    log_bytes: int


class _Bench(NamedTuple):
    """One run folder, the server, and the scripts that replace Slurm."""

    run: Path
    work: Path
    server: S3Server
    environ: Mapping[str, str]

    @property
    def submitted(self) -> int:
        """Return how often sbatch was called."""
        calls = self.work / "bin" / "calls"
        return calls.read_text().count("\n") if calls.exists() else 0

    def queue(self, lines: Sequence[str]) -> None:
        """Set what squeue prints from now on."""
        new = self.work / "bin" / "queue.new"
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(new.with_name("queue"))


def measure(environ: Mapping[str, str], aws: str, files: int = FILES, seconds: float = FOLLOWED_SECONDS) -> Cost:
    """Measure an upload of this many tiny files, followed for `seconds`. Raises RuntimeError if it is not completed."""
    with tempfile.TemporaryDirectory(prefix="s3sync-benchmark-") as folder, S3Server("hashes") as server:
        server.create_bucket(_BUCKET)
        bench = _made(Path(folder), server, environ, files)
        with (bench.work / "output").open("wb") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
            argv = _argv(bench, aws)
            process = subprocess.Popen(argv, env=dict(bench.environ), **streams)  # type: ignore[call-overload]
            try:
                cost = _followed(bench, process, seconds)
            finally:
                end_all([process])
        if process.returncode or cost.log_bytes == 0:
            said = (bench.work / "output").read_text(errors="replace")
            raise RuntimeError(f"the upload did not complete: {said[-500:]}")
    return cost


def _followed(bench: _Bench, process: subprocess.Popen[bytes], seconds: float) -> Cost:
    clock = _Clock(process.pid)
    _wait_until(lambda: bench.submitted == _LAST_JOB or process.poll() is not None)
    submitted = clock.lap("plan and submit")
    (folder,) = (WorkFolder(path) for path in (bench.work / "log" / "slurm").iterdir())
    shards = [folder.shard(number) for number in range(folder.shard_count())]
    clock.lap("")
    _show_progress(folder, shards, seconds)
    followed = clock.lap("follow")
    journals = _send_all(bench, folder, shards)
    plan = sum(path.stat().st_size for path in (folder.path / "plan").iterdir())
    bench.queue([f"{_LAST_JOB}|RUNNING|n1|None"])
    clock.lap("")
    argv = (sys.executable, "-m", "s3sync", "task", str(folder.path))
    usage = run_together([Command(argv, bench.environ)], bench.work / "last", ignored=[process.pid])
    last = Phase("last job", usage.seconds, usage.cpu_seconds, usage.peak_bytes)
    collected = clock.end(process, "collect")
    run = run_folder.Run(path=bench.run, run_id=bench.run.name, info=run_folder.RunInfo())
    store = StateStore(bench.work / "log", run, Destination(_BUCKET, ""))
    head = store.head()
    log = store.log_path.stat().st_size if head and head.completed else 0
    return Cost(
        head.total_files if head else 0, len(shards), (submitted, followed, last, collected), plan, journals, log
    )


class _Clock:
    """Measures what a process uses, part by part."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._then, self._used, self._peak = time.monotonic(), 0.0, 0

    def lap(self, name: str) -> Phase:
        """Return the cost since the previous call."""
        times = psutil.Process(self._pid).cpu_times()
        self._look()
        return self._phase(name, times.user + times.system + times.children_user + times.children_system)

    def end(self, process: subprocess.Popen[bytes], name: str) -> Phase:
        """Wait for the end of the process, and return the cost since the previous call."""
        while self._look():
            time.sleep(_PAUSE)
        return self._phase(name, wait_for(process).cpu_seconds)

    def _look(self) -> bool:
        """Sample the memory; return whether the process still has any."""
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        self._peak = max([self._peak, *peaks])
        return bool(peaks)

    def _phase(self, name: str, used: float) -> Phase:
        now = time.monotonic()
        phase = Phase(name, now - self._then, used - self._used, self._peak)
        self._then, self._used = now, used
        return phase


def _made(work: Path, server: S3Server, environ: Mapping[str, str], files: int) -> _Bench:
    """The run folder, and scripts that answer as Slurm's commands do while all tasks run."""
    run = work / "instrument" / _RUN_ID
    for number, file in enumerate(made_up_files(files - 2)):
        path = run / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}")
    (run / "RunInfo.xml").write_text(f'<RunInfo Version="5"><Run Id="{_RUN_ID}" Number="1"/></RunInfo>')
    (run / "CopyComplete.txt").write_text("")
    bin_ = work / "bin"
    bin_.mkdir()
    answers = {"sbatch": f"echo >> {bin_}/calls; exec wc -l < {bin_}/calls", "squeue": f"exec cat {bin_}/queue"}
    for name in COMMANDS:
        (bin_ / name).write_text(f"#!/bin/sh\n{answers.get(name, 'exit 0')}\n")
        (bin_ / name).chmod(0o755)
    search = f"{bin_}{os.pathsep}{environ['PATH']}"
    more = {"PATH": search, "AWS_ENDPOINT_URL": server.url, "PYTHONPATH": str(ROOT), "TMPDIR": str(work)}
    bench = _Bench(run, work, server, {**environ, **more})
    tasks = [f"1_{number}|RUNNING|n{number}|None" for number in range(SHARDS)]
    bench.queue([*tasks, f"{_LAST_JOB}|PENDING||Dependency"])
    return bench


def _argv(bench: _Bench, aws: str) -> list[str]:
    argv = [sys.executable, "-m", "s3sync", "upload", "--skip_check", f"--local_path={bench.run}"]
    argv += [f"--bucket={_BUCKET}", f"--log_dir={bench.work / 'log'}", f"--aws_command={aws}"]
    return [*argv, "--executor=slurm", f"--nodes={SHARDS}"]


def _show_progress(folder: WorkFolder, shards: Sequence[Sequence[local_files.LocalFile]], seconds: float) -> None:
    """Write the progress of every task, as often as real tasks do."""
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        for number, shard in enumerate(shards):
            done, total = round(len(shard) * elapsed / seconds), len(shard)
            folder.write_progress(
                number,
                Snapshot(activity="uploading", files=done, files_total=total, size=done, size_total=total, processes=2),
            )
        time.sleep(max(0.0, min(_SHOW_SECONDS, seconds - (time.monotonic() - begun))))


def _send_all(bench: _Bench, folder: WorkFolder, shards: Sequence[Sequence[local_files.LocalFile]]) -> int:
    """Write what tasks leave in S3 and in the work folder; return the bytes of their journals."""
    for number, shard in enumerate(shards):
        with folder.journal(number, Destination(_BUCKET, "")) as journal:
            journal.record(_sent(bench, shard))
        folder.write_result(
            number,
            Result(
                node=f"n{number}",
                counters=UploadCounters(sent_files=len(shard), sent_size=sum(file.size for file in shard)),
                failed={},
            ),
        )
    return sum(path.stat().st_size for path in (folder.path / "journals").iterdir())


def _sent(bench: _Bench, shard: Sequence[local_files.LocalFile]) -> Iterator[Proof]:
    for file in shard:
        content = (bench.run / file.path).read_bytes()
        stored = bench.server.put(_BUCKET, f"{bench.run.name}/{file.path}", content)
        yield Proof.of(file, stored.etag, "etag")


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("nothing was submitted")
        time.sleep(_PAUSE)


# Results


def table(cost: Cost) -> list[tuple[str, ...]]:
    """Return a header and a row for each part."""
    rows: list[tuple[str, ...]] = [("what", "seconds", "CPU-seconds", "peak MB")]
    for phase in cost.phases:
        numbers = (f"{phase.seconds:.1f}", f"{phase.cpu_seconds:.2f}", f"{phase.peak_bytes / 1e6:.0f}")
        rows.append((phase.name, *numbers))
    return rows


def as_json(cost: Cost) -> str:
    """Return everything as JSON."""
    phases = [phase._asdict() for phase in cost.phases]
    return json.dumps({**cost._asdict(), "phases": phases}, indent=1) + "\n"


def about(cost: Cost) -> str:
    """Return lines about how the table was measured."""
    sizes = (cost.plan_bytes, cost.journal_bytes, cost.log_bytes)
    plan, journals, log = (f"{size / 1e6:.1f} MB" for size in sizes)
    return "\n".join(
        [
            f"{cost.files:,} files in {pluralize(cost.shards, 'shard')}; Slurm's commands and its tasks are played,",
            "coordinator and last job real; with their `aws` processes, but for the memory of",
            "those of the coordinator. `collect` is all that it did since the last job began.",
            f"On disk: plan {plan}, all journals {journals}, state log {log}.",
        ]
    )
