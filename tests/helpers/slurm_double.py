"""A double of a Slurm cluster, for exact faults: its commands, and tasks that are real processes on nodes that are not.

`sbatch`, `squeue`, `scancel` and `sinfo` are small clients of the test's own process, where all is decided: what is
submitted runs as soon as a node is free, as its submitter's environment and the options say (`--array` with `%N`,
`--dependency=afterany`, `--exclude`). What real Slurm does is in `slurm_cluster`, where each of this was tried.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.helpers.waiting import wait_until

COMMANDS = ("sbatch", "squeue", "scancel", "sinfo")
_SECONDS = 120  # until what is waited for has to have happened

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    with asked.makefile("rw") as stream:
        print(json.dumps([{name!r}, sys.argv[1:], dict(os.environ)]), file=stream, flush=True)
        code, out, err = json.loads(stream.readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class Answer(NamedTuple):
    """What a command does and prints."""

    code: int
    out: str = ""
    err: str = ""


NO_CONTROLLER = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


@dataclass(eq=False)
class Task:
    """A job, or a task of a job array, and each process that it was so far."""

    job: int
    number: int | None
    argv: Sequence[str]
    environ: Mapping[str, str]
    state: str = "PENDING"
    node: str = ""
    starts: list[psutil.Process] = field(default_factory=list)
    ran_on: str = ""

    def option(self, name: str) -> str:
        """The last one of this name; empty if there is none."""
        found = [word.partition("=")[2] for word in self.argv if word.startswith(f"--{name}=")]
        return found[-1] if found else ""

    @property
    def id(self) -> str:
        """As squeue has it."""
        return str(self.job) if self.number is None else f"{self.job}_{self.number}"

    @property
    def excluded(self) -> set[str]:
        """The nodes that it is kept off."""
        return set(filter(None, self.option("exclude").split(",")))

    @property
    def lives(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("PENDING", "RUNNING")


class SlurmDouble:
    """A cluster; `env` is what its users need in their environment.

    `answers` by command are what its next calls get instead of the usual answer (None: that one), or are done then.
    `node_env` by node is what is different in the environment there, `replaced` what the script has instead of a text.
    """

    def __init__(self, folder: Path, tmp: Path, nodes: Sequence[str]) -> None:
        self.env = {"PATH": f"{folder}/bin:/usr/bin:/bin"}
        self.nodes = list(nodes)
        self.node_env: dict[str, dict[str, str]] = {}
        self.replaced: dict[str, tuple[str, str]] = {}
        self.answers: dict[str, list[Answer | Callable[[], Answer] | None]] = {}
        self.tasks: list[Task] = []
        self.submitted: list[list[str]] = []  # the argv of each job that was accepted
        self._folder = folder
        self._tmp = tmp
        self._turn = threading.RLock()
        self._waiters: list[threading.Thread] = []
        self._open = True

    # What tests ask.

    def tmp(self, node: str) -> Path:
        """TMPDIR there."""
        return self._tmp / node

    def arrays(self) -> list[int]:
        """The job arrays, in order."""
        return sorted({task.job for task in self.tasks if task.number is not None})

    def running(self) -> list[Task]:
        """Return the running tasks."""
        with self._turn:
            return [task for task in self.tasks if task.state == "RUNNING"]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Ask again and again; raises TimeoutError, with what the jobs are."""
        wait_until(condition, lambda: [(task.id, task.state, task.node) for task in self.tasks])

    def wait_for_the_end(self) -> None:
        """Of all jobs."""
        self.wait_until(lambda: not any(task.lives for task in self.tasks))

    # What happens to it.

    def open(self, *nodes: str) -> None:
        """Make these nodes available."""
        with self._turn:
            self.nodes = list(nodes)
            self._start_what_can()

    def kill(self, task: Task) -> None:
        """As the kernel does when memory is short: the task and all that it started."""
        _signal(task.starts[-1], signal.SIGKILL)

    def requeue(self, task: Task, *, node: str, ended: signal.Signals | None) -> None:
        """Start it again at once on another node; what ran is asked to end, killed, or lives on (None)."""
        before = task.starts[-1]
        with self._turn:
            task.state, task.node = "RUNNING", node
            if ended == signal.SIGKILL:  # the machine is gone
                _signal(before, ended)
            self._start(task)
        if ended == signal.SIGTERM:
            _signal(before, ended)

    def close(self) -> None:
        """Kill everything that it started."""
        with self._turn:
            self._open = False
            for task in self.tasks:
                for process in task.starts:
                    _signal(process, signal.SIGKILL)
        for waiter in self._waiters:
            waiter.join(_SECONDS)

    # What its commands do.

    def ask(self, name: str, argv: list[str], environ: Mapping[str, str]) -> Answer:
        """What a command answers."""
        waiting = self.answers.get(name)
        other = waiting.pop(0) if waiting else None
        if isinstance(other, Answer):
            return other
        if other:
            return other()
        with self._turn:
            return {
                "sbatch": self.sbatch,
                "squeue": self._squeue,
                "scancel": self._scancel,
                "sinfo": self._sinfo,
            }[name](argv, environ)

    def sbatch(self, argv: list[str], environ: Mapping[str, str]) -> Answer:
        """Take a job."""
        if argv == ["--version"]:
            return Answer(0, "slurm-wlm 22.05.8\n")
        job = len(self.submitted) + 100
        self.submitted.append(argv)
        first = Task(job, None, argv, environ)
        array = first.option("array").partition("%")[0]
        begin, _, end = array.partition("-")
        spooled = self._folder / f"{job}.sh"  # a job keeps the script that it was submitted with
        spooled.write_bytes(Path(argv[-1]).read_bytes())
        spooled.chmod(0o700)
        numbers: list[int | None] = [*range(int(begin), int(end) + 1)] if array else [None]
        self.tasks += [Task(job, number, argv, environ) for number in numbers]
        self._start_what_can()
        return Answer(0, f"{job}\n")

    def _squeue(self, argv: list[str], environ: Mapping[str, str]) -> Answer:
        wanted = next(word.partition("=")[2] for word in argv if word.startswith("--name="))
        ours = [task for task in self.tasks if task.option("job-name") == wanted]
        if "--states=FAILED" in argv:
            failed = [task for task in ours if task.state == "FAILED"]
            return Answer(0, "".join(f"{task.id}|FAILED|{task.ran_on}|NonZeroExitCode\n" for task in failed))
        live = [task for task in ours if task.lives]
        lines = [f"{task.id}|{task.state}|{task.node}|{'None' if task.node else 'Resources'}\n" for task in live]
        return Answer(0, "".join(lines))

    def _scancel(self, argv: list[str], environ: Mapping[str, str]) -> Answer:
        for task in self.tasks:
            if task.lives and str(task.job) in argv:
                if task.state == "RUNNING":
                    _signal(task.starts[-1], signal.SIGTERM)
                else:
                    task.state = "CANCELLED"
        self._start_what_can()
        return Answer(0)

    def _sinfo(self, argv: list[str], environ: Mapping[str, str]) -> Answer:
        return Answer(0, "".join(f"{node}|idle\n" for node in self.nodes))

    # How it schedules.

    def _start_what_can(self) -> None:
        for task in self.tasks:
            if task.state == "PENDING" and self._open and self._may_start(task):
                busy = {other.node for other in self.running()}
                free = [node for node in self.nodes if node not in busy | task.excluded]
                if free:
                    task.state, task.node = "RUNNING", free[0]
                    self._start(task)

    def _may_start(self, task: Task) -> bool:
        after = task.option("dependency").removeprefix("afterany:")
        at_once = int(task.option("array").partition("%")[2] or 1)
        siblings = sum(other.job == task.job for other in self.running())
        return siblings < at_once and not any(str(other.job) == after and other.lives for other in self.tasks)

    def _start(self, task: Task) -> None:
        task.ran_on = task.node
        of_array = {"SLURM_ARRAY_TASK_ID": str(task.number), "SLURM_ARRAY_JOB_ID": str(task.job)}
        number = {} if task.number is None else of_array
        script, output = self._folder / f"{task.job}.sh", task.option("output")
        if there := self.replaced.get(task.node):
            text = script.read_text().replace(*there)
            script = self._folder / f"{task.job}.{task.node}.{task.number}.sh"
            script.write_text(text)
            script.chmod(0o700)
            output = output.replace(*there) if os.path.isdir(Path(output.replace(*there)).parent) else os.devnull
        ours = {
            "SLURM_JOB_ID": str(task.job),
            "SLURM_JOB_NAME": task.option("job-name"),
            "SLURMD_NODENAME": task.node,
            "SLURM_CPUS_ON_NODE": "1",
            "SLURM_RESTART_COUNT": str(len(task.starts)),
            "TMPDIR": str(self.tmp(task.node)),
        }
        self.tmp(task.node).mkdir(exist_ok=True)
        output = output.replace("%A", str(task.job)).replace("%j", str(task.job))
        with open(output.replace("%a", str(task.number)), "ab") as out:
            process = subprocess.Popen(
                [str(script)],
                env={**task.environ, **ours, **number, **self.node_env.get(task.node, {})},
                cwd=task.option("chdir"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        task.starts.append(psutil.Process(process.pid))
        waiter = threading.Thread(target=self._wait, args=(task, process), daemon=True)
        self._waiters.append(waiter)
        waiter.start()

    def _wait(self, task: Task, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._turn:
            if task.starts[-1].pid == process.pid:  # else another start of it is at work
                task.state, task.node = ("COMPLETED" if process.returncode == 0 else "FAILED"), ""
                self._start_what_can()


def _signal(process: psutil.Process, signum: signal.Signals) -> None:
    """To a process and all that it started, whatever their sessions, as Slurm does."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signum)
        if signum == signal.SIGKILL:
            psutil.wait_procs([member for member in family if member.pid != process.pid], timeout=_SECONDS)


@contextlib.contextmanager
def slurm_double(tmp: Path, nodes: Sequence[str] = ("n1", "n2")) -> Iterator[SlurmDouble]:
    """A cluster while inside, whose nodes have their TMPDIRs in a folder; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as short:  # socket paths have to be
        folder = Path(short)
        slurm = SlurmDouble(folder, tmp, nodes)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                name, argv, environ = json.loads(self.rfile.readline())
                self.wfile.write(json.dumps(slurm.ask(name, argv, environ)).encode() + b"\n")

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Ignore that the client was killed meanwhile."""

        address = str(folder / "socket")
        _install(folder / "bin", address)
        with Server(address, Handler) as server:
            serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            serving.start()
            try:
                yield slurm
            finally:
                slurm.close()
                server.shutdown()
                serving.join()


def _install(bin_: Path, address: str) -> None:
    bin_.mkdir()
    for name in COMMANDS:
        (bin_ / name).write_text(_CLIENT.format(python=sys.executable, address=address, name=name))
        (bin_ / name).chmod(0o755)
    assert os.access(bin_ / "sbatch", os.X_OK)
