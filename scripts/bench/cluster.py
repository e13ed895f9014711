"""Measure how much sooner a run is in S3 with more nodes: one core against a Slurm cluster, in alternation.

All nodes are on this machine, a core each. If there are more of them than cores, they share these with each other, the
server and the coordinator, so their CPU time says how long they would take with cores of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import psutil

from s3sync.text import pluralize, printable
from scripts.bench.contenders import ROOT
from scripts.bench.measure import Command, Usage, run_together
from scripts.bench.sites import LocalSite, Place
from scripts.bench.workloads import Workload

if TYPE_CHECKING:
    from tests.helpers.slurm_cluster import SlurmCluster

NODES = (0, 1, 2, 4)  # 0: no cluster, one core here
_LOOK_SECONDS = 0.1  # between two looks into the work folder
_STORING = ("PutObject", "CompleteMultipartUpload")  # each makes an object


class Trial(NamedTuple):
    """One upload. Seconds of wall time, CPU-seconds of each node for its tasks, of all nodes for the last job.

    `head` ends when the array was planned, `tasks` when the last task had ended, `tail` when the command had.
    """

    nodes: int
    round: int  # from 1
    shards: int
    seconds: float
    head: float
    tasks: float
    tail: float
    node_cpu: tuple[float, ...]
    last_cpu: float
    coordinator_cpu: float
    server_cpu: float
    trouble: str = ""


class _Seen(NamedTuple):
    """Moments (seconds since the epoch), shards, and what each node had used when all tasks had ended."""

    planned: float
    ended: float
    shards: int
    node_cpu: tuple[float, ...]


def measure_speedup(site: LocalSite, workload: Workload, rounds: int, aws: str) -> Iterator[Trial]:
    """Measure all numbers of nodes in alternation; yield each trial as soon as it is made."""
    for number in range(1, rounds + 1):
        for nodes in NODES:
            yield measure(site, workload, nodes, number, aws)


def measure(site: LocalSite, workload: Workload, nodes: int, number: int, aws: str) -> Trial:
    """Measure one upload to an empty server."""
    # Whatever TMPDIR says: the paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder, site.place(workload.latency) as place:
        psutil.Process(place.pid).cpu_affinity(_cores()[-1:])
        work = Path(folder)
        if nodes:
            return _on_cluster(place, workload, work, nodes, number, aws)
        argv = ("taskset", "--cpu-list", str(_cores()[0]), *_argv(workload, place, work, aws), "--cores=1")
        usage = run_together([Command(argv, _environ(place))], work / "output", [place.pid])
        served = place.stop()
        assert served is not None, "the server is ours"
        arrived = sum(served.requests[operation] for operation in _STORING)
        return Trial(
            *(0, number, 0, usage.seconds, 0.0, usage.seconds, 0.0, (usage.cpu_seconds,), 0.0, 0.0),
            server_cpu=served.cpu_seconds,
            trouble=_trouble(usage, work / "output", arrived, len(workload.files)),
        )


def _on_cluster(place: Place, workload: Workload, work: Path, nodes: int, number: int, aws: str) -> Trial:
    from tests.helpers.slurm_cluster import slurm_cluster  # wants Debian packages, and root

    for name in ("cluster", "log"):
        (work / name).mkdir()
    with slurm_cluster(work / "cluster", nodes, cpus=1, pinned=True) as cluster:
        argv = (*_argv(workload, place, work, aws), "--executor=slurm", f"--nodes={nodes}")
        pinned = ("taskset", "--cpu-list", str(_cores()[-1]), *argv)
        began = time.time()
        with _watched(work / "log" / "slurm", cluster) as seen:
            usage = run_together([Command(pinned, {**_environ(place), **cluster.env})], work / "output", [place.pid])
        over = time.time()
        cluster.wait_until(lambda: not cluster.squeue())
        cpu = _cpu_of_nodes(cluster)
    served = place.stop()
    assert served is not None, "the server is ours"
    arrived = sum(served.requests[operation] for operation in _STORING)
    trouble = _trouble(usage, work / "output", arrived, len(workload.files))
    if not seen:
        trouble = trouble or "its work folder was never seen complete"
        seen = [_Seen(over, over, 0, cpu)]
    (one,) = seen
    return Trial(
        nodes=nodes,
        round=number,
        shards=one.shards,
        seconds=usage.seconds,
        head=one.planned - began,
        tasks=one.ended - one.planned,
        tail=over - one.ended,
        node_cpu=one.node_cpu,
        last_cpu=sum(cpu) - sum(one.node_cpu),
        coordinator_cpu=usage.cpu_seconds,
        server_cpu=served.cpu_seconds,
        trouble=trouble,
    )


def _argv(workload: Workload, place: Place, work: Path, aws: str) -> tuple[str, ...]:
    argv = (sys.executable, "-m", "s3sync", "upload", "--skip_check", f"--local_path={workload.folder}")
    where = (f"--bucket={place.bucket}", f"--remote_path={place.base}", f"--log_dir={work / 'log'}")
    return (*argv, *where, f"--aws_command={aws}")


def _environ(place: Place) -> dict[str, str]:
    return {**place.environ, "PYTHONPATH": str(ROOT)}


def _cores() -> list[int]:
    """Return the usable cores. The first is for the first node, the last one for the server and the coordinator."""
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def _watched(folder: Path, cluster: SlurmCluster) -> Iterator[list[_Seen]]:
    """Watch a work folder; the yielded list gets one item when all tasks of the first array have ended."""
    seen: list[_Seen] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_SECONDS) and not seen:
            with contextlib.suppress(OSError, ValueError):
                if all_ended := _all_ended(folder):
                    seen.append(_Seen(*all_ended, _cpu_of_nodes(cluster)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def _all_ended(folder: Path) -> tuple[float, float, int] | None:
    """When the array was planned and when its last task ended, and how many there were; None if not all have yet.

    Raises OSError if the folder is not there (any more).
    """
    (work,) = folder.iterdir()
    plan = work / "round-1.json"
    _, shards = json.loads(plan.read_bytes())
    results = [path.stat().st_mtime for path in (work / "results").glob("[0-9]*.json")]
    return (plan.stat().st_mtime, max(results), shards) if len(results) == shards else None


def _cpu_of_nodes(cluster: SlurmCluster) -> tuple[float, ...]:
    """Return the CPU-seconds of all processes on each node, ended ones included: its first process adopts orphans."""
    return tuple(sum(map(_cpu_seconds, cluster.processes(name))) for name in cluster.names)


def _cpu_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0


def _trouble(usage: Usage, output: Path, arrived: int, files: int) -> str:
    if any(usage.returncodes):
        return f"exit code {usage.returncodes[0]}: {printable(output.read_text(errors='replace').strip()[-300:])}"
    return "" if arrived >= files else f"only {arrived:,} of {pluralize(files, 'file')} arrived"


# Results


class Row(NamedTuple):
    """Medians of the trials with one number of nodes. `own_cores` are the seconds if each node had its own core."""

    nodes: int
    seconds: float
    ratio: float  # of the local upload's seconds in the same round to these
    own_cores: float
    own_ratio: float
    cpu: float  # of all tasks
    slowest_cpu: float  # of the node that had most to do
    last_cpu: float
    coordinator_cpu: float
    server_cpu: float


def rows_of(trials: Sequence[Trial]) -> list[Row]:
    """Return a row for each number of nodes, without failed trials."""
    good = [one for one in trials if not one.trouble]
    rounds = {(one.nodes, one.round): one for one in good}
    return [
        _row(nodes, [one for one in good if one.nodes == nodes], rounds)
        for nodes in sorted({one.nodes for one in good})
    ]


def own_seconds(one: Trial, alone: Trial) -> float:
    """Return how long it would take if each node had its own core, as in the trial `alone`.

    The node with most to do needs for its CPU-seconds as much longer as that one did, which waited for the server and
    for Slurm, too; what comes before and after the tasks takes what it took there.
    """
    waiting = alone.tasks / sum(alone.node_cpu)
    return alone.head + max(one.node_cpu) * waiting + alone.tail


def _row(nodes: int, group: Sequence[Trial], rounds: Mapping[tuple[int, int], Trial]) -> Row:
    local = [rounds[0, one.round].seconds if (0, one.round) in rounds else one.seconds for one in group]
    alone = [rounds.get((1, one.round), one) for one in group]
    own = [own_seconds(one, beside) if nodes else one.seconds for one, beside in zip(group, alone, strict=True)]
    return Row(
        nodes=nodes,
        seconds=median(one.seconds for one in group),
        ratio=median(base / one.seconds for base, one in zip(local, group, strict=True)),
        own_cores=median(own),
        own_ratio=median(base / seconds for base, seconds in zip(local, own, strict=True)),
        cpu=median(sum(one.node_cpu) for one in group),
        slowest_cpu=median(max(one.node_cpu) for one in group),
        last_cpu=median(one.last_cpu for one in group),
        coordinator_cpu=median(one.coordinator_cpu for one in group),
        server_cpu=median(one.server_cpu for one in group),
    )


_HEAD = ("nodes", "wall s", "faster", "own s", "faster", "CPU s", "most", "last job", "coord.", "server")


def table(trials: Sequence[Trial]) -> list[tuple[str, ...]]:
    """Return a header and a row for each number of nodes."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for row in rows_of(trials):
        name = f"{row.nodes}" if row.nodes else "local"
        ratios = (f"{row.seconds:.1f}", f"{row.ratio:.2f}", f"{row.own_cores:.1f}", f"{row.own_ratio:.2f}")
        cpu = (row.cpu, row.slowest_cpu, row.last_cpu, row.coordinator_cpu, row.server_cpu)
        rows.append((name, *ratios, *(f"{value:.1f}" for value in cpu)))
    return rows


def about(workload: Workload) -> str:
    """Return lines about how the table was measured."""
    return "\n".join(
        [
            f"{workload};",
            f"{pluralize(len(_cores()), 'core')} for all: each node is pinned to one of them, server and coordinator",
            "to the last. `wall` is what this machine made of it. `own`: for nodes that share",
            "no core: of the node with most to do, the CPU-seconds times the wall time of a",
            "CPU-second in the trial with one node, and what came before and after the tasks",
            "there. `faster`: the local upload's seconds over these, in the same round;",
            "medians. CPU-seconds of all tasks, of the node with most of them, of the last",
            "job, of the coordinator with its `aws` and Slurm commands, of the server.",
        ]
    )


def line_of(one: Trial) -> str:
    """Return a trial as one line."""
    if one.trouble:
        return f"cluster round {one.round}, {one.nodes} nodes: {one.trouble}"
    parts = f" ({one.head:.1f} + {one.tasks:.1f} + {one.tail:.1f})" if one.nodes else ""
    cpu = ", ".join(f"{seconds:.1f}" for seconds in one.node_cpu)
    return f"cluster round {one.round}, {one.nodes} nodes: {one.seconds:.1f} s{parts}; CPU-s {cpu}"


def as_json(workload: Workload, trials: Sequence[Trial]) -> str:
    """Return all trials and their medians as JSON."""
    rows = [row._asdict() for row in rows_of(trials)]
    about = {"files": len(workload.files), "bytes": workload.size, "latency_seconds": workload.latency}
    everything = {**about, "cores": len(_cores()), "rows": rows, "trials": [one._asdict() for one in trials]}
    return json.dumps(everything, indent=1) + "\n"
