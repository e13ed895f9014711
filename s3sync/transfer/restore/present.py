"""Compare the files of a run that are on disk already with S3: those with the same bytes are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from s3sync.runs import LocalFile
from s3sync.state import Proof
from s3sync.transfer.restore import place
from s3sync.transfer.restore.download_verifier import OTHER_BYTES, DownloadVerifier
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.session import RestoreSession

_OTHER_FILE = "another file is on disk (--overwrite replaces it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentFiles:
    """The wanted files that are on disk already, by path. `others` stay as they are, each with the reason."""

    kept: Mapping[str, Proof] = field(default_factory=dict)  # files with the bytes of S3
    others: Mapping[str, str] = field(default_factory=dict)
    compared: Mapping[str, LocalFile] = field(default_factory=dict)  # as they were before they were compared


def compare_present(session: RestoreSession, plan: RestorePlan) -> PresentFiles:
    """Compare the files on disk with S3. Raises AwsError, StoppedError."""
    target, overwrite = session.request.target, session.request.overwrite
    blocked = place.find_blocked(target, plan.wanted)
    sizes = {path: place.size_on_disk(target, path) for path in plan.wanted if path not in blocked}
    same_size = [path for path in sizes if sizes[path] == plan.remote[path].size]
    found = PresentFiles(others=blocked)
    failed: Mapping[str, str] = {}
    if same_size:
        with contextlib.closing(DownloadVerifier(session, plan, target)) as verifier:
            verdicts = verifier.verify(same_size)
        failed = verdicts.failed
        found = replace(found, kept=verdicts.verified, compared=verdicts.files)
    if overwrite:
        return found
    others = {
        path: why if (why := failed.get(path, "")).startswith(OTHER_BYTES) else _OTHER_FILE
        for path in sizes
        if sizes[path] != -1 and path not in found.kept
    }
    return replace(found, others={**blocked, **others})
