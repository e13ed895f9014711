"""Let a Slurm cluster upload the files of a run in place of this machine."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence

from s3sync import __version__
from s3sync.errors import SlurmError, StateError
from s3sync.runs import LocalFile, Run
from s3sync.signals import StopRequest
from s3sync.slurm import gathering, submission
from s3sync.slurm.client import Slurm, SlurmOptions
from s3sync.slurm.work_folder import JobSpec, WorkFolder
from s3sync.state import RunState, StateStore
from s3sync.transfer import request


class Collector:
    """Add what the jobs of earlier calls have uploaded, and submit nothing. Implements `transfer.request.Executor`."""

    submits = False
    is_finalizer = False

    def __init__(self, environ: Mapping[str, str], own: WorkFolder | None = None) -> None:
        self._environ = environ
        self._own = own

    def where(self, job: request.UploadRequest, store: StateStore) -> str:
        """Return where the jobs of this run are, for people; empty if there are none."""
        folder = WorkFolder.of(job.log_dir, store)
        return f"handed over to Slurm already: {folder.progress_text()}" if folder.is_submitted() else ""

    def collect(
        self, job: request.UploadRequest, run: Run, store: StateStore, state: RunState | None, stop: StopRequest
    ) -> RunState | None:
        """Return the state with what the jobs have verified; raises what `gathering.collect_results` raises."""
        return gathering.collect_results(job, run, store, state, self._environ, stop, self._own)

    def submit(self, handover: request.Handover, files: Sequence[LocalFile]) -> None:
        """Refuse: nothing is submitted."""
        raise NotImplementedError


class Finalizer(Collector):
    """The finalizer job: it has the work folder while other jobs may live."""

    is_finalizer = True

    def __init__(self, environ: Mapping[str, str], own: WorkFolder) -> None:
        super().__init__(environ, own)


class ClusterExecutor(Collector):
    """Submit the files as a job array and a finalizer job."""

    submits = True

    def __init__(self, environ: Mapping[str, str], cluster: SlurmOptions, folder: WorkFolder, slurm: Slurm) -> None:
        super().__init__(environ)
        self._name = f"s3sync-{uuid.uuid4().hex[:12]}"  # distinguishes these jobs from all others, whatever their ids
        self._cluster = cluster
        self._folder = folder
        self._slurm = slurm

    def submit(self, handover: request.Handover, files: Sequence[LocalFile]) -> None:
        """Submit these files; raises SlurmError if Slurm takes no job, so that nothing was submitted, or StateError."""
        handed = JobSpec(
            name=self._name,
            version=__version__,
            cluster=self._cluster,
            job=handover.request,
            submitted=handover.submitted,
            resumed=handover.resumed,
            manifest=handover.manifest,
            amount=handover.amount,
            proven=handover.proven,
            sent=handover.sent,
            seconds=handover.seconds,
        )
        self._folder.create(handed, submission.script_of(self._folder))
        try:
            submission.submit(self._folder, handed, files, self._slurm)
        except SlurmError:
            with contextlib.suppress(SlurmError):
                if self._slurm.jobs(self._name):
                    return  # it took the array: the process that follows it submits the finalizer job
                self._folder.discard()
            raise
        except StateError:
            with contextlib.suppress(StateError):
                self._folder.discard()
            raise
