"""Calculate how many nodes a sequencing core needs. Nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from s3sync.aws.client import PROCESS_COST
from s3sync.aws.etag import DEFAULT_MULTIPART
from s3sync.runs.local_files import LocalFile
from s3sync.slurm.shards import shard_count_for
from s3sync.transfer.batches import cost_of, into_batches
from scripts.simulate.files import run_files
from scripts.simulate.plan import plan_run

HASH_COST = 1.3e-9  # CPU-seconds a byte, for the MD5; see README.md
OWN_FILE_COST = 0.0003  # CPU-seconds a file that this program spends beside the AWS CLI; see README.md
LOG_BYTES = 235  # a file, in the state log; see README.md
PUTS_A_SECOND = 3500  # S3's limit for a prefix that it has not parted yet
USE = 0.7  # of what the nodes can do, planned for the mean: the rest is for peaks, repeats and maintenance
SHARD_SECONDS = 5.0  # of a task beside its sending; `--slurm speedup`
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
    sides: int = 2  # flow cells at a time, each with its own run folder
    run_hours: float = 42.0
    turnaround: float = 6.0

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


def sections(node: Node = USUAL) -> list[tuple[str, Rows]]:
    """Return all tables, each with a line that explains it."""
    line = f"{node.line / _GIGA:.0f} Gbit/s, of which uploads may have {node.line_use:.0%}"
    return [
        (f"One host, runs of a NovaSeq X (25B), {USE:.0%} in use; nothing else on it:", host_rows()),
        (f"One run, and a node of {node.cores} cores and {line}:", run_rows()),
        ("Seconds from the start until it is in S3, on such a host and on such nodes:", sooner_rows()),
        ("Requests that create or fill objects:", request_rows()),
        ("Dual 25B, 42 hours a run, 6 hours until the next one, on such nodes:", plan_rows(node=node)),
    ]
