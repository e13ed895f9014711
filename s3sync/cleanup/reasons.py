"""Decide from a verification why a run is kept here. Deletion rests on these rules: each is small and tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from s3sync import invocation
from s3sync.aws.restore_access import Obstacle
from s3sync.cleanup.record import Record
from s3sync.text import pluralize, printable
from s3sync.transfer import as_options
from s3sync.transfer.verification import Verification

_ANALYSIS = "Analysis/"
_OR_ANYWAY = ", or set `require_restorable_runs: false`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a run is kept; `id` stays the same when the text is reworded."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What was found at one destination, and the record of an interrupted cleanup of the run, if there is one.

    `obstacles` are why some of its objects could not be restored.
    """

    found: Verification
    record: Record | None
    obstacles: Sequence[Obstacle] = ()

    @property
    def url(self) -> str:
        """The destination of the run."""
        return self.found.destination.url(self.found.run.run_id)

    @property
    def where(self) -> str:
        """The same for people."""
        return printable(self.url)

    @property
    def recorded(self) -> dict[str, tuple[int, str]]:
        """Size and ETag of the files that the interrupted cleanup had verified there."""
        return self.record.etags_at(self.url) if self.record else {}


Rule: TypeAlias = Callable[[Case], "Reason | None"]


def reasons_to_keep(found: Verification, record: Record | None, obstacles: Sequence[Obstacle] = ()) -> list[Reason]:
    """Return why what was found at a destination keeps the run here, the most important reason first; empty if nothing
    does.
    """
    case = Case(found=found, record=record, obstacles=obstacles)
    return [reason for rule in RULES if (reason := rule(case))]


def not_listed(case: Case) -> Reason | None:
    """Keep a run if the credentials may not list the bucket: S3 may have files that are not here."""
    if case.found.remote is not None and case.found.extra is not None:
        return None
    text = f"what only S3 has is not known: these credentials may not list {case.where}"
    return Reason(id="cleanup.not-listed", text=text)


def differs(case: Case) -> Reason | None:
    """Keep a run if a file is not in S3, or has another content there."""
    if not case.found.differing:
        return None
    text = _describe(f"not identical with {case.where}", case.found.differing)
    return Reason(id="cleanup.differs", text=f"{text}; {_advice(case)}")


def compared_by_size_only(case: Case) -> Reason | None:
    """Keep a run if S3 has neither an ETag nor a checksum of a file."""
    if not case.found.by_size:
        return None
    reasons = dict.fromkeys((proof.path for proof in case.found.by_size), "no ETag or checksum to compare")
    return Reason(id="cleanup.size-only", text=_describe(f"proven by size alone in {case.where}", reasons))


def changed_since_deleted(case: Case) -> Reason | None:
    """Keep a run if S3 has lost or changed a file that an interrupted cleanup has deleted here."""
    remote = {path: (item.size, item.etag) for path, item in (case.found.remote or {}).items()}
    here = {file.path for file in case.found.selection.files}
    lost = [path for path, proven in case.recorded.items() if path not in here and remote.get(path) != proven]
    if case.found.remote is None or not lost:
        return None
    what = f"deleted here by a cleanup that was interrupted, and CHANGED OR GONE in {case.where} since"
    reasons = dict.fromkeys(lost, "it was proven, and is not as it was then")
    return Reason(id="cleanup.changed-since-deleted", text=_describe(what, reasons))


def only_in_s3(case: Case) -> Reason | None:
    """Keep a run if S3 has a file that is not here, unless an interrupted cleanup has deleted it here."""
    only = [path for path in case.found.extra or () if path not in case.recorded]
    if not only:
        return None
    text = _describe(f"only in {case.where}", dict.fromkeys(only, "not on the disk"))
    return Reason(id="cleanup.only-in-s3", text=text)


def nothing_verified(case: Case) -> Reason | None:
    """Keep a run if S3 has no file of it."""
    return None if case.found.proven else Reason(id="cleanup.nothing-in-s3", text=f"nothing of it is in {case.where}")


def not_readable(case: Case) -> Reason | None:
    """Keep a run that could not be restored, since these credentials cannot read its objects."""
    unreadable = {each.path: each.reason for each in case.obstacles if not each.is_frozen}
    if not unreadable:
        return None
    tried = _describe_tried(f"could not be restored from {case.where}", unreadable)
    return Reason(id="cleanup.not-readable", text=f"{tried} (give s3:GetObject there{_OR_ANYWAY})")


def not_thawable(case: Case) -> Reason | None:
    """Keep a run that could not be restored, since these credentials may not thaw its frozen objects."""
    frozen = {each.path: each.reason for each in case.obstacles if each.is_frozen}
    if not frozen:
        return None
    tried = _describe_tried(f"are frozen in {case.where} and could not be thawed", frozen)
    return Reason(id="cleanup.not-thawable", text=f"{tried} (give s3:RestoreObject there{_OR_ANYWAY})")


RULES: tuple[Rule, ...] = (
    not_listed,
    differs,
    compared_by_size_only,
    changed_since_deleted,
    only_in_s3,
    nothing_verified,
    not_readable,
    not_thawable,
)


def _advice(case: Case) -> str:
    """Return which command uploads the files that were added or changed after the upload."""
    request, remote = case.found.request, case.found.remote or {}
    classes = (item.storage_class for item in remote.values())
    how = as_options.upload_options(request, str(request.log_dir), classes)
    command = invocation.command_line("upload", str(case.found.run.path), *how)
    return f"`{printable(command)}` sends what differs"


def _describe_tried(what: str, reasons: Mapping[str, str]) -> str:
    """Return the same about objects of which only a few were tried, as `verify` does not."""
    path, why = next(iter(reasons.items()))
    more = f", and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    return f"of the few objects that were tried, {len(reasons):,} {what}: {printable(path)}: {why}{more}"


def _describe(what: str, reasons: Mapping[str, str]) -> str:
    """Return one sentence about files, with the first by name, and how many are of the instrument's own analysis."""
    path, why = next(iter(reasons.items()))
    more = f", and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    of_analysis = sum(name.startswith(_ANALYSIS) for name in reasons)
    share = "all" if of_analysis == len(reasons) else f"{of_analysis:,}"
    note = f"; {share} of it in {_ANALYSIS}: the instrument's own analysis" if of_analysis else ""
    return f"{pluralize(len(reasons), 'file')} {what}: {printable(path)}: {why}{more}{note} (`verify` names them all)"
