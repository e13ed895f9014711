"""The runs that people name on the command line: by the run's name, or by its path, as a shell completes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from s3sync.inventory.discovery import Candidate


def resolve(given: Iterable[str], candidates: Sequence[Candidate]) -> list[str]:
    """What was given, each as the name of a run (`RUN`), or of an analysis (`RUN/Analysis/1`), if it is one's path."""
    return [_resolve(name, candidates) for name in given]


def _resolve(name: str, candidates: Sequence[Candidate]) -> str:
    trimmed = name.rstrip("/") or name
    known = {candidate.run.run_id for candidate in candidates}
    if trimmed.partition("/")[0] in known:
        return trimmed
    path = os.path.abspath(name)
    for real in (False, True):  # links last: each candidate costs a look at the disk
        for candidate in candidates:
            folder = os.path.realpath(candidate.run.path) if real else str(candidate.run.path)
            wanted = os.path.realpath(path) if real else path
            if wanted == folder or wanted.startswith(folder.rstrip("/") + "/"):
                rest = wanted[len(folder) :].strip("/")
                return f"{candidate.run.run_id}/{rest}" if rest else candidate.run.run_id
    return trimmed
