"""Disk against S3, now, whatever any log says: works months later, and on a machine that never uploaded."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s3sync.aws import client, objects
from s3sync.aws import destination as aws_destination
from s3sync.aws.destination import Destination
from s3sync.errors import RunError
from s3sync.runs import LocalFile, Run, analysis, local_files, run_folder
from s3sync.signals import StopRequest
from s3sync.state import Proof, log_format, store
from s3sync.text import pluralize, printable
from s3sync.transfer import manifest, proof, selection
from s3sync.transfer.etag_trust import EtagTrust, Judge
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.manifest import Row
from s3sync.transfer.progress import Display, Snapshot
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.staging import work_folder

_AT_ONCE = 1000  # files compared at a time, while as many more are hashed

_FOLDER_MARK = "_$folder$"  # empty objects of Hadoop's, one for each folder
_NOT_IN_S3 = "not in S3"
_CHANGED = "changed while it was compared"
_GONE = "gone from the disk while it was compared"
_CAME = "came to the disk while the others were compared"


@dataclass(slots=True)
class Verification:
    """What was found. `differing` maps paths in the run to what is wrong with them.

    `proven` are the files that S3 holds by ETag or checksum; of those in `by_size` nothing but the size could
    be compared. `extra` are paths that only S3 has, None if these credentials may not list them.
    """

    run: Run
    destination: Destination
    selection: UploadSelection
    proven: list[Proof] = field(default_factory=list)
    by_size: list[Proof] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    extra: list[str] | None = None
    why_unlisted: str = ""  # why `extra` is not known
    rows: list[Row] = field(default_factory=list)  # of the manifest, if one is wanted: the proven files
    manifest: Path | None = None  # where it is
    manifest_error: str = ""  # why it is not there
    seconds: float = 0.0
    remote: Mapping[str, objects.RemoteObject] | None = None  # all that S3 has of the run; None as with `extra`
    identities: dict[str, local_files.FileIdentity] | None = (
        None  # if wanted: of each file, from before it was read until after
    )
    elsewhere: list[log_format.Logged] = field(
        default_factory=list
    )  # where else this run is, by the state logs of this machine

    @property
    def identical(self) -> bool:
        """Whether disk and S3 hold the same files with the same bytes, as far as ETags and checksums can tell."""
        return bool(self.proven) and not self.differing and not self.extra and not self.by_size

    @property
    def ok(self) -> bool:
        """Whether they are identical, and all that was wanted is written."""
        return self.identical and not self.manifest_error

    @property
    def is_absent(self) -> bool:
        """Whether S3 has nothing at all there: more likely another prefix was meant than that the run is gone."""
        return self.remote is not None and not self.remote and not self.why_unlisted


def verify(
    request: UploadRequest,
    environ: Mapping[str, str],
    stop: StopRequest,
    display: Display,
    wanted_manifest: Path | None = None,
    *,
    remember: bool = False,
) -> Verification:
    """Compare every file; nothing is written but the manifest, if one is wanted (an absolute path).

    With `remember` the files' identities are kept, and one that was touched meanwhile in any way has changed.

    Raises RunError, AwsError, InterruptedBySignal, and before any work UsageError or StateError for a place
    where no manifest can be.
    """
    started = time.monotonic()
    run = analysis.open_run_or_analysis(request.local_path, need_run_info=False)
    if not request.skip_check:
        _require_run(run)
    if wanted_manifest:
        manifest.require_place(wanted_manifest, run.path)
    scope = _scope(request, run)
    selection.require_files(run, scope)
    for warning in scope.warnings:
        display.say(f"warning: {warning}")
    found = Verification(
        run, request.destination, scope, differing=dict(scope.rejected), identities={} if remember else None
    )
    hasher = Hasher(run, request.multipart, stop, request.cores, md5=wanted_manifest is not None)
    try:
        with work_folder(environ, [run.root]) as (work, work_lock):
            aws = client.connect(
                request.aws_command, request.settings, environ, stop, work, (work_lock,), request.stall_seconds
            )
            reader = objects.ObjectReader(
                aws,
                request.bucket,
                request.destination.run_prefix(run.run_id),
                request.readback,
                request.cores,
                display.say,
            )
            found.remote = remote = reader.list_run()
            found.why_unlisted = reader.why_unlisted
            if found.is_absent:
                found.differing.update(dict.fromkeys((file.path for file in scope.files), _NOT_IN_S3))
            else:
                comparison = _Comparison(found, reader, hasher, remote)
                display.follow(comparison.title, comparison.snapshot)
                comparison.run(stop)
    finally:
        hasher.close()
    found.why_unlisted = reader.why_unlisted
    found.extra = None if remote is None or reader.why_unlisted else _extra(request, scope, run, remote)
    found.differing.update(dict.fromkeys(_newcomers(scope, _scope(request, run)), _CAME))
    if wanted_manifest and found.is_absent:
        found.manifest_error = f"{printable(str(wanted_manifest))} is not written: nothing is proven"
    elif wanted_manifest:
        _write_manifest(found, wanted_manifest)
    found.seconds = time.monotonic() - started
    return found


def _require_run(run: Run) -> None:
    """Raise RunError for a folder that is no run and no analysis, before all of it is read; says where the run is."""
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
    raise RunError(f"no RunInfo.xml in {where}: not a run folder ({advice}; --skip_check compares this one as it is)")


def find_elsewhere(found: Verification, log_dirs: Iterable[Path]) -> list[log_format.Logged]:
    """Find the other places in S3 that this run was uploaded to, by the state logs in these directories."""
    logs = [log for folder in dict.fromkeys(log_dirs) for log in store.logged_besides(folder, ())]
    here = found.destination.url(found.run.run_id)
    others = {
        log.destination.url(log.run_id): log
        for log in logs
        if log.run_id == found.run.run_id and log.head.uploaded_files and log.destination
    }
    return [log for url, log in sorted(others.items()) if url != here]


def _scope(request: UploadRequest, run: Run) -> UploadSelection:
    return selection.select_files(run, local_files.list_files(run), request.destination, request.excludes)


class _Comparison:
    """Adds what each file is to what was found. Without a listing each object is asked for."""

    def __init__(
        self,
        found: Verification,
        reader: objects.ObjectReader,
        hasher: Hasher,
        remote: Mapping[str, objects.RemoteObject] | None,
    ) -> None:
        run_id, scope = found.run.run_id, found.selection
        self.title = f"verifying {printable(run_id)} in {printable(found.destination.url(run_id))}"
        self._totals = len(scope.files), sum(file.size for file in scope.files)
        self._found = found
        self._reader = reader
        self._hasher = hasher
        self._remote = remote
        # Who has sent the objects is not known here, so any of them may show what ETags are worth.
        self._judge = Judge(reader, hasher, EtagTrust(), hasher.part_size, lambda _file, _seen: True)
        self._activity = "verifying"
        self._doubtful = 0  # files that are hashed, and S3 is being asked about

    def snapshot(self) -> Snapshot:
        """What has been hashed: that is what takes the time, unless S3 is asked about each file."""
        files_total, size_total = self._totals
        size = min(self._hasher.size, size_total)
        return Snapshot(self._activity, self._hasher.files - self._doubtful, files_total, size, size_total, None)

    def run(self, stop: StopRequest) -> None:
        """Some at a time; the next are hashed while those are judged, which may take a process for each."""
        before: tuple[Sequence[LocalFile], dict[str, objects.ObjectState]] | None = None
        for some in _some(self._found.selection.files):
            stop.raise_if_requested()
            seen = self._look(some)
            self._remember(some)
            self._hasher.start(
                some, {p: item.etag for p, item in seen.items() if isinstance(item, objects.RemoteObject)}
            )
            if before:
                self._compare(*before)
            before = some, seen
        if before:
            self._compare(*before)

    def _remember(self, some: Sequence[LocalFile]) -> None:
        """Before they are read."""
        if self._found.identities is not None:
            known = {file.path: local_files.read_identity(self._found.run, file.path) for file in some}
            self._found.identities.update((path, identity) for path, identity in known.items() if identity)

    def _is_touched(self, path: str) -> bool:
        """Whether it is not what was remembered, if it was to be."""
        known = self._found.identities
        return known is not None and local_files.read_identity(self._found.run, path) != known.get(path)

    def _look(self, some: Sequence[LocalFile]) -> dict[str, objects.ObjectState]:
        if self._remote is None:
            with self._asking():
                return self._reader.get_many(some)
        return {file.path: self._remote.get(file.path, objects.Absent(listed=True)) for file in some}

    def _compare(self, some: Sequence[LocalFile], seen: dict[str, objects.ObjectState]) -> None:
        hashed = self._hasher.hashed(some)
        if doubtful := [file for file in some if _is_doubtful(file, seen[file.path], hashed.get(file.path))]:
            with self._asking(len(doubtful)):
                seen.update(self._reader.head_unsettled(doubtful, dict(seen)))
        read = {file: seen[file.path] for file in some if file.path in hashed}
        verdicts = self._judge.verdicts(read, {path: found.etag for path, found in hashed.items()})
        for file in some:
            verdict = self._now(file, verdicts.get(file, "cannot be read"))
            if isinstance(verdict, str):
                self._found.differing[file.path] = verdict
            elif verdict.verified_by == "size":
                self._found.by_size.append(verdict)
            else:
                self._found.proven.append(verdict)
                if md5 := hashed[file.path].md5:
                    self._found.rows.append(Row(file.path, file.size, md5, verdict.etag))

    @contextlib.contextmanager
    def _asking(self, doubtful: int = 0) -> Iterator[None]:
        """A process for each file."""
        self._activity, self._doubtful = "asking S3", doubtful
        yield
        self._activity, self._doubtful = "verifying", 0

    def _now(self, file: LocalFile, verdict: Proof | str) -> Proof | str:
        """The verdict, unless the file has changed meanwhile."""
        now = local_files.restat(self._found.run, file.path)
        if now is None:
            return _GONE
        return verdict if now == file and not self._is_touched(file.path) else _CHANGED


def _is_doubtful(file: LocalFile, seen: objects.ObjectState, hashed: FileHashes | None) -> bool:
    """Whether only head-object can tell: the same size with another ETag, which may be no MD5; or missing."""
    if isinstance(seen, objects.Absent):
        return seen.listed  # a few of these are asked for: the listing may be wrong
    if hashed is None or not isinstance(seen, objects.RemoteObject) or not seen.listed or seen.size != file.size:
        return False
    return not proof.is_conclusive(file, seen, hashed.etag)


def _some(files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
    return (files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE))


def _extra(request: UploadRequest, scope: UploadSelection, run: Run, remote: Iterable[str]) -> list[str]:
    """What only S3 has, but for what is excluded, and for what this program says there of the run."""
    here = _paths(scope)
    beyond = sorted(path for path in remote if path not in here and not aws_destination.is_completion_object(path))
    beyond = [path for path in beyond if not path.endswith(_FOLDER_MARK)]
    return [p for p in beyond if not any(e.search(f"{run.run_id}/{p}") for e in request.excludes)]


def _newcomers(before: UploadSelection, now: UploadSelection) -> list[str]:
    return sorted(_paths(now) - _paths(before))


def _paths(scope: UploadSelection) -> set[str]:
    return {file.path for file in scope.files} | {item.path for item in scope.rejected}


def _write_manifest(found: Verification, path: Path) -> None:
    """Of what is proven. That it fails is part of what was found: nobody should have to compare again for the rest."""
    prefix = found.destination.run_prefix(found.run.run_id)
    try:
        manifest.write(path, sorted(found.rows), prefix)
    except OSError as error:
        found.manifest_error = f"{printable(str(path))} is not written: {error.strerror}"
    else:
        found.manifest = path
