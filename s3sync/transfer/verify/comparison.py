"""Compare the files of a run with the objects that S3 has, group by group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from s3sync.aws import objects
from s3sync.runs import LocalFile, local_files
from s3sync.signals import StopRequest
from s3sync.state import Proof
from s3sync.text import printable
from s3sync.transfer import proof
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.etag_verifier import EtagVerifier
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.progress import Snapshot
from s3sync.transfer.request import FileTotals
from s3sync.transfer.verify.manifest import Row
from s3sync.transfer.verify.verification import Verification

_GROUP_FILES = 1000  # files compared at a time, while as many more are hashed
_CHANGED = "changed while it was compared"
_GONE = "gone from the disk while it was compared"


class Comparison:
    """Compares the files of a run with S3, and adds what it finds to a Verification.

    Without a listing it asks S3 about each object.
    """

    def __init__(self, found: Verification, reader: objects.ObjectReader, hasher: Hasher) -> None:
        run_id = found.run.run_id
        self.title = f"verifying {printable(run_id)} in {printable(found.destination.url(run_id))}"
        self._totals = FileTotals.of(found.selection.files)
        self._found = found
        self._reader = reader
        self._hasher = hasher
        # Any of the objects may show whether ETags are MD5s, since it is unknown who sent them.
        self._verifier = EtagVerifier(reader, hasher.digests, EtagTrust(), lambda _file, _seen: True)
        self._activity = "verifying"
        self._asked = 0  # hashed files that S3 is being asked about

    def snapshot(self) -> Snapshot:
        """Return the progress by what was hashed, without the files that S3 is being asked about."""
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
        """Compare files in groups: one is hashed while S3 is asked about the one before. Raises StoppedError."""
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
        """Return whether the file was touched since it was read, if identities are kept."""
        known = self._found.identities
        return known is not None and local_files.read_identity(self._found.run, path) != known.get(path)

    def _read_back(self, some: Sequence[LocalFile]) -> dict[str, objects.ObjectState]:
        remote = self._found.remote
        if remote is None:
            with self._while_asking_s3():
                return self._reader.get_many(some)
        return {file.path: remote.get(file.path, objects.Absent(listed=True)) for file in some}

    def _compare(self, some: Sequence[LocalFile], seen: dict[str, objects.ObjectState]) -> None:
        hashed = self._hasher.hashed(some)
        if undecided := [file for file in some if _needs_head(file, seen[file.path], hashed.get(file.path))]:
            with self._while_asking_s3(len(undecided)):
                seen.update(self._reader.head_unsettled(undecided, dict(seen)))
        read = {file: seen[file.path] for file in some if file.path in hashed}
        verdicts = self._verifier.verify(read, {path: found.etag for path, found in hashed.items()})
        for file in some:
            verdict = self._verdict_if_unchanged(file, verdicts.get(file, "cannot be read"))
            if isinstance(verdict, str):
                self._found.differing[file.path] = verdict
            elif verdict.verified_by == "size":
                self._found.size_only.append(verdict)
            else:
                self._found.verified.append(verdict)
                if md5 := hashed[file.path].md5:
                    self._found.rows.append(Row(path=file.path, size=file.size, md5=md5, etag=verdict.etag))

    @contextlib.contextmanager
    def _while_asking_s3(self, files: int = 0) -> Iterator[None]:
        """Show that S3 is being asked about this number of files, with a process for each."""
        self._activity, self._asked = "asking S3", files
        yield
        self._activity, self._asked = "verifying", 0

    def _verdict_if_unchanged(self, file: LocalFile, verdict: Proof | str) -> Proof | str:
        """Return the verdict or, if the file has changed since, a failure."""
        now = local_files.restat(self._found.run, file.path)
        if now is None:
            return _GONE
        return verdict if now == file and not self._is_touched(file.path) else _CHANGED


def _needs_head(file: LocalFile, seen: objects.ObjectState, hashed: FileHashes | None) -> bool:
    """Return whether only head-object can decide: the listing lacks the object, or its ETag may not be an MD5."""
    if isinstance(seen, objects.Absent):
        return seen.listed  # the reader asks for a few of these: the listing may be wrong
    if hashed is None or not isinstance(seen, objects.RemoteObject) or not seen.listed or seen.size != file.size:
        return False
    return not proof.is_conclusive(file, seen, hashed.etag)


def _groups(files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
    return (files[start : start + _GROUP_FILES] for start in range(0, len(files), _GROUP_FILES))
