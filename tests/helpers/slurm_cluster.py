"""A Slurm cluster on one machine, from Debian's packages: munged, slurmctld, and a slurmd for each node; no systemd.

Each node has its own processes, mounts and host name (Linux namespaces), so that it can lose power and that its
disk for temporary files can be full; all nodes share the rest of the file system, as over NFS. Slurm's own times are
as short as they can be. It is up in a second.

What was found out with it (Debian's slurm-wlm 22.05.8):

- A task begins within a second of its submission, of the end of what it depends on, or when a place gets free; squeue
  says RUNNING some moments before the first command of its script.
- One that is queued again (`scontrol requeue`, or its node is down) is PENDING for `cred_expire` seconds with the
  reason BeginTime: 120 by default, 5 here, which is the least that Slurm takes. Then it has SLURM_RESTART_COUNT=1,
  which is not set at its first start, and the ids that it had.
- A node that is gone is `allocated*`, then `down*`, and what ran there is queued again: after 18 s here if nobody
  tells slurmctld (SlurmdTimeout=10), after some minutes by default (300).
- If slurmd alone is gone, its processes continue and their end is seen (COMPLETING until slurmd is back). If the node
  is taken to be down meanwhile, the task runs twice at once; the first one is killed when slurmd is back.
- `scancel` and `requeue` send SIGTERM to the script and all its children, also in other sessions, and SIGKILL after
  KillWait (30 s by default, 2 here). `proctrack/linuxproc` loses processes whose parent has ended; cgroups would not.
- What is preempted (`PreemptMode=REQUEUE`, by a partition of a higher `PriorityTier`) is queued again in the same way.
- Reasons to wait: None (not looked at yet), Resources, JobArrayTaskLimit (`--array=..%N`), Dependency, BeginTime,
  JobHeldUser, `Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions`.
- An unknown job: `squeue --jobs` fails (1, `Invalid job id specified`), `squeue --name` and `scancel` do not.
- An unknown partition: `sbatch` fails (1, `invalid partition specified: X` / `Batch job submission failed: Invalid
  partition name specified`), `sinfo` prints nothing. Unknown options: 255. An account that nobody knows is taken where
  there is no accounting, and so are more nodes or CPUs than there are: such a job waits for ever.
- slurmctld is away: after 4 s here, 10 and more by default, each command fails: `sbatch: error: Batch job submission
  failed: Unable to contact slurm controller (connect failure)`. Killed, it forgets its last seconds: a job that had
  ended runs again, and ids are given twice. Ended by SIGTERM it forgets nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.helpers.lab import send_to_all
from tests.helpers.radosgw import free_ports
from tests.helpers.waiting import wait_until

PROGRAMS = (
    *("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo"),
    *("nsenter", "setpriv", "taskset", "unshare"),
)
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_SECONDS = 120  # until what is waited for has to have happened

_CONFIG = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=10
MessageTimeout=5
TCPTimeout=1
KillWait=2
MinJobAge=2
ReturnToService=2
JobRequeue=1
{nodes}
PartitionName=lab Nodes=ALL Default=YES State=UP
PartitionName=short Nodes=n1 State=UP
{more}
"""

# Each node has its own processes, mounts and name: whatever it runs dies with the first of its processes, as with
# a machine that loses power, and what is mounted over its folder for temporary files is its alone.
_NODE = """
hostname "$1"
echo "127.0.0.1 localhost $1" > "$2/$1.hosts"
mount --make-rprivate /
mount --bind "$2/$1.hosts" /etc/hosts
slurmd -D -N "$1" &
while :; do wait; sleep 1000; done
"""

# A job has the environment of its submitter; this much is the node's own.
_PROLOG = """\
#!/bin/sh
echo "export TMPDIR={folder}/$SLURMD_NODENAME.tmp"
"""


# In its own room, whose processes all die with the first.
_ALONE = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")


class Queued(NamedTuple):
    """A line of squeue."""

    job: str  # 12, or 12_0 of an array
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str  # where it runs; empty if it waits
    reason: str  # why it waits, or None


def why_no_slurm() -> str:
    """Empty if it can be started here."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    return f"not installed: {', '.join(missing)}" if missing else ""


class SlurmCluster:
    """A cluster that runs; `env` is what its users need in their environment."""

    def __init__(self, folder: Path, names: Sequence[str], *, pinned: bool) -> None:
        self.names = tuple(names)
        self.env = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self._folder = folder
        self._pinned = pinned
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    # What its users do.

    def run(self, *argv: str) -> str:
        """What a command prints; raises RuntimeError if it fails."""
        done = subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr}")
        return done.stdout

    def squeue(self) -> list[Queued]:
        """All jobs that have not ended, each task of an array by itself."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i|%T|%N|%r").splitlines()
        return [Queued(*line.strip().split("|", 3)) for line in lines]

    def job(self, job: str) -> Queued | None:
        """Its line, while there is one."""
        return next((queued for queued in self.squeue() if queued.job == job), None)

    def nodes(self) -> dict[str, str]:
        """The state of each node: `idle`, `mixed`, `down*`, `drained`, ..."""
        lines = self.run("sinfo", "--noheader", "--Node", "--partition=lab", "--format=%N|%T").splitlines()
        return {name: state.strip() for name, _, state in (line.partition("|") for line in lines)}

    def requeue(self, job: str) -> None:
        """Have a job, or a task of an array, run again."""
        self.run("scontrol", "requeue", job)

    def answers(self) -> bool:
        """Whether slurmctld does, and all nodes are up."""
        try:
            return all(
                re.fullmatch("idle|mixed|allocated|completing|drain.*", state) for state in self.nodes().values()
            )
        except RuntimeError:
            return False

    def wait_until(self, condition: Callable[[], bool], seconds: float = _SECONDS) -> None:
        """Ask again and again; raises TimeoutError, with all that is known."""
        wait_until(condition, self.output, seconds)

    def output(self) -> str:
        """The ends of what the daemons printed."""
        ends = {path.stem: path.read_text(errors="replace")[-3000:] for path in sorted(self._folder.glob("*.out"))}
        return "\n".join(f"== {name}\n{end}" for name, end in ends.items())

    # What happens to it.

    def tmp(self, node: str) -> Path:
        """TMPDIR of the jobs there."""
        return self._folder / f"{node}.tmp"

    def mount(self, node: str, path: Path, options: str = "mode=700") -> None:
        """Mount an empty tmpfs over a folder, as that node alone sees it; with e.g. `size=64k` a disk soon full."""
        enter = ("nsenter", f"--target={self._first(node).pid}", "--mount")
        self.run(*enter, "mount", "-t", "tmpfs", "-o", options, "none", str(path))

    def mount_tmp(self, node: str, options: str) -> None:
        """`mount` over the TMPDIR of a node."""
        self.mount(node, self.tmp(node), options)

    def unmount_tmp(self, node: str) -> None:
        """Take it away again."""
        enter = ("nsenter", f"--target={self._first(node).pid}", "--mount")
        self.run(*enter, "umount", str(self.tmp(node)))

    def kill_slurmd(self, node: str) -> None:
        """Kill slurmd alone; the jobs there go on."""
        daemons = [process for process in self.processes(node) if process.name() == "slurmd"]
        for daemon in daemons:
            daemon.kill()
        psutil.wait_procs(daemons, timeout=_SECONDS)

    def kill_node(self, node: str, *, reported: bool = True) -> None:
        """Kill every process of it at once, as if it lost power; Slurm is informed, or has to find out by itself."""
        everything = self.processes(node)
        _end(self._nodes.pop(node))
        psutil.wait_procs(everything, timeout=_SECONDS)
        if reported:
            self.set_state(node, "down")

    def set_state(self, node: str, state: str) -> None:
        """What an administrator says of a node: `down`, `drain`, `resume`, ..."""
        self.run("scontrol", "update", f"node={node}", f"state={state}", "reason=a test")

    def start_slurmd(self, node: str) -> None:
        """Again: on a node that still runs, or on one that was killed."""
        if node in self._nodes:
            enter = ("nsenter", f"--target={self._first(node).pid}", "--pid", "--mount", "--uts")
            self._start(f"{node}.again", *self._pin(node), *enter, "slurmd", "-D", "-N", node)
        else:
            self.tmp(node).mkdir(exist_ok=True)
            argv = ("--uts", "sh", "-c", _NODE, "node", node, str(self._folder))
            self._nodes[node] = self._start(node, *self._pin(node), *_ALONE, *argv)

    def stop_controller(self) -> None:
        """End slurmctld, which saves what it knows: nobody answers until `start_controller`."""
        send_to_all(signal.SIGTERM, psutil.Process(self._controller.pid).children())
        self._controller.wait(_SECONDS)

    def start_controller(self) -> None:
        """slurmctld, which takes up where it was."""
        self._controller = self._start("slurmctld", *_ALONE, "slurmctld", "-D")

    def processes(self, node: str) -> list[psutil.Process]:
        """All that run there."""
        here = _namespace(self._first(node).pid)
        return [process for process in psutil.process_iter(["name"]) if _namespace(process.pid) == here]

    # Its own.

    def start(self) -> None:
        """All of it, until the nodes are idle."""
        munge = ("key-file", "socket", "pid-file", "log-file", "seed-file")
        paths = [f"--{name}={self._folder}/munge.{name.removesuffix('-file')}" for name in munge]
        self._start("munged", *_ALONE, "munged", "--foreground", "--force", *paths)
        self._wait_for_munged()
        self.start_controller()
        for name in self.names:
            self.start_slurmd(name)
        self.wait_until(self.answers)

    def stop(self) -> None:
        """All of it, with whatever runs on the nodes."""
        for process in reversed(self._daemons):
            _end(process)

    def _wait_for_munged(self) -> None:
        wait_until((self._folder / "munge.socket").is_socket, self.output, _SECONDS)

    def _start(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """It dies with us, however we end."""
        with (self._folder / f"{name}.out").open("ab") as out:
            arguments = ("setpriv", "--pdeathsig=KILL", *argv)
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.env)
        self._daemons.append(process)
        return process

    def _pin(self, node: str) -> tuple[str, ...]:
        cores = sorted(os.sched_getaffinity(0))
        core = cores[self.names.index(node) % len(cores)]
        return ("taskset", "--cpu-list", str(core)) if self._pinned else ()

    def _first(self, node: str) -> psutil.Process:
        """The process that all others of a node die with."""
        power = psutil.Process(self._nodes[node].pid)
        self.wait_until(lambda: bool(power.children()))
        return power.children()[0]


@contextlib.contextmanager
def slurm_cluster(
    folder: Path, nodes: int = 2, cpus: int = 2, *, pinned: bool = False, more: str = ""
) -> Iterator[SlurmCluster]:
    """A cluster of nodes `n1`, `n2`, ... while inside; the folder has to be empty, its path short, for sockets.

    Slurm believes that each node has `cpus` CPUs; `pinned`, each has but one core of this machine in turn. `more` are
    lines of slurm.conf.
    """
    names = [f"n{number}" for number in range(1, nodes + 1)]
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(secrets.token_bytes(64))
    (folder / "munge.key").chmod(0o600)
    (folder / "state").mkdir()
    (folder / "prolog").write_text(_PROLOG.format(folder=folder))
    (folder / "prolog").chmod(0o755)
    port, *others = free_ports(nodes + 1)
    lines = "\n".join(
        f"NodeName={name} NodeAddr=127.0.0.1 Port={other} CPUs={cpus}"
        for name, other in zip(names, others, strict=True)
    )
    config = _CONFIG.format(host=socket.gethostname(), port=port, folder=folder, nodes=lines, more=more)
    (folder / "slurm.conf").write_text(config)
    cluster = SlurmCluster(folder, names, pinned=pinned)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the first process of a room, with which all others end, and the process that waits for it."""
    if process.poll() is None:
        send_to_all(signal.SIGKILL, psutil.Process(process.pid).children())
        process.wait(_SECONDS)


def _namespace(pid: int) -> str:
    """Of the processes that it sees; empty if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
