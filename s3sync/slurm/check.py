"""Whether Slurm answers and has nodes that are up; and, if asked, what a job of ours finds on one of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from s3sync import __version__, files
from s3sync.aws import access
from s3sync.errors import ConfigError, SlurmError
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes, node_check, work_folder
from s3sync.slurm.client import Slurm, SlurmJob, SlurmOptions, is_up
from s3sync.slurm.node_check import Asked
from s3sync.text import human_seconds, pluralize, printable

_WAIT_SECONDS = 120.0  # that a job may wait for its node,
_RUN_SECONDS = 180.0  # and look around there: an S3 that does not answer takes its time
_SHOW_SECONDS = 15.0  # that a file server may take to show one host what another has written
_CANCEL_SECONDS = 30.0  # that a cancelled job is given to end
_LOOK_SECONDS = 1.0  # between two looks
_MOST_NODES = 200  # that are tried; each is a job
_MOST_REFUSED = 3  # jobs in a row: if Slurm takes none of them it will take no other

_SCRIPT = """\
#!/bin/sh
# What Slurm runs on a node for `s3sync check --submit`.
echo "${{SLURMD_NODENAME:-$(uname -n)}}"
exec {python} -m s3sync.slurm.node_check {folder}
"""


@dataclass(frozen=True, slots=True)
class ClusterUse:
    """What uploads ask of Slurm: by cluster, the directories and the buckets that its nodes have to reach."""

    log_dir: Path
    aws_command: str | None
    threads: int
    clusters: Mapping[SlurmOptions, tuple[Sequence[Path], Sequence[access.UploadTarget]]]


def check_cluster(
    uses: ClusterUse, environ: Mapping[str, str], stop: StopRequest, *, submit: bool
) -> Iterator[access.CheckResult]:
    """Of all that entries ask of Slurm. With `submit` a job for each of it looks at its node; nothing of it stays."""
    clusters = uses.clusters
    if not clusters:
        if submit:
            yield _fine("no entry has `executor: slurm`: there is nothing to submit")
        return
    try:
        slurm = Slurm(environ)
        yield _fine(slurm.version())
        usable = set()
        for partition in dict.fromkeys(cluster.partition for cluster in clusters):
            wanted = max(cluster.nodes for cluster in clusters if cluster.partition == partition)
            finding = _partition(slurm.nodes(partition), partition, wanted)
            usable |= {partition} if finding.ok else set()
            yield finding
    except (ConfigError, SlurmError) as error:
        yield _problem(str(error) if isinstance(error, ConfigError) else _no_answer(error))
        return
    if submit:
        _forget_what_is_gone(uses, slurm)
        for cluster in (cluster for cluster in clusters if cluster.partition in usable):
            yield from _tried(uses, cluster, slurm, stop)


def _forget_what_is_gone(uses: ClusterUse, slurm: Slurm) -> None:
    """A node that was broken and is out of use is no problem of this program any more."""
    if broken := broken_nodes.names(uses.log_dir):
        with contextlib.suppress(SlurmError):
            up = {name for name, state in slurm.nodes() if is_up(state)}
            broken_nodes.remember(uses.log_dir, {}, set(broken) - up)


def _fine(text: str) -> access.CheckResult:
    return access.CheckResult(ok=True, what="slurm", text=text)


def _problem(text: str) -> access.CheckResult:
    return access.CheckResult(ok=False, what="slurm", text=text.removeprefix("Slurm: "))


def _no_answer(error: SlurmError) -> str:
    return f"{error} (is slurmctld up? `scontrol ping` tells)"


def _partition(nodes: Sequence[tuple[str, str]], partition: str, wanted: int) -> access.CheckResult:
    """`nodes` are names and states, as sinfo has them: `idle`, `mixed`, `down*`."""
    where = f"partition {partition}" if partition else "the cluster"
    if not nodes:
        return _problem(f"{where} has no nodes (see `sinfo`, and mend `partition`)")
    up = [state for _, state in nodes if is_up(state)]
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(state for _, state in nodes).items()))
    text = f"{where}: {len(up)} of {pluralize(len(nodes), 'node')} up ({states})"
    if not up:
        return _problem(f"{text} (see `sinfo --list-reasons`)")
    return _fine(f"{text}, but `nodes` asks for {wanted}" if len(up) < wanted else text)


class _Place(NamedTuple):
    """A folder in the log directory, and the name of the job that is to find it."""

    folder: Path
    name: str


@dataclass(slots=True)
class _Try:
    """A job that looks at one node: where it writes, and since when it was submitted, runs, and has ended."""

    node: str
    folder: Path
    job: int
    submitted: float
    running: float = 0.0
    ended: float = 0.0


def _tried(uses: ClusterUse, cluster: SlurmOptions, slurm: Slurm, stop: StopRequest) -> Iterator[access.CheckResult]:
    """Say what a job finds on each node that asks for what the uploads will ask for; raises InterruptedBySignal."""
    name = f"s3sync-check-{uuid.uuid4().hex[:12]}"
    place = _Place(uses.log_dir / work_folder.FOLDER / name, name)
    try:
        with _removed(place, slurm):
            nodes = slurm.usable_nodes(cluster, ())
            if not nodes:
                yield _problem("no node is left to try: `options` exclude those that are up (see `sinfo`)")
            yield from _looked_at(uses, place, nodes[:_MOST_NODES], cluster, slurm, stop)
            if more := len(nodes) - _MOST_NODES:
                yield from [_fine(f"{pluralize(more, 'more node')} not tried")] if more > 0 else []
    except OSError as error:
        yield _problem(f"cannot write into {printable(str(place.folder.parent))}: {error.strerror} (see log_dir)")
    except SlurmError as error:
        yield _problem(_no_answer(error))


def _looked_at(
    uses: ClusterUse, place: _Place, nodes: Sequence[str], cluster: SlurmOptions, slurm: Slurm, stop: StopRequest
) -> Iterator[access.CheckResult]:
    """A node that could not be tried is no problem where another one was: it may be busy, or not suit the options."""
    tries, untried = _submit(uses, place, nodes, cluster, slurm)
    has_tried = False
    for ended, waits in _ends(tries, place.name, slurm, stop):
        if waits and ended.running:
            has_tried = True
            yield access.CheckResult(ok=False, what=f"node {printable(ended.node)}", text=f"job {ended.job} {waits}")
            continue
        if waits:
            untried.append((ended.node, f"job {ended.job} {waits}"))
            continue
        has_tried = True
        yield from _found(ended, uses.log_dir)
    if has_tried or not untried:
        yield from (_fine(f"node {printable(node)} was not tried: {why}") for node, why in untried)
    else:
        more = f"; {pluralize(len(untried) - 1, 'more node')} not tried either" if len(untried) > 1 else ""
        yield _problem(f"{untried[0][1]}{more}")


def _submit(
    uses: ClusterUse, place: _Place, nodes: Sequence[str], cluster: SlurmOptions, slurm: Slurm
) -> tuple[list[_Try], list[tuple[str, str]]]:
    """Submit a job for each node; give those that Slurm took, and the nodes for which it took none, and why."""
    asked = _asked(uses, cluster)
    tries: list[_Try] = []
    untried: list[tuple[str, str]] = []
    for number, node in enumerate(nodes):
        if not tries and len(untried) == _MOST_REFUSED:
            untried += [(each, untried[0][1]) for each in nodes[number:]]
            break
        folder = place.folder / f"{number:04}"
        files.make_private_folder(folder)
        node_check.ask(folder, asked)
        words = {"python": shlex.quote(sys.executable), "folder": shlex.quote(str(folder))}
        script = folder / "job.sh"
        files.write_synced(script, _SCRIPT.format(**words).encode("utf-8", "surrogateescape"))
        started_shards = time.monotonic()
        there = (*cluster.sbatch_options(), f"--nodelist={node}")  # the last one counts
        try:
            job = slurm.submit(script, place.name, there, output=folder / "out.txt")
        except SlurmError as error:
            untried.append((node, f"{error} (mend `slurm` in the config)"))
        else:
            tries.append(_Try(node, folder, job, started_shards))
    return tries, untried


def _asked(uses: ClusterUse, cluster: SlurmOptions) -> Asked:
    directories, places = uses.clusters[cluster]
    pairs = tuple((str(directory), _a_run_in(directory)) for directory in directories)
    return Asked(__version__, pairs, tuple(places), uses.aws_command, uses.threads)


def _a_run_in(directory: Path) -> str:
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(directory))
        return next((name for name in names if os.path.exists(os.path.join(directory, name, "RunInfo.xml"))), "")
    return ""


def _found(ended: _Try, log_dir: Path) -> Iterator[access.CheckResult]:
    """Say what a job that has ended has found on its node, if it could say so."""
    node, *said = _said(ended.folder)
    took = human_seconds(time.monotonic() - ended.submitted)
    where = printable(str(log_dir))
    what = f"node {node or printable(ended.node)}"
    if not node:
        advice = "put log_dir where all nodes have it under the same path, and this user may write"
        yield access.CheckResult(
            ok=False, what=what, text=f"job {ended.job} ended, but nothing that it wrote is in {where} ({advice})"
        )
        return
    yield access.CheckResult(ok=True, what=what, text=f"log_dir: {where}: shared (job {ended.job} took {took})")
    found = node_check.answer(ended.folder)
    if found is None:
        advice = "install s3sync there under the same path"
        yield access.CheckResult(
            ok=False, what=what, text=f"program: {' / '.join(said[-2:]) or 'was ended'} ({advice})"
        )
    else:
        broken_nodes.remember(log_dir, {}, [node])  # it can start there (again)
    for each in found or ():
        yield access.CheckResult(ok=each.ok, what=what, text=f"{each.what}: {each.text}", id=each.id)


def _ends(tries: Sequence[_Try], name: str, slurm: Slurm, stop: StopRequest) -> Iterator[tuple[_Try, str]]:
    """Yield each job as soon as it has answered, or has ended: with nothing. Else with why it is not waited for."""
    left = list(tries)
    while left:
        live = {job.job: job for job in slurm.jobs(name)} if left else {}
        for each in tuple(left):
            if node_check.answer(_fresh(each.folder)) is not None:
                waits: str | None = ""
            else:
                waits = _waits(each, live.get(each.job), time.monotonic())
            if waits is not None:
                left = [other for other in left if other is not each]
                yield each, waits
        if left:
            stop.wait(_LOOK_SECONDS)
        stop.raise_if_requested()


def _waits(each: _Try, live: SlurmJob | None, now: float) -> str | None:
    """Return nothing of a job that has ended, None of one to wait for, else why it is not waited for any longer."""
    if live is None:
        each.ended = each.ended or now
        return "" if now - each.ended > _SHOW_SECONDS or _said(each.folder)[0] else None
    if live.is_pending:
        why = f" ({live.reason})" if live.reason != "None" else ""
        text = f"still waits after {human_seconds(_WAIT_SECONDS)}{why}: cancelled (try again when a node is free)"
        return text if now - each.submitted > _WAIT_SECONDS else None
    each.running = each.running or now
    text = f"still runs after {human_seconds(_RUN_SECONDS)} on {live.node}: cancelled (look there)"
    return text if now - each.running > _RUN_SECONDS else None


def _fresh(folder: Path) -> Path:
    """The folder, which this host has just changed: so an NFS client asks the server what is in it."""
    files.check_writable(folder / "look")
    return folder


def _said(folder: Path) -> list[str]:
    """The node's name, then what the job complained of; an empty name if nothing of it is here."""
    with contextlib.suppress(OSError):
        lines = (folder / "out.txt").read_text("utf-8", "replace").splitlines()
        return [printable(line) for line in lines if line.strip()] or [""]
    return [""]


@contextlib.contextmanager
def _removed(place: _Place, slurm: Slurm) -> Iterator[None]:
    """Afterwards neither job nor folder is left."""
    try:
        yield
    finally:
        with contextlib.suppress(SlurmError):
            until = time.monotonic() + _CANCEL_SECONDS
            while (live := slurm.jobs(place.name)) and time.monotonic() < until:
                slurm.cancel(job.job for job in live)
                time.sleep(_LOOK_SECONDS)
        shutil.rmtree(place.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.folder.parent.rmdir()  # where no upload is under way
