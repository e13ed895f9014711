"""Choose what to restore: list the run in S3, read its records, and select the files that are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from s3sync.aws import destination as aws_destination
from s3sync.aws.objects import RemoteObject
from s3sync.errors import Notice, RunError
from s3sync.runs import run_folder
from s3sync.text import pluralize, printable
from s3sync.transfer.batches import is_marker
from s3sync.transfer.restore import names
from s3sync.transfer.restore.record import DELETED, Record, read_record
from s3sync.transfer.restore.request import RestoreRequest
from s3sync.transfer.restore.session import RestoreSession

_FOLDER_MARK = "_$folder$"  # the end of the empty objects that Hadoop writes, one for each folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What S3 has of a run, and which of it is wanted. Paths are relative to the run folder."""

    remote: Mapping[str, RemoteObject]  # every object of the run, completion objects too
    wanted: tuple[str, ...]
    unusable: Mapping[str, str]  # wanted, but missing in S3 or impossible as a file, each with the reason
    record: Record

    @property
    def blocking(self) -> Mapping[str, str]:
        """Return the unusable paths that keep the run from appearing.

        A key that no file can have, and that no record lists, does not belong to the run: it was added later.
        """
        recorded = self.record.entries
        return {path: why for path, why in self.unusable.items() if not recorded or path in recorded}

    def size_of(self, paths: Iterable[str]) -> int:
        """Return the bytes that these objects have together."""
        return sum(self.remote[path].size for path in paths)


def make_plan(session: RestoreSession) -> RestorePlan:
    """Return the plan of a restore. Raises RunError if S3 has nothing that is wanted, StateError, AwsError."""
    request = session.request
    remote = session.reader.list_run()
    if remote is None:
        raise RunError(
            f"cannot restore {printable(request.url)}: {session.reader.why_unlisted} (give these credentials"
            " s3:ListBucket there)",
            id="restore.no-listing",
        )
    if not remote:
        session.reader.require_s3()
    record = read_record(request, session.aws, remote)
    for warning in record.warnings:
        session.runtime.display.print(warning.line)
    _warn_without_marker(session, record, remote)
    files = {path for path in remote if not aws_destination.is_completion_object(path)}
    folder_marks = {path for path in files if path.endswith(_FOLDER_MARK) and not remote[path].size}
    files -= folder_marks - record.entries.keys()
    missing = {path: record.why_missing(path) for path in record.entries.keys() - files}
    if not files:
        raise RunError(_nothing_there(request, record), id="restore.not-in-s3")
    unusable = names.find_unusable(files)
    chosen = _choose(request, files | missing.keys())
    return RestorePlan(
        remote=remote,
        wanted=tuple(sorted(chosen & files - unusable.keys())),
        unusable={path: why for path, why in sorted({**missing, **unusable}.items()) if path in chosen},
        record=record,
    )


def _nothing_there(request: RestoreRequest, record: Record) -> str:
    what = f"nothing of {printable(request.run_id)} is in {printable(request.url)}"
    if not record.entries:
        return f"{what} (check the run's name, --bucket and --remote-path)"
    return f"{what}, though {record.sources[0]} names {pluralize(len(record.entries), 'file')} ({DELETED})"


def _warn_without_marker(session: RestoreSession, record: Record, remote: Mapping[str, RemoteObject]) -> None:
    """Warn that S3 has a run without a completion marker, unless a record has said so."""
    is_run = run_folder.RUN_INFO in remote and not session.request.parts
    if is_run and not record.warnings and not any(map(is_marker, remote)):
        text = f"S3 has no completion marker of {printable(session.request.run_id)}: is it still being uploaded?"
        session.runtime.display.print(Notice(text, id="restore.no-marker").line)


def _choose(request: RestoreRequest, paths: set[str]) -> set[str]:
    """Return the files that are wanted. A part of a run never has a completion marker: it would look whole."""
    if not request.parts:
        return paths
    chosen = {
        path
        for path in paths
        if not is_marker(path) and any(part.matches(request.run_id, path) for part in request.parts)
    }
    if not chosen:
        given = " ".join(part.text for part in request.parts)
        raise RunError(
            f"--only matches nothing in {printable(request.url)}: {printable(given)}", id="restore.nothing-chosen"
        )
    return chosen
