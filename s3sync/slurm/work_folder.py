"""Read and write the files of a cluster upload in the shared log directory: the plan for its jobs, and their results.

The coordinator writes the plan; each task writes a journal, its progress and its result; the finalizer job writes the
last result. No two processes write the same file, since a file server may show the writes of other hosts late.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import StateError, explained
from s3sync.runs import LocalFile
from s3sync.slurm import job_spec, start_marks
from s3sync.slurm.job_spec import JobSpec, Result
from s3sync.slurm.shards import Shard
from s3sync.slurm.start_marks import StartMarks
from s3sync.slurm.task_journal import TaskJournal
from s3sync.state import Proof, StateStore, journal, lock
from s3sync.text import printable
from s3sync.transfer import progress as transfer_progress

FOLDER = "slurm"  # in the log directory
FINALIZER = start_marks.FINALIZER
JobKey: TypeAlias = "int | str"  # the number of a shard, or FINALIZER
# Raised when an incomplete or foreign file is read.
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


class WorkFolder:
    """The folder of one run and destination. Its methods raise StateError, unless they say otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script = path / "job.sh"
        self.starts = StartMarks(path)

    @classmethod
    def of(cls, log_dir: Path, store: StateStore) -> WorkFolder:
        """Return the folder for the run and destination of a state log."""
        return cls(log_dir / FOLDER / store.lock_path.stem)

    def exists(self) -> bool:
        """Return whether an upload was handed to the cluster and is not collected yet."""
        with self._as_state_error("read"):
            return files.is_there(self.path / "job.json")

    # Written by the coordinator

    def create(self, spec: JobSpec, script: str) -> None:
        """Begin an upload; remove the files of an earlier one."""
        self.discard()
        with self._as_state_error():
            for name in ("out", "journals", "found", "progress", "results", "followed", start_marks.FOLDER, "plan"):
                files.make_private_folder(self.path / name)
            files.write_synced(self.script, script.encode("utf-8", "surrogateescape"))
            # Last: without job.json there is no upload.
            self._write_json("job.json", job_spec.spec_to_json(spec))

    def write_plan(self, number: int, shards: Sequence[Shard]) -> range:
        """Write the plan of the first or second array; return the numbers of its shards.

        Each shard has a file, so that a task reads only its own, and counting them reads none.
        """
        numbers = range(self.shard_count(), self.shard_count() + len(shards))
        with self._as_state_error():
            for shard, path in zip(shards, map(self._shard_path, numbers), strict=True):
                files.write_synced(
                    path, "\n".join(json.dumps((f.path, f.size, f.mtime_ns)) for f in shard).encode("ascii")
                )
            files.sync_folder(self.path / "plan")
            # Last: shards that are not counted do not exist.
            self._write_json(f"round-{number}.json", [numbers.start, len(numbers)])
        return numbers

    def mark_submitted(self) -> None:
        """Remember that Slurm accepted a job. Raises nothing: nothing is lost without this."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "submitted", b"")

    def is_submitted(self) -> bool:
        """Return whether Slurm is known to have accepted a job. If not, there may be none, and nothing was sent."""
        with contextlib.suppress(OSError):
            if (self.path / "submitted").exists() or os.listdir(self.path / "followed"):
                return True
        return bool(self.started_shards())

    def has_finalizer(self, array: int) -> bool:
        """Return whether a finalizer job was submitted for this array, even if it was cancelled since."""
        return (self.path / "followed" / str(array)).exists()

    def mark_finalizer_submitted(self, array: int) -> None:
        """Remember that Slurm accepted a finalizer job for this array. Raises nothing: nothing is lost without this."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "followed" / str(array), b"")

    def discard(self) -> None:
        """Remove everything. Once job.json is gone, leftover files do not matter."""
        with self._as_state_error():
            with contextlib.suppress(FileNotFoundError):
                (self.path / "job.json").unlink()
            shutil.rmtree(self.path, ignore_errors=True)

    # Read by the jobs

    def spec(self) -> JobSpec:
        """Return the specification of the upload that all jobs share."""
        with self._as_state_error("read"):
            return job_spec.spec_from_json(files.read_json(self.path / "job.json"))

    def array_count(self) -> int:
        """Return how many arrays were planned."""
        return len(self._arrays())

    def shard_count(self) -> int:
        """Return how many shards were planned."""
        return max((numbers.stop for numbers in self._arrays()), default=0)

    def shard(self, number: int) -> Shard:
        """Return the files of a shard."""
        with self._as_state_error("read"):
            lines = self._shard_path(number).read_bytes().splitlines()
            return tuple(LocalFile(*json.loads(line)) for line in lines)

    def all_files(self) -> list[LocalFile]:
        """Return the files of all shards."""
        return list({file.path: file for number in range(self.shard_count()) for file in self.shard(number)}.values())

    def lock_path(self, number: int) -> Path:
        """Return the path of the lock that the task of a shard holds."""
        return self.path / "locks" / f"{number:06}{lock.SUFFIX}"

    def started_shards(self) -> list[int]:
        """Return the shards on which a task has started, even if it failed. Raises nothing."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(lock.SUFFIX) for name in os.listdir(self.path / "locks")]
            return sorted(int(name) for name in names if name.isdecimal())
        return []

    # Written by a task

    def start_name(self, number: int) -> str:
        """Return a new name for one start of a task."""
        return f"{number:06}.{uuid.uuid4().hex[:12]}.jsonl"

    @contextlib.contextmanager
    def journal(
        self, number: int, destination: Destination, start: str = "", *, found: bool = False
    ) -> Iterator[TaskJournal]:
        """Begin the journal of one start of a task: for the files that it sends, or those it has `found` in S3."""
        path = self.path / ("found" if found else "journals") / (start or self.start_name(number))
        with self._as_state_error():
            descriptor = files.open_private(path, os.O_WRONLY | os.O_EXCL | os.O_APPEND)
        try:
            opened = TaskJournal(descriptor, path)
            opened.write(journal.journal_head(destination))
            with self._as_state_error():
                files.sync_folder(path.parent)
            yield opened
        finally:
            os.close(descriptor)

    def write_progress(self, job: JobKey, snapshot: transfer_progress.Snapshot) -> None:
        """Write the progress of a job. Raises nothing: nothing depends on it."""
        with contextlib.suppress(OSError):
            self._write_json(f"progress/{_file_name(job)}", asdict(snapshot))

    def write_result(self, job: JobKey, result: Result) -> None:
        """Write the result of a job, at its end."""
        with self._as_state_error():
            self._write_json(f"results/{_file_name(job)}", asdict(result))

    # Read by the coordinator and the finalizer job

    def journals(self, destination: Destination) -> Iterator[tuple[str, list[Proof]]]:
        """Yield the name of each journal of files that tasks have sent, with its proofs."""
        yield from self._read_journals("journals", destination)

    def proofs(self, number: int | None, destination: Destination) -> list[Proof]:
        """Return the proofs of a shard, or of all, of the files that tasks have sent or found in S3, even if they
        failed.
        """
        prefix = "" if number is None else f"{number:06}."
        journals = (pair for kind in ("found", "journals") for pair in self._read_journals(kind, destination, prefix))
        return [proof for _, proofs in journals for proof in proofs]

    def result(self, job: JobKey) -> Result | None:
        """Return the result of a job; None before its end. Raises nothing."""
        with contextlib.suppress(*_UNREADABLE):
            return job_spec.result_from_json(files.read_json(self._result_path(job)))
        return None

    def is_finished(self) -> bool:
        """Return whether the finalizer job has ended.

        An NFS client may show a folder as it was a minute ago; a write into it makes the client ask the server.
        """
        with self._as_state_error():
            files.check_writable(self._result_path(FINALIZER))
        return self.result(FINALIZER) is not None

    def results(self) -> dict[int, Result]:
        """Return the results of all shards that have one, by number. Raises nothing."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(".json") for name in os.listdir(self.path / "results")]
            found = {int(name): self.result(int(name)) for name in names if name.isdecimal()}
            return {number: result for number, result in sorted(found.items()) if result}
        return {}

    def progress(self, job: JobKey) -> transfer_progress.Snapshot | None:
        """Return the progress that a job wrote last; None if it wrote none yet. Raises nothing."""
        with contextlib.suppress(*_UNREADABLE):
            facts = files.read_json(self.path / "progress" / _file_name(job))
            numbers = {name: int(facts[name]) for name in facts.keys() - {"activity"}}
            return transfer_progress.Snapshot(activity=printable(str(facts["activity"])), **numbers)
        return None

    def result_time_ns(self, job: JobKey) -> int:
        """Return when a job wrote its result, by the clock of the file server; 0 if it did not. Raises nothing."""
        with contextlib.suppress(OSError):
            return self._result_path(job).stat().st_mtime_ns
        return 0

    def output_lines(self, last: int) -> list[str]:
        """Return the last lines of each file that Slurm and the jobs printed, oldest file first. Raises nothing."""
        with contextlib.suppress(OSError):
            logs = sorted((self.path / "out").iterdir(), key=lambda path: path.stat().st_mtime)
            lines = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()[-last:]]
            return [printable(line) for line in lines if line.strip()]
        return []

    def _read_journals(
        self, kind: str, destination: Destination, prefix: str = ""
    ) -> Iterator[tuple[str, list[Proof]]]:
        with self._as_state_error("read"):
            folder = self.path / kind
            for name in sorted(os.listdir(folder)) if folder.exists() else ():
                if name.startswith(prefix):
                    yield name, journal.parse_journal((folder / name).read_bytes(), destination)[0]

    def _arrays(self) -> list[range]:
        """Return the numbers of the shards of each array."""
        found = []
        with self._as_state_error("read"):
            if (self.path / "plan-1.jsonl").exists():
                raise ValueError("an older version wrote it, whose jobs must end before another one is installed")
            for path in (self.path / "round-1.json", self.path / "round-2.json"):
                with contextlib.suppress(FileNotFoundError):
                    first, count = files.read_json(path)
                    found.append(range(int(first), int(first) + int(count)))
        return found

    def _result_path(self, job: JobKey) -> Path:
        return self.path / "results" / _file_name(job)

    def _shard_path(self, number: int) -> Path:
        return self.path / "plan" / f"{number:06}.jsonl"

    def _write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value, indent=None)

    @contextlib.contextmanager
    def _as_state_error(self, verb: str = "write") -> Iterator[None]:
        where = printable(str(self.path))
        try:
            with explained(f"{verb} the work folder:", self.path, "see --log-dir", id="slurm.work-folder"):
                yield
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StateError(
                f"cannot understand the work folder: {where}: {printable(str(error))}"
                " (if none of its jobs is running, remove it)",
                id="slurm.bad-work-folder",
            ) from error


def active_names(log_dir: Path) -> frozenset[str]:
    """Return the names of the work folders that are not collected yet: the names of their locks without the suffix.

    Raises StateError.
    """
    folder = log_dir / FOLDER
    missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with explained("read", folder, "see --log-dir", id="slurm.work-folder"), missing:
        return frozenset(os.listdir(folder))
    return frozenset()


def _file_name(job: JobKey) -> str:
    return f"{job:06}.json" if isinstance(job, int) else f"{job}.json"
