"""Upload the analyses of a run after the run itself, each once it is complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from s3sync.errors import S3SyncError, StoppedError
from s3sync.runs import Run, analysis
from s3sync.transfer.request import PendingAnalysis, Preview, UploadRequest, UploadResult

T_Result = TypeVar("T_Result", UploadResult, Preview)


def upload_analyses(
    request: UploadRequest, first: T_Result, work: Callable[[UploadRequest], T_Result]
) -> tuple[list[T_Result], list[PendingAnalysis]]:
    """Call `work` for each complete analysis of an uploaded run; return the results, and the analyses that must wait.

    All of them wait until the run itself is completed. An error in one does not stop the others. Raises StoppedError.
    """
    done: list[T_Result] = []
    waiting: list[PendingAnalysis] = []
    analyses = analysis.list_analyses(first.run) if first.run.excludes_analyses else []
    for unit in analyses:
        if analysis.is_excluded(unit, request.excludes):
            continue
        try:
            reason = _reason_to_wait(unit, first, request)
            if not reason:
                done.append(work(replace(request, local_path=unit.path)))
        except StoppedError:
            raise
        except S3SyncError as error:
            reason = str(error)
        if reason:
            waiting.append(PendingAnalysis(unit, request.destination, reason))
    return done, waiting


def _reason_to_wait(unit: Run, first: UploadResult | Preview, request: UploadRequest) -> str:
    if isinstance(first, UploadResult) and not first.state.completed:
        return "waits for the run itself, which is not completed"
    finish = analysis.check_completion(unit, request.quiet_seconds)
    return "" if finish.is_complete else finish.reason
