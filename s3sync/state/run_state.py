"""Hold the state of one run at one destination, and the transitions between such states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from s3sync.runs import LocalFile, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The proof that S3 holds a file: the version that was on disk, and how it was verified.

    `verified_by` is `etag`, `checksum`, `content` or `size`; or `predecessor` for a file in a log of the predecessor,
    which recorded neither size nor mtime: both are -1.
    """

    path: str  # relative to the run folder
    size: int  # bytes
    mtime_ns: int
    etag: str  # without quotes
    verified_by: str

    @classmethod
    def of(cls, file: LocalFile, etag: str, verified_by: str) -> Proof:
        """Return the proof that S3 holds this file as it is now."""
        return cls(path=file.path, size=file.size, mtime_ns=file.mtime_ns, etag=etag, verified_by=verified_by)

    def is_of(self, file: LocalFile) -> bool:
        """Return whether it proves the file as it is now, not an earlier version of it."""
        return (self.size, self.mtime_ns) == (file.size, file.mtime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The facts that complete an upload. `completion_object` is the ETag of that object in S3; empty without one.
    `on_complete` says whether the user's command is due; empty without one.
    """

    manifest_checked_files: int = 0
    completion_object: str = ""
    on_complete: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """The outcome of one call of `upload`.

    `files` are the files of the run as they were listed last. `completion` is None if the run is not completed.
    """

    files: tuple[LocalFile, ...]
    verified: Mapping[str, Proof]
    failed: Mapping[str, str]
    sent_files: int
    sent_bytes: int
    seconds: float
    opaque_etags: tuple[str, ...] = ()
    skipped: Mapping[str, str] | None = None  # None: as before
    completion: Completion | None = None
    is_streaming: bool = False
    ended_cleanly: bool = False
    is_handed_over: bool = False
    may_leave_parts: bool = False  # parts of multipart uploads may be left in S3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state of one run at one destination. Times are ISO 8601; empty if they are not known."""

    run_id: str
    run_path: str
    completed: bool = False
    verified: Mapping[str, Proof] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)  # path in the run -> reason
    skipped: Mapping[str, str] = field(default_factory=dict)  # path without bytes -> what it is
    total_local_files: int = 0
    started: str = ""
    finished: str = ""
    aws: str = ""
    is_from_predecessor: bool = False
    streamed_until_ns: int = 0  # while streaming: files modified after this time are no longer verified. 0: complete
    ended_cleanly: bool = False  # the last call ended cleanly, and S3 holds nothing unverified
    stale_parts_since: str = ""  # since when a killed call may have left parts of multipart uploads in S3; empty: none
    completion_object: str = ""  # the ETag of the completion object; empty: it is not there, or not requested
    on_complete: str = ""  # the state of the user's command: hook.PENDING, hook.DONE, or why it failed
    attempts: int = 0  # calls since the last one that completed the run or made progress
    manifest_checked_files: int = 0  # files of an analysis that are checked against its Manifest.tsv; 0: it has none
    instrument_done: str = ""  # when the instrument finished the run
    sent_files: int = 0  # by all calls that this upload took, and
    sent_bytes: int = 0  # their size, and
    seconds: float = 0.0  # how long these calls took
    opaque_etags: tuple[str, ...] = ()  # kinds of ETags that this server gives and that are not MD5s
    folder: tuple[int, ...] = ()  # device and inode of the run folder, and the device of its parent
    first_completed: str = ""  # when it was completed for the first time
    watched: Mapping[str, tuple[int, int]] | None = (
        None  # values that reveal later changes, read before the last listing
    )
    folders: Mapping[str, int] = field(default_factory=dict)  # when each was modified, in ns; the run's path is empty

    @classmethod
    def of(cls, run: Run) -> RunState:
        """Return the state of a run without a log."""
        return cls(run_id=run.run_id, run_path=str(run.path))

    @property
    def size(self) -> int:
        """Return the size of the verified files, as far as it is known: the predecessor did not record it."""
        return sum(max(proof.size, 0) for proof in self.verified.values())

    # Transitions

    def started_call(self, files: Iterable[LocalFile], *, total: int, streamed_until_ns: int, now: str) -> RunState:
        """Return the state when a call begins; `total` counts files that cannot be uploaded, too.

        A completed run that is uploaded again counts what this upload sends from zero.
        """
        state = self
        if state.completed:
            state = replace(
                state,
                first_completed=state.first_completed or state.finished or now,
                sent_files=0,
                sent_bytes=0,
                seconds=0.0,
            )
        return replace(
            state,
            verified=current_proofs(state.verified, files, state.failed),
            completed=False,
            ended_cleanly=False,
            failed={},
            started=now,
            finished="",
            attempts=state.attempts + 1,
            manifest_checked_files=0,
            streamed_until_ns=streamed_until_ns,
            completion_object="",
            on_complete="",
            total_local_files=total,
        )

    def sending(self, now: str) -> RunState:
        """Note that parts of multipart uploads may be left in S3, until a call ends that has aborted them all."""
        return replace(self, stale_parts_since=self.stale_parts_since or now)

    def resumed(self, proofs: Iterable[Proof]) -> RunState:
        """Return the state after a killed call: these proofs are in its journal, and the rest is unknown."""
        return replace(self, completed=False, verified={**self.verified, **{proof.path: proof for proof in proofs}})

    def collected(self, proofs: Iterable[Proof], *, sent_files: int, sent_bytes: int, seconds: float) -> RunState:
        """Return the state with the files that jobs of a cluster have verified. Idempotent.

        A proof in the state that has a size is newer than theirs: it comes from the finalizer job.
        """
        of_jobs = {proof.path: proof for proof in proofs}
        newer = {path: proof for path, proof in self.verified.items() if proof.size >= 0 or path not in of_jobs}
        return replace(
            self,
            verified={**of_jobs, **newer},
            sent_files=sent_files,
            sent_bytes=sent_bytes,
            seconds=seconds,
            attempts=0 if of_jobs else self.attempts,
        )

    def finished_call(self, result: CallResult, now: str) -> RunState:
        """Return the state at the end of a call, successful or not."""
        completion = result.completion
        attempts = self.attempts
        if completion or result.sent_files or result.is_streaming:
            attempts = 0
        elif result.is_handed_over:
            attempts -= 1  # the finalizer job counts this attempt
        return replace(
            self,
            completed=completion is not None,
            verified=current_proofs(result.verified, result.files, result.failed),
            failed=dict(sorted(result.failed.items())),
            skipped=self.skipped if result.skipped is None else dict(result.skipped),
            finished=now,
            first_completed=self.first_completed or (now if completion else ""),
            sent_files=self.sent_files + result.sent_files,
            sent_bytes=self.sent_bytes + result.sent_bytes,
            seconds=self.seconds + result.seconds,
            stale_parts_since=self.stale_parts_since if result.may_leave_parts or result.is_handed_over else "",
            attempts=attempts,
            ended_cleanly=result.ended_cleanly,
            opaque_etags=result.opaque_etags,
            manifest_checked_files=completion.manifest_checked_files if completion else 0,
            completion_object=completion.completion_object if completion else "",
            on_complete=completion.on_complete if completion else "",
        )


def current_proofs(
    verified: Mapping[str, Proof], files: Iterable[LocalFile], failed: Mapping[str, str]
) -> Mapping[str, Proof]:
    """Drop the proofs of files that have changed or failed since: the log would call those uploaded.

    Proofs of a predecessor's log, which has no sizes, are kept until S3 contradicts them.
    """
    known = ((file, verified.get(file.path)) for file in files)
    stale = {file.path for file, proof in known if proof and proof.size >= 0 and not proof.is_of(file)}
    stale.update(path for path in failed if path in verified)
    return {path: proof for path, proof in verified.items() if path not in stale} if stale else verified
