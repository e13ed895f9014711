"""Compare a run on disk with S3, without its log: even months later, and on a machine that never uploaded it."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from s3sync.aws import destination as aws_destination
from s3sync.aws import thaw
from s3sync.errors import RunError
from s3sync.runs import Run, analysis, local_files, run_folder
from s3sync.text import pluralize, printable
from s3sync.transfer import selection
from s3sync.transfer.context import Runtime, UploadContext, open_context
from s3sync.transfer.file_digests import FileDigests
from s3sync.transfer.hashing import Hasher
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.verify import manifest
from s3sync.transfer.verify.comparison import Comparison
from s3sync.transfer.verify.verification import Verification

_TIERED_SAMPLE = 8  # objects, each of which takes a process

_FOLDER_MARK = "_$folder$"  # empty objects of Hadoop's, one for each folder
_NOT_IN_S3 = "not in S3"
_APPEARED = "appeared on disk while the others were compared"


def verify(
    request: UploadRequest, runtime: Runtime, wanted_manifest: Path | None = None, *, keep_identities: bool = False
) -> Verification:
    """Compare every file, and write the manifest if one is requested (an absolute path).

    With `keep_identities` the result has them, and a file that was touched meanwhile in any way counts as changed.
    Raises RunError, AwsError, StoppedError and, before any work, UsageError or StateError if no manifest can be written
    there.
    """
    started = time.monotonic()
    run = analysis.open_run_or_analysis(request.local_path, need_run_info=False)
    if not request.skip_check:
        _require_run(run)
    if wanted_manifest:
        manifest.require_place(wanted_manifest, run.path)
    chosen = _select(request, run)
    selection.require_files(run, chosen)
    for warning in chosen.warnings:
        runtime.display.print(warning.line)
    found = Verification(
        run, request, chosen, differing=dict(chosen.rejected), identities={} if keep_identities else None
    )
    digests = FileDigests(run, request.multipart, runtime.stop)
    hasher = Hasher(digests, request.cores, md5=wanted_manifest is not None)
    with contextlib.closing(hasher), open_context(request, run, runtime) as context:
        _compare_all(found, context, hasher)
    found.differing.update(dict.fromkeys(sorted(_paths(_select(request, run)) - _paths(chosen)), _APPEARED))
    if wanted_manifest:
        _write_manifest(found, wanted_manifest)
    found.seconds = time.monotonic() - started
    return found


def _compare_all(found: Verification, context: UploadContext, hasher: Hasher) -> None:
    """Compare all files, and find the objects that have no file."""
    reader = context.make_reader()
    found.remote = reader.list_run()
    found.why_unlisted = reader.why_unlisted
    if found.is_absent:
        reader.require_s3()
        found.differing.update(dict.fromkeys((file.path for file in found.selection.files), _NOT_IN_S3))
    else:
        comparison = Comparison(found, reader, hasher)
        context.display.follow(comparison.title, comparison.snapshot)
        comparison.run(context.stop)
    found.why_unlisted = reader.why_unlisted
    found.tiers = _sample_tiers(found, context)
    if found.remote is not None and not reader.why_unlisted:
        found.only_in_s3 = _only_in_s3(context, found.selection, found.remote)


def _sample_tiers(found: Verification, context: UploadContext) -> Counter[thaw.ThawState]:
    """Return the states of a few INTELLIGENT_TIERING objects, since no listing shows which are in its archive tiers."""
    tiered = [path for path, item in (found.remote or {}).items() if item.storage_class == thaw.TIERED]
    thawing = thaw.Thawing(context.remote, context.request.cores)
    return Counter(thawing.tiered_states(tiered, _TIERED_SAMPLE).values())


def _require_run(run: Run) -> None:
    """Raise RunError for a folder that is neither a run nor an analysis, before all of it is read."""
    if run.parent_run or os.path.lexists(run.path / run_folder.RUN_INFO):
        return
    around = next((folder for folder in run.path.parents if os.path.lexists(folder / run_folder.RUN_INFO)), None)
    inner = sorted(path.parent for path in run.path.glob(f"*/{run_folder.RUN_INFO}"))
    if around:
        advice = f"it is inside one: {printable(str(around))}"
    elif inner:
        advice = f"it has {pluralize(len(inner), 'run')} in it, such as {printable(str(inner[0]))}"
    else:
        advice = "give the run's own folder"
    where = printable(str(run.path))
    raise RunError(
        f"no RunInfo.xml in {where}: not a run folder ({advice}; --skip-check compares this one as it is)",
        id="verify.not-a-run",
    )


def _select(request: UploadRequest, run: Run) -> UploadSelection:
    return selection.select_files(run, local_files.list_files(run), request.destination, request.excludes)


def _only_in_s3(context: UploadContext, chosen: UploadSelection, remote: Iterable[str]) -> list[str]:
    """Return the paths that only S3 has, without excluded ones and the completion object."""
    paths = (path for path in remote if not path.endswith(_FOLDER_MARK))
    others = sorted({path for path in paths if not aws_destination.is_completion_object(path)} - _paths(chosen))
    subjects = {path: f"{context.run.run_id}/{path}" for path in others}
    return [path for path in others if not any(e.search(subjects[path]) for e in context.request.excludes)]


def _paths(chosen: UploadSelection) -> set[str]:
    return {file.path for file in chosen.files} | {item.path for item in chosen.rejected}


def _write_manifest(found: Verification, path: Path) -> None:
    """Write the manifest of the verified files. An error becomes part of the result, which took long to compute."""
    if found.is_absent:
        found.manifest_error = f"{printable(str(path))} is not written: nothing is verified"
        return
    prefix = found.destination.run_prefix(found.run.run_id)
    try:
        manifest.write(path, sorted(found.rows, key=lambda row: row.path), prefix)
    except OSError as error:
        found.manifest_error = f"{printable(str(path))} is not written: {error.strerror}"
    else:
        found.manifest = path
