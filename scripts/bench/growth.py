"""Measure costs that grow: planning, logs and listings with files, an idle scan with runs, a resumed upload."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from s3sync.aws import client as aws_client
from s3sync.aws.client import RemoteFolder
from s3sync.aws.destination import BucketRef, Destination
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.aws.objects import ObjectReader
from s3sync.aws.settings import CliSettings
from s3sync.runs import local_files
from s3sync.runs.run_folder import RUN_INFO, Run, RunInfo
from s3sync.signals import StopRequest
from s3sync.state.log_format import to_json
from s3sync.state.run_state import Proof, RunState
from s3sync.text import now_iso, pluralize
from s3sync.transfer import changes
from scripts.bench.contenders import ROOT
from scripts.bench.measure import Command, Usage, end_all, run_together
from scripts.bench.planning import made_up_files
from scripts.bench.records import Cost
from scripts.bench.workloads import make_workload
from tests.helpers.s3server import S3Server

_FILES = (10_000, 100_000, 1_000_000)
_RECORDED = (100_000, 1_000_000)
_LISTED = (10_000, 100_000)
_FAR_SECONDS = 0.03  # that every page of a listing waits
_RUNS = (10, 100, 1000)
_FILES_OF_A_RUN = 5000
_STOPPED_AT = (0.1, 0.5, 0.9)
_RESUME_SCALE = 0.5  # of the workload "small": 2,000 files
_LOOK_SECONDS = 0.02  # a scan is short
_BUCKET = "lab-runs"
_WAIT_SECONDS = 600
_RUN_ID = "261123_A00000_0000_A{:09}"  # the same length for all


class Growth(NamedTuple):
    """What one call cost. `size` is how much of what grows there was; `note` says what else there is to know."""

    what: str
    size: str
    seconds: float
    note: str


HEAD = ("what", "at", "seconds", "result")


def measure_growth(folder: Path, environ: Mapping[str, str], aws: str, scale: float) -> Iterator[Growth]:
    """Yield each measurement as soon as it is made. `scale` multiplies the numbers of files and runs."""
    environ = {**environ, "PYTHONPATH": str(ROOT)}
    for number in _FILES:
        yield planning(max(1, round(number * scale)), environ)
    for number in _RECORDED:
        yield recording(max(1, round(number * scale)), environ)
    for number in _LISTED:
        yield listing(max(1, round(number * scale)), folder, environ, aws)
    yield from scans(folder, environ, scale)
    for part in _STOPPED_AT:
        yield resume(folder / f"resume-{part:g}", environ, aws, part, scale)


def row_of(growth: Growth) -> tuple[str, ...]:
    """Return the cells of a measurement, in the order of HEAD."""
    return (growth.what, growth.size, f"{growth.seconds:.2f}", growth.note)


def planning(number: int, environ: Mapping[str, str]) -> Growth:
    """Measure a plan of this many files."""
    found = _said_by("planning", number, environ)
    note = f"{found['seconds'] / number * 1e6:.1f} us, {found['bytes'] / number:,.0f} bytes a file"
    return Growth("plan", f"{number:,} files", found["seconds"], note)


def recording(number: int, environ: Mapping[str, str]) -> Growth:
    """Measure writing and reading the log of this many files, and reading the journal."""
    found = Cost(**_said_by("records", number, environ))
    note = f"log {found.log_bytes / number:.0f}, journal {found.journal_bytes / number:.0f} bytes a file;"
    note += f" log read {found.read_seconds:.2f} s, journal {found.journal_seconds:.2f} s;"
    return Growth("log", f"{number:,} files", found.write_seconds, f"{note} {found.memory_bytes / 1e6:,.0f} MB")


def listing(number: int, folder: Path, environ: Mapping[str, str], aws: str) -> Growth:
    """Measure the listing of all objects of a run, 30 ms away, as an upload does before its first byte."""
    run_id = _RUN_ID.format(0)
    with S3Server("hashes", latency=_FAR_SECONDS) as server, tempfile.TemporaryDirectory(dir=folder) as work:
        server.create_bucket(_BUCKET)
        for file in made_up_files(number):
            server.put(_BUCKET, f"{run_id}/{file.path}", b"")
        with_server = {**environ, "AWS_ENDPOINT_URL": server.url}
        client = aws_client.connect(
            CliSettings(1, DEFAULT_MULTIPART, command=aws), with_server, StopRequest(), Path(work)
        )
        reader = ObjectReader(RemoteFolder(client, BucketRef(_BUCKET), f"{run_id}/"))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        found = reader.list_run()
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        pages = server.counters["ListObjectsV2"]
    if found is None or len(found) != number:
        raise RuntimeError("the listing is not of all objects")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    note = (
        f"{pluralize(pages, 'page')}, {seconds / pages * 1000:.0f} ms and {cpu_seconds / pages * 1000:.0f} CPU-ms each"
    )
    return Growth("listing", f"{number:,} objects", seconds, note)


def _said_by(module: str, number: int, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what a separate process measured with this many files."""
    argv = [sys.executable, "-m", f"scripts.bench.{module}", str(number)]
    asked = subprocess.run(argv, env=dict(environ), cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(asked.stdout)
    return found


def scans(folder: Path, environ: Mapping[str, str], scale: float) -> Iterator[Growth]:
    """Measure scans of the monitor over more and more uploaded runs."""
    runs, logs = folder / "runs", folder / "log"
    (logs / "uploads").mkdir(parents=True)
    config = folder / "config.json"
    entry = {"monitored_directories": [str(runs)], "bucket": _BUCKET, "remote_path": "/"}
    config.write_text(json.dumps({"log_dir": str(logs), "monitor": [entry]}))
    files = max(1, round(_FILES_OF_A_RUN * scale))
    done = 0
    for number in (max(1, round(runs * scale)) for runs in _RUNS):
        write_uploaded_runs(runs, logs, range(done, number), files)
        done = number
        yield scan(config, folder / "output", environ, number, files)


def scan(config: Path, output: Path, environ: Mapping[str, str], number: int, files: int) -> Growth:
    """Measure one scan over this many runs. Raises RuntimeError if it finds anything to do."""
    argv = (sys.executable, "-m", "s3sync", "monitor", "--config", str(config), "--json")
    usage = run_together([Command(argv, environ)], output, sample_seconds=_LOOK_SECONDS)
    said = output.read_text(errors="replace")
    if any(usage.returncodes) or said.count('"uploaded"') < number:
        raise RuntimeError(f"the scan did not find all {number:,} runs uploaded: {said[-500:]}")
    note = f"{usage.cpu_seconds:.2f} CPU-s, {usage.peak_bytes / 1e6:.0f} MB"
    return Growth("idle scan", f"{number:,} runs of {files:,} files", usage.seconds, note)


def write_uploaded_runs(runs: Path, logs: Path, numbers: range, files: int) -> None:
    """Run folders that hold a few folders and RunInfo.xml, and logs that say how many files of each are in S3."""
    model = _RUN_ID.format(0)
    verified = {f.path: Proof.of(f, f"{i:032x}", "etag") for i, f in enumerate(made_up_files(files))}
    moment = now_iso()
    state = RunState(
        run_id=model, run_path=str(runs / model), completed=True, verified=verified, total_local_files=files
    )
    state = replace(state, started=moment, finished=moment)
    for number in numbers:
        run_id = _RUN_ID.format(number)
        run = Run(path=runs / run_id, run_id=run_id, info=RunInfo())
        for name in ("InterOp", "Data/Intensities/BaseCalls"):
            (run.path / name).mkdir(parents=True)
        (run.path / "SampleSheet.csv").write_text("[Data]\nSample_ID\n")
        (run.path / RUN_INFO).write_text(f'<RunInfo Version="5"><Run Id="{run_id}" Number="1"/></RunInfo>')
        here = local_files.list_files(run).files
        state = replace(
            state, verified={**verified, **{file.path: Proof.of(file, f"{0:032x}", "etag") for file in here}}
        )
        state = replace(state, watched=changes.read_marks(run), folder=local_files.read_folder_numbers(run.path))
        log = to_json(state, runs / model, Destination(_BUCKET, ""))
        (logs / "uploads" / f"{run_id}.upload.log.json").write_bytes(log.replace(model.encode(), run_id.encode()))


def resume(folder: Path, environ: Mapping[str, str], aws: str, part: float, scale: float) -> Growth:
    """Measure the call after one that was interrupted when this part of the objects was uploaded."""
    workload = make_workload("small", folder, _RESUME_SCALE * scale)
    with S3Server("hashes") as server:
        server.create_bucket(_BUCKET)
        argv = [sys.executable, "-m", "s3sync", "upload", f"--local_path={workload.folder}", f"--bucket={_BUCKET}"]
        argv += ["--skip_check", f"--log_dir={folder / 'log'}", f"--aws_command={aws}"]
        command = Command(tuple(argv), {**environ, "AWS_ENDPOINT_URL": server.url})
        interrupt(command, server, round(part * len(workload.files)), folder / "first")
        server.wait_disconnected()
        there = len(server.objects(_BUCKET))
        usage = run_together([command], folder / "second")
        sent = server.counters["PutObject"]
        complete = len(server.objects(_BUCKET)) == len(workload.files)
    _require(usage, complete, folder / "second")
    again = sent - len(workload.files)
    note = f"{there:,} were there; {again:,} sent again"
    return Growth("resume", f"{part:.0%} of {len(workload.files):,} files", usage.seconds, note)


def interrupt(command: Command, server: S3Server, objects: int, output: Path) -> None:
    """Start it, and end it when this many objects were stored."""
    with output.open("wb") as log:
        process = subprocess.Popen(command.argv, env=dict(command.environ), stdout=log, stderr=log)
        try:
            server.wait_for("PutObject", objects, timeout=_WAIT_SECONDS)
            process.send_signal(signal.SIGTERM)  # not SIGINT: a shell's background jobs ignore that
            process.wait(_WAIT_SECONDS)
        finally:
            end_all([process])


def _require(usage: Usage, complete: bool, output: Path) -> None:
    if any(usage.returncodes) or not complete:
        raise RuntimeError(f"the resumed upload did not complete: {output.read_text(errors='replace')[-500:]}")
