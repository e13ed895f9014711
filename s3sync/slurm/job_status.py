"""Summarize the work of the jobs of a cluster upload, and their nodes, from their work folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from s3sync.errors import StateError
from s3sync.slurm.job_spec import Result
from s3sync.slurm.work_folder import FINALIZER, JobKey, WorkFolder
from s3sync.state import Proof
from s3sync.text import pluralize
from s3sync.transfer.request import FileTotals, UploadCounters


def count_transfers(folder: WorkFolder) -> UploadCounters:
    """Add up the work of the jobs, except their seconds, which passed at the same time. Raises StateError.

    A killed start has no result: its journal lists what it sent.
    """
    shards = folder.results()
    results = [*shards.values(), *filter(None, [folder.result(FINALIZER)])]
    names = [field.name for field in fields(UploadCounters) if field.name != "seconds"]
    total = UploadCounters(**{name: sum(getattr(result.counters, name) for result in results) for name in names})
    others = FileTotals.of(list(_sent_without_result(folder, shards)))
    return replace(total, sent_files=total.sent_files + others.files, sent_size=total.sent_size + others.size)


def describe_progress(folder: WorkFolder) -> str:
    """Return the progress of all jobs, for people. Raises nothing."""
    if not folder.is_submitted():
        return "unknown whether it has accepted the jobs (the next scan asks Slurm, and tries again)"
    try:
        spec, shards = folder.spec(), folder.shard_count()
    except StateError as error:
        return str(error)
    finalizer, total = folder.progress(FINALIZER), spec.handover.amount.files
    snapshots = [snapshot for number in range(shards) if (snapshot := folder.progress(number))]
    done = finalizer.files if finalizer else spec.handover.verified.files + sum(each.files for each in snapshots)
    sent = f"{min(done, total):,} of {pluralize(total, 'file')} sent"
    return f"{sent}, {len(folder.results()):,} of {pluralize(shards, 'shard')} done (squeue --name={spec.name})"


def find_broken_nodes(folder: WorkFolder) -> dict[str, str]:
    """Return the nodes on which this program did not start and has not run since, with the last output there."""
    ended = _last_results(folder)
    starts = folder.starts.failed_starts()
    return {start.node: start.output for start in starts if ended.get(start.node, 0) <= start.time_ns}


def find_working_nodes(folder: WorkFolder) -> set[str]:
    """Return the nodes on which a job ran, even if it failed. Raises nothing."""
    return set(_last_results(folder))


def _sent_without_result(folder: WorkFolder, results: Mapping[int, Result]) -> Iterator[Proof]:
    """Yield the proofs in the journals of starts that have no such result."""
    for name, proofs in folder.journals(folder.spec().request.destination):
        number = name.partition(".")[0]
        result = results.get(int(number)) if number.isdecimal() else None
        if result is None or result.start not in ("", name):
            yield from proofs


def _last_results(folder: WorkFolder) -> dict[str, int]:
    """Return when a job last ended on each node, in ns by the clock of the file server."""
    newest: dict[str, int] = {}
    jobs: list[JobKey] = [*folder.results(), FINALIZER]
    for job in jobs:
        if (result := folder.result(job)) and (time_ns := folder.result_time_ns(job)):
            newest[result.node] = max(newest.get(result.node, 0), time_ns)
    return newest
