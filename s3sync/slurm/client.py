"""Slurm's commands: words in, typed values out. It schedules, queues and starts again; this program does not."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync import processes
from s3sync.aws import settings
from s3sync.errors import ConfigError, SlurmError, UsageError
from s3sync.processes import TimeoutExpired
from s3sync.text import human_seconds, pluralize, printable

DEFAULT_NODES = 4
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
_SECONDS = 60.0  # for one command: a busy controller takes its time
_RESERVED_OPTIONS = tuple(
    f"--{name}"
    for name in ("array", "dependency", "export", "job-name", "output", "parsable", "test-only", "wait", "wrap")
)
_RESERVED_SHORT_OPTIONS = re.compile(r"-[WaJdo].*|--")
_LIVE = re.compile(r"(?P<job>\d+)(_(?P<task>\d+))?\|(?P<state>[A-Z_]+)\|(?P<node>[^|]*)\|(?P<reason>.*)")
_INHERITED_VARIABLES = re.compile("SLURM_(?!CONF$)|(SQUEUE|SCANCEL|SINFO)_|SBATCH_(ARRAY_INX|EXPORT|WAIT)$")
_PENDING_STATES = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


class SlurmOptions(NamedTuple):
    """What is asked of Slurm for one run: so many nodes at once, and its own options; empty ones are the site's."""

    nodes: int = DEFAULT_NODES
    partition: str = ""
    account: str = ""
    time: str = ""  # as sbatch has it: 4:00:00, 1-0
    options: tuple[str, ...] = ()
    cores: int | None = None  # of each node; None: all of it

    def sbatch_options(self, avoid: Sequence[str] = ()) -> tuple[str, ...]:
        """For each job of it: a node of its own, or so many cores of one, but none of those to `avoid`."""
        given = {"--partition": self.partition, "--account": self.account, "--time": self.time}
        room = ("--exclusive",) if self.cores is None else (f"--cpus-per-task={self.cores}",)
        words = (*room, *(f"{name}={value}" for name, value in given.items() if value), *self.options)
        # Of several the last counts, so it has those of the site, too.
        return (*words, f"--exclude={','.join((*_excluded(words), *avoid))}") if avoid else words


class SlurmJob(NamedTuple):
    """A job, or a task of a job array, that has not ended. `task` is None of a job that is no array's."""

    job: int
    task: int | None
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str  # where it runs; empty if it waits
    reason: str  # why it waits

    @property
    def is_pending(self) -> bool:
        """Whether Slurm has not started it (again) yet."""
        return self.state in _PENDING_STATES


def parse_options(text: str) -> tuple[str, ...]:
    """Words for sbatch, parted as a shell would; raises UsageError for those that are this program's to choose."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"sbatch options that no shell could part: {printable(text)} ({error})") from error
    if words and not words[0].startswith("-"):
        raise UsageError(f"sbatch options that begin with none: {printable(text)} (options begin with `-`)")
    if taken := [word for word in words if _is_ours(word)]:
        raise UsageError(f"sbatch option that s3sync chooses itself: {printable(taken[0])} (leave it out)")
    return words


def _is_ours(word: str) -> bool:
    """Whether it is an option that we choose, or a beginning of its name, which sbatch takes for it."""
    name = word.partition("=")[0]
    is_long = len(name) > len("--a") and any(ours.startswith(name) for ours in _RESERVED_OPTIONS)
    return is_long or _RESERVED_SHORT_OPTIONS.fullmatch(word) is not None


class Slurm:
    """The commands of the cluster that this host belongs to."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Raises ConfigError if Slurm is not installed here."""
        missing = [name for name in COMMANDS if not shutil.which(name, path=environ.get("PATH"))]
        if missing:
            raise ConfigError(
                f"no Slurm here: {', '.join(missing)} not found on PATH (install Slurm's commands on this host, or use"
                " executor local)"
            )
        # A coordinator may itself run in a job: what that one was given is not for the jobs that it submits.
        # What the user's own squeue leaves out, or scancel asks, is not meant for ours.
        self._environ = {
            k: v for k, v in settings.without_s3sync_variables(environ).items() if not _INHERITED_VARIABLES.match(k)
        }
        self._secrets = settings.secrets_of(environ)

    def submit(
        self,
        script: Path,
        name: str,
        words: Sequence[str],
        *,
        output: Path,
        tasks: range | None = None,
        at_once: int = 0,
        after: int | None = None,
    ) -> int:
        """Submit a script as a job, or as an array of `tasks`, `at_once` of them at the same time; its id.

        It is started_shards when job `after` has ended, however that ended. Raises SlurmError.
        """
        ours = [f"--job-name={name}", "--parsable", "--requeue", "--nodes=1", "--ntasks=1"]
        ours += [f"--chdir={script.parent}", f"--output={output}", "--open-mode=append"]
        if tasks is not None:
            ours.append(f"--array={tasks[0]}-{tasks[-1]}%{at_once}")
        if after is not None:
            ours.append(f"--dependency=afterany:{after}")
        said = self._run("sbatch", *words, *ours, str(script))
        job = said.strip().partition(";")[0]  # the cluster's name may follow
        if not job.isdecimal():
            raise SlurmError(f"cannot make sense of what sbatch printed: {self._readable(said)}")
        return int(job)

    def jobs(self, name: str) -> list[SlurmJob]:
        """All jobs of this name that have not ended, a line for each task of an array; raises SlurmError."""
        format_ = "%i|%T|%N|%r"
        said = self._run("squeue", "--noheader", "--all", "--array", f"--name={name}", f"--format={format_}")
        return [_parse_live(line) for line in said.splitlines() if line.strip()]

    def failed_tasks(self, name: str) -> list[tuple[int | None, str]]:
        """Return task and node of each job of this name that has failed by itself, as far as Slurm still knows it.

        It forgets jobs after some minutes (MinJobAge). Raises SlurmError.
        """
        words = ("--noheader", "--all", "--array", f"--name={name}", "--format=%i|%T|%N|%r", "--states=FAILED")
        live = (_parse_live(line) for line in self._run("squeue", *words).splitlines() if line.strip())
        return [(job.task, job.node) for job in live if job.state == "FAILED"]

    def usable_nodes(self, cluster: SlurmOptions, avoid: Collection[str]) -> list[str]:
        """Return the nodes that are up where the cluster's jobs run, but for those to avoid; raises SlurmError."""
        words = cluster.sbatch_options()
        left_out = {*avoid, *_names(_excluded(words))}
        return [name for name, state in self.nodes(_partition(words)) if is_up(state) and name not in left_out]

    def cancel(self, jobs: Iterable[int]) -> None:
        """End jobs, whether they wait or run; those that have ended are no matter. Raises SlurmError."""
        if ids := sorted(set(jobs)):
            self._run("scancel", "--quiet", *map(str, ids))

    def nodes(self, partition: str = "") -> list[tuple[str, str]]:
        """Name and state of each node of a partition (empty: the default one, or all); raises SlurmError."""
        where = (f"--partition={partition}",) if partition else ()
        said = self._run("sinfo", "--noheader", "--Node", "--format=%N|%T", *where)
        pairs = (line.strip().partition("|") for line in said.splitlines() if line.strip())
        return sorted({(name, state) for name, _, state in pairs})

    def version(self) -> str:
        """As `sbatch` tells it: `slurm-wlm 22.05.8`; raises SlurmError."""
        return self._readable(self._run("sbatch", "--version"))

    def _run(self, *argv: str) -> str:
        try:
            answer = processes.run_captured(argv, self._environ, _SECONDS)
        except TimeoutExpired:
            raise SlurmError(f"{argv[0]} did not answer for {human_seconds(_SECONDS)} (is slurmctld up?)") from None
        except (OSError, ValueError) as error:
            raise SlurmError(f"cannot run {argv[0]}: {printable(str(error))}") from error
        if answer.returncode != 0:
            said = [line for line in answer.stderr.splitlines() if line.strip()] or [f"exit code {answer.returncode}"]
            raise SlurmError(f"Slurm: {argv[0]} failed: {self._readable(' / '.join(said[-2:]))}")
        return answer.stdout

    def _readable(self, said: str) -> str:
        return settings.redact(printable(said.strip()), self._secrets)


_OUT_OF_USE = re.compile(r"(down|drain|fail|future|inval|maint|no_respond|perfctrs|reboot|unk).*|.*[*$]")


def is_up(state: str) -> bool:
    """Whether jobs can run on a node in this state, as sinfo has it: `idle`, `mixed`, `down*`."""
    return not _OUT_OF_USE.fullmatch(state)


def _names(lists: Iterable[str]) -> set[str]:
    """Return the nodes of lists that sbatch takes: `n1,n2`; ranges in brackets are left as they are."""
    return {name for nodes in lists for name in nodes.split(",")}


def _partition(words: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-p", "--partition", default="")
    partition: str = parser.parse_known_args(words)[0].partition
    return partition


def _excluded(words: Sequence[str]) -> list[str]:
    """The nodes that words for sbatch leave out."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-x", "--exclude", default="")
    nodes: str = parser.parse_known_args(words)[0].exclude
    return [nodes] if nodes else []


def summarize(live: Sequence[SlurmJob]) -> str:
    """For people: `12 of them run, 52 wait (Resources)`."""
    waiting = [job for job in live if job.is_pending]
    why = next((job.reason for job in waiting if job.reason not in ("", "None")), "")
    running = pluralize(len(live) - len(waiting), "task")
    return f"{running} at work" + (f", {len(waiting):,} waiting{f' ({why})' if why else ''}" if waiting else "")


def _parse_live(line: str) -> SlurmJob:
    match = _LIVE.fullmatch(line.strip())
    if not match:
        raise SlurmError(f"cannot make sense of what squeue printed: {printable(line[:200])}")
    task = int(match["task"]) if match["task"] else None
    return SlurmJob(int(match["job"]), task, match["state"], match["node"], printable(match["reason"]))
