"""Calculate how many nodes a sequencing core needs, and simulate a month to see whether they are enough.

Nothing is measured here. The simulation jumps from one event to the next (a run ends, waits, is uploaded), takes
seconds of one core, and always has the same outcome.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import median
from typing import NamedTuple

from s3sync.aws.client import PROCESS_COST
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.runs.local_files import LocalFile
from s3sync.slurm.client import DEFAULT_NODES
from s3sync.slurm.shards import SHARDS_A_NODE, shard_count_for
from s3sync.transfer.batches import cost_of, into_batches
from scripts.simulate.files import run_files
from scripts.simulate.plan import plan_run

HASH_COST = 1.3e-9  # CPU-seconds a byte, for the MD5; see README.md
OWN_FILE_COST = 0.0003  # CPU-seconds a file that this program spends beside the AWS CLI; see README.md
LOG_BYTES = 235  # a file, in the state log; see README.md
PUTS_A_SECOND = 3500  # S3's limit for a prefix that it has not parted yet
USE = 0.7  # of what the nodes can do, planned for the mean: the rest is for peaks, repeats and maintenance
TASK_SECONDS = 15.0  # of a task beside its sending: until it is started, and the requests at its start and end
SHARD_SECONDS = 5.0  # of these, what the program itself takes; `--slurm speedup`
CALL_SECONDS = 9.0  # before and after all tasks: the plan, the last job with the markers, the log; `--slurm speedup`
_DAY = 24.0  # hours
_GIGA = 1e9


class Load(NamedTuple):
    """One run folder: files, bytes, the requests that create or fill an object, and the CPU-seconds to upload it."""

    files: int
    size: int
    puts: int
    cpu_seconds: float


class Node(NamedTuple):
    """A machine that uploads. `line` is in bits a second, `line_use` the part of it that uploads may have."""

    cores: int = 8
    line: float = 10e9
    line_use: float = 0.8

    def rate(self, load: Load) -> float:
        """Return the bytes per second that its cores and its line allow."""
        return min(self.cores * load.size / load.cpu_seconds, self.line * self.line_use / 8)


USUAL = Node()


class Site(NamedTuple):
    """Sequencers of one kind. Hours; `turnaround` lies between the end of a run and the start of the next one."""

    sequencers: int
    instrument: str = "novaseqx"
    sides: int = 2  # flow cells at a time, each a run folder of its own
    run_hours: float = 42.0
    turnaround: float = 6.0
    days: int = 30

    @property
    def cycle(self) -> float:
        """Return the hours from the end of a run to the end of the next one on the same sequencer."""
        return self.run_hours + self.turnaround

    @property
    def runs_a_day(self) -> float:
        """Return how many run folders are completed per day."""
        return self.sequencers * self.sides * _DAY / self.cycle


class Plan(NamedTuple):
    """What a site needs: means over time, unless the name says otherwise."""

    bytes_a_day: float
    bits_a_second: float
    cpu_seconds_a_day: float
    nodes: int
    peak_bits_a_second: float  # all nodes at work
    peak_puts_a_second: float
    requests_a_day: float
    log_bytes_a_year: float


class Outcome(NamedTuple):
    """A simulated month. Hours from the end of a run until all of it is in S3."""

    runs: int
    use: float  # of what the nodes could have done in that time; above 1 they have fallen behind
    median_hours: float
    late_hours: float  # 95 of 100 runs took no longer
    most_hours: float
    most_at_once: int  # runs that waited or were under way


@cache
def load_of(instrument: str, cores: int = USUAL.cores) -> Load:
    """Return the load of one run of this kind at its full size, with the files of the simulator."""
    files = _files_of(instrument)
    size = sum(file.size for file in files)
    starts = PROCESS_COST * len(into_batches(files, cores))
    cpu_seconds = cost_of(files) + starts + OWN_FILE_COST * len(files) + HASH_COST * size
    return Load(len(files), size, sum(map(puts_of, files)), cpu_seconds)


@cache
def _files_of(instrument: str) -> tuple[LocalFile, ...]:
    return tuple(LocalFile(file.path, file.size, 0) for file in run_files(plan_run(instrument), 1))


def puts_of(file: LocalFile) -> int:
    """Return the requests for a file: one, or the parts of a multipart upload plus its start and end."""
    part_size = DEFAULT_MULTIPART.part_size_for(file.size)
    return math.ceil(file.size / part_size) + 2 if part_size else 1


def plan_of(site: Site, node: Node) -> Plan:
    """Return the plan for a site, calculated from means alone."""
    load, runs = load_of(site.instrument, node.cores), site.runs_a_day
    mean = runs * load.size / (_DAY * 3600)
    nodes = math.ceil(mean / (USE * node.rate(load)))
    peak = nodes * node.rate(load)
    return Plan(
        bytes_a_day=runs * load.size,
        bits_a_second=mean * 8,
        cpu_seconds_a_day=runs * load.cpu_seconds,
        nodes=nodes,
        peak_bits_a_second=peak * 8,
        peak_puts_a_second=peak / load.size * load.puts,
        requests_a_day=runs * load.puts,
        log_bytes_a_year=runs * 365 * load.files * LOG_BYTES,
    )


def simulate(site: Site, node: Node, nodes: int, *, office: bool = False) -> Outcome:
    """Simulate a month with this number of nodes, of which a run uses DEFAULT_NODES at most."""
    load = load_of(site.instrument, node.cores)
    at_once = min(nodes, DEFAULT_NODES)
    hours = (load.size / (SHARDS_A_NODE * at_once) / node.rate(load) + TASK_SECONDS) / 3600
    ends = sorted(_ends(site, office=office))
    done = _served(ends, nodes, at_once, hours)
    waited = [finish - end for end, finish in zip(ends, done, strict=True)]
    return Outcome(
        runs=len(ends),
        use=len(ends) * SHARDS_A_NODE * at_once * hours / (nodes * site.days * _DAY),
        median_hours=median(waited),
        late_hours=sorted(waited)[math.ceil(0.95 * len(waited)) - 1],
        most_hours=max(waited),
        most_at_once=_most_at_once(ends, done),
    )


def _ends(site: Site, *, office: bool) -> Iterator[float]:
    """Yield when runs end, in hours. Each sequencer starts within a run, and is loaded again some hours after each run.

    In `office` hours it is loaded from Monday to Friday between 8 and 18 alone, so that many runs end in one night.
    """
    chance = random.Random(f"{site.sequencers} {site.instrument}")
    for _ in range(site.sequencers):
        end = chance.uniform(0, site.cycle)
        while end < site.days * _DAY:
            for _ in range(site.sides):
                yield end + chance.uniform(0, 0.5)
            start = end + chance.uniform(site.turnaround / 2, site.turnaround * 1.5)
            end = (_at_work(start) if office else start) + site.run_hours


def _at_work(hour: float) -> float:
    """Return this hour, or the first later one in office hours; hour 0 is midnight on a Monday."""
    day, of_day = divmod(hour, _DAY)
    if day % 7 < 5 and 8 <= of_day < 18:
        return hour
    day += of_day >= 18
    while day % 7 >= 5:
        day += 1
    return max(hour, day * _DAY + 8)


class _Waiting(NamedTuple):
    """The tasks of a run that no node has begun, and those that are running."""

    tasks: int
    under_way: int


def _served(ends: Sequence[float], nodes: int, at_once: int, hours: float) -> list[float]:
    """Return when each run is in S3. Equal tasks start in order of arrival, `at_once` of a run at a time."""
    done = [0.0] * len(ends)
    queue: dict[int, _Waiting] = {}  # by the number of the run, in the order of arrival
    events = [(end, number, True) for number, end in enumerate(ends)]  # a run has come, or a task of it is over
    heapq.heapify(events)
    idle = nodes
    while events:
        now, number, has_come = heapq.heappop(events)
        if has_come:
            queue[number] = _Waiting(SHARDS_A_NODE * at_once, 0)
        else:
            idle += 1
            queue[number] = queue[number]._replace(under_way=queue[number].under_way - 1)
            if queue[number] == (0, 0):
                done[number] = now
                del queue[number]
        for chosen, (tasks, under_way) in list(queue.items()):
            begun = min(idle, tasks, at_once - under_way)
            if begun:
                idle -= begun
                queue[chosen] = _Waiting(tasks - begun, under_way + begun)
                for _ in range(begun):
                    heapq.heappush(events, (now + hours, chosen, False))
            if not idle:
                break
    return done


def _most_at_once(ends: Sequence[float], done: Sequence[float]) -> int:
    changes = sorted([(end, 1) for end in ends] + [(finish, -1) for finish in done])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


# For people

Rows = list[tuple[str, ...]]
SITES = (Site(10), Site(100))
INSTRUMENTS = ("novaseqx", "novaseq6000", "nextseq2000", "miseq")
_RUNS_HEAD = ("one run", "files", "TB", "PUTs", "CPU-hours", "GB/s a node", "PUT/s a node")


def run_rows(instruments: Sequence[str] = INSTRUMENTS) -> Rows:
    """Return a header and a row for each kind of run: its cost, and how fast one node sends it."""
    rows: Rows = [_RUNS_HEAD]
    for name in instruments:
        load, node = load_of(name), USUAL
        rate = node.rate(load)
        cells = (f"{load.files:,}", f"{load.size / 1e12:.2f}", f"{load.puts:,}", f"{load.cpu_seconds / 3600:.2f}")
        rows.append((name, *cells, f"{rate / _GIGA:.2f}", f"{rate / load.size * load.puts:,.0f}"))
    return rows


_REQUESTS_HEAD = ("one run", "PUT/s at 10 Gbit/s", "at 100 Gbit/s", f"Gbit/s at {PUTS_A_SECOND:,} PUT/s")
_LINES = (10e9, 100e9)  # bits a second


def request_rows(instruments: Sequence[str] = INSTRUMENTS) -> Rows:
    """Return a header and a row per kind of run: requests that fill a line, and the line that S3's limit allows."""
    rows: Rows = [_REQUESTS_HEAD]
    for name in instruments:
        load = load_of(name)
        a_bit = load.puts / load.size / 8
        rows.append((name, *(f"{line * a_bit:,.0f}" for line in _LINES), f"{PUTS_A_SECOND / a_bit / _GIGA:,.0f}"))
    return rows


_NODES = (2, 4, 8, 16)
_SOONER_HEAD = ("one run", "one host", *(f"{nodes} nodes" for nodes in _NODES))


def sooner_rows(instruments: Sequence[str] = INSTRUMENTS, node: Node = USUAL) -> Rows:
    """Return a header and a row for each kind of run: seconds on one host, and on several nodes like it."""
    rows: Rows = [_SOONER_HEAD]
    for name in instruments:
        alone = load_of(name).size / node.rate(load_of(name))
        shards = (shard_count_for(_files_of(name), nodes) for nodes in _NODES)
        seconds = (_seconds(alone, *pair) for pair in zip(_NODES, shards, strict=True))
        rows.append((name, f"{alone:,.0f}", *(f"{each:,.0f}" for each in seconds)))
    return rows


def _seconds(alone: float, nodes: int, shards: int) -> float:
    """Return the seconds on nodes that share the shards evenly, except for one that may have one more."""
    in_turn = math.ceil(shards / nodes)
    return CALL_SECONDS + in_turn * (SHARD_SECONDS + alone / shards)


_HOST_HEAD = ("cores", "Gbit/s", "GB/s", "limit", "TB a day", "dual 25B")
HOSTS = ((4, 10), (8, 10), (16, 25), (32, 100), (64, 100))


def host_rows(hosts: Sequence[tuple[int, int]] = HOSTS) -> Rows:
    """Return a header and a row for each host: its speed, what limits it, and how many sequencers it keeps up with."""
    rows: Rows = [_HOST_HEAD]
    for cores, gigabits in hosts:
        node, load = Node(cores, gigabits * _GIGA), load_of("novaseqx", cores)
        rate = node.rate(load)
        limit = "line" if rate < cores * load.size / load.cpu_seconds else "cores"
        a_day = USE * rate * _DAY * 3600
        sequencers = a_day / plan_of(Site(1), node).bytes_a_day
        cells = (f"{rate / _GIGA:.2f}", limit, f"{a_day / 1e12:,.0f}", f"{math.floor(sequencers)}")
        rows.append((f"{cores}", f"{gigabits}", *cells))
    return rows


def plan_rows(sites: Sequence[Site] = SITES, node: Node = USUAL) -> Rows:
    """Return a row for each need of a site, with the sites side by side."""
    plans = [plan_of(site, node) for site in sites]

    def row(name: str, values: Iterator[str]) -> tuple[str, ...]:
        return (name, *values)

    return [
        row("sequencers", (f"{site.sequencers}" for site in sites)),
        row("run folders a day", (f"{site.runs_a_day:,.0f}" for site in sites)),
        row("TB a day", (f"{plan.bytes_a_day / 1e12:,.0f}" for plan in plans)),
        row("mean Gbit/s", (f"{plan.bits_a_second / _GIGA:.1f}" for plan in plans)),
        row("CPU-hours a day", (f"{plan.cpu_seconds_a_day / 3600:,.0f}" for plan in plans)),
        row(f"nodes at {USE:.0%} use", (f"{plan.nodes}" for plan in plans)),
        row("peak Gbit/s, all nodes at work", (f"{plan.peak_bits_a_second / _GIGA:.0f}" for plan in plans)),
        row("peak PUT/s", (f"{plan.peak_puts_a_second:,.0f}" for plan in plans)),
        row("million PUTs a day", (f"{plan.requests_a_day / 1e6:,.1f}" for plan in plans)),
        row("GB of state logs a year", (f"{plan.log_bytes_a_year / _GIGA:,.1f}" for plan in plans)),
    ]


_MONTH_HEAD = ("sequencers", "loaded", "nodes", "use", "median h", "95 % h", "most h", "at once", "holds")


def month_rows(sites: Sequence[Site] = SITES, node: Node = USUAL) -> Rows:
    """Return a header and a row for each simulated month: with the planned nodes, one more, and too few."""
    rows: Rows = [_MONTH_HEAD]
    for site in sites:
        planned = plan_of(site, node).nodes
        load = load_of(site.instrument, node.cores)
        needed = site.runs_a_day * load.size / (_DAY * 3600) / node.rate(load)
        for nodes in sorted({max(1, math.floor(needed)), planned, planned + 1}):
            for office in (False, True):
                rows.append(_month_row(site, nodes, simulate(site, node, nodes, office=office), office=office))
    return rows


def holds(site: Site, outcome: Outcome) -> bool:
    """Return whether each run was in S3 before the next one on its sequencer ended, so a disk for two is enough."""
    return outcome.most_hours <= site.cycle


def _month_row(site: Site, nodes: int, outcome: Outcome, *, office: bool) -> tuple[str, ...]:
    hours = (f"{value:.1f}" for value in (outcome.median_hours, outcome.late_hours, outcome.most_hours))
    when = "office hours" if office else "any time"
    answer = "yes" if holds(site, outcome) else "no"
    return (f"{site.sequencers}", when, f"{nodes}", f"{outcome.use:.0%}", *hours, f"{outcome.most_at_once}", answer)


def sections(node: Node = USUAL) -> list[tuple[str, Rows]]:
    """Return all tables, each with a line that explains it."""
    line = f"{node.line / _GIGA:.0f} Gbit/s, of which uploads may have {node.line_use:.0%}"
    return [
        (f"One host, runs of a NovaSeq X (25B), {USE:.0%} in use; nothing else on it:", host_rows()),
        (f"One run, and a node of {node.cores} cores and {line}:", run_rows()),
        ("Seconds from the start until it is in S3, on such a host and on such nodes:", sooner_rows()),
        ("Requests that create or fill objects:", request_rows()),
        ("Dual 25B, 42 hours a run, 6 hours until the next one, on such nodes:", plan_rows(node=node)),
        ("A month of it; hours from the end of a run until it is in S3:", month_rows(node=node)),
    ]
