"""Hold the result of comparing a run with S3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from s3sync.aws import objects, thaw
from s3sync.aws.destination import Destination
from s3sync.runs import Run, local_files
from s3sync.state import Proof, summary
from s3sync.transfer.request import UploadRequest
from s3sync.transfer.selection import UploadSelection
from s3sync.transfer.verify.manifest import Row


@dataclass(slots=True)
class Verification:
    """The result of comparing a run with S3. `differing` maps paths in the run to their differences.

    `verified` are the files that S3 holds by ETag or checksum; of those in `size_only` only the size could be compared.
    `only_in_s3` are paths that only S3 has; None if these credentials may not list them.
    """

    run: Run
    request: UploadRequest
    selection: UploadSelection
    verified: list[Proof] = field(default_factory=list)
    size_only: list[Proof] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    only_in_s3: list[str] | None = None
    why_unlisted: str = ""  # why `only_in_s3` is unknown
    rows: list[Row] = field(
        default_factory=list
    )  # rows of the manifest, if one is requested: one for each verified file
    manifest: Path | None = None  # the one that was written
    manifest_error: str = ""  # why it was not written
    seconds: float = 0.0
    remote: Mapping[str, objects.RemoteObject] | None = None  # all objects, by path; None as for `only_in_s3`
    identities: dict[str, local_files.FileIdentity] | None = (
        None  # the identities of files when they were read, if requested
    )
    tiers: Counter[thaw.ThawState] = field(default_factory=Counter)  # states of a sample of INTELLIGENT_TIERING objects
    other_uploads: list[summary.LoggedRun] = field(default_factory=list)  # uploads of this run to other destinations

    @property
    def destination(self) -> Destination:
        """Return the destination that the run was compared with."""
        return self.request.destination

    @property
    def identical(self) -> bool:
        """Return whether disk and S3 hold the same files and bytes, according to ETags and checksums."""
        return bool(self.verified) and not self.differing and not self.only_in_s3 and not self.size_only

    @property
    def ok(self) -> bool:
        """Return whether they are identical, and the manifest is written if one was requested."""
        return self.identical and not self.manifest_error

    @property
    def archived(self) -> dict[str, tuple[int, int]]:
        """Return the number of archived files and their bytes, by storage class; they are frozen unless thawed."""
        remote = self.remote or {}
        found: dict[str, tuple[int, int]] = {}
        for item in filter(None, (remote.get(file.path) for file in self.selection.files)):
            if item.storage_class in thaw.ARCHIVES:
                files, size = found.get(item.storage_class, (0, 0))
                found[item.storage_class] = files + 1, size + item.size
        return dict(sorted(found.items()))

    @property
    def is_frozen(self) -> bool:
        """Return whether some files cannot be read until they are thawed."""
        return bool(self.archived) or self.tiers.total() > self.tiers["thawed"]

    @property
    def is_absent(self) -> bool:
        """Return whether S3 has no object of the run: probably another prefix was meant."""
        return self.remote is not None and not self.remote and not self.why_unlisted


def find_other_uploads(found: Verification, log_dirs: Iterable[Path]) -> list[summary.LoggedRun]:
    """Return the uploads of this run to other places in S3 that the state logs in these directories record."""
    logs = [log for folder in dict.fromkeys(log_dirs) for log in summary.list_other_logs(folder, ())]
    here = found.destination.url(found.run.run_id)
    others = {
        log.destination.url(log.run_id): log
        for log in logs
        if log.run_id == found.run.run_id and log.head.uploaded_files and log.destination
    }
    return [log for url, log in sorted(others.items()) if url != here]
