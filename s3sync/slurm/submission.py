"""Submit files to Slurm as a job array, with a finalizer job that comes after it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from s3sync.runs import LocalFile
from s3sync.slurm import shards, start_marks
from s3sync.slurm.client import Slurm, Submission, job_script
from s3sync.slurm.job_spec import JobSpec
from s3sync.slurm.work_folder import WorkFolder


def script_of(folder: WorkFolder) -> str:
    """Return the script of all jobs. It leaves a mark that the program renames, which reveals a failed start."""
    path = shlex.quote(str(folder.path))
    return job_script(
        "What Slurm runs on a node for s3sync: a task of the array, or the finalizer job.",
        "umask 077",
        f"number=${{SLURM_ARRAY_TASK_ID:-{start_marks.FINALIZER}}}",
        "out=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}.txt",
        f"mark={path}/{start_marks.FOLDER}/$number.${{SLURM_JOB_ID:-0}}.${{SLURM_RESTART_COUNT:-0}}",
        """printf '%s\\n' "${SLURMD_NODENAME:-$(uname -n)}" "$out" > "$mark\"""",
        f"exec {shlex.quote(sys.executable)} -m s3sync task {path}",
    )


def submit_array(
    folder: WorkFolder, spec: JobSpec, files: Sequence[LocalFile], slurm: Slurm, avoid: Sequence[str] = ()
) -> None:
    """Submit the next array and its finalizer job, without the nodes to avoid. Raises SlurmError, StateError."""
    nodes = spec.options.nodes
    cut = shards.make_shards(files, shards.shard_count_for(files, nodes))
    array = slurm.submit(
        Submission(
            script=folder.script,
            name=spec.name,
            options=spec.options.sbatch_options(avoid),
            output=folder.path / "out" / "%A_%a.txt",
            tasks=folder.write_plan(folder.array_count() + 1, cut),
            at_once=nodes,
        )
    )
    folder.mark_submitted()
    submit_finalizer(folder, spec, slurm, array, avoid)


def submit_finalizer(
    folder: WorkFolder, spec: JobSpec, slurm: Slurm, after: int | None, avoid: Sequence[str] = ()
) -> None:
    """Submit the finalizer job: it starts when all tasks of an array have ended, or at once. Raises SlurmError."""
    slurm.submit(
        Submission(
            script=folder.script,
            name=spec.name,
            options=spec.options.sbatch_options(avoid),
            output=folder.path / "out" / "%j.txt",
            after=after,
        )
    )
    if after is not None:
        folder.mark_finalizer_submitted(after)
