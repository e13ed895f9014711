"""Write the completion object, which shows event-driven pipelines that a run is complete in S3, and lists its files.

It is the last object of a run, and is uploaded like its files: sent by `aws s3 cp`, read back, and verified.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from s3sync import __version__
from s3sync.aws import destination as aws_destination
from s3sync.aws.destination import Destination
from s3sync.errors import explained
from s3sync.runs import Run, local_files
from s3sync.state import RunState
from s3sync.text import now_iso, printable
from s3sync.transfer.batches import BatchQueue, ClassOf
from s3sync.transfer.context import UploadContext
from s3sync.transfer.pipeline import Pipeline
from s3sync.transfer.selection import UploadSelection

VERSION = 1


def write(context: UploadContext, state: RunState, selection: UploadSelection) -> Run:
    """Write the object as the only file of a new private folder, and return that folder as a run. Raises StateError."""
    folder = context.temp_folder / "completion"
    run, destination = context.run, context.request.destination
    with explained("write the completion object:", folder, "set TMPDIR", id="state.no-completion-object"):
        folder.mkdir(mode=0o700)
        with (folder / aws_destination.COMPLETION_OBJECT).open("x", encoding="ascii") as stream:
            stream.writelines(_text(run, destination, state, selection))
    return replace(run, path=folder, excludes_analyses=False, parent_run=None)


def send(written: Run, pipeline: Pipeline, number: int, class_of: ClassOf) -> tuple[str, str]:
    """Upload the object as a batch of this number; return its ETag and an empty string, or the reason in the second.

    Raises what `Pipeline.run` raises.
    """
    file = local_files.restat(written, aws_destination.COMPLETION_OBJECT)
    assert file is not None, "call write() first"
    why = "it was not sent"
    for verdicts in pipeline.run(BatchQueue([[file]], number, class_of=class_of)):
        for proof in verdicts.proofs:
            return proof.etag, ""
        for failure in verdicts.failures:
            why = failure.reason
    return "", why


def _text(run: Run, destination: Destination, state: RunState, selection: UploadSelection) -> Iterator[str]:
    """Yield the text file by file, since there may be a million."""
    proofs = state.verified.values()
    facts = {
        "version": VERSION,
        "verdict": "complete",
        "run_id": run.run_id,
        "bucket": destination.bucket,
        "prefix": destination.run_prefix(run.run_id),
        "completed_at": now_iso(),
        "total_files": len(proofs),
        "total_bytes": state.size,
        "excluded_files": selection.excluded,
        "skipped_files": sorted(printable(item.path) for item in selection.skipped),
        "written_by": f"s3sync {__version__}",
    }
    yield json.dumps(facts, indent=1).removesuffix("\n}")
    yield ',\n "files": [\n'
    separator = ""
    for proof in sorted(proofs, key=lambda proof: proof.path):
        size = proof.size if proof.size >= 0 else None  # the predecessor did not record it
        entry = {"path": proof.path, "size": size, "etag": proof.etag, "verified_by": proof.verified_by}
        entry |= {"mtime_ns": proof.mtime_ns} if proof.mtime_ns >= 0 else {}
        yield f"{separator}  {json.dumps(entry)}"
        separator = ",\n"
    yield f'\n ],\n "folders": {json.dumps(dict(selection.folders))}\n}}\n'
