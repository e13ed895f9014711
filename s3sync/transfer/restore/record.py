"""Read what the upload of a run recorded: completion objects in S3, state logs here, and a manifest of `verify`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s3sync.aws import client, diagnosis, etag
from s3sync.aws import destination as aws_destination
from s3sync.aws.objects import RemoteObject
from s3sync.errors import Notice, StateError
from s3sync.runs import Run, local_files, run_folder
from s3sync.state import RunState, StateStore
from s3sync.text import printable
from s3sync.transfer.restore.request import RestoreRequest

_MAX_BYTES = 512 * 1024 * 1024  # largest completion object; one with a million files has 200 MB
_MANIFEST_HEADER = "path\tsize\tmd5\tetag\tkey"
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
DELETED = "if it was deleted, a versioned bucket still has it below a delete marker"
_ADVICE = "--no-record restores without it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file in a record; -1 and empty values are unknown. `source` names the record."""

    source: str
    size: int = -1
    etag: str = ""
    is_md5: bool = False  # the ETag is made of MD5s of the file
    md5: str = ""
    mtime_ns: int = -1


@dataclass(slots=True)
class Record:
    """Everything that is recorded of a run: for each path the entries of all sources."""

    sources: list[str] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    warnings: list[Notice] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)  # completion objects that must be thawed first
    folders: dict[str, int] = field(default_factory=dict)  # when each was modified, in ns; the run's path is empty

    def add(self, source: str, entries: Iterable[tuple[str, Entry]]) -> None:
        """Add the entries of a source."""
        self.sources.append(source)
        for path, entry in entries:
            self.entries.setdefault(path, []).append(entry)

    def add_folders(self, below: str, folders: Mapping[str, int]) -> None:
        """Add the folders of the run, or of the analysis in the folder `below`."""
        for path, mtime_ns in folders.items():
            self.folders.setdefault((below + path).rstrip("/"), mtime_ns)

    def mtime_ns(self, path: str) -> int:
        """Return the modification time of a file when it was uploaded, in ns; -1 if no source has it."""
        return next((entry.mtime_ns for entry in self.entries.get(path, ()) if entry.mtime_ns >= 0), -1)

    def why_missing(self, path: str) -> str:
        """Return why a file that is not in S3 is expected there."""
        return f"not in S3, although {self.entries[path][0].source} lists it ({DELETED})"


def read_record(request: RestoreRequest, aws: client.AwsCli, remote: Mapping[str, RemoteObject]) -> Record:
    """Return the records of the run. Raises StateError for a record that is damaged, AwsError, StoppedError."""
    record = Record()
    if not request.use_record:
        return record
    logged = _read_logs(record, request, remote)
    for path in sorted(path for path in remote if aws_destination.is_completion_object(path)):
        expected = logged.get(path, "")
        if expected and expected != remote[path].etag:
            raise StateError(
                f"s3://{request.destination.bucket}/{printable(request.prefix + path)} is not the completion object"
                f" that the state log recorded: it was replaced ({_ADVICE})",
                id="restore.replaced-record",
            )
        _read_completion_object(record, request, aws, path, remote[path])
    if request.manifest:
        _read_manifest(record, request.manifest, request.prefix)
    return record


def _read_logs(record: Record, request: RestoreRequest, remote: Mapping[str, RemoteObject]) -> dict[str, str]:
    """Add the state logs of the run and its analyses; return the ETags of their completion objects, by path."""
    folders = {"/".join(path.split("/")[:2]) for path in remote if path.startswith("Analysis/")}
    analyses = sorted(filter(local_files.is_analysis, folders))  # other keys need not be valid names
    etags = {}
    for below in ("", *(f"{folder}/" for folder in analyses)):
        run = Run(
            path=request.target / below, run_id=f"{request.run_id}/{below}".rstrip("/"), info=run_folder.RunInfo()
        )
        store = StateStore(request.log_dir, run, request.destination)
        state, warnings = store.load(set_aside=False)
        record.warnings += warnings
        if state and state.verified:
            record.add(f"the state log {printable(str(store.log_path))}", _entries_of_log(state, below, store.log_path))
            record.add_folders(below, state.folders)
            etags[below + aws_destination.COMPLETION_OBJECT] = state.completion_object
            if not state.completed:
                text = f"the upload of {printable(run.run_id)} was not completed, according to its state log"
                record.warnings.append(Notice(text, id="restore.upload-not-completed"))
    return etags


def _entries_of_log(state: RunState, below: str, log_path: Path) -> Iterator[tuple[str, Entry]]:
    source = f"the state log {printable(str(log_path))}"
    for path, proof in state.verified.items():
        is_md5 = proof.verified_by in ("etag", "predecessor") and etag.is_md5_like(proof.etag)
        yield (
            below + path,
            Entry(source=source, size=proof.size, etag=proof.etag, is_md5=is_md5, mtime_ns=proof.mtime_ns),
        )


def _read_completion_object(
    record: Record, request: RestoreRequest, aws: client.AwsCli, path: str, seen: RemoteObject
) -> None:
    key = request.prefix + path
    where = f"s3://{request.destination.bucket}/{printable(key)}"
    content = aws.read_object(request.bucket, key, _MAX_BYTES)
    if not isinstance(content, bytes):
        if diagnosis.is_frozen(content.errors):
            record.frozen.append(path)
            return
        raise content.to_error(where)
    try:
        facts = _parse_completion_object(content, seen.size)
        entries = list(_entries_of_completion_object(facts, path, where, request))
        folders = {str(folder): _parse_mtime(folder, mtime) for folder, mtime in facts.get("folders", {}).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise StateError(
            f"{where} is not a valid record of an upload: {printable(str(error))[:200]} ({_ADVICE})",
            id="restore.damaged-record",
        ) from error
    record.add(where, entries)
    record.add_folders(path.removesuffix(aws_destination.COMPLETION_OBJECT), folders)


def _parse_completion_object(content: bytes, size: int) -> Any:
    if len(content) != size:
        raise ValueError(f"it has {len(content):,} bytes, and S3 lists {size:,}")
    return json.loads(content)


def _parse_mtime(path: object, value: Any) -> int:
    if not abs(mtime_ns := int(value)) < 2**63:
        raise ValueError(f"the modification time of {path} is invalid")
    return mtime_ns


def _entries_of_completion_object(
    facts: Any, path: str, source: str, request: RestoreRequest
) -> Iterator[tuple[str, Entry]]:
    below = path.removesuffix(aws_destination.COMPLETION_OBJECT)
    files = facts["files"]
    total = sum(entry["size"] for entry in files if entry["size"] is not None)
    if facts["verdict"] != "complete" or facts["total_files"] != len(files) or facts["total_bytes"] != total:
        raise ValueError("it contradicts itself")
    if facts["run_id"] != f"{request.run_id}/{below}".rstrip("/"):
        raise ValueError(f"it belongs to another run, {facts['run_id']}")
    for entry in files:
        found = str(entry["etag"])
        is_md5 = entry["verified_by"] in ("etag", "predecessor") and etag.is_md5_like(found)
        size = -1 if entry["size"] is None else int(entry["size"])
        mtime_ns = _parse_mtime(entry["path"], entry.get("mtime_ns", -1))
        yield (
            below + str(entry["path"]),
            Entry(source=source, size=size, etag=found, is_md5=is_md5, mtime_ns=mtime_ns),
        )


def _read_manifest(record: Record, manifest: Path, prefix: str) -> None:
    source = f"the manifest {printable(str(manifest))}"
    try:
        entries = list(_parse_manifest(manifest.read_text(encoding="utf-8"), source, prefix))
    except (OSError, ValueError) as error:
        raise StateError(
            f"cannot use {source}: {printable(str(error))[:200]} (give one that `s3sync verify --manifest` wrote)",
            id="restore.bad-manifest",
        ) from error
    record.add(source, entries)


def _parse_manifest(text: str, source: str, prefix: str) -> Iterator[tuple[str, Entry]]:
    header, *rows = text.removesuffix("\n").split("\n")
    if header != _MANIFEST_HEADER:
        raise ValueError("it does not begin like a manifest")
    yield from (_parse_row(row, source, prefix) for row in rows)


def _parse_row(row: str, source: str, prefix: str) -> tuple[str, Entry]:
    path, size, md5, found, key = map(_without_escapes, row.split("\t"))
    if key != prefix + path:
        raise ValueError(f"it belongs to s3://.../{printable(key)}, not of {printable(prefix + path)}")
    return path, Entry(source=source, size=int(size), etag=found, md5=md5.lower())


def _without_escapes(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)
