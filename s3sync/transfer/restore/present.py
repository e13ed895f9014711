"""Compare the files of a run that are on disk already with S3: those with the same bytes are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from s3sync.runs import LocalFile
from s3sync.transfer.restore import place
from s3sync.transfer.restore.download_verifier import DownloadVerifier
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.session import RestoreSession

_OTHER_FILE = "another file is on disk (--overwrite replaces it)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentFiles:
    """The wanted files that are on disk already, by path. `others` stay as they are, each with the reason."""

    kept: Mapping[str, str] = field(default_factory=dict)  # with the bytes of S3, and what verified that
    others: Mapping[str, str] = field(default_factory=dict)
    compared: Mapping[str, LocalFile] = field(default_factory=dict)  # as they were before they were compared


def compare_present(session: RestoreSession, plan: RestorePlan) -> PresentFiles:
    """Compare the files on disk with S3. Raises AwsError, StoppedError."""
    sizes = {path: place.size_on_disk(session.request.target, path) for path in plan.wanted}
    same_size = [path for path in plan.wanted if sizes[path] == plan.remote[path].size]
    found = PresentFiles()
    if same_size:
        with contextlib.closing(DownloadVerifier(session, plan, session.request.target)) as verifier:
            verdicts = verifier.verify(same_size)
        found = PresentFiles(kept=verdicts.verified, compared=verdicts.files)
    if session.request.overwrite:
        return found
    others = (path for path in plan.wanted if sizes[path] != -1 and path not in found.kept)
    return replace(found, others=dict.fromkeys(others, _OTHER_FILE))
