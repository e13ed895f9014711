"""Hold the results of a cleanup, and describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from s3sync.cleanup.candidates import CleanupCandidate
from s3sync.cleanup.reasons import Reason
from s3sync.cleanup.verdict import NO_FILES, VerifiedFiles
from s3sync.inventory import Problem
from s3sync.text import pluralize, printable
from s3sync.transfer.verify import Verification

_MAX_NAMES = 3  # kept files to name

Outcome: TypeAlias = Literal["kept", "busy", "may be deleted", "deleted", "partly deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The result of a run."""

    candidate: CleanupCandidate
    outcome: Outcome
    reason: str = ""
    reason_id: str = ""
    files: int = 0  # identical on disk and in S3, or deleted
    size: int = 0  # their bytes
    kept: tuple[str, ...] = ()  # paths that were not to be deleted
    not_deleted: Mapping[str, str] = field(default_factory=dict)  # reasons by path that should have been deleted
    record: Path | None = None
    found: tuple[Verification, ...] = ()
    has_failed: bool = False  # the check failed, or not everything could be deleted


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """The results of all runs."""

    runs: tuple[RunResult, ...]
    finished: tuple[Path, ...]  # run folders whose cleanup was interrupted before, when only empty folders were left
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]

    def is_complete(self, names: Sequence[str], *, delete: bool) -> bool:
        """Return whether every check succeeded and every selected run was deleted.

        Selected are the runs with these `names`; without names, those that are old enough and uploaded everywhere.
        """
        if self.unknown or self.problems or any(result.has_failed for result in self.runs):
            return False
        if not delete:
            return True
        return all(result.outcome == "deleted" for result in self.runs if names or not result.candidate.keep)


def kept_result(candidate: CleanupCandidate, keep: Reason, verified: VerifiedFiles = NO_FILES) -> RunResult:
    """Return the result of a run that is kept."""
    return replace(checked_result(candidate, verified), reason=keep.text, reason_id=keep.id)


def checked_result(candidate: CleanupCandidate, verified: VerifiedFiles) -> RunResult:
    """Return the result of a run that was compared; the caller changes the outcome if it is not kept."""
    return RunResult(
        candidate=candidate,
        outcome="kept",
        files=len(verified.files),
        size=verified.size,
        kept=verified.kept,
        found=verified.found,
    )


def describe_kept(paths: Sequence[str]) -> str:
    """Return `2 files not in S3 are kept, with their folders: a, b`."""
    named = ", ".join(map(printable, paths[:_MAX_NAMES]))
    more = f", and {len(paths) - _MAX_NAMES:,} more" if len(paths) > _MAX_NAMES else ""
    verb = "is kept, with its folder" if len(paths) == 1 else "are kept, with their folders"
    return f"{pluralize(len(paths), 'file')} not in S3 {verb}: {named}{more}"


def describe_not_deleted(not_deleted: Mapping[str, str]) -> str:
    """Return the first path that was not deleted, the reason, and the number of others; empty if there is none."""
    if not not_deleted:
        return ""
    path, why = next(iter(not_deleted.items()))
    more = f", and {len(not_deleted) - 1:,} more" if len(not_deleted) > 1 else ""
    return f"{printable(path)}: {why}{more} (fix that, and run the same command again)"
