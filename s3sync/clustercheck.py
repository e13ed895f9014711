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
from pathlib import Path
from typing import NamedTuple

from s3sync import __version__, arrayfolder, files, nodecheck
from s3sync.awswords import OwnedBucket
from s3sync.config import Config
from s3sync.errors import ConfigError, SlurmError
from s3sync.interrupt import Stop
from s3sync.nodecheck import Asked
from s3sync.s3check import Finding
from s3sync.slurm import Cluster, Slurm, is_up
from s3sync.text import count_of, human_seconds, printable

_WAIT_SECONDS = 120.0  # that a job may wait for its node,
_RUN_SECONDS = 180.0  # and look around there: an S3 that does not answer takes its time
_SHOW_SECONDS = 15.0  # that a file server may take to show one host what another has written
_CANCEL_SECONDS = 30.0  # that a cancelled job is given to end
_LOOK_SECONDS = 1.0  # between two looks

_SCRIPT = """\
#!/bin/sh
# What Slurm runs on a node for `s3sync check --submit`.
echo "${{SLURMD_NODENAME:-$(uname -n)}}"
exec {python} -m s3sync.nodecheck {folder}
"""


def findings(config: Config, environ: Mapping[str, str], stop: Stop, *, submit: bool) -> Iterator[Finding]:
    """Of all that entries ask of Slurm. With `submit` a job for each of it looks at its node; nothing of it stays."""
    clusters = dict.fromkeys(filter(None, map(config.cluster_of, config.monitor)))
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
        for cluster in (cluster for cluster in clusters if cluster.partition in usable):
            yield from _tried(config, cluster, slurm, stop)


def _fine(text: str) -> Finding:
    return Finding(ok=True, what="slurm", text=text)


def _problem(text: str) -> Finding:
    return Finding(ok=False, what="slurm", text=text.removeprefix("Slurm: "))


def _no_answer(error: SlurmError) -> str:
    return f"{error} (is slurmctld up? `scontrol ping` tells)"


def _partition(nodes: Sequence[tuple[str, str]], partition: str, wanted: int) -> Finding:
    """`nodes` are names and states, as sinfo has them: `idle`, `mixed`, `down*`."""
    where = f"partition {partition}" if partition else "the cluster"
    if not nodes:
        return _problem(f"{where} has no nodes (see `sinfo`, and mend `partition`)")
    up = [state for _, state in nodes if is_up(state)]
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(state for _, state in nodes).items()))
    text = f"{where}: {len(up)} of {count_of(len(nodes), 'node')} up ({states})"
    if not up:
        return _problem(f"{text} (see `sinfo --list-reasons`)")
    return _fine(f"{text}, but `nodes` asks for {wanted}" if len(up) < wanted else text)


class _Place(NamedTuple):
    """A folder in the log directory, and the name of the job that is to find it."""

    folder: Path
    name: str


def _tried(config: Config, cluster: Cluster, slurm: Slurm, stop: Stop) -> Iterator[Finding]:
    """What a job finds that asks for what the uploads will ask for; raises InterruptedBySignal."""
    name = f"s3sync-check-{uuid.uuid4().hex[:12]}"
    place = _Place(config.log_dir / arrayfolder.FOLDER / name, name)
    try:
        with _removed(place, slurm):
            yield from _submitted(place, _asked(config, cluster), cluster, slurm, stop)
    except OSError as error:
        yield _problem(f"cannot write into {printable(str(place.folder.parent))}: {error.strerror} (see log_dir)")
    except SlurmError as error:
        yield _problem(_no_answer(error))


def _asked(config: Config, cluster: Cluster) -> Asked:
    entries = [entry for entry in config.monitor if config.cluster_of(entry) == cluster]
    directories = dict.fromkeys(directory for entry in entries for directory in entry.monitored_directories)
    buckets = dict.fromkeys(OwnedBucket(entry.bucket, entry.expected_bucket_owner) for entry in entries)
    pairs = tuple((str(directory), _a_run_in(directory)) for directory in directories)
    return Asked(__version__, pairs, tuple(buckets), config.aws_command, config.max_threads)


def _a_run_in(directory: Path) -> str:
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(directory))
        return next((name for name in names if os.path.exists(os.path.join(directory, name, "RunInfo.xml"))), "")
    return ""


def _submitted(place: _Place, asked: Asked, cluster: Cluster, slurm: Slurm, stop: Stop) -> Iterator[Finding]:
    files.make_private_folder(place.folder)
    nodecheck.ask(place.folder, asked)
    script = place.folder / "job.sh"
    words = {"python": shlex.quote(sys.executable), "folder": shlex.quote(str(place.folder))}
    files.write_synced(script, _SCRIPT.format(**words).encode("utf-8", "surrogateescape"))
    begun = time.monotonic()
    try:
        job = slurm.submit(script, place.name, cluster.words(), output=place.folder / "out.txt")
    except SlurmError as error:
        yield _problem(f"{error} (mend `slurm` in the config)")
        return
    waits = _wait(place, slurm, stop)
    if waits:
        yield _problem(f"job {job} {waits}")
        return
    node, *said = _said(place)
    took = human_seconds(time.monotonic() - begun)
    log_dir = printable(str(place.folder.parents[1]))
    if not node:
        advice = "put log_dir where all nodes have it under the same path, and this user may write"
        yield _problem(f"job {job} ended, but nothing that it wrote is in {log_dir} ({advice})")
        return
    what = f"node {node}"
    yield Finding(ok=True, what=what, text=f"log_dir: {log_dir}: shared (job {job} took {took})")
    found = nodecheck.answer(place.folder)
    if found is None:
        advice = "install s3sync there under the same path"
        yield Finding(ok=False, what=what, text=f"program: {' / '.join(said[-2:]) or 'was ended'} ({advice})")
    for each in found or ():
        yield Finding(each.ok, what, f"{each.what}: {each.text}")


def _wait(place: _Place, slurm: Slurm, stop: Stop) -> str:
    """Until the job has answered, or has ended: empty. Else why it was not waited for any longer."""
    begun = time.monotonic()
    running = ended = 0.0
    while nodecheck.answer(_fresh(place.folder)) is None:
        now, live = time.monotonic(), slurm.live(place.name)
        if live and live[0].waits and now - begun > _WAIT_SECONDS:
            why = f" ({live[0].reason})" if live[0].reason != "None" else ""
            return f"still waits after {human_seconds(_WAIT_SECONDS)}{why}: cancelled (try again when a node is free)"
        if live and not live[0].waits:
            running = running or now
            if now - running > _RUN_SECONDS:
                return f"still runs after {human_seconds(_RUN_SECONDS)} on {live[0].node}: cancelled (look there)"
        if not live:
            ended = ended or now
            if now - ended > _SHOW_SECONDS or _said(place)[0]:
                return ""
        stop.wait(_LOOK_SECONDS)
        stop.check()
    return ""


def _fresh(folder: Path) -> Path:
    """The folder, which this host has just changed: so an NFS client asks the server what is in it."""
    files.try_replace(folder / "look")
    return folder


def _said(place: _Place) -> list[str]:
    """The node's name, then what the job complained of; an empty name if nothing of it is here."""
    with contextlib.suppress(OSError):
        lines = (place.folder / "out.txt").read_text("utf-8", "replace").splitlines()
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
            while (live := slurm.live(place.name)) and time.monotonic() < until:
                slurm.cancel(job.job for job in live)
                time.sleep(_LOOK_SECONDS)
        shutil.rmtree(place.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.folder.parent.rmdir()  # where no upload is under way
