"""Decide by the state log, for runs and analyses, regardless of what the instrument has written since."""

from __future__ import annotations

from s3sync.inventory.facts import Decision, Facts
from s3sync.slurm import job_status
from s3sync.state import summary
from s3sync.text import pluralize
from s3sync.transfer.request import hook

_ONE_NAME = "rename one of the folders, give one its own remote_path, or remove it if it is a copy"


def unreadable(facts: Facts) -> Decision | None:
    """Report a run if it or its log cannot be read."""
    if facts.log.unreadable:
        return Decision(state="unreadable", reason=facts.log.unreadable, id="state.unreadable")
    if facts.candidate.unreadable:
        return Decision(state="unreadable", reason=facts.candidate.unreadable, id="run.unreadable")
    return None


def name_taken(facts: Facts) -> Decision | None:
    """Hold a folder if its state log and its prefix in S3 belong to another folder."""
    if facts.claim.kind != "another":
        return None
    return Decision(state="duplicate name", reason=f"{facts.claim.reason} ({_ONE_NAME})")


def moved(facts: Facts) -> Decision | None:
    """Compare a completed run again if its folder was moved."""
    if facts.claim.kind != "moved" or not _was_complete(facts):
        return None
    what = "its files are compared with the state log, and with S3 where they differ"
    return Decision(state="partial", reason=f"moved here from {facts.claim.reason}: {what}", id="run.moved")


def replaced(facts: Facts) -> Decision | None:
    """Report a completed run whose folder now holds another run."""
    if not _is_completed(facts) or not facts.change or not facts.change.another:
        return None
    what = f"the folder now holds another run than the one that was uploaded: {facts.change.another}"
    advice = "rename it, or use `s3sync upload` to replace what is in S3"
    return Decision(state="duplicate name", reason=f"{what} ({advice})", id="run.replaced")


def changed(facts: Facts) -> Decision | None:
    """Upload files that were added to a completed run, or changed."""
    if not _is_completed(facts) or not facts.change or not facts.entry.upload_changes:
        return None
    reason = f"{facts.change.text}; uploaded at the next scan"
    return Decision(state="partial", reason=reason, id="run.changed", change=facts.change)


def uploaded(facts: Facts) -> Decision | None:
    """Accept a completed run. Its change, if any, is one that the config ignores."""
    head = facts.head
    if head is None or not head.completed:
        return None
    is_pending = facts.entry.on_complete and hook.is_pending(head.on_complete)
    pending = f"; on_complete {head.on_complete}" if is_pending else ""
    ignored = f"; {facts.change.text}, and not uploaded (upload_changes: false)" if facts.change else ""
    reason = f"{pluralize(head.uploaded_files, 'file')} verified in S3{pending}{ignored}"
    return Decision(state="uploaded", reason=reason, change=facts.change)


def reopened(facts: Facts) -> Decision | None:
    """Continue the upload of a run that was completed before, without checking its completeness again."""
    return due(facts) if _was_complete(facts) else None


def _was_complete(facts: Facts) -> bool:
    return facts.head is not None and facts.head.was_complete


def _is_completed(facts: Facts) -> bool:
    return facts.head is not None and facts.head.completed


def due(facts: Facts) -> Decision:
    """Return the state of a run that is to be uploaded, by its work folder on Slurm and its log. Raises StateError."""
    if facts.work_folder.exists():
        facts.work_folder.spec()  # raises StateError: a folder that cannot be read is not shown as in progress
        progress = job_status.describe_progress(facts.work_folder)
        return Decision(state="partial", reason=f"on Slurm: {progress}", id="run.on-slurm")
    return _due_by_log(facts.head, is_corrupt=facts.log.corrupt)


def _due_by_log(head: summary.LogSummary | None, *, is_corrupt: bool) -> Decision:
    if is_corrupt:
        reason = "its state log is corrupt: every file is compared with S3 again"
        return Decision(state="partial", reason=reason, id="state.corrupt")
    if head is None:
        return Decision(state="new", reason="complete, not uploaded yet")
    done = f"{head.uploaded_files:,} of {pluralize(head.total_files, 'file')} verified"
    if head.failed_files:
        failed = f"{head.failed_files:,} failed (`status RUN` names them)"
        return Decision(state="failed", reason=f"{done}, {failed}; tried again at the next scan")
    return Decision(state="partial", reason=f"{done}; continued at the next scan")


LOG_RULES = (unreadable, name_taken, moved, replaced, changed, uploaded, reopened)
