"""Files handed over to a cluster: cut into shards, planned in the work folder, submitted as an array and a last job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from s3sync.runs import LocalFile
from s3sync.slurm import shards
from s3sync.slurm.client import Slurm
from s3sync.slurm.work_folder import STARTS, JobSpec, WorkFolder

# The program renames the mark of its start: one that stays names a node on which it cannot run.
_SCRIPT = """\
#!/bin/sh
# What Slurm runs on a node for s3sync: a task of the array, or the last job.
umask 077
number=${{SLURM_ARRAY_TASK_ID:-last}}
out=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}.txt
mark={folder}/{starts}/$number.${{SLURM_JOB_ID:-0}}.${{SLURM_RESTART_COUNT:-0}}
printf '%s\\n' "${{SLURMD_NODENAME:-$(uname -n)}}" "$out" > "$mark"
exec {python} -m s3sync task {folder}
"""


def script_of(folder: WorkFolder) -> str:
    """Return what Slurm runs on a node."""
    words = {"python": shlex.quote(sys.executable), "folder": shlex.quote(str(folder.path))}
    return _SCRIPT.format(**words, starts=STARTS)


def submit(
    folder: WorkFolder, handed: JobSpec, files: Sequence[LocalFile], slurm: Slurm, avoid: Sequence[str] = ()
) -> None:
    """The next array, kept off the nodes to `avoid`, and the job that comes after it; raises SlurmError, StateError."""
    cluster = handed.cluster
    numbers = folder.write_plan(
        folder.array_count() + 1, shards.make_shards(files, shards.shard_count_for(files, cluster.nodes))
    )
    output = folder.path / "out" / "%A_%a.txt"
    words = cluster.sbatch_options(avoid)
    array = slurm.submit(folder.script, handed.name, words, output=output, tasks=numbers, at_once=cluster.nodes)
    folder.mark_submitted()
    submit_finalizer(folder, handed, slurm, array, avoid)


def submit_finalizer(
    folder: WorkFolder, handed: JobSpec, slurm: Slurm, after: int | None, avoid: Sequence[str] = ()
) -> None:
    """The job that comes when all tasks of an array have ended, however they did, or at once; raises SlurmError."""
    output = folder.path / "out" / "%j.txt"
    slurm.submit(folder.script, handed.name, handed.cluster.sbatch_options(avoid), output=output, after=after)
    if after is not None:
        folder.mark_finalizer_submitted(after)
