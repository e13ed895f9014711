"""Write the state logs that a restored run lacks, so that a monitor knows that it is uploaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from s3sync.aws import destination as aws_destination
from s3sync.errors import BusyError, RunError
from s3sync.runs import LocalFile, Run, analysis, completion, local_files
from s3sync.state import Proof, RunState, StateStore
from s3sync.text import now_iso, printable, to_iso
from s3sync.transfer import changes
from s3sync.transfer.batches import is_marker
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.request import RestoreRequest
from s3sync.transfer.restore.session import RestoreSession


def write_missing_logs(
    session: RestoreSession, plan: RestorePlan, proofs: Mapping[str, Proof], seen: Mapping[str, LocalFile | None]
) -> None:
    """Write the logs of a whole restored run and its analyses, each if there is none; the caller holds the run's lock.

    Without a completion marker there is no log: another machine may still be uploading the run. `proofs` are those of
    all files, and `seen` says how each was then: one that has changed since does not count. A folder that contains
    other files gets no log, since they must still be uploaded. Raises StateError, RunError, LeaseLostError.
    """
    for run in _open_runs(session.request):
        store = StateStore(session.request.log_dir, run, session.request.destination)
        with contextlib.ExitStack() as stack:
            if run.parent_run is None:
                store.set_lock_check(session.check_lock)
            else:
                try:
                    stack.enter_context(store.locked(f"{printable(run.run_id)} is being uploaded"))
                except BusyError:
                    continue  # its upload writes the log
            if store.load(set_aside=False) == (None, ()):
                _write_log(store, run, plan, proofs, seen)


def _open_runs(request: RestoreRequest) -> Iterator[Run]:
    """Yield the run and its analyses; nothing for a folder that is not a run, since no monitor uploads it."""
    with contextlib.suppress(RunError):
        run = analysis.open_run_or_analysis(request.target)
        yield run
        if run.excludes_analyses:
            yield from analysis.list_analyses(run)


def _write_log(
    store: StateStore,
    run: Run,
    plan: RestorePlan,
    found: Mapping[str, Proof],
    seen: Mapping[str, LocalFile | None],
) -> None:
    remote, folders = plan.remote, plan.record.folders
    watched = changes.read_marks(run)
    below = f"{run.path.relative_to(run.root)}/" if run.parent_run else ""
    paths = [path.removeprefix(below) for path in _paths_of(run, found, below)]
    proofs = {
        path: Proof.of(file, found[below + path].etag, found[below + path].verified_by)
        for path, file in local_files.restat_all(run, sorted(paths)).items()
        if file and file == _in_folder(seen.get(below + path), path)
    }
    listing = local_files.list_files(run)
    if not any(map(is_marker, proofs)) or listing.rejected or any(file.path not in proofs for file in listing.files):
        return
    now, sealed = now_iso(), remote.get(below + aws_destination.COMPLETION_OBJECT)
    state = replace(
        RunState.of(run),
        completed=True,
        verified=proofs,
        total_local_files=len(proofs),
        started=now,
        finished=now,
        first_completed=now,
        instrument_done=to_iso(completion.finished_at(run)),
        watched=watched,
        folders={f"{path}/"[len(below) :].rstrip("/"): folders[path] for path in _paths_of(run, folders, below)},
        completion_object=sealed.etag if sealed else "",
    )
    store.prepare(len(proofs))
    store.begin(state)
    store.finish(state)


def _in_folder(file: LocalFile | None, path: str) -> LocalFile | None:
    return file and replace(file, path=path)


def _paths_of(run: Run, paths: Iterable[str], below: str) -> Iterator[str]:
    """Yield the paths that belong to the run, or to the analysis in the folder `below`."""
    for path in paths:
        if f"{path}/".startswith(below) and not (run.excludes_analyses and local_files.is_inside_analysis(path)):
            yield path
