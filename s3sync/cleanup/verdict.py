"""Compare a run with all of its destinations, and decide whether it may be deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from s3sync.aws.access import Obstacle
from s3sync.cleanup import delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.candidates import CleanupCandidate, mounted_in, record_of
from s3sync.cleanup.reasons import Reason, reasons_to_keep
from s3sync.cleanup.record import Record
from s3sync.config import Config
from s3sync.inventory import RunStatus, statuses
from s3sync.patterns import Pattern
from s3sync.runs import local_files, readiness, run_folder
from s3sync.state import Proof
from s3sync.text import printable
from s3sync.transfer.verify import Verification

Compare: TypeAlias = Callable[[RunStatus], Verification]
FindObstacles: TypeAlias = Callable[[RunStatus, Verification], Sequence[Obstacle]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles:
    """The files of a run that are identical at all destinations."""

    files: dict[str, local_files.FileIdentity]  # as they were compared, by path
    proofs: dict[str, dict[str, Proof]]  # by URL and path
    kept: tuple[str, ...]  # other paths in the run: excluded, or without content
    found: tuple[Verification, ...]

    @property
    def size(self) -> int:
        """The size of the files in bytes."""
        return sum(identity.size for identity in self.files.values())


NO_FILES = VerifiedFiles(files={}, proofs={}, kept=(), found=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a run may be deleted."""

    keep: Reason | None  # None if it may be
    identity: tuple[int, int]  # device and inode of the run folder
    record: Record | None  # the record of an interrupted cleanup of this folder
    verified: VerifiedFiles


def decide(candidate: CleanupCandidate, config: Config, compare: Compare, find_obstacles: FindObstacles) -> Verdict:
    """Compare a run with each destination, and return whether it may be deleted. Raises S3SyncError.

    `find_obstacles` returns why objects could not be restored. The caller holds the locks for all destinations.
    """
    path = cleanup_record.path_for(config.log_dir, candidate.folder)
    verdict = Verdict(
        keep=None,
        identity=delete.identity_of(candidate.folder),
        record=record_of(cleanup_record.load(path), candidate.folder),
        verified=NO_FILES,
    )
    if keep := _changed_status(candidate, config):
        return replace(verdict, keep=keep)
    found: list[Verification] = []
    for run in candidate.uploaded:
        found.append(compare(run))
        reasons = reasons_to_keep(found[-1], verdict.record)
        if not reasons:
            obstacles = find_obstacles(run, found[-1])
            reasons = reasons_to_keep(found[-1], verdict.record, obstacles)
        if reasons:
            return replace(verdict, keep=reasons[0], verified=_identical_files(found))
    keep, verified = combine_verifications(candidate, found)
    keep = keep or (None if verdict.record else _incomplete(candidate, config)) or mounted_in(candidate.folder)
    return replace(verdict, keep=keep, verified=verified)


def _changed_status(candidate: CleanupCandidate, config: Config) -> Reason | None:
    again = statuses.refresh(config, candidate.runs)
    if [(unit.state, unit.head) for unit in again] == [(unit.state, unit.head) for unit in candidate.units]:
        return None
    text = "its state changed while the command was running (run the same command again)"
    return Reason(id="cleanup.changed-meanwhile", text=text)


def _identical_files(found: Sequence[Verification]) -> VerifiedFiles:
    files = {proof.path: (one.identities or {})[proof.path] for one in found for proof in one.verified}
    return replace(NO_FILES, files=files, found=tuple(found))


def _incomplete(candidate: CleanupCandidate, config: Config) -> Reason | None:
    """Keep a run that is identical in S3, but incomplete in both places."""
    if not config.require_whole_runs:
        return None
    excludes = [pattern for run in candidate.uploaded for pattern in run.entry.excludes]
    missing = readiness.describe_missing_base_calls(candidate.uploaded[0].run, excludes)
    if not missing:
        return None
    advice = "copy and upload the rest, or set `require_whole_runs: false`"
    return Reason(id="cleanup.incomplete", text=f"incomplete here and in S3: {missing} ({advice})")


def combine_verifications(
    candidate: CleanupCandidate, found: Sequence[Verification]
) -> tuple[Reason | None, VerifiedFiles]:
    """Return the reason to keep a run, or None if it may be deleted, and the files that all destinations have."""
    files: dict[str, local_files.FileIdentity] = {}
    for one in found:
        for proof in one.verified:
            identity = (one.identities or {})[proof.path]
            if files.setdefault(proof.path, identity) != identity:
                return _changed(proof.path, "changed"), NO_FILES
    if run_folder.RUN_INFO in files and files[run_folder.RUN_INFO].is_link:
        text = f"{run_folder.RUN_INFO} is a link: once its target is deleted, the rest could not be recognized as a run"
        return Reason(id="cleanup.run-info-is-a-link", text=text), NO_FILES
    listing = local_files.list_files(found[0].run)
    paths = [*(file.path for file in listing.files), *(item.path for item in listing.rejected)]
    others = [path for path in paths if path not in files]
    verified = VerifiedFiles(
        files=files,
        proofs={one.destination.url(one.run.run_id): {proof.path: proof for proof in one.verified} for one in found},
        kept=tuple(sorted([*others, *(item.path for item in listing.skipped)])),
        found=tuple(found),
    )
    new = [path for path in others if not _is_excluded(candidate, path)]
    return (_changed(new[0], "appeared on disk") if new else None), verified


def _changed(path: str, what: str) -> Reason:
    text = f"{printable(path)}: {what} while the run was verified (run the same command again)"
    return Reason(id="cleanup.changed-during-verification", text=text)


def _is_excluded(candidate: CleanupCandidate, path: str) -> bool:
    """Return whether a path is excluded at every destination that has the run."""
    return all(_matches(run.entry.excludes, f"{run.run.run_id}/{path}") for run in candidate.uploaded)


def _matches(excludes: Iterable[Pattern], text: str) -> bool:
    return any(pattern.search(text) for pattern in excludes)
