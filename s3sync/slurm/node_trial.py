"""Try each node of a cluster with a job that checks what uploads need there."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync import __version__, files
from s3sync.aws.access import CheckResult, UploadTarget
from s3sync.errors import SlurmError
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes, node_check, work_folder
from s3sync.slurm.client import Slurm, SlurmJob, SlurmOptions, Submission, job_script
from s3sync.slurm.node_check import NodeQuery
from s3sync.slurm.results import no_answer, ok, problem
from s3sync.text import human_seconds, pluralize, printable

_WAIT_SECONDS = 120.0  # how long a job may wait for its node
_RUN_SECONDS = 180.0  # how long it may run: an S3 that does not answer takes long
_SHOW_SECONDS = 15.0  # how long a file server may take to show one host what another wrote
_CANCEL_SECONDS = 30.0  # how long a cancelled job may take to end
_POLL_SECONDS = 1.0
_MAX_NODES = 200  # nodes to try, with a job on each
_MAX_REFUSED = 3  # jobs in a row, after which Slurm is expected to refuse the others


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterUse:
    """The needs of uploads: for each kind of job, the directories and targets that nodes must reach."""

    log_dir: Path
    aws_command: str | None
    threads: int
    clusters: Mapping[SlurmOptions, tuple[Sequence[Path], Sequence[UploadTarget]]]


@dataclass(slots=True, kw_only=True)
class _Trial:
    """A job on one node: its folder, and when it was submitted, started and ended (0: not yet)."""

    node: str
    folder: Path
    job: int
    submitted: float
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class _Untried:
    node: str
    reason: str


class NodeTrials:
    """Tries all nodes that jobs with these options may use."""

    def __init__(self, use: ClusterUse, options: SlurmOptions, slurm: Slurm, stop: StopRequest) -> None:
        self._use = use
        self._options = options
        self._slurm = slurm
        self._stop = stop
        self._name = f"s3sync-check-{uuid.uuid4().hex[:12]}"  # the name of all jobs
        self._folder = use.log_dir / work_folder.FOLDER / self._name
        self._untried: list[_Untried] = []

    def run(self) -> Iterator[CheckResult]:
        """Yield the results of the jobs, and leave neither jobs nor files behind. Raises StoppedError."""
        try:
            with self._cleaned_up():
                nodes = self._slurm.usable_nodes(self._options, ())
                if not nodes:
                    text = "no node is left to try: `options` exclude those that are up (see `sinfo`)"
                    yield problem(text, id="slurm.all-nodes-excluded")
                yield from self._try(nodes[:_MAX_NODES])
                if len(nodes) > _MAX_NODES:
                    yield ok(f"{pluralize(len(nodes) - _MAX_NODES, 'more node')} not tried")
        except OSError as error:
            where = printable(str(self._folder.parent))
            yield problem(f"cannot write into {where}: {error.strerror} (see log_dir)", id="slurm.work-folder")
        except SlurmError as error:
            yield no_answer(error)

    def _try(self, nodes: Sequence[str]) -> Iterator[CheckResult]:
        """Yield the results. A node that could not be tried, like a busy one, is a problem only if none was tried."""
        has_tried = False
        for trial, overdue in self._ends(self._submit_all(nodes)):
            if overdue and not trial.started:
                self._untried.append(_Untried(trial.node, f"job {trial.job} {overdue}"))
                continue
            has_tried = True
            if overdue:
                what = f"node {printable(trial.node)}"
                text = f"job {trial.job} {overdue}"
                yield CheckResult(ok=False, what=what, text=text, id="slurm.trial-overdue")
            else:
                yield from self._results_of(trial)
        if has_tried or not self._untried:
            yield from (ok(f"node {printable(each.node)} was not tried: {each.reason}") for each in self._untried)
        else:
            others = len(self._untried) - 1
            more = f"; {pluralize(others, 'more node')} not tried either" if others else ""
            yield problem(f"{self._untried[0].reason}{more}", id="slurm.no-node-tried")

    def _submit_all(self, nodes: Sequence[str]) -> list[_Trial]:
        trials: list[_Trial] = []
        for number, node in enumerate(nodes):
            if not trials and len(self._untried) == _MAX_REFUSED:
                self._untried += [_Untried(each, self._untried[0].reason) for each in nodes[number:]]
                break
            try:
                trials.append(self._submit(node, self._folder / f"{number:04}"))
            except SlurmError as error:
                self._untried.append(_Untried(node, f"{error} (correct `slurm` in the config)"))
        return trials

    def _submit(self, node: str, folder: Path) -> _Trial:
        files.make_private_folder(folder)
        directories, targets = self._use.clusters[self._options]
        query = NodeQuery(
            version=__version__,
            directories=tuple((str(directory), _find_run(directory)) for directory in directories),
            targets=tuple(targets),
            aws_command=self._use.aws_command,
            threads=self._use.threads,
        )
        node_check.write_query(folder, query)
        script = folder / "job.sh"
        files.write_synced(script, _script(folder).encode("utf-8", "surrogateescape"))
        submission = Submission(
            script=script,
            name=self._name,
            options=(*self._options.sbatch_options(), f"--nodelist={node}"),  # the last one counts
            output=folder / "out.txt",
        )
        submitted = time.monotonic()
        return _Trial(node=node, folder=folder, job=self._slurm.submit(submission), submitted=submitted)

    def _ends(self, trials: Sequence[_Trial]) -> Iterator[tuple[_Trial, str]]:
        """Yield each trial once it has results or has ended, with an empty string or why it is no longer waited for."""
        waiting = list(trials)
        for _ in self._stop.poll(_POLL_SECONDS):
            if not waiting:
                break
            jobs = {job.job: job for job in self._slurm.jobs(self._name)}
            for trial in tuple(waiting):
                overdue = _poll(trial, jobs.get(trial.job), time.monotonic())
                if overdue is not None:
                    waiting.remove(trial)
                    yield trial, overdue
        self._stop.raise_if_requested()

    def _results_of(self, trial: _Trial) -> Iterator[CheckResult]:
        node, *output = _output_of(trial)
        took = human_seconds(time.monotonic() - trial.submitted)
        where = printable(str(self._use.log_dir))
        what = f"node {node or printable(trial.node)}"
        if not node:
            advice = "put log_dir on a share that all nodes mount under the same path, where this user can write"
            text = f"job {trial.job} ended, but its results are not in {where} ({advice})"
            yield CheckResult(ok=False, what=what, text=text, id="slurm.log-dir-not-shared")
            return
        yield CheckResult(ok=True, what=what, text=f"log_dir: {where}: shared (job {trial.job} took {took})")
        results = node_check.read_results(trial.folder)
        if results is None:
            printed = " / ".join(output[-2:]) or "was ended"
            text = f"program: {printed} (install s3sync there under the same path)"
            yield CheckResult(ok=False, what=what, text=text, id="slurm.cannot-start-on-node")
            return
        broken_nodes.remember(self._use.log_dir, {}, [node])  # it can start there (again)
        for each in results:
            yield CheckResult(ok=each.ok, what=what, text=f"{each.what}: {each.text}", id=each.id)

    @contextlib.contextmanager
    def _cleaned_up(self) -> Iterator[None]:
        try:
            yield
        finally:
            with contextlib.suppress(SlurmError):
                for _ in StopRequest().poll(_POLL_SECONDS, _CANCEL_SECONDS):
                    if not (jobs := self._slurm.jobs(self._name)):
                        break
                    self._slurm.cancel(job.job for job in jobs)
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()  # fails if an upload is under way


def _script(folder: Path) -> str:
    return job_script(
        "What Slurm runs on a node for `s3sync check --submit`.",
        'echo "${SLURMD_NODENAME:-$(uname -n)}"',
        f"exec {shlex.quote(sys.executable)} -m s3sync.slurm.node_check {shlex.quote(str(folder))}",
    )


def _find_run(directory: Path) -> str:
    """Return the name of a run in a directory, which shows a node whether the same disk is mounted there."""
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(directory))
        return next((name for name in names if os.path.exists(os.path.join(directory, name, "RunInfo.xml"))), "")
    return ""


def _poll(trial: _Trial, job: SlurmJob | None, now: float) -> str | None:
    """Return an empty string for a trial that has ended, None for one that runs, or why it is no longer waited for."""
    with contextlib.suppress(OSError):
        files.check_writable(trial.folder / "probe")  # makes an NFS client ask the server what is in the folder
    if node_check.read_results(trial.folder) is not None:
        return ""
    if job is None:
        trial.ended = trial.ended or now
        return "" if now - trial.ended > _SHOW_SECONDS or _output_of(trial)[0] else None
    if job.is_pending:
        reason = f" ({job.reason})" if job.reason != "None" else ""
        text = f"still waits after {human_seconds(_WAIT_SECONDS)}{reason}: cancelled (try again when a node is free)"
        return text if now - trial.submitted > _WAIT_SECONDS else None
    trial.started = trial.started or now
    text = f"still runs after {human_seconds(_RUN_SECONDS)} on {job.node}: cancelled (look at that node)"
    return text if now - trial.started > _RUN_SECONDS else None


def _output_of(trial: _Trial) -> list[str]:
    """Return the name of the node, then what the job printed; an empty name if no output is visible here."""
    with contextlib.suppress(OSError):
        lines = (trial.folder / "out.txt").read_text("utf-8", "replace").splitlines()
        return [printable(line) for line in lines if line.strip()] or [""]
    return [""]
