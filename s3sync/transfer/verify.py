"""Compare a run on disk with S3, without its log: even months later, and on a machine that never uploaded it."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s3sync.aws import destination as aws_destination
from s3sync.aws import objects, thaw
from s3sync.aws.destination import Destination
from s3sync.errors import AwsError, RunError
from s3sync.runs import LocalFile, Run, analysis, local_files, run_folder
from s3sync.signals import StopRequest
from s3sync.state import Proof, summary
from s3sync.text import pluralize, printable
from s3sync.transfer import manifest, proof, selection
from s3sync.transfer.context import UploadContext, open_context
from s3sync.transfer.etag_trust import EtagTrust, Judge
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.manifest import Row
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals, UploadRequest
from s3sync.transfer.runtime import Runtime
from s3sync.transfer.selection import UploadSelection

_TIERED_SAMPLE = 8  # objects: each takes a process
_AT_ONCE = 1000  # files compared at a time, while as many more are hashed

_FOLDER_MARK = "_$folder$"  # empty objects of Hadoop's, one for each folder
_NOT_IN_S3 = "not in S3"
_CHANGED = "changed while it was compared"
_GONE = "gone from the disk while it was compared"
_CAME = "appeared on disk while the others were compared"


@dataclass(slots=True)
class Verification:
    """What a comparison has found. `differing` maps paths in the run to what is wrong with them.

    `proven` are the files that S3 holds by ETag or checksum. Of those in `by_size` only the size could be compared.
    `extra` are paths that only S3 has; None if these credentials may not list them.
    """

    run: Run
    request: UploadRequest
    selection: UploadSelection
    proven: list[Proof] = field(default_factory=list)
    by_size: list[Proof] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    extra: list[str] | None = None
    why_unlisted: str = ""  # why `extra` is not known
    rows: list[Row] = field(default_factory=list)  # of the manifest, if one is requested: the proven files
    manifest: Path | None = None  # where it is
    manifest_error: str = ""  # why it is not there
    seconds: float = 0.0
    remote: Mapping[str, objects.RemoteObject] | None = None  # all that S3 has of the run; None as with `extra`
    identities: dict[str, local_files.FileIdentity] | None = None  # of each file while it was read, if requested
    tiers: Counter[thaw.ThawState] = field(default_factory=Counter)  # of a few objects of INTELLIGENT_TIERING
    elsewhere: list[summary.LoggedRun] = field(default_factory=list)  # other places of this run, by the state logs

    @property
    def destination(self) -> Destination:
        """Return where the run was looked for."""
        return self.request.destination

    @property
    def identical(self) -> bool:
        """Return whether disk and S3 hold the same files and bytes, as far as ETags and checksums can show."""
        return bool(self.proven) and not self.differing and not self.extra and not self.by_size

    @property
    def ok(self) -> bool:
        """Return whether they are identical, and the manifest is written if one was requested."""
        return self.identical and not self.manifest_error

    @property
    def archived(self) -> dict[str, tuple[int, int]]:
        """Return files and bytes of the run by storage class, of those whose objects are frozen unless thawed."""
        remote = self.remote or {}
        found: dict[str, tuple[int, int]] = {}
        for item in filter(None, (remote.get(file.path) for file in self.selection.files)):
            if item.storage_class in thaw.ARCHIVES:
                files, size = found.get(item.storage_class, (0, 0))
                found[item.storage_class] = files + 1, size + item.size
        return dict(sorted(found.items()))

    @property
    def is_frozen(self) -> bool:
        """Return whether some of it cannot be read until it is thawed."""
        return bool(self.archived) or self.tiers.total() > self.tiers["thawed"]

    @property
    def is_absent(self) -> bool:
        """Return whether S3 has nothing at all there: probably another prefix was meant."""
        return self.remote is not None and not self.remote and not self.why_unlisted


def verify(
    request: UploadRequest, runtime: Runtime, wanted_manifest: Path | None = None, *, remember: bool = False
) -> Verification:
    """Compare every file; write nothing but the manifest, if one is requested (an absolute path).

    With `remember` the files' identities are kept, and a file that was touched meanwhile in any way counts as changed.
    Raises RunError, AwsError, StoppedError; and, before any work, UsageError or StateError for a place where no
    manifest can be written.
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
    found = Verification(run, request, chosen, differing=dict(chosen.rejected), identities={} if remember else None)
    hasher = Hasher(run, request.multipart, runtime.stop, request.cores, md5=wanted_manifest is not None)
    with contextlib.closing(hasher), open_context(request, run, runtime) as context:
        _compare_all(found, context, hasher)
    found.differing.update(dict.fromkeys(sorted(_paths(_select(request, run)) - _paths(chosen)), _CAME))
    if wanted_manifest:
        _write_manifest(found, wanted_manifest)
    found.seconds = time.monotonic() - started
    return found


def _compare_all(found: Verification, context: UploadContext, hasher: Hasher) -> None:
    """Compare all files, and find out what only S3 has."""
    reader = context.make_reader()
    found.remote = reader.list_run()
    found.why_unlisted = reader.why_unlisted
    if found.is_absent:
        found.differing.update(dict.fromkeys((file.path for file in found.selection.files), _NOT_IN_S3))
    else:
        comparison = _Comparison(found, reader, hasher)
        context.display.follow(comparison.title, comparison.snapshot)
        comparison.run(context.stop)
    found.why_unlisted = reader.why_unlisted
    found.tiers = _sample_tiers(found, context)
    if found.remote is not None and not reader.why_unlisted:
        found.extra = _only_in_s3(context, found.selection, found.remote)


def _sample_tiers(found: Verification, context: UploadContext) -> Counter[thaw.ThawState]:
    """Return the states of a few objects of INTELLIGENT_TIERING: no listing says which are in its archive tiers.

    None are returned if S3 does not tell them, such as to credentials that may only list: the files are compared.
    """
    tiered = [path for path, item in (found.remote or {}).items() if item.storage_class == thaw.TIERED]
    step = max(1, len(tiered) // _TIERED_SAMPLE)
    thawing = thaw.Thawing(context.remote, context.request.cores)
    try:
        return Counter(thawing.states(tiered[::step][:_TIERED_SAMPLE]).values())
    except AwsError:
        return Counter()


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


def find_elsewhere(found: Verification, log_dirs: Iterable[Path]) -> list[summary.LoggedRun]:
    """Find the other places in S3 that this run was uploaded to, by the state logs in these directories."""
    logs = [log for folder in dict.fromkeys(log_dirs) for log in summary.list_other_logs(folder, ())]
    here = found.destination.url(found.run.run_id)
    others = {
        log.destination.url(log.run_id): log
        for log in logs
        if log.run_id == found.run.run_id and log.head.uploaded_files and log.destination
    }
    return [log for url, log in sorted(others.items()) if url != here]


def _select(request: UploadRequest, run: Run) -> UploadSelection:
    return selection.select_files(run, local_files.list_files(run), request.destination, request.excludes)


class _Comparison:
    """Compares files and adds the outcome to what was found. Without a listing it asks S3 for each object."""

    def __init__(
        self,
        found: Verification,
        reader: objects.ObjectReader,
        hasher: Hasher,
    ) -> None:
        run_id = found.run.run_id
        self.title = f"verifying {printable(run_id)} in {printable(found.destination.url(run_id))}"
        self._totals = FileTotals.of(found.selection.files)
        self._found = found
        self._reader = reader
        self._hasher = hasher
        # Who has sent the objects is not known here, so any of them may show what ETags are worth.
        self._judge = Judge(reader, hasher, EtagTrust(), hasher.part_size, lambda _file, _seen: True)
        self._activity = "verifying"
        self._asked = 0  # hashed files that S3 is being asked about

    def snapshot(self) -> Snapshot:
        """Return what has been hashed: that takes the time, unless S3 is asked about each file."""
        total = self._totals
        size = min(self._hasher.size, total.size)
        return Snapshot(
            activity=self._activity,
            files=self._hasher.files - self._asked,
            files_total=total.files,
            size=size,
            size_total=total.size,
            processes=None,
        )

    def run(self, stop: StopRequest) -> None:
        """Compare files in groups: one is hashed while S3 is asked about the last, maybe with a process a file."""
        before: tuple[Sequence[LocalFile], dict[str, objects.ObjectState]] | None = None
        for some in _groups(self._found.selection.files):
            stop.raise_if_requested()
            seen = self._read_back(some)
            self._keep_identities(some)
            self._hasher.start(
                some, {p: item.etag for p, item in seen.items() if isinstance(item, objects.RemoteObject)}
            )
            if before:
                self._compare(*before)
            before = some, seen
        if before:
            self._compare(*before)

    def _keep_identities(self, some: Sequence[LocalFile]) -> None:
        if self._found.identities is not None:
            known = {file.path: local_files.read_identity(self._found.run, file.path) for file in some}
            self._found.identities.update((path, identity) for path, identity in known.items() if identity)

    def _is_touched(self, path: str) -> bool:
        """Return whether it is another file than before it was read, if that is to be known."""
        known = self._found.identities
        return known is not None and local_files.read_identity(self._found.run, path) != known.get(path)

    def _read_back(self, some: Sequence[LocalFile]) -> dict[str, objects.ObjectState]:
        remote = self._found.remote
        if remote is None:
            with self._asking():
                return self._reader.get_many(some)
        return {file.path: remote.get(file.path, objects.Absent(listed=True)) for file in some}

    def _compare(self, some: Sequence[LocalFile], seen: dict[str, objects.ObjectState]) -> None:
        hashed = self._hasher.hashed(some)
        if unsettled := [file for file in some if _needs_head(file, seen[file.path], hashed.get(file.path))]:
            with self._asking(len(unsettled)):
                seen.update(self._reader.head_unsettled(unsettled, dict(seen)))
        read = {file: seen[file.path] for file in some if file.path in hashed}
        verdicts = self._judge.verdicts(read, {path: found.etag for path, found in hashed.items()})
        for file in some:
            verdict = self._unless_changed(file, verdicts.get(file, "cannot be read"))
            if isinstance(verdict, str):
                self._found.differing[file.path] = verdict
            elif verdict.verified_by == "size":
                self._found.by_size.append(verdict)
            else:
                self._found.proven.append(verdict)
                if md5 := hashed[file.path].md5:
                    self._found.rows.append(Row(path=file.path, size=file.size, md5=md5, etag=verdict.etag))

    @contextlib.contextmanager
    def _asking(self, files: int = 0) -> Iterator[None]:
        """Show that S3 is asked about these files, with a process for each."""
        self._activity, self._asked = "asking S3", files
        yield
        self._activity, self._asked = "verifying", 0

    def _unless_changed(self, file: LocalFile, verdict: Proof | str) -> Proof | str:
        """Return the verdict, or that the file has changed meanwhile."""
        now = local_files.restat(self._found.run, file.path)
        if now is None:
            return _GONE
        return verdict if now == file and not self._is_touched(file.path) else _CHANGED


def _needs_head(file: LocalFile, seen: objects.ObjectState, hashed: FileHashes | None) -> bool:
    """Return whether only head-object can decide: the same size with another ETag, which may be no MD5; or missing."""
    if isinstance(seen, objects.Absent):
        return seen.listed  # the reader asks for a few of these: the listing may be wrong
    if hashed is None or not isinstance(seen, objects.RemoteObject) or not seen.listed or seen.size != file.size:
        return False
    return not proof.is_conclusive(file, seen, hashed.etag)


def _groups(files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
    return (files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE))


def _only_in_s3(context: UploadContext, chosen: UploadSelection, remote: Iterable[str]) -> list[str]:
    """Return what only S3 has, without what is excluded, and without the completion object."""
    paths = (path for path in remote if not path.endswith(_FOLDER_MARK))
    others = sorted({path for path in paths if not aws_destination.is_completion_object(path)} - _paths(chosen))
    subjects = {path: f"{context.run.run_id}/{path}" for path in others}
    return [path for path in others if not any(e.search(subjects[path]) for e in context.request.excludes)]


def _paths(chosen: UploadSelection) -> set[str]:
    return {file.path for file in chosen.files} | {item.path for item in chosen.rejected}


def _write_manifest(found: Verification, path: Path) -> None:
    """Write the manifest of what is proven. An error is part of the result: the comparison took its time."""
    if found.is_absent:
        found.manifest_error = f"{printable(str(path))} is not written: nothing is proven"
        return
    prefix = found.destination.run_prefix(found.run.run_id)
    try:
        manifest.write(path, sorted(found.rows, key=lambda row: row.path), prefix)
    except OSError as error:
        found.manifest_error = f"{printable(str(path))} is not written: {error.strerror}"
    else:
        found.manifest = path
