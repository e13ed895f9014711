"""Notice nodes on which this program does not start: each job leaves a mark that the program renames once it runs."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from s3sync import files
from s3sync.text import printable

FOLDER = "starts"  # in the work folder
FINALIZER = "last"  # in names of files, in place of the number of a shard
_RAN = "ran."  # prefix of a mark once the program runs
_OUTPUT_LINES = 2  # to show of a job's output
_SILENT = "its job wrote nothing to the log directory (is it shared, and can this user write there?)"
_ENDED_BY_SLURM = "slurmstepd: error: ***"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStart:
    """A node on which a job started but this program did not, and the last lines that were printed there."""

    node: str
    output: str
    is_finalizer: bool
    time_ns: int = 0  # by the clock of the file server


class StartMarks:
    """The marks in one work folder. Methods raise nothing, since no upload depends on marks."""

    def __init__(self, work_folder: Path) -> None:
        self._folder = work_folder / FOLDER
        self._output = work_folder / "out"

    def mark_started(self, environ: Mapping[str, str]) -> None:
        """Rename the mark that the script of this job left: the program runs on this node."""
        number, job = environ.get("SLURM_ARRAY_TASK_ID", FINALIZER), environ.get("SLURM_JOB_ID", "0")
        name = f"{number}.{job}.{environ.get('SLURM_RESTART_COUNT', '0')}"
        with contextlib.suppress(OSError, ValueError):
            (self._folder / name).rename(self._folder / f"{_RAN}{name}")

    def mark_silent_nodes(self, failed: Iterable[tuple[int | None, str]], started: Collection[int]) -> None:
        """Leave a mark for each failed job, given by task and node, that has left none itself.

        Its node may lack this folder, or the user may not write there. `started` are the shards that have a lock.
        """
        with contextlib.suppress(OSError):
            marked = {name.removeprefix(_RAN).partition(".")[0] for name in os.listdir(self._folder)}
            known = marked | set(map(str, started))
            for task, node in failed:
                number = FINALIZER if task is None else str(task)
                if node and number not in known:
                    path = self._folder / f"{number}.silent.{uuid.uuid4().hex[:12]}"
                    files.write_synced(path, f"{node}\n-\n{_SILENT}\n".encode("utf-8", "replace"))

    def failed_starts(self) -> list[FailedStart]:
        """Return the starts of jobs in which this program did not run.

        Starts that Slurm ended, or whose node lost power, do not count: they printed nothing, or Slurm's reason.
        """
        found = []
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                if not path.name.startswith(_RAN):
                    with contextlib.suppress(OSError, ValueError):
                        found += self._read(path)
        return found

    def _read(self, path: Path) -> list[FailedStart]:
        node, output, *noted = filter(None, path.read_text("utf-8", "replace").split("\n"))
        lines = [printable(line) for line in (noted or self._printed(output))[-_OUTPUT_LINES:]]
        if not lines or any(_ENDED_BY_SLURM in line for line in lines):
            return []
        start = FailedStart(
            node=printable(node),
            output=" / ".join(lines),
            is_finalizer=path.name.startswith(FINALIZER),
            time_ns=path.stat().st_mtime_ns,
        )
        return [start]

    def _printed(self, name: str) -> list[str]:
        """Return the lines of a file of the jobs' output. `name` comes from a mark: no path is followed."""
        text = (self._output / os.path.basename(name)).read_text("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()]
