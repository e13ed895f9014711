"""Show the result of an upload, or of its dry run, as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s3sync.aws import objects
from s3sync.errors import Notice
from s3sync.text import human_bytes, human_seconds, list_by_reason, pluralize, printable
from s3sync.transfer import request
from s3sync.transfer.request import hook, storage_classes

_VERIFICATION_LABELS = {"etag": "ETag", "predecessor": "the log of another program"}


def summary(result: request.UploadResult) -> list[str]:
    """Return lines about the result of an upload."""
    state, run = result.state, printable(result.run.run_id)
    if result.already_complete:
        return [
            f"nothing to send: {run} was completed {state.finished or 'before'}",
            *_fact_lines(result),
            *_after(result),
        ]
    if state.completed:
        return [f"uploaded: {run}", *_fact_lines(result), *_after(result)]
    if result.selection.unchanged_since_ns and not state.failed:
        return [f"streamed so far: {run}", *_fact_lines(result)]
    again = "run the same command again; files that are verified are not sent again"
    verdict = Notice(f"NOT completed: {run}", id="upload.not-completed")
    return [str(verdict), *_fact_lines(result), *_failures(result), f"  next    {again}"]


def waiting_lines(waiting: request.PendingAnalysis) -> list[str]:
    """Return lines about an analysis that is not uploaded yet, with the reason."""
    return [
        str(Notice(f"NOT uploaded: {printable(waiting.run.run_id)}", id="upload.analysis-waits")),
        f"  why     {printable(waiting.reason)}",
        "  next    run the same command again when that is done",
    ]


def waiting_json(waiting: request.PendingAnalysis) -> dict[str, Any]:
    """Return an analysis that is not uploaded yet as one JSON object."""
    return {
        "run_id": waiting.run.run_id,
        "run_path": str(waiting.run.path),
        "url": waiting.destination.url(waiting.run.run_id),
        "completed": False,
        "reason": printable(waiting.reason),
    }


def as_json(result: request.UploadResult) -> dict[str, Any]:
    """Return the result of an upload as one JSON object."""
    state, counters = result.state, result.counters
    return {
        "run_id": state.run_id,
        "run_path": str(result.run.path),
        "bucket": result.destination.bucket,
        "remote_path": result.destination.remote_path,
        "url": result.destination.url(result.run.run_id),
        "completed": state.completed,
        "streaming": result.selection.unchanged_since_ns > 0,
        "already_completed": result.already_complete,
        "total_local_files": state.total_local_files,
        "total_uploaded_files": result.verified.files,
        "total_failed_upload": len(state.failed),
        "failed": {printable(path): reason for path, reason in state.failed.items()},
        "excluded_files": result.selection.excluded,
        "skipped": {printable(item.path): item.reason for item in result.selection.skipped},
        "sent_files": counters.sent_files,
        "sent_bytes": counters.sent_size,
        "found_in_s3": counters.found_files,
        "bytes": result.verified.size,
        "seconds": round(counters.seconds, 3),
        "completion_object": state.completion_object,
        "on_complete": result.on_complete,
        "aws": state.aws,
        "aws_processes": counters.aws_processes,
        "manifest_files": state.manifest_checked_files,
        "log": str(result.log_path),
    }


def preview_lines(preview: request.Preview) -> list[str]:
    """Return lines about what an upload would send."""
    size = sum(file.size for file in preview.pending)
    lines = [
        f"would send: {printable(preview.run.run_id)}",
        f"  to      {printable(preview.destination.url(preview.run.run_id))}",
        (
            f"  files   {len(preview.pending):,} of {preview.selection.total:,}, {human_bytes(size)}, "
            f"in {preview.batches:,} batch{'es' if preview.batches != 1 else ''}"
        ),
    ]
    lines += _class_lines(preview)
    if preview.same_size:
        lines.append(f"  in S3   {preview.same_size:,} of them with the same size; their ETags would be compared first")
    if preview.ask_seconds:
        lines.append(f"  proof   {objects.slow_heads_message(len(preview.pending), preview.ask_seconds)}")
    if preview.selection.excluded:
        lines.append(f"  skipped {pluralize(preview.selection.excluded, 'file')} by --exclude-patterns")
    if preview.selection.rejected:
        lines.append(f"  reject  {pluralize(len(preview.selection.rejected), 'file')}, which cannot be sent:")
        lines += _named({item.path: item.reason for item in preview.selection.rejected})
    return [*lines, f"  log     {printable(str(preview.log_path))} (not written)"]


def _class_lines(preview: request.Preview) -> list[str]:
    """Return the files of each storage class, if any was chosen, and the charge for small ones."""
    if not preview.has_chosen_classes:
        return []
    lines = []
    for name, files in preview.classes.items():
        lines.append(f"  class   {name}: {pluralize(len(files), 'file')}, {human_bytes(sum(f.size for f in files))}")
        if why := storage_classes.explain_small(name, files):
            lines.append(f"          {why}")
    return lines


def size_text(preview: request.Preview) -> str:
    """Return the bytes that an upload would send, by storage class if any was chosen, for a cell of a table."""
    if not preview.has_chosen_classes:
        return human_bytes(sum(file.size for file in preview.pending))
    sizes = {name: sum(file.size for file in files) for name, files in preview.classes.items()}
    return ", ".join(f"{human_bytes(size)} {name}" for name, size in sizes.items())


def preview_json(preview: request.Preview) -> dict[str, Any]:
    """Return what an upload would send as one JSON object."""
    return {
        "dry_run": True,
        "run_id": preview.run.run_id,
        "run_path": str(preview.run.path),
        "bucket": preview.destination.bucket,
        "remote_path": preview.destination.remote_path,
        "url": preview.destination.url(preview.run.run_id),
        "total_local_files": preview.selection.total,
        "would_send_files": len(preview.pending),
        "would_send_bytes": sum(file.size for file in preview.pending),
        "same_size_in_s3": preview.same_size,
        "batches": preview.batches,
        "storage_classes": {
            name: {"files": len(files), "bytes": sum(file.size for file in files)}
            for name, files in preview.classes.items()
        },
        "checksum_seconds": round(preview.ask_seconds),
        "excluded_files": preview.selection.excluded,
        "skipped": {printable(item.path): item.reason for item in preview.selection.skipped},
        "failed": {printable(item.path): item.reason for item in preview.selection.rejected},
        "log": str(preview.log_path),
        "obstacles": list(preview.obstacles),
    }


def _fact_lines(result: request.UploadResult) -> list[str]:
    state, counters, verified = result.state, result.counters, result.verified
    ways = sorted({_VERIFICATION_LABELS.get(way, way) for way in verified.ways})
    how = f" by {', '.join(ways)}" if ways else ""
    found = f", {counters.found_files:,} of them found in S3" if counters.found_files else ""
    size = human_bytes(verified.size)
    lines = [
        f"  to      {printable(result.destination.url(result.run.run_id))}",
        f"  files   {verified.files:,} of {state.total_local_files:,} verified in S3{how}{found}, {size}",
    ]
    if state.manifest_checked_files:
        lines.append(f"  CRC-32  of {pluralize(state.manifest_checked_files, 'file')} matches Manifest.tsv")
    if counters.sent_files:
        rate = human_bytes(counters.sent_size / counters.seconds) if counters.seconds else "-"
        lines.append(
            f"  sent    {pluralize(counters.sent_files, 'file')}, {human_bytes(counters.sent_size)} "
            f"in {human_seconds(counters.seconds)} ({rate}/s)"
        )
    if result.selection.excluded:
        lines.append(f"  skipped {pluralize(result.selection.excluded, 'file')} by --exclude-patterns")
    return [*lines, f"  log     {printable(str(result.log_path))}"]


def _after(result: request.UploadResult) -> list[str]:
    """Return a line about the command that ran on completion, if any. If it failed, the files are still in S3."""
    if not result.on_complete:
        return []
    advice = " (all files are in S3; the same command runs it again)" if hook.has_failed(result.on_complete) else ""
    return [f"  then    on_complete {result.on_complete}{advice}"]


def _failures(result: request.UploadResult) -> list[str]:
    return [f"  failed  {pluralize(len(result.state.failed), 'file')}:", *_named(result.state.failed)]


def _named(reasons: Mapping[str, str]) -> list[str]:
    return list_by_reason(reasons, ", in the log")
