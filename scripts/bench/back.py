"""Measure `restore` beside the AWS CLI alone, which downloads the same objects on a ready split and proves nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from s3sync.aws.settings import CliSettings, child_environment, write_config
from scripts.bench.contenders import ROOT, USUAL_THREADS, split
from scripts.bench.measure import Command, Usage, run_together
from scripts.bench.workloads import Workload, make_workload
from tests.helpers.s3server import S3Server

_BUCKET = "lab-runs"
WORKLOADS = {"small": 0.5, "large": 0.5}  # of the usual scale: 2,000 files of 10 kB, and 2 of 400 MB
CONTENDERS = ("bare", "restore")
ALLOWED_RATIO, ALLOWED_SECONDS = 1.2, 3.0  # of bare's wall and CPU time, and what is added to that


class Download(NamedTuple):
    """A download that was measured."""

    workload: str
    files: int
    size: int  # bytes
    way: str
    round: int  # from 1
    usage: Usage
    trouble: str = ""


class _Bench(NamedTuple):
    server: S3Server
    workload: Workload
    work: Path
    environ: Mapping[str, str]
    aws: str
    cores: int

    @property
    def target(self) -> Path:
        return self.work / "restored"

    def upload(self) -> None:
        """Upload the run with a state log, and copy it in S3 as the split for the CLI alone. Raises RuntimeError."""
        argv = [sys.executable, "-m", "s3sync", "upload", "--skip-check", f"--local-path={self.workload.folder}"]
        argv += [f"--bucket={_BUCKET}", f"--log-dir={self.work / 'log'}", f"--aws-command={self.aws}"]
        done = subprocess.run(argv, env=dict(self.environ), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the upload failed: {done.stderr.strip()}")
        objects = self.server.objects(_BUCKET)
        for number, files in enumerate(split(self.workload.files, self.cores)):
            for file in files:
                stored = objects[f"{self.workload.folder.name}/{file.path}"]
                self.server.put(_BUCKET, f"part-{number}/{file.path}", stored.body or b"")

    def bare(self) -> list[Command]:
        """Return one `aws` process per core, each with its own prefix in S3."""
        config = self.work / "aws-config"
        config.unlink(missing_ok=True)  # of the round before
        write_config(self.environ, CliSettings(USUAL_THREADS, client="default"), config)
        argv = (self.aws, "s3", "cp", "--recursive", "--only-show-errors")
        return [
            Command(
                (*argv, f"s3://{_BUCKET}/part-{number}/", str(self.target)), child_environment(self.environ, config)
            )
            for number in range(len(split(self.workload.files, self.cores)))
        ]

    def restore(self) -> list[Command]:
        """Return this program, which also compares with the records of the upload."""
        argv = [sys.executable, "-m", "s3sync", "restore", self.workload.folder.name, f"--bucket={_BUCKET}"]
        argv += [f"--local-path={self.target}", f"--log-dir={self.work / 'log'}", f"--aws-command={self.aws}"]
        return [Command((*argv, f"--cores={self.cores}"), self.environ)]


def measure_back(
    folder: Path, environ: Mapping[str, str], aws: str, *, cores: int, rounds: int, scale: float
) -> Iterator[Download]:
    """Measure both ways in alternation for each workload; yield each measurement as soon as it is made."""
    for name, part in WORKLOADS.items():
        with S3Server() as server:
            server.create_bucket(_BUCKET)
            work = folder / f"back-{name}"
            work.mkdir()
            workload = make_workload(name, work, scale * part)
            ours = {**environ, "AWS_ENDPOINT_URL": server.url, "PYTHONPATH": str(ROOT)}
            bench = _Bench(server, workload, work, ours, aws, cores)
            bench.upload()
            for number in range(1, rounds + 1):
                for way in CONTENDERS:
                    yield _measure(bench, way, number)
        shutil.rmtree(work)


def _measure(bench: _Bench, way: str, number: int) -> Download:
    bench.target.mkdir()
    try:
        usage = run_together(bench.bare() if way == "bare" else bench.restore(), bench.work / "output")
        found = bench.target if way == "bare" else bench.target / bench.workload.folder.name
        return Download(
            workload=bench.workload.name,
            files=len(bench.workload.files),
            size=sum(file.size for file in bench.workload.files),
            way=way,
            round=number,
            usage=usage,
            trouble=_trouble(usage, bench.workload, found),
        )
    finally:
        shutil.rmtree(bench.target)


def _trouble(usage: Usage, workload: Workload, found: Path) -> str:
    if any(usage.returncodes):
        return f"exit codes {usage.returncodes}"
    lost = [file.path for file in workload.files if not _has_size(found / file.path, file.size)]
    return f"{len(lost)} files did not arrive, such as {lost[0]}" if lost else ""


def _has_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


# Results


HEAD = ("workload", "way", "wall s", "ratio", "CPU-s", "ratio", "allowed")
TSV_HEAD = ("workload", "way", "round", "seconds", "cpu_seconds", "trouble")


def tsv_row(one: Download) -> list[str]:
    """Return a row of the table of all measurements, in the order of TSV_HEAD."""
    seconds = f"{one.usage.seconds:.2f}", f"{one.usage.cpu_seconds:.2f}"
    return [one.workload, one.way, str(one.round), *seconds, one.trouble]


def rows_of(downloads: Sequence[Download]) -> list[tuple[str, ...]]:
    """Return a header and two rows for each workload: medians of successes, and whether they are allowed."""
    rows: list[tuple[str, ...]] = [HEAD]
    for workload in dict.fromkeys(one.workload for one in downloads):
        wall, cpu = _medians(downloads, workload, "bare")
        for way in CONTENDERS:
            ours_wall, ours_cpu = _medians(downloads, workload, way)
            is_allowed = all(
                mine <= ALLOWED_RATIO * base + ALLOWED_SECONDS for mine, base in ((ours_wall, wall), (ours_cpu, cpu))
            )
            ratios = f"{ours_wall / wall:.2f}" if wall else "", f"{ours_cpu / cpu:.2f}" if cpu else ""
            figures = f"{ours_wall:.1f}", ratios[0], f"{ours_cpu:.1f}", ratios[1]
            rows.append((workload, way, *figures, "yes" if is_allowed else "NO"))
    return rows


def _medians(downloads: Sequence[Download], workload: str, way: str) -> tuple[float, float]:
    good = [one.usage for one in downloads if (one.workload, one.way, one.trouble) == (workload, way, "")]
    if not good:
        return 0.0, 0.0
    return median(usage.seconds for usage in good), median(usage.cpu_seconds for usage in good)


def line_of(one: Download) -> str:
    """Return a measurement as one line."""
    figures = f"{one.usage.seconds:.1f} s, {one.usage.cpu_seconds:.1f} CPU-s"
    return f"{one.workload}, {one.files:,} files: {one.way} round {one.round}: {one.trouble or figures}"
