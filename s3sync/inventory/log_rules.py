"""The rules that decide by the state log, for runs and analyses, whatever their instrument has written since."""

from __future__ import annotations

from s3sync.inventory.case import Case, Decision
from s3sync.slurm import job_status
from s3sync.state import summary
from s3sync.text import pluralize
from s3sync.transfer import hook

_ONE_NAME = "rename one of the folders, give one its own remote_path, or remove it if it is a copy"


def unreadable(case: Case) -> Decision | None:
    """Report a run that cannot be read, or whose log cannot."""
    if case.known.unreadable:
        return Decision(state="unreadable", reason=case.known.unreadable, id="state.unreadable")
    if case.candidate.unreadable:
        return Decision(state="unreadable", reason=case.candidate.unreadable, id="run.unreadable")
    return None


def name_taken(case: Case) -> Decision | None:
    """Hold a folder whose state log and prefix in S3 belong to another one."""
    if case.claim.kind != "another":
        return None
    return Decision(state="duplicate name", reason=f"{case.claim.reason} ({_ONE_NAME})")


def moved(case: Case) -> Decision | None:
    """Compare an uploaded run again if its folder was moved."""
    if case.claim.kind != "moved" or not _was_complete(case):
        return None
    what = "its files are compared with the state log, and with S3 where they differ"
    return Decision(state="partial", reason=f"moved here from {case.claim.reason}: {what}", id="run.moved")


def replaced(case: Case) -> Decision | None:
    """Report an uploaded run whose folder holds another run now."""
    if not _is_completed(case) or not case.change or not case.change.another:
        return None
    what = f"the folder holds another run than the one that was uploaded: {case.change.another}"
    advice = "rename it, or `s3sync upload` it to replace what is in S3"
    return Decision(state="duplicate name", reason=f"{what} ({advice})", id="run.replaced")


def changed(case: Case) -> Decision | None:
    """Upload what came into an uploaded run."""
    if not _is_completed(case) or not case.change or not case.entry.upload_changes:
        return None
    reason = f"{case.change.text}; uploaded at the next scan"
    return Decision(state="partial", reason=reason, id="run.changed", change=case.change)


def uploaded(case: Case) -> Decision | None:
    """Accept a completed run, perhaps with changes that the config ignores."""
    head = case.head
    if head is None or not head.completed:
        return None
    is_pending = case.entry.on_complete and hook.is_pending(head.on_complete)
    pending = f"; on_complete {head.on_complete}" if is_pending else ""
    ignored = f"; {case.change.text}, and not uploaded (upload_changes: false)" if case.change else ""
    reason = f"{pluralize(head.uploaded_files, 'file')} proven in S3{pending}{ignored}"
    return Decision(state="uploaded", reason=reason, change=case.change)


def reopened(case: Case) -> Decision | None:
    """Continue a run that was completed once, without checking its completeness again."""
    return due(case) if _was_complete(case) else None


def _was_complete(case: Case) -> bool:
    return case.head is not None and case.head.was_complete


def _is_completed(case: Case) -> bool:
    return case.head is not None and case.head.completed


def due(case: Case) -> Decision:
    """Return the state of a run that is to be uploaded, by its work folder on Slurm and its log. Raises StateError."""
    if case.work_folder.exists():
        case.work_folder.spec()  # raises StateError: what cannot be read is not shown as on its way
        on = "on Slurm:" if case.work_folder.is_submitted() else "Slurm is"
        progress = job_status.describe_progress(case.work_folder)
        return Decision(state="partial", reason=f"{on} {progress}", id="run.on-slurm")
    return _due_by_log(case.head, is_corrupt=case.known.corrupt)


def _due_by_log(head: summary.LogSummary | None, *, is_corrupt: bool) -> Decision:
    if is_corrupt:
        reason = "its state log is corrupt: every file is compared with S3 again"
        return Decision(state="partial", reason=reason, id="state.corrupt")
    if head is None:
        return Decision(state="new", reason="complete, and not uploaded yet")
    done = f"{head.uploaded_files:,} of {pluralize(head.total_files, 'file')} proven"
    if head.failed_files:
        failed = f"{head.failed_files:,} failed (`status RUN` names them)"
        return Decision(state="failed", reason=f"{done}, {failed}; tried again at the next scan")
    return Decision(state="partial", reason=f"{done}; continued at the next scan")


LOG_RULES = (unreadable, name_taken, moved, replaced, changed, uploaded, reopened)
