"""Order the runs that need work, so that none keeps the others waiting."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from s3sync.config import Config
from s3sync.inventory.states import PENDING_STATES, RunStatus
from s3sync.transfer.request import hook

_STUCK_ATTEMPTS = 3  # calls that ended without proving anything, after which other runs go first


def upload_order(runs: Iterable[RunStatus]) -> list[RunStatus]:
    """Return the runs to upload: started ones, then new ones, each oldest first; then runs that keep failing.

    Of those that keep failing, the one that was tried longest ago comes first.
    """

    def rank(run: RunStatus) -> tuple[int, str, float]:
        is_stuck = run.state == "failed" or (run.head is not None and run.head.attempts >= _STUCK_ATTEMPTS)
        if is_stuck:
            return 2, run.head.finished if run.head else "", run.began
        return (0 if run.state == "partial" else 1), "", run.began

    return sorted((run for run in runs if run.state in PENDING_STATES), key=rank)


def work_list(runs: Iterable[RunStatus]) -> list[RunStatus]:
    """Return the runs to upload, then those to stream, starting with the one that was tried longest ago."""
    runs = list(runs)
    streaming = [run for run in runs if run.state == "streaming"]
    streaming.sort(key=lambda run: (run.head.finished if run.head else "", run.began))
    return [*upload_order(runs), *streaming]


def scan_order(runs: Iterable[RunStatus], config: Config, folders: Collection[str]) -> list[RunStatus]:
    """Return everything that a scan works on, so that work of seconds never waits for work of hours.

    First come the runs that Slurm jobs have finished or work on, then those to submit to Slurm, then those to upload
    from here, then those whose `on_complete` is pending. `folders` are the names of Slurm's work folders.
    """
    runs = list(runs)
    finished = finished_on_slurm(runs, config, folders)
    on_slurm, to_submit, from_here = [], [], []
    for run in work_list(runs):
        if run.state == "streaming" or not run.entry.cluster:
            from_here.append(run)
        elif _folder_name(run, config) in folders:
            on_slurm.append(run)
        else:
            to_submit.append(run)
    hooks = [run for run in with_pending_hook(runs) if run not in finished]
    return [*finished, *on_slurm, *to_submit, *from_here, *hooks]


def with_pending_hook(runs: Iterable[RunStatus]) -> list[RunStatus]:
    """Return the uploaded runs whose `on_complete` command has not run yet, or has failed."""
    uploaded = (run for run in runs if run.state == "uploaded" and run.entry.on_complete)
    return [run for run in uploaded if run.head and hook.is_pending(run.head.on_complete)]


def finished_on_slurm(runs: Iterable[RunStatus], config: Config, folders: Collection[str]) -> list[RunStatus]:
    """Return the runs that Slurm jobs have completed, but whose work folder has not been collected yet."""
    done = (run for run in runs if folders and run.state == "uploaded" and run.entry.cluster)
    return [run for run in done if _folder_name(run, config) in folders]


def _folder_name(run: RunStatus, config: Config) -> str:
    return run.store(config.log_dir).lock_path.stem
