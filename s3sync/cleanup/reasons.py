"""Decide why a run is kept, by rules about its comparison with S3. Each rule is small and tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from s3sync import invocation
from s3sync.aws.access import Obstacle
from s3sync.cleanup.record import Record
from s3sync.text import pluralize, printable
from s3sync.transfer.request import as_options
from s3sync.transfer.verify import Verification

_ANALYSIS = "Analysis/"
_OR_IGNORE = ", or set `require_restorable_runs: false`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a run is kept; `id` stays the same when the text is reworded."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The comparison with one destination, and the record of an interrupted cleanup of the run, if there is one."""

    found: Verification
    record: Record | None
    obstacles: Sequence[Obstacle] = ()

    @property
    def url(self) -> str:
        """The destination of the run."""
        return self.found.destination.url(self.found.run.run_id)

    @property
    def where(self) -> str:
        """The destination for people."""
        return printable(self.url)

    @property
    def recorded(self) -> dict[str, tuple[int, str]]:
        """Size and ETag of each file, by path, that the interrupted cleanup had verified there."""
        return self.record.etags_at(self.url) if self.record else {}


Rule: TypeAlias = Callable[[Evidence], "Reason | None"]


def reasons_to_keep(found: Verification, record: Record | None, obstacles: Sequence[Obstacle] = ()) -> list[Reason]:
    """Return the reasons to keep a run after a comparison with one destination, the most important one first.

    `obstacles` are the reasons why objects could not be restored.
    """
    evidence = Evidence(found=found, record=record, obstacles=obstacles)
    return [reason for rule in RULES if (reason := rule(evidence))]


def not_listed(evidence: Evidence) -> Reason | None:
    """Keep a run if the credentials may not list the bucket: S3 may have files that are not here."""
    if evidence.found.remote is not None and evidence.found.only_in_s3 is not None:
        return None
    text = f"S3 may have files that are not here: these credentials may not list {evidence.where}"
    return Reason(id="cleanup.not-listed", text=text)


def differs(evidence: Evidence) -> Reason | None:
    """Keep a run if a file is not in S3, or has different content there."""
    if not evidence.found.differing:
        return None
    text = _describe(f"not identical with {evidence.where}", evidence.found.differing)
    return Reason(id="cleanup.differs", text=f"{text}; {_advice(evidence)}")


def compared_by_size_only(evidence: Evidence) -> Reason | None:
    """Keep a run if S3 has neither an ETag nor a checksum of a file."""
    if not evidence.found.size_only:
        return None
    reasons = dict.fromkeys((proof.path for proof in evidence.found.size_only), "no ETag or checksum to compare")
    return Reason(id="cleanup.size-only", text=_describe(f"verified by size alone in {evidence.where}", reasons))


def changed_since_deleted(evidence: Evidence) -> Reason | None:
    """Keep a run if S3 has lost or changed a file that an interrupted cleanup has deleted here."""
    remote = {path: (item.size, item.etag) for path, item in (evidence.found.remote or {}).items()}
    here = {file.path for file in evidence.found.selection.files}
    lost = [path for path, verified in evidence.recorded.items() if path not in here and remote.get(path) != verified]
    if evidence.found.remote is None or not lost:
        return None
    what = f"deleted here by an interrupted cleanup, and CHANGED OR GONE in {evidence.where} since"
    reasons = dict.fromkeys(lost, "no longer as it was verified")
    return Reason(id="cleanup.changed-since-deleted", text=_describe(what, reasons))


def only_in_s3(evidence: Evidence) -> Reason | None:
    """Keep a run if S3 has a file that is not here, unless an interrupted cleanup deleted it here."""
    only = [path for path in evidence.found.only_in_s3 or () if path not in evidence.recorded]
    if not only:
        return None
    text = _describe(f"only in {evidence.where}", dict.fromkeys(only, "not on the disk"))
    return Reason(id="cleanup.only-in-s3", text=text)


def nothing_verified(evidence: Evidence) -> Reason | None:
    """Keep a run if S3 has no file of it."""
    return (
        None
        if evidence.found.verified
        else Reason(id="cleanup.nothing-in-s3", text=f"none of it is in {evidence.where}")
    )


def not_readable(evidence: Evidence) -> Reason | None:
    """Keep a run that could not be restored because these credentials cannot read its objects."""
    unreadable = {each.path: each.reason for each in evidence.obstacles if not each.is_frozen}
    if not unreadable:
        return None
    tried = _describe_tried(f"could not be restored from {evidence.where}", unreadable)
    return Reason(id="cleanup.not-readable", text=f"{tried} (give s3:GetObject there{_OR_IGNORE})")


def not_thawable(evidence: Evidence) -> Reason | None:
    """Keep a run that could not be restored because these credentials may not thaw its frozen objects."""
    frozen = {each.path: each.reason for each in evidence.obstacles if each.is_frozen}
    if not frozen:
        return None
    tried = _describe_tried(f"are frozen in {evidence.where} and could not be thawed", frozen)
    return Reason(id="cleanup.not-thawable", text=f"{tried} (give s3:RestoreObject there{_OR_IGNORE})")


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


def _advice(evidence: Evidence) -> str:
    """Return which command uploads the files that were added or changed after the upload."""
    request, remote = evidence.found.request, evidence.found.remote or {}
    classes = (item.storage_class for item in remote.values())
    how = as_options.upload_options(request, str(request.log_dir), classes)
    command = invocation.command_line("upload", str(evidence.found.run.path), *how)
    return f"`{printable(command)}` uploads what differs"


def _describe_tried(what: str, reasons: Mapping[str, str]) -> str:
    """Return one sentence about objects that could not be restored; unlike files, only a few were tried."""
    path, why = next(iter(reasons.items()))
    more = f", and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    return f"of the few objects that were tried, {len(reasons):,} {what}: {printable(path)}: {why}{more}"


def _describe(what: str, reasons: Mapping[str, str]) -> str:
    """Return one sentence about files, with the name of the first, and how many belong to analyses."""
    path, why = next(iter(reasons.items()))
    more = f", and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    of_analysis = sum(name.startswith(_ANALYSIS) for name in reasons)
    share = "all" if of_analysis == len(reasons) else f"{of_analysis:,}"
    note = f"; {share} of it in {_ANALYSIS}: the instrument's own analysis" if of_analysis else ""
    return (
        f"{pluralize(len(reasons), 'file')} {what}: {printable(path)}: {why}{more}{note} (`verify` lists all of them)"
    )
