"""Run Slurm's commands, and parse their output. Slurm queues and restarts the jobs; this program does not."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3sync import processes
from s3sync.aws import settings
from s3sync.errors import ConfigError, SlurmError, UsageError
from s3sync.processes import TimeoutExpired
from s3sync.text import human_seconds, pluralize, printable

DEFAULT_NODES = 4
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
_TIMEOUT_SECONDS = 60.0  # for one command: a busy controller may be slow
_RESERVED_OPTIONS = tuple(
    f"--{name}"
    for name in ("array", "dependency", "export", "job-name", "output", "parsable", "test-only", "wait", "wrap")
)
_RESERVED_SHORT_OPTIONS = re.compile(r"-[WaJdo].*|--")
_JOB = re.compile(r"(?P<job>\d+)(_(?P<task>\d+))?\|(?P<state>[A-Z_]+)\|(?P<node>[^|]*)\|(?P<reason>.*)")
_INHERITED_VARIABLES = re.compile("SLURM_(?!CONF$)|(SQUEUE|SCANCEL|SINFO)_|SBATCH_(ARRAY_INX|EXPORT|WAIT)$")
_PENDING_STATES = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
_DOWN = re.compile(r"(down|drain|fail|future|inval|maint|no_respond|perfctrs|reboot|unk).*|.*[*$]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """The resources that one run requests from Slurm.

    The cluster decides about empty values. `time` is as for sbatch: 4:00:00, 1-0. `cores` are those of each node; None
    requests all.
    """

    nodes: int = DEFAULT_NODES
    partition: str = ""
    account: str = ""
    time: str = ""
    options: tuple[str, ...] = ()
    cores: int | None = None

    def sbatch_options(self, avoid: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the options of each job, which gets a whole node or some cores, and excludes the nodes to avoid."""
        given = {"--partition": self.partition, "--account": self.account, "--time": self.time}
        room = ("--exclusive",) if self.cores is None else (f"--cpus-per-task={self.cores}",)
        options = (*room, *(f"{name}={value}" for name, value in given.items() if value), *self.options)
        # sbatch uses the last --exclude, so this one repeats the nodes that the user excludes.
        return (*options, f"--exclude={','.join((*_excluded(options), *avoid))}") if avoid else options


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """A job, or a task of a job array, that has not ended. `task` is None for a job that is not an array.

    `state` is as squeue prints it: PENDING, RUNNING, COMPLETING. While it waits, `node` is empty and `reason` says why.
    """

    job: int
    task: int | None
    state: str
    node: str
    reason: str

    @property
    def is_pending(self) -> bool:
        """Return whether Slurm has not started it yet, or will start it again."""
        return self.state in _PENDING_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A script to submit as a job or, with `tasks`, as an array with `at_once` tasks at a time.

    It starts when the job `after` has ended, even if that failed; at once if it is None.
    """

    script: Path
    name: str
    options: Sequence[str]
    output: Path
    tasks: range | None = None
    at_once: int = 0
    after: int | None = None

    def argv(self) -> tuple[str, ...]:
        """Return the arguments of sbatch."""
        ours = [f"--job-name={self.name}", "--parsable", "--requeue", "--nodes=1", "--ntasks=1"]
        ours += [f"--chdir={self.script.parent}", f"--output={self.output}", "--open-mode=append"]
        if self.tasks is not None:
            ours.append(f"--array={self.tasks[0]}-{self.tasks[-1]}%{self.at_once}")
        if self.after is not None:
            ours.append(f"--dependency=afterany:{self.after}")
        return (*self.options, *ours, str(self.script))


def parse_options(text: str) -> tuple[str, ...]:
    """Return the sbatch options in a text, split as a shell does. Raises UsageError for those that s3sync sets."""
    try:
        options = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(
            f"cannot split the sbatch options {printable(text)}: {error} (close the quotes)",
            id="usage.bad-sbatch-options",
        ) from error
    if options and not options[0].startswith("-"):
        raise UsageError(
            f"not an sbatch option: {printable(text)} (options begin with `-`)", id="usage.bad-sbatch-options"
        )
    if reserved := [option for option in options if _is_reserved(option)]:
        raise UsageError(
            f"s3sync sets this sbatch option itself: {printable(reserved[0])} (leave it out)",
            id="usage.reserved-sbatch-option",
        )
    return options


def _is_reserved(option: str) -> bool:
    """Return whether s3sync sets this option; sbatch also accepts the beginning of a name."""
    name = option.partition("=")[0]
    is_long = len(name) > len("--a") and any(reserved.startswith(name) for reserved in _RESERVED_OPTIONS)
    return is_long or _RESERVED_SHORT_OPTIONS.fullmatch(option) is not None


class Slurm:
    """Runs the Slurm commands of this host. All methods raise SlurmError if a command fails or does not answer."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raise ConfigError if Slurm is not installed here."""
        missing = [name for name in COMMANDS if not shutil.which(name, path=environ.get("PATH"))]
        if missing:
            raise ConfigError(
                f"no Slurm here: {', '.join(missing)} not found on PATH (install Slurm's commands on this host, or use"
                " executor local)",
                id="slurm.not-installed",
            )
        # The coordinator may itself run in a job, whose variables must not reach the jobs that it submits, and neither
        # must the user's settings for squeue and scancel.
        ours = settings.without_s3sync_variables(environ)
        self._environ = {name: value for name, value in ours.items() if not _INHERITED_VARIABLES.match(name)}
        self._secrets = settings.secrets_of(environ)

    def submit(self, submission: Submission) -> int:
        """Submit a script; return the id of the job."""
        output = self._run("sbatch", *submission.argv())
        job = output.strip().partition(";")[0]  # the name of the cluster may follow
        if not job.isdecimal():
            raise SlurmError(
                f"sbatch printed something unexpected: {self._readable(output)} (is it Slurm's own sbatch?)",
                id="slurm.bad-output",
            )
        return int(job)

    def jobs(self, name: str) -> list[SlurmJob]:
        """Return all jobs of this name that have not ended, one for each task of an array."""
        return self._queue(name)

    def failed_tasks(self, name: str) -> list[tuple[int | None, str]]:
        """Return task and node of each job of this name that failed, until Slurm forgets it (MinJobAge)."""
        return [(job.task, job.node) for job in self._queue(name, "--states=FAILED") if job.state == "FAILED"]

    def usable_nodes(self, options: SlurmOptions, avoid: Collection[str]) -> list[str]:
        """Return the nodes that are up where jobs with these options run, except those to avoid."""
        argv = options.sbatch_options()
        excluded = {*avoid, *_names(_excluded(argv))}
        return [name for name, state in self.nodes(_partition(argv)) if is_up(state) and name not in excluded]

    def cancel(self, jobs: Iterable[int]) -> None:
        """Cancel jobs, whether they wait or run; ignore those that have ended."""
        if ids := sorted(set(jobs)):
            self._run("scancel", "--quiet", *map(str, ids))

    def nodes(self, partition: str = "") -> list[tuple[str, str]]:
        """Return name and state of each node of a partition (empty: the default one, or all)."""
        where = (f"--partition={partition}",) if partition else ()
        output = self._run("sinfo", "--noheader", "--Node", "--format=%N|%T", *where)
        pairs = (line.strip().partition("|") for line in output.splitlines() if line.strip())
        return sorted({(name, state) for name, _, state in pairs})

    def version(self) -> str:
        """Return what `sbatch --version` prints, e.g. `slurm-wlm 22.05.8`."""
        return self._readable(self._run("sbatch", "--version"))

    def _queue(self, name: str, *more: str) -> list[SlurmJob]:
        output = self._run("squeue", "--noheader", "--all", "--array", f"--name={name}", "--format=%i|%T|%N|%r", *more)
        return [_parse_job(line) for line in output.splitlines() if line.strip()]

    def _run(self, *argv: str) -> str:
        try:
            ended = processes.run_captured(argv, self._environ, _TIMEOUT_SECONDS)
        except TimeoutExpired:
            waited = human_seconds(_TIMEOUT_SECONDS)
            raise SlurmError(
                f"{argv[0]} did not answer for {waited} (is slurmctld up?)", id="slurm.no-answer"
            ) from None
        except (OSError, ValueError) as error:
            raise SlurmError(
                f"cannot run {argv[0]}: {printable(str(error))} (check Slurm on this host)", id="slurm.cannot-start"
            ) from error
        if ended.returncode != 0:
            lines = [line for line in ended.stderr.splitlines() if line.strip()] or [f"exit code {ended.returncode}"]
            raise SlurmError(f"Slurm: {argv[0]} failed: {self._readable(' / '.join(lines[-2:]))}", id="slurm.failed")
        return ended.stdout

    def _readable(self, text: str) -> str:
        return settings.redact(printable(text.strip()), self._secrets)


def is_up(state: str) -> bool:
    """Return whether jobs can run on a node in this state, as sinfo prints it: `idle`, `mixed`, `down*`."""
    return not _DOWN.fullmatch(state)


def summarize(jobs: Sequence[SlurmJob]) -> str:
    """Return how many jobs run and wait, for people: `12 tasks running, 52 waiting (Resources)`."""
    waiting = [job for job in jobs if job.is_pending]
    reason = next((job.reason for job in waiting if job.reason not in ("", "None")), "")
    running = pluralize(len(jobs) - len(waiting), "task")
    return f"{running} running" + (f", {len(waiting):,} waiting{f' ({reason})' if reason else ''}" if waiting else "")


def job_script(comment: str, *lines: str) -> str:
    """Return a script for sbatch."""
    return "\n".join(("#!/bin/sh", f"# {comment}", *lines, ""))


def _names(lists: Iterable[str]) -> set[str]:
    """Return the nodes in lists such as `n1,n2`. Ranges in brackets are not expanded."""
    return {name for nodes in lists for name in nodes.split(",")}


def _partition(options: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--partition", default="")
    partition: str = parser.parse_known_args(options)[0].partition
    return partition


def _excluded(options: Sequence[str]) -> list[str]:
    """Return the list of nodes that sbatch options exclude, as one string, or nothing."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-x", "--exclude", default="")
    nodes: str = parser.parse_known_args(options)[0].exclude
    return [nodes] if nodes else []


def _parse_job(line: str) -> SlurmJob:
    match = _JOB.fullmatch(line.strip())
    if not match:
        raise SlurmError(
            f"squeue printed something unexpected: {printable(line[:200])} (is it Slurm's own squeue?)",
            id="slurm.bad-output",
        )
    return SlurmJob(
        job=int(match["job"]),
        task=int(match["task"]) if match["task"] else None,
        state=match["state"],
        node=match["node"],
        reason=printable(match["reason"]),
    )
