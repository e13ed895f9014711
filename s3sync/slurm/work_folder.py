"""The work folder of an upload on a cluster, in the shared log directory: what its jobs are given, and leave there.

The coordinator writes the plan, each task a journal, its progress and its result, the last job the end. No two
processes write the same file, since a file server may show one host late what another has written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from s3sync import files
from s3sync.aws.destination import Destination
from s3sync.errors import StateError
from s3sync.runs import LocalFile
from s3sync.slurm.client import SlurmOptions
from s3sync.slurm.shards import Shard
from s3sync.state import Proof, StateStore, lock, log_format
from s3sync.text import pluralize, printable
from s3sync.transfer import progress as transfer_progress
from s3sync.transfer import request

FOLDER = "slurm"  # in the log directory
STARTS = "starts"  # in the work folder: marks of scripts that were started, until the program runs
_RAN = "ran."  # before the name of such a mark: the program runs, or ran
_SAID_LINES = 2  # of what a job printed
_SILENT = "its job left nothing in the log directory (is that shared, and may this user write there?)"
FINALIZER = "last"  # instead of a shard's number: the job that comes after all tasks
_NOT_THERE = (OSError, ValueError, TypeError, KeyError, RecursionError)  # of a file that is being written, or no more


class JobSpec(NamedTuple):
    """What the jobs are given. `manifest` is Manifest.tsv as it was when the plan was made; `amount` all that the run
    has, `proven` what of it was proven before; `sent` what calls before had sent.
    """

    name: str  # of all jobs
    version: str  # of this program
    cluster: SlurmOptions
    job: request.UploadRequest
    submitted: str
    resumed: bool  # S3 may have files that are not proven
    manifest: LocalFile | None
    amount: request.FileTotals
    proven: request.FileTotals
    sent: request.FileTotals
    seconds: float  # that calls before took


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a shard, or of the last job: what failed and why, and the error that ended it, if one did.

    `start` is the name of the journal of the start that says so; empty if there is none.
    """

    node: str
    tally: request.UploadCounters
    failed: Mapping[str, str]
    aws: str = ""
    error: str = ""
    start: str = ""


class FailedStart(NamedTuple):
    """A node on which Slurm started the script of a job, but the program did not run; the last that was printed."""

    node: str
    said: str
    is_last_job: bool
    at: int = 0  # ns by the file server


class WorkFolder:
    """The folder of one run and destination."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script = path / "job.sh"

    @classmethod
    def of(cls, log_dir: Path, store: StateStore) -> WorkFolder:
        """That of the run and destination that this log is of."""
        return cls(log_dir / FOLDER / store.lock_path.stem)

    def exists(self) -> bool:
        """Whether there is an upload that was handed to the cluster, and is not collected; raises StateError."""
        with self._explained("read"):
            return files.is_there(self.path / "job.json")

    # What the coordinator writes.

    def create(self, handed: JobSpec, script: str) -> None:
        """Begin; what is left of one before goes. Raises StateError."""
        self.discard()
        with self._explained():
            for name in ("out", "journals", "found", "progress", "results", "followed", STARTS, "plan"):
                files.make_private_folder(self.path / name)
            files.write_synced(self.script, script.encode("utf-8", "surrogateescape"))
            # Last: what has no job.json is nothing.
            files.atomic_write(self.path / "job.json", json.dumps(_plain(handed)).encode("ascii"))

    def write_plan(self, number: int, shards: Sequence[Shard]) -> range:
        """Write the plan of the first or second array; return the numbers of its shards. Raises StateError.

        Each shard has a file, so that a task reads no more than its own, and nobody reads them all to count them.
        """
        numbers = range(self.shard_count(), self.shard_count() + len(shards))
        with self._explained():
            for shard, path in zip(shards, map(self._shard_path, numbers), strict=True):
                files.write_synced(path, "\n".join(map(json.dumps, shard)).encode("ascii"))
            files.sync_folder(self.path / "plan")
            # Last: shards that it does not count are none.
            files.atomic_write(
                self.path / f"round-{number}.json", json.dumps([numbers.start, len(numbers)]).encode("ascii")
            )
        return numbers

    def mark_submitted(self) -> None:
        """Remember that Slurm took a job. Nothing is lost without this: raises nothing."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "submitted", b"")

    def is_submitted(self) -> bool:
        """Whether Slurm is known to have taken a job: if not, there may be none, and nothing was sent."""
        with contextlib.suppress(OSError):
            return (
                (self.path / "submitted").exists()
                or bool(os.listdir(self.path / "followed"))
                or bool(self.started_shards())
            )
        return bool(self.started_shards())

    def has_finalizer(self, array: int) -> bool:
        """Whether a job was submitted that comes after this array, whatever became of it."""
        return (self.path / "followed" / str(array)).exists()

    def mark_finalizer_submitted(self, array: int) -> None:
        """Such a job was submitted. Nothing is lost without this: raises nothing."""
        with contextlib.suppress(OSError):
            files.write_synced(self.path / "followed" / str(array), b"")

    def discard(self) -> None:
        """All of it; what cannot be removed is no matter, once job.json is gone. Raises StateError."""
        with self._explained():
            with contextlib.suppress(FileNotFoundError):
                (self.path / "job.json").unlink()
            shutil.rmtree(self.path, ignore_errors=True)

    # What the jobs read.

    def spec(self) -> JobSpec:
        """What was handed over; raises StateError."""
        with self._explained("read"):
            return _parse(_load(self.path / "job.json"))

    def array_count(self) -> int:
        """How many arrays there were so far; raises StateError."""
        return len(self._rounds())

    def shard_count(self) -> int:
        """How many shards there are; raises StateError."""
        return max((numbers.stop for numbers in self._rounds()), default=0)

    def shard(self, number: int) -> Shard:
        """The files of a shard; raises StateError."""
        with self._explained("read"):
            lines = self._shard_path(number).read_bytes().splitlines()
            return tuple(LocalFile(*json.loads(line)) for line in lines)

    def all_files(self) -> list[LocalFile]:
        """Those of all shards; raises StateError."""
        return list({file.path: file for number in range(self.shard_count()) for file in self.shard(number)}.values())

    def lock_path(self, number: int) -> Path:
        """What the task of a shard holds while it is at work."""
        return self.path / "locks" / f"{number:06}{lock.SUFFIX}"

    def started_shards(self) -> list[int]:
        """The shards that a task has begun with, however it ended."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(lock.SUFFIX) for name in os.listdir(self.path / "locks")]
            return sorted(int(name) for name in names if name.isdecimal())
        return []

    # What a task writes.

    def start_name(self, number: int) -> str:
        """Return a new name, of one start of a task."""
        return f"{number:06}.{uuid.uuid4().hex[:12]}.jsonl"

    @contextlib.contextmanager
    def journal(
        self, number: int, destination: Destination, start: str = "", *, found: bool = False
    ) -> Iterator[Journal]:
        """Begin a journal of one start of a task: of what it sends, or of what is `found` in S3. Raises StateError."""
        path = self.path / ("found" if found else "journals") / (start or self.start_name(number))
        with self._explained():
            descriptor = files.open_private(path, os.O_WRONLY | os.O_EXCL | os.O_APPEND)
        try:
            journal = Journal(descriptor, path)
            journal.write(log_format.journal_head(destination))
            with self._explained():
                files.sync_folder(path.parent)
            yield journal
        finally:
            os.close(descriptor)

    def write_progress(self, who: int | str, snapshot: transfer_progress.Snapshot) -> None:
        """How far a task is. Nothing hangs on it: raises nothing."""
        with contextlib.suppress(OSError):
            files.atomic_write(self.path / "progress" / _name(who), json.dumps(snapshot).encode("ascii"))

    def write_result(self, who: int | str, result: Result) -> None:
        """A task, or the last job, came to its end; raises StateError."""
        facts = {"node": result.node, "aws": result.aws, "error": result.error, "failed": dict(result.failed)}
        facts["start"] = result.start
        tally = {name: getattr(result.tally, name) for name in request.UploadCounters.__slots__}
        with self._explained():
            files.atomic_write(
                self.path / "results" / _name(who), json.dumps({**facts, "tally": tally}).encode("ascii")
            )

    # What is read of them.

    def proofs(self, number: int | None, destination: Destination) -> list[Proof]:
        """What tasks of a shard, or of all, have proven, however they ended; raises StateError."""
        begins = "" if number is None else f"{number:06}."
        found: list[Proof] = []
        with self._explained("read"):
            for folder in (self.path / "found", self.path / "journals"):
                for name in sorted(os.listdir(folder)) if folder.exists() else ():
                    if name.startswith(begins):
                        found += log_format.parse_journal((folder / name).read_bytes(), destination)[0]
        return found

    def result(self, who: int | str) -> Result | None:
        """None if it has not come to its end."""
        with contextlib.suppress(*_NOT_THERE):
            facts = _load(self.path / "results" / _name(who))
            tally = request.UploadCounters(**{name: facts["tally"][name] for name in request.UploadCounters.__slots__})
            failed = {printable(str(path)): printable(str(why)) for path, why in facts["failed"].items()}
            aws, error = (printable(str(facts[key])) for key in ("aws", "error"))
            return Result(str(facts["node"]), tally, failed, aws, error, str(facts.get("start", "")))
        return None

    def is_finished(self) -> bool:
        """Whether the last job came to its end. A file server's client may know a folder as it was a minute ago;
        whoever writes into it sees it as it is. Raises StateError.
        """
        with self._explained():
            files.check_writable(self.path / "results" / _name(FINALIZER))
        return self.result(FINALIZER) is not None

    def results(self) -> dict[int, Result]:
        """Of all shards that came to their ends, by number."""
        with contextlib.suppress(OSError):
            names = [name.removesuffix(".json") for name in os.listdir(self.path / "results")]
            found = {int(name): self.result(int(name)) for name in names if name.isdecimal()}
            return {number: result for number, result in sorted(found.items()) if result}
        return {}

    def tally(self) -> request.UploadCounters:
        """Add up what tasks and last job have done; but for the seconds, which went by at the same time.

        A start that was killed has no result: what it sent is in its journal. Raises StateError.
        """
        shards = self.results()
        results = [*shards.values(), *filter(None, [self.result(FINALIZER)])]
        counted = (name for name in request.UploadCounters.__slots__ if name != "seconds")
        tally = request.UploadCounters(
            **{name: sum(getattr(result.tally, name) for result in results) for name in counted}
        )
        others = request.FileTotals.of(list(self._sent_by_others(shards)))
        return replace(tally, sent_files=tally.sent_files + others.files, sent_size=tally.sent_size + others.size)

    def _sent_by_others(self, results: Mapping[int, Result]) -> Iterator[Proof]:
        """Yield what is in the journals of other starts than those that have these results; raises StateError."""
        destination = self.spec().job.destination
        with self._explained("read"):
            for path in sorted((self.path / "journals").iterdir()):
                number = path.name.partition(".")[0]
                result = results.get(int(number)) if number.isdecimal() else None
                if result is None or result.start not in ("", path.name):
                    yield from log_format.parse_journal(path.read_bytes(), destination)[0]

    def progress(self, who: int | str) -> transfer_progress.Snapshot | None:
        """How far a task was when it last said so; None if it has not started_shards."""
        with contextlib.suppress(*_NOT_THERE):
            activity, *numbers = _load(self.path / "progress" / _name(who))
            return transfer_progress.Snapshot(printable(str(activity)), *(int(number) for number in numbers))
        return None

    def progress_text(self) -> str:
        """How far all of it is, for people."""
        last = self.progress(FINALIZER)
        if not self.is_submitted():
            return "not known to have taken its jobs (the next scan asks Slurm, and tries again)"
        try:
            handed, shards = self.spec(), self.shard_count()
        except StateError as error:
            return str(error)
        seen = [snapshot for number in range(shards) if (snapshot := self.progress(number))]
        done = last.files if last else handed.proven.files + sum(snapshot.files for snapshot in seen)
        of = f"{min(done, handed.amount.files):,} of {pluralize(handed.amount.files, 'file')} sent"
        return f"{of}, {len(self.results()):,} of {pluralize(shards, 'shard')} done (squeue --name={handed.name})"

    def mark_started(self, environ: Mapping[str, str]) -> None:
        """Change the mark that the script of this job has left on its node: the program runs. Raises nothing."""
        number, job = environ.get("SLURM_ARRAY_TASK_ID", FINALIZER), environ.get("SLURM_JOB_ID", "0")
        name = f"{number}.{job}.{environ.get('SLURM_RESTART_COUNT', '0')}"
        with contextlib.suppress(OSError, ValueError):
            (self.path / STARTS / name).rename(self.path / STARTS / f"{_RAN}{name}")

    def failed_starts(self) -> list[FailedStart]:
        """Return the nodes on which the program did not start, as far as that is known here.

        A start that Slurm ended, or whose node lost power, has printed nothing, or what Slurm says of that.
        """
        found = []
        with contextlib.suppress(OSError):
            for path in sorted((self.path / STARTS).iterdir()):
                if path.name.startswith(_RAN):
                    continue
                with contextlib.suppress(OSError, ValueError):
                    node, out, *noted = filter(None, path.read_text("utf-8", "replace").split("\n"))
                    said = [printable(line) for line in (noted or self._printed(out))[-_SAID_LINES:]]
                    if said and not any("slurmstepd: error: ***" in line for line in said):
                        is_last = path.name.startswith(FINALIZER)
                        found.append(FailedStart(printable(node), " / ".join(said), is_last, path.stat().st_mtime_ns))
        return found

    def note_silent_nodes(self, failed: Iterable[tuple[int | None, str]]) -> None:
        """Remember the nodes of jobs that Slurm calls failed, by their tasks, if these left nothing here at all.

        Their node may not have this folder, or the user may not write there. Raises nothing.
        """
        with contextlib.suppress(OSError):
            marked = {name.removeprefix(_RAN).partition(".")[0] for name in os.listdir(self.path / STARTS)}
            started_shards = {str(number) for number in self.started_shards()}
            for task, node in failed:
                who = FINALIZER if task is None else str(task)
                if node and who not in marked | started_shards:
                    name = f"{who}.silent.{uuid.uuid4().hex[:12]}"
                    files.write_synced(self.path / STARTS / name, f"{node}\n-\n{_SILENT}\n".encode("utf-8", "replace"))

    def broken_nodes(self) -> dict[str, str]:
        """Return the nodes on which the program could not start, and did not run since, each with what was printed."""
        ran = self._ran()
        return {start.node: start.said for start in self.failed_starts() if ran.get(start.node, 0) <= start.at}

    def working_nodes(self) -> set[str]:
        """Return the nodes on which it ran, however that ended."""
        return set(self._ran())

    def _ran(self) -> dict[str, int]:
        """Return when a job came to its end on each node, ns by the file server."""
        newest: dict[str, int] = {}
        everybody: list[int | str] = [*self.results(), FINALIZER]
        for who in everybody:
            with contextlib.suppress(OSError):
                if result := self.result(who):
                    moment = (self.path / "results" / _name(who)).stat().st_mtime_ns
                    newest[result.node] = max(newest.get(result.node, 0), moment)
        return newest

    def _printed(self, name: str) -> list[str]:
        """Return the lines of a file of the jobs' output; a name that is a path is none."""
        text = (self.path / "out" / os.path.basename(name)).read_text("utf-8", "replace")
        return [line for line in text.splitlines() if line.strip()]

    def last_output_lines(self) -> list[str]:
        """The last words of the jobs, for people: what Slurm and the tasks printed."""
        with contextlib.suppress(OSError):
            logs = sorted((self.path / "out").iterdir(), key=lambda path: path.stat().st_mtime)
            lines = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()[-3:]]
            return [printable(line) for line in lines if line.strip()]
        return []

    def _rounds(self) -> list[range]:
        """The numbers of the shards of each array; raises StateError."""
        found = []
        with self._explained("read"):
            if (self.path / "plan-1.jsonl").exists():
                raise ValueError("it is of an older version, whose jobs have to end before another one is installed")
            for path in (self.path / "round-1.json", self.path / "round-2.json"):
                with contextlib.suppress(FileNotFoundError):
                    begin, count = _load(path)
                    found.append(range(int(begin), int(begin) + int(count)))
        return found

    def _shard_path(self, number: int) -> Path:
        return self.path / "plan" / f"{number:06}.jsonl"

    @contextlib.contextmanager
    def _explained(self, verb: str = "write") -> Iterator[None]:
        where = printable(str(self.path))
        try:
            yield
        except OSError as error:
            raise StateError(f"cannot {verb} the work folder: {where}: {error.strerror} (see --log_dir)") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            why = f"{printable(str(error))} (if none of its jobs lives, remove it)"
            raise StateError(f"cannot understand the work folder: {where}: {why}") from error


class Journal:
    """What one start of a task has proven."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append, and bring it to the disk; raises StateError."""
        self.write(log_format.journal_lines(proofs))

    def write(self, lines: bytes) -> None:
        """Raises StateError."""
        try:
            files.append_synced(self._descriptor, lines)
        except OSError as error:
            raise StateError(f"cannot write {printable(str(self._path))}: {error.strerror} (make room)") from error


def active_names(log_dir: Path) -> frozenset[str]:
    """The names of the work folders that nobody has collected yet: those of their locks, without the ending.

    Raises StateError.
    """
    folder = log_dir / FOLDER
    try:
        return frozenset(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise StateError(f"cannot read {printable(str(folder))}: {error.strerror} (see --log_dir)") from error


def _name(who: int | str) -> str:
    return f"{who:06}.json" if isinstance(who, int) else f"{who}.json"


def _load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _parse(facts: Any) -> JobSpec:
    from pydantic import TypeAdapter  # whoever uploads from here alone does without

    handed: JobSpec = TypeAdapter(JobSpec).validate_python(facts)
    return handed


def _plain(handed: JobSpec) -> dict[str, Any]:
    from pydantic import TypeAdapter

    plain: dict[str, Any] = handed._asdict()
    for key, kind in (("job", request.UploadRequest), ("cluster", SlurmOptions)):
        plain[key] = TypeAdapter(kind).dump_python(plain[key], mode="json")
    return plain
