"""Verify that files on disk have the bytes that S3 has, and those that the upload recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from s3sync.aws import etag, objects
from s3sync.runs import LocalFile, Run, local_files, run_folder
from s3sync.state import Proof
from s3sync.transfer.etag_trust import EtagTrust
from s3sync.transfer.etag_verifier import EtagVerifier
from s3sync.transfer.file_digests import FileDigests
from s3sync.transfer.hashing import FileHashes, Hasher
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.record import Entry
from s3sync.transfer.restore.session import RestoreSession

OTHER_BYTES = "differs from what the upload recorded"
_NOT_DOWNLOADED = "not downloaded"


class VerifiedDownloads(NamedTuple):
    """The proof of each file, by path, and why the others are not verified; `files` are as they were before that."""

    verified: dict[str, Proof]
    failed: dict[str, str]
    files: dict[str, LocalFile]


class DownloadVerifier:
    """Verifies files of one folder against the objects of a run. Close it at the end."""

    def __init__(self, session: RestoreSession, plan: RestorePlan, folder: Path) -> None:
        request, share = session.request, session.share
        self._run = Run(path=folder, run_id=request.run_id, info=run_folder.RunInfo())
        self._by_size = request.verify == "size"
        self._remote = plan.remote
        self._record = plan.record
        self._hasher = Hasher(
            FileDigests(self._run, request.multipart, session.runtime.stop),
            request.cores,
            md5=request.manifest is not None,
            turn=share.hashing_turn if share.machine.is_shared else contextlib.nullcontext,
        )
        self._etag_verifier = EtagVerifier(session.reader, self._hasher.digests, EtagTrust(), self._may_trust)

    def close(self) -> None:
        """Cancel the hashing that has not begun."""
        self._hasher.close()

    def verify(self, paths: Sequence[str]) -> VerifiedDownloads:
        """Return which of these files are verified. Raises StoppedError."""
        now = local_files.restat_all(self._run, paths)
        files = [file for path in paths if (file := now[path])]
        failed = {path: _NOT_DOWNLOADED for path in paths if not now[path]}
        self._hasher.start(files, {file.path: self._remote[file.path].etag for file in files})
        hashed = self._hasher.hashed(files)
        seen: dict[LocalFile, objects.ObjectState] = {file: self._remote[file.path] for file in files}
        verdicts = self._etag_verifier.verify(
            {file: item for file, item in seen.items() if file.path in hashed},
            {path: found.etag for path, found in hashed.items()},
        )
        verified: dict[str, Proof] = {}
        for file in files:
            verdict = verdicts.get(file, "cannot be read on disk")
            if not isinstance(verdict, str):
                verdict = self._compare_with_record(file, verdict, hashed[file.path])
            if isinstance(verdict, str):
                failed[file.path] = verdict
            else:
                verified[file.path] = verdict
        return VerifiedDownloads(verified, failed, {file.path: file for file in files})

    def _may_trust(self, _file: LocalFile, _seen: objects.RemoteObject) -> bool:
        """Return whether the size proves an object that has neither MD5 nor checksum: only if the user accepts it."""
        return self._by_size

    def _compare_with_record(self, file: LocalFile, proof: Proof, hashed: FileHashes) -> Proof | str:
        """Return the proof, or how the file differs from what a record says of it."""
        for entry in self._record.entries.get(file.path, ()):
            if why := self._why_other(file, proof, hashed, entry):
                return f"{OTHER_BYTES}: {entry.source} has {why}"
        return proof

    def _why_other(self, file: LocalFile, proof: Proof, hashed: FileHashes, entry: Entry) -> str:
        if entry.size not in (-1, file.size):
            return f"{entry.size:,} bytes, S3 {file.size:,}"
        if entry.md5 and entry.md5 != hashed.md5:
            return f"the MD5 {entry.md5}"
        if not entry.etag or entry.etag in (proof.etag, hashed.etag):
            return ""
        if entry.is_md5 and self._has_etag(file, etag.normalize_etag(entry.etag)):
            return ""  # a copy in S3 may have other parts
        return "" if entry.md5 else f"the ETag {entry.etag}, S3 {proof.etag}"

    def _has_etag(self, file: LocalFile, recorded: str) -> bool:
        """Return whether the file has this ETag with parts of any usual size, or of ours."""
        part_sizes = {self._hasher.digests.part_size(file.size), *etag.likely_part_sizes(file.size, recorded)}
        with contextlib.suppress(OSError):
            return self._hasher.digests.has_etag(file, recorded, part_sizes)
        return False
