"""Write the journal of a task: a line for each file that it has verified."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from s3sync import files
from s3sync.errors import explained
from s3sync.state import Proof, journal


class TaskJournal:
    """The open journal of one start of a task."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append these proofs, and flush them to the disk. Raises StateError."""
        self.write(journal.journal_lines(proofs))

    def write(self, lines: bytes) -> None:
        """Append these lines, and flush them to the disk. Raises StateError."""
        with explained("write", self._path, "make room", id="slurm.journal-unwritable"):
            files.append_synced(self._descriptor, lines)
