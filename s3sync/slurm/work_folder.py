"""Keep the files of a cluster upload in the shared log directory: what its jobs are given, and what they leave there.

The coordinator writes the plan; each task writes a journal, its progress and its result; the finalizer job writes the
end. No two processes write the same file, since a file server may show one host late what another has written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import StateError
from s3sync.runs import LocalFile
from s3sync.slurm import job_spec, start_marks
from s3sync.slurm.job_spec import JobSpec, Result
from s3sync.slurm.shards import Shard
from s3sync.slurm.start_marks import StartMarks
from s3sync.state import Proof, StateStore, journal, lock
from s3sync.text import pluralize, printable
from s3sync.transfer import progress as transfer_progress
from s3sync.transfer import request

FOLDER = "slurm"  # in the log directory
FINALIZER = start_marks.FINALIZER
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)  # of a file that may be half there
_OUTPUT_LINES = 3  # of each job


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
        with self._explained("read"):
            return files.is_there(self.path / "job.json")

    # Written by the coordinator

    def create(self, spec: JobSpec, script: str) -> None:
        """Begin an upload; remove what is left of an earlier one."""
        self.discard()
        with self._explained():
            for name in ("out", "journals", "found", "progress", "results", "followed", start_marks.FOLDER, "plan"):
                files.make_private_folder(self.path / name)
            files.write_synced(self.script, script.encode("utf-8", "surrogateescape"))
            # Last: a folder without job.json counts as nothing.
            self._write_json("job.json", job_spec.spec_to_json(spec))

    def write_plan(self, number: int, shards: Sequence[Shard]) -> range:
        """Write the plan of the first or second array; return the numbers of its shards.

        Each shard has a file, so that a task reads only its own, and counting them reads none.
        """
        numbers = range(self.shard_count(), self.shard_count() + len(shards))
        with self._explained():
            for shard, path in zip(shards, map(self._shard_path, numbers), strict=True):
                files.write_synced(
                    path, "\n".join(json.dumps((f.path, f.size, f.mtime_ns)) for f in shard).encode("ascii")
                )
            files.sync_folder(self.path / "plan")
            # Last: shards that are not counted do not exist.
            self._write_json(f"round-{number}.json", [numbers.start, len(numbers)])
        return numbers

    def mark_submitted(self) -> None:
        """Remember that Slurm took a job. Nothing is lost without this: raises nothing."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "submitted", b"")

    def is_submitted(self) -> bool:
        """Return whether Slurm is known to have taken a job. If not, there may be none, and nothing was sent."""
        with contextlib.suppress(OSError):
            if (self.path / "submitted").exists() or os.listdir(self.path / "followed"):
                return True
        return bool(self.started_shards())

    def has_finalizer(self, array: int) -> bool:
        """Return whether a finalizer job was submitted for this array, whatever became of it."""
        return (self.path / "followed" / str(array)).exists()

    def mark_finalizer_submitted(self, array: int) -> None:
        """Remember that Slurm took a finalizer job for this array. Nothing is lost without this: raises nothing."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "followed" / str(array), b"")

    def discard(self) -> None:
        """Remove everything. What cannot be removed does not matter, once job.json is gone."""
        with self._explained():
            with contextlib.suppress(FileNotFoundError):
                (self.path / "job.json").unlink()
            shutil.rmtree(self.path, ignore_errors=True)

    # Read by the jobs

    def spec(self) -> JobSpec:
        """Return what the jobs are given."""
        with self._explained("read"):
            return job_spec.spec_from_json(files.read_json(self.path / "job.json"))

    def array_count(self) -> int:
        """Return how many arrays were planned."""
        return len(self._arrays())

    def shard_count(self) -> int:
        """Return how many shards were planned."""
        return max((numbers.stop for numbers in self._arrays()), default=0)

    def shard(self, number: int) -> Shard:
        """Return the files of a shard."""
        with self._explained("read"):
            lines = self._shard_path(number).read_bytes().splitlines()
            return tuple(LocalFile(*json.loads(line)) for line in lines)

    def all_files(self) -> list[LocalFile]:
        """Return the files of all shards."""
        return list({file.path: file for number in range(self.shard_count()) for file in self.shard(number)}.values())

    def lock_path(self, number: int) -> Path:
        """Return the path of the lock that the task of a shard holds."""
        return self.path / "locks" / f"{number:06}{lock.SUFFIX}"

    def started_shards(self) -> list[int]:
        """Return the shards that a task has started with, however that ended. Raises nothing."""
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
    ) -> Iterator[Journal]:
        """Begin the journal of one start of a task: of what it sends, or of what is `found` in S3."""
        path = self.path / ("found" if found else "journals") / (start or self.start_name(number))
        with self._explained():
            descriptor = files.open_private(path, os.O_WRONLY | os.O_EXCL | os.O_APPEND)
        try:
            opened = Journal(descriptor, path)
            opened.write(journal.journal_head(destination))
            with self._explained():
                files.sync_folder(path.parent)
            yield opened
        finally:
            os.close(descriptor)

    def write_progress(self, who: int | str, snapshot: transfer_progress.Snapshot) -> None:
        """Write how far a shard, or the finalizer job, is. Nothing depends on it: raises nothing."""
        with contextlib.suppress(OSError):
            files.atomic_write(self.path / "progress" / _name(who), json.dumps(asdict(snapshot)).encode("ascii"))

    def write_result(self, who: int | str, result: Result) -> None:
        """Write the result of a shard, or of the finalizer job, at its end."""
        with self._explained():
            self._write_json(f"results/{_name(who)}", job_spec.result_to_json(result))

    # Read by the coordinator and the finalizer job

    def proofs(self, number: int | None, destination: Destination) -> list[Proof]:
        """Return what the tasks of a shard, or of all, have verified, however they ended."""
        prefix = "" if number is None else f"{number:06}."
        found: list[Proof] = []
        with self._explained("read"):
            for folder in (self.path / "found", self.path / "journals"):
                for name in sorted(os.listdir(folder)) if folder.exists() else ():
                    if name.startswith(prefix):
                        found += journal.parse_journal((folder / name).read_bytes(), destination)[0]
        return found

    def result(self, who: int | str) -> Result | None:
        """Return the result of a shard, or of the finalizer job; None before its end. Raises nothing."""
        with contextlib.suppress(*_UNREADABLE):
            return job_spec.result_from_json(files.read_json(self.path / "results" / _name(who)))
        return None

    def is_finished(self) -> bool:
        """Return whether the finalizer job came to its end.

        An NFS client may show a folder as it was a minute ago; a write into it makes the client ask the server.
        """
        with self._explained():
            files.check_writable(self.path / "results" / _name(FINALIZER))
        return self.result(FINALIZER) is not None

    def results(self) -> dict[int, Result]:
        """Return the results of all shards that have one, by number. Raises nothing."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(".json") for name in os.listdir(self.path / "results")]
            found = {int(name): self.result(int(name)) for name in names if name.isdecimal()}
            return {number: result for number, result in sorted(found.items()) if result}
        return {}

    def counters(self) -> request.UploadCounters:
        """Add up what the jobs have done, but for the seconds, which passed at the same time.

        A start that was killed has no result: what it sent is in its journal.
        """
        shards = self.results()
        results = [*shards.values(), *filter(None, [self.result(FINALIZER)])]
        names = [field.name for field in fields(request.UploadCounters) if field.name != "seconds"]
        total = request.UploadCounters(
            **{name: sum(getattr(result.counters, name) for result in results) for name in names}
        )
        others = request.FileTotals.of(list(self._sent_without_result(shards)))
        return replace(total, sent_files=total.sent_files + others.files, sent_size=total.sent_size + others.size)

    def progress(self, who: int | str) -> transfer_progress.Snapshot | None:
        """Return how far a shard, or the finalizer job, was when it last wrote it; None before that. Raises nothing."""
        with contextlib.suppress(*_UNREADABLE):
            facts = files.read_json(self.path / "progress" / _name(who))
            numbers = {name: int(facts[name]) for name in facts.keys() - {"activity"}}
            return transfer_progress.Snapshot(activity=printable(str(facts["activity"])), **numbers)
        return None

    def progress_text(self) -> str:
        """Return how far all of it is, for people. Raises nothing."""
        if not self.is_submitted():
            return "not known to have taken its jobs (the next scan asks Slurm, and tries again)"
        try:
            spec, shards = self.spec(), self.shard_count()
        except StateError as error:
            return str(error)
        finalizer, total = self.progress(FINALIZER), spec.handover.amount.files
        snapshots = [snapshot for number in range(shards) if (snapshot := self.progress(number))]
        done = finalizer.files if finalizer else spec.handover.proven.files + sum(each.files for each in snapshots)
        sent = f"{min(done, total):,} of {pluralize(total, 'file')} sent"
        return f"{sent}, {len(self.results()):,} of {pluralize(shards, 'shard')} done (squeue --name={spec.name})"

    def broken_nodes(self) -> dict[str, str]:
        """Return the nodes on which this program did not start and has not run since, with what was printed there."""
        ran = self._last_results()
        starts = self.starts.failed_starts()
        return {start.node: start.output for start in starts if ran.get(start.node, 0) <= start.time_ns}

    def working_nodes(self) -> set[str]:
        """Return the nodes on which a job ran, however that ended. Raises nothing."""
        return set(self._last_results())

    def last_output_lines(self) -> list[str]:
        """Return the last lines that Slurm and the jobs printed. Raises nothing."""
        with contextlib.suppress(OSError):
            logs = sorted((self.path / "out").iterdir(), key=lambda path: path.stat().st_mtime)
            lines = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()[-_OUTPUT_LINES:]]
            return [printable(line) for line in lines if line.strip()]
        return []

    def _sent_without_result(self, results: Mapping[int, Result]) -> Iterator[Proof]:
        """Yield what is in the journals of other starts than those that have these results."""
        destination = self.spec().request.destination
        with self._explained("read"):
            for path in sorted((self.path / "journals").iterdir()):
                number = path.name.partition(".")[0]
                result = results.get(int(number)) if number.isdecimal() else None
                if result is None or result.start not in ("", path.name):
                    yield from journal.parse_journal(path.read_bytes(), destination)[0]

    def _last_results(self) -> dict[str, int]:
        """Return when a job last came to its end on each node, in ns by the clock of the file server."""
        newest: dict[str, int] = {}
        everything: list[int | str] = [*self.results(), FINALIZER]
        for who in everything:
            with contextlib.suppress(OSError):
                if result := self.result(who):
                    moment = (self.path / "results" / _name(who)).stat().st_mtime_ns
                    newest[result.node] = max(newest.get(result.node, 0), moment)
        return newest

    def _arrays(self) -> list[range]:
        """Return the numbers of the shards of each array."""
        found = []
        with self._explained("read"):
            if (self.path / "plan-1.jsonl").exists():
                raise ValueError("it is of an older version, whose jobs have to end before another one is installed")
            for path in (self.path / "round-1.json", self.path / "round-2.json"):
                with contextlib.suppress(FileNotFoundError):
                    first, count = files.read_json(path)
                    found.append(range(int(first), int(first) + int(count)))
        return found

    def _shard_path(self, number: int) -> Path:
        return self.path / "plan" / f"{number:06}.jsonl"

    def _write_json(self, name: str, value: Any) -> None:
        files.atomic_write(self.path / name, json.dumps(value).encode("ascii"))

    @contextlib.contextmanager
    def _explained(self, verb: str = "write") -> Iterator[None]:
        where = printable(str(self.path))
        try:
            yield
        except OSError as error:
            raise StateError(
                f"cannot {verb} the work folder: {where}: {error.strerror} (see --log-dir)", id="slurm.work-folder"
            ) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise StateError(
                f"cannot understand the work folder: {where}: {printable(str(error))}"
                " (if none of its jobs is running, remove it)",
                id="slurm.bad-work-folder",
            ) from error


class Journal:
    """What one start of a task has verified."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append these proofs, and flush them to the disk. Raises StateError."""
        self.write(journal.journal_lines(proofs))

    def write(self, lines: bytes) -> None:
        """Append these lines, and flush them to the disk. Raises StateError."""
        try:
            files.append_synced(self._descriptor, lines)
        except OSError as error:
            raise StateError(
                f"cannot write {printable(str(self._path))}: {error.strerror} (make room)",
                id="slurm.journal-unwritable",
            ) from error


def active_names(log_dir: Path) -> frozenset[str]:
    """Return the names of the work folders that are not collected yet: those of their locks, without the suffix.

    Raises StateError.
    """
    folder = log_dir / FOLDER
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise StateError(
            f"cannot read {printable(str(folder))}: {error.strerror} (see --log-dir)", id="slurm.work-folder"
        ) from error


def _name(who: int | str) -> str:
    return f"{who:06}.json" if isinstance(who, int) else f"{who}.json"
