"""What the jobs of a cluster have proven, into the state of the run: by the last of them, or by whoever comes after."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from s3sync.errors import BusyError, ConfigError
from s3sync.runs import Run, analysis_manifest, local_files
from s3sync.signals import StopRequest
from s3sync.slurm import broken_nodes
from s3sync.slurm.client import Slurm, SlurmJob, summarize
from s3sync.slurm.work_folder import JobSpec, WorkFolder
from s3sync.state import RunState, StateStore, lock
from s3sync.text import parse_iso, printable
from s3sync.transfer import request

_LOOKERS = 16  # a node that is dead is looked at for a minute: those of many shards at the same time


def collect_results(
    job: request.UploadRequest,
    run: Run,
    store: StateStore,
    state: RunState | None,
    environ: Mapping[str, str],
    stop: StopRequest,
    own: WorkFolder | None = None,
) -> RunState | None:
    """Add what was proven to the state, if there is a work folder; under the run's lock, which guards the store.

    Only the last job, whose `own` it is, may have it while jobs live, or may live: else BusyError. Any other writes the
    log, and removes the folder. Raises StateError, SlurmError, LeaseLostError, and InterruptedBySignal.
    """
    folder = own or WorkFolder.of(job.log_dir, store)
    if not folder.exists():
        return state
    handed = folder.spec()
    if not own and not folder.is_finished():
        if live := _live(run, handed, environ):
            advice = f"follow them with --executor slurm, or end them: scancel --name={handed.name}"
            raise BusyError(f"{printable(run.run_id)} is being uploaded by Slurm: {summarize(live)} ({advice})")
        _require_quiet(folder, run, stop)
    if not own and not folder.is_submitted():  # Slurm took nothing
        store.check()
        folder.discard()
        return state
    if not (state and state.completed):
        state = _add(state or RunState.of(run), folder, handed, run)
        if not own:
            store.save(state)
    if not own:
        store.check()  # another host that has taken over may need the folder
        broken_nodes.remember(job.log_dir, folder.broken_nodes(), folder.working_nodes())
        folder.discard()
    return state


def _live(run: Run, handed: JobSpec, environ: Mapping[str, str]) -> list[SlurmJob]:
    """Its jobs; raises SlurmError, BusyError where there is no Slurm that could be asked."""
    try:
        return Slurm(environ).jobs(handed.name)
    except ConfigError as error:
        name = printable(run.run_id)
        raise BusyError(
            f"{name} was handed over to Slurm, and there is none here to ask (use the host that did so)"
        ) from error


def _require_quiet(folder: WorkFolder, run: Run, stop: StopRequest) -> None:
    """Make sure that no task is at work on a node that Slurm has given up, since it cannot reach it.

    Raises BusyError, and InterruptedBySignal as soon as `stop` is asked for the end.
    """
    busy = f"{printable(run.run_id)} is being uploaded on a node that Slurm has given up"

    def look(number: int) -> None:
        with lock.held(folder.lock_path(number), busy, stop=stop):
            pass

    started_shards = [number for number in folder.started_shards() if folder.result(number) is None]
    with ThreadPoolExecutor(_LOOKERS) as pool:
        for _ in pool.map(look, started_shards):
            pass


def _add(state: RunState, folder: WorkFolder, handed: JobSpec, run: Run) -> RunState:
    """Return the state with what the jobs have verified."""
    tally = folder.tally()
    return state.collected(
        folder.proofs(None, handed.job.destination) if _is_as_planned(run, handed) else [],
        sent_files=handed.sent.files + tally.sent_files,
        sent_bytes=handed.sent.size + tally.sent_size,
        seconds=handed.seconds + max(0.0, time.time() - (parse_iso(handed.submitted) or time.time())),
    )


def _is_as_planned(run: Run, handed: JobSpec) -> bool:
    """Whether the instrument's manifest, by which files were proven, is the one that the plan was made with."""
    return handed.manifest is None or local_files.restat(run, analysis_manifest.MANIFEST_TSV) == handed.manifest
