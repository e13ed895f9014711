"""What the jobs of a cluster have verified gets into the state log, by the one who holds the run's lock alone."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from s3sync.aws.destination import Destination
from s3sync.errors import InterruptedBySignal, LeaseLostError, StateError
from s3sync.runs.local_files import LocalFile
from s3sync.runs.run_folder import Run, open_run
from s3sync.signals import StopRequest
from s3sync.slurm.client import Slurm, SlurmOptions
from s3sync.slurm.executor import Collector, Finalizer
from s3sync.slurm.follower import ClusterUpload, JobFollower
from s3sync.slurm.job_spec import JobSpec
from s3sync.slurm.work_folder import FINALIZER, WorkFolder
from s3sync.state import lock
from s3sync.state.lease_files import LeaseFiles
from s3sync.state.lock import HeldLock
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore
from s3sync.transfer.context import Runtime
from s3sync.transfer.displays import Lines
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals, UploadRequest
from s3sync.transfer.upload.handover import Handover
from tests.helpers.errors import raises_error
from tests.helpers.fake_slurm import FakeSlurm
from tests.helpers.lease_text import theirs

TO = Destination("lab-runs", "")
PATH = "Data/first.cbcl"


class Scene(NamedTuple):
    """A run that was handed over, and whose jobs have ended."""

    job: UploadRequest
    run: Run
    store: StateStore
    folder: WorkFolder
    environ: dict[str, str]

    def collect_results(
        self, state: RunState | None, stop: StopRequest | None = None, own: WorkFolder | None = None
    ) -> RunState:
        executor = Finalizer(self.environ, own) if own else Collector(self.environ)
        gathered = executor.collect(self.job, self.run, self.store, state, stop or StopRequest())
        assert gathered
        return gathered

    def follower(self, stop: StopRequest) -> JobFollower:
        uploading = ClusterUpload(request=self.job, run=self.run, store=self.store, folder=self.folder)
        return JobFollower(uploading, Slurm(self.environ), Runtime(self.environ, stop, Lines(io.StringIO())))


@pytest.fixture
def scene(tmp_path: Path, tiny_run: Path) -> Scene:
    fake = FakeSlurm(tmp_path / "slurm")
    job = UploadRequest(local_path=tiny_run, destination=TO, log_dir=tmp_path / "log", cores=1)
    run = open_run(tiny_run)
    store = StateStore(job.log_dir, run, TO)
    folder = WorkFolder.of(job.log_dir, store)
    nothing = FileTotals(0, 0)
    moment = "2026-11-23T00:00:00+00:00"
    folder.create(
        JobSpec(
            name="s3sync-1",
            version="1",
            options=SlurmOptions(),
            handover=Handover(
                request=job,
                submitted=moment,
                resumed=False,
                manifest=None,
                amount=FileTotals(4, 9),
                verified=nothing,
                sent=nothing,
                seconds=0.0,
            ),
        ),
        "",
    )
    folder.mark_submitted()
    store.prepare()
    return Scene(job, run, store, folder, {"PATH": f"{fake.bin}:/usr/bin:/bin"})


def verified(scene: Scene, etag: str, *, by: str = "etag", known: bool = True) -> Proof:
    status = (scene.run.path / PATH).stat()
    file = LocalFile(PATH, status.st_size, status.st_mtime_ns) if known else LocalFile(PATH, -1, -1)
    return Proof.of(file, etag, by)


def state_with(scene: Scene, *proofs: Proof) -> RunState:
    return replace(RunState.of(scene.run), verified={proof.path: proof for proof in proofs})


@pytest.mark.parametrize(
    ("by_the_last_job", "kept"), [(True, "of the state"), (False, "of the jobs")], ids=["last job", "predecessor"]
)
def test_a_proof_of_the_jobs_counts_more_than_one_of_the_predecessor(
    scene: Scene, by_the_last_job: bool, kept: str
) -> None:
    """The predecessor's has neither size nor mtime, so the file would be hashed again; the last job's is the newest."""
    with scene.folder.journal(0, TO) as journal:
        journal.record([verified(scene, "of the jobs")])
    by = "etag" if by_the_last_job else "predecessor"
    known = verified(scene, "of the state", by=by, known=by_the_last_job)

    state = scene.collect_results(state_with(scene, known), own=scene.folder)

    assert state.verified[PATH].etag == kept


def test_what_the_predecessor_alone_has_verified_is_kept(scene: Scene) -> None:
    known = verified(scene, "old", by="predecessor", known=False)

    assert scene.collect_results(state_with(scene, known)).verified == {PATH: known}


def lose() -> None:
    raise LeaseLostError("lost to sequencer-2", id="lock.taken-over")


def test_a_host_that_has_lost_the_lock_neither_writes_the_log_nor_removes_the_work_folder(scene: Scene) -> None:
    with scene.folder.journal(0, TO) as journal:
        journal.record([verified(scene, "e")])
    done = replace(state_with(scene), completed=True)
    scene.store.set_lock_check(lose)

    for state in (state_with(scene), done):
        with pytest.raises(LeaseLostError):
            scene.collect_results(state)

    assert scene.folder.exists()
    assert not scene.store.log_path.exists()


def test_the_wait_for_a_task_on_a_lost_node_can_be_interrupted(scene: Scene) -> None:
    """Its lease may be a dead one's, which takes a minute to see."""
    path = scene.folder.lock_path(0)
    path.parent.mkdir()
    path.touch()
    numbers = LeaseFiles(path.parent.parent / "leases" / path.name.removesuffix(lock.SUFFIX))
    numbers.prepare()
    assert numbers.create(1, theirs(), "theirs")
    stop = StopRequest()
    stop.request(signal.SIGTERM)

    with pytest.raises(InterruptedBySignal):
        scene.collect_results(None, stop)

    assert scene.folder.exists()


def taken_over(error: Exception) -> Callable[..., contextlib.AbstractContextManager[HeldLock]]:
    """A lock that another host takes over at once, or that cannot be taken at all."""

    @contextlib.contextmanager
    def held(*_args: Any, **_more: Any) -> Iterator[HeldLock]:
        if not isinstance(error, LeaseLostError):
            raise error
        yield HeldLock(-1, lose)

    return held


@pytest.mark.parametrize(
    "error",
    [
        LeaseLostError("lost to sequencer-2", id="lock.taken-over"),
        StateError("lost: No space left on device", id="slurm.journal-unwritable"),
    ],
)
def test_an_interruption_is_reported_even_if_the_log_cannot_be_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stop = StopRequest()
    follower = scene.follower(stop)
    stop.request(signal.SIGINT)
    monkeypatch.setattr(lock, "hold", taken_over(error))

    with raises_error(InterruptedBySignal, "slurm.interrupted", "SIGINT, but ", f": {error}") as caught:
        follower.end_interrupted()

    assert caught.value.exit_code == 130
    assert "run the same command to continue" in str(caught.value)
    assert scene.folder.exists()


@pytest.mark.parametrize(
    ("squeue", "activity", "processes"),
    [
        ("echo '7_0|RUNNING|n1|None'; echo '7_1|RUNNING|n2|None'", "uploading", 3),
        ("echo '7_0|PENDING||BeginTime'; echo '7_1|RUNNING|n2|None'", "uploading", 2),
        ("echo '7_0|COMPLETING|n1|None'; echo '8|PENDING||Dependency'", "waiting", 0),
    ],
    ids=["both live", "one is queued again", "both are dead"],
)
def test_progress_shows_no_processes_of_tasks_that_are_dead(
    scene: Scene, tmp_path: Path, squeue: str, activity: str, processes: int
) -> None:
    """The last report of a task stays in its file."""
    set_squeue(tmp_path, squeue)
    scene.folder.write_plan(1, [(LocalFile("Data/a", 1, 1),), (LocalFile("Data/b", 1, 1),)])
    scene.folder.mark_finalizer_submitted(7)
    for number in range(2):
        scene.folder.write_progress(
            number, Snapshot(activity="uploading", files=1, files_total=2, size=5, size_total=10, processes=number + 1)
        )
    follower = scene.follower(StopRequest())

    assert follower.is_over() is False
    follower.update()

    assert follower.snapshot == Snapshot(
        activity=activity, files=2, files_total=4, size=9, size_total=9, processes=processes
    )
    scene.folder.write_progress(
        FINALIZER, Snapshot(activity="checking", files=4, files_total=4, size=9, size_total=9, processes=1)
    )
    follower.update()
    assert follower.snapshot == Snapshot(
        activity="waiting", files=4, files_total=4, size=9, size_total=9, processes=0
    ), "no last job runs"


def set_squeue(tmp_path: Path, line: str) -> None:
    """What Slurm's queue has, as a line for a shell."""
    FakeSlurm(tmp_path / "other").set("squeue", line)
    os.replace(tmp_path / "other" / "bin" / "squeue", tmp_path / "slurm" / "bin" / "squeue")


def test_no_last_job_is_submitted_by_a_host_that_has_lost_the_lock(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_squeue(tmp_path, "echo '7_0|RUNNING|n1|None'")
    follower = scene.follower(StopRequest())
    monkeypatch.setattr(lock, "hold", taken_over(LeaseLostError("lost", id="lock.taken-over")))

    with pytest.raises(LeaseLostError):
        follower.is_over()

    assert not (tmp_path / "slurm" / "sbatch.said").exists()


def test_the_first_snapshot_has_files_and_bytes_in_their_places(scene: Scene) -> None:
    assert scene.follower(StopRequest()).snapshot == Snapshot(
        activity="queued", files=0, files_total=4, size=0, size_total=9, processes=0
    )
