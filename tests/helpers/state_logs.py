"""Make state logs, as uploads of made-up runs leave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s3sync.aws.destination import Destination
from s3sync.runs.run_folder import Run, RunInfo
from s3sync.state.lock import hold
from s3sync.state.run_state import Proof, RunState
from s3sync.state.store import StateStore

LAB = Destination("lab-runs", "")


ARCHIVE = Destination("archive", "2026/cold")


CONTRACT = {
    "run_id": str,
    "run_path": str,
    "completed": bool,
    "total_local_files": int,
    "total_uploaded_files": int,
    "total_failed_upload": int,
    "failed_upload_files": list,
    "uploaded_files": dict,
}


OURS = {
    "version": int,
    "bucket": str,
    "remote_path": str,
    "folder": list,
    "started": str,
    "finished": str,
    "first_completed": str,
    "instrument_done": str,
    "sent_files": int,
    "sent_bytes": int,
    "seconds": float,
    "bytes": int,
    "aws": str,
    "attempts": int,
    "completion_object": str,
    "on_complete": str,
    "orderly": bool,
    "still_since": int,
    "parts_since": str,
    "opaque_etags": list,
    "verified_by": str,
    "manifest_files": int,
    "skipped": dict,
    "failed_reasons": dict,
    "verified_by_exceptions": dict,
    "local_files": dict,
}


def run_at(root: Path, name: str = "RUN") -> Run:
    return Run(path=root / "runs" / name, run_id=name, info=RunInfo())


def store_for(root: Path, destination: Destination = LAB, name: str = "RUN") -> StateStore:
    return StateStore(root / "log", run_at(root, name), destination)


def proofs_of(*paths: str, etag: str = "0" * 32, verified_by: str = "etag") -> dict[str, Proof]:
    return {
        path: Proof(path=path, size=3, mtime_ns=1_700_000_000_123_456_789, etag=etag, verified_by=verified_by)
        for path in paths
    }


def state_of(root: Path, *paths: str, name: str = "RUN", completed: bool = False) -> RunState:
    verified = proofs_of(*paths)
    return RunState(
        run_id=name,
        run_path=str(run_at(root, name).path),
        completed=completed,
        verified=verified,
        total_local_files=len(verified),
    )


def finished(store: StateStore, state: RunState) -> StateStore:
    """Go through all of an upload that proves what the state holds."""
    store.prepare()
    store.begin(replace(state, verified={}, completed=False))
    store.record(state.verified.values())
    store.finish(state)
    return store


def put_log(root: Path, content: bytes) -> Path:
    path = store_for(root).log_path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


MANY = [LAB, ARCHIVE, Destination("lab-runs", "2026"), Destination("lab-runs-2", "")]


def finish_locked(root: Path, destination: Destination) -> None:
    """As an upload does it, with a file that is named by the destination's tag."""
    store = store_for(root, destination)
    with hold(store.lock_path, "busy"):
        finished(store, state_of(root, destination.tag, completed=True))
