"""Name the files that LOG_DIR has for one run and destination."""

from __future__ import annotations

import os
import re
from pathlib import Path

from s3sync.aws.destination import Destination

UPLOADS = "uploads"
LOG_SUFFIX = ".upload.log.json"
JOURNAL_SUFFIX = ".upload.journal.jsonl"
_MAX_NAME_BYTES = 200  # leaves room for the suffixes in a file name's 255
_ANALYSIS_NAME = re.compile(r".+\.Analysis\.[0-9]+", re.DOTALL)


class LogPaths:
    """The paths of a run and destination. The log has one of two names: `untagged`, or with the destination's tag."""

    def __init__(self, log_dir: Path, run_id: str, destination: Destination) -> None:
        name = _name_for(run_id)
        tagged = f"{name}.{destination.tag}"
        self.folder = log_dir / UPLOADS
        self.lock = log_dir / "locks" / f"{tagged}.lock"
        self.untagged = self.folder / f"{name}{LOG_SUFFIX}"
        self.tagged = self.folder / f"{tagged}{LOG_SUFFIX}"
        # The lock makes it ours alone. The same name each time, so that the next call finds what a killed one left.
        self.temporary = self.folder / f".{tagged}.tmp"


def journal_beside(log: Path) -> Path:
    """Return the path of the journal that belongs to a log."""
    return Path(str(log).removesuffix(LOG_SUFFIX) + JOURNAL_SUFFIX)


def _name_for(run_id: str) -> str:
    """Return the name of the run for file names: `RUN.Analysis.1` for an analysis, and shortened if it is too long.

    A run whose folder itself has such a name gets a tag, so that all names are different.
    """
    name = run_id.replace("/", ".")
    encoded = os.fsencode(name)
    if len(encoded) <= _MAX_NAME_BYTES and (name != run_id or not _ANALYSIS_NAME.fullmatch(run_id)):
        return name
    tag = Destination(run_id, "").tag
    return encoded[: _MAX_NAME_BYTES - 9].decode("utf-8", "ignore") + f"-{tag}"
