"""What is remembered of a run and destination: a JSON log, and a journal while an upload is unfinished.

The log is always replaced as a whole (temporary file, fsync, rename), so it is the old or the new one.
The journal beside it gets a line for each file as soon as it is proven; reading adds its lines to the
log's, so a kill loses nothing that was proven. Both are for the run's owner only (0600).

The log's first eight keys are a contract, shared with the predecessor whose logs are read too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from s3sync import files
from s3sync.destination import Destination
from s3sync.errors import StateError
from s3sync.runfolder import Run
from s3sync.text import now_iso, printable

VERSION = 1
LOG_SUFFIX = ".upload.log.json"
JOURNAL_SUFFIX = ".upload.journal.jsonl"
_JOURNAL_OF = "journal of"  # opens the line that says whose proofs follow
_HEAVY_KEY = re.compile(r',\s*"(failed_upload_files|uploaded_files)":')  # the first whose value grows with the run
_HEAD_BYTES = 16 * 1024
_LIGHT_KEYS = {"run_id", "completed", "total_local_files", "total_uploaded_files", "total_failed_upload"}
_MAX_NAME_BYTES = 200  # leaves room for the suffixes in a file name's 255


class Proof(NamedTuple):
    """A file that S3 was seen to hold: what was on disk then, and what proves it.

    `verified_by` is `etag`, `checksum` or `size`; `predecessor` where a log of the predecessor says
    so, which never looked at size and mtime: both are -1 then.
    """

    path: str  # relative to the run folder
    size: int  # bytes
    mtime_ns: int
    etag: str  # without quotes
    verified_by: str


@dataclass(slots=True)
class RunState:
    """All that is known of one run at one destination."""

    run_id: str
    run_path: str
    completed: bool = False
    proven: dict[str, Proof] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # path in the run -> reason
    total_local_files: int = 0
    started: str = ""
    finished: str = ""
    aws: str = ""
    by_predecessor: bool = False
    attempts: int = 0  # calls that began since one completed the run or brought it on


class Head(NamedTuple):
    """A log in short: what can be read without the parts that grow with the run. `finished` is ISO 8601 or empty."""

    completed: bool
    total_files: int
    uploaded_files: int
    failed_files: int
    size: int  # bytes in S3
    attempts: int
    finished: str


class Loaded(NamedTuple):
    """What was found: the state (None if there was none), and what a person should know about the finding."""

    state: RunState | None
    warnings: tuple[str, ...]


class StateStore:
    """The log and the journal of one run at one destination, in `log_dir/uploads`; their only writer.

    Two destinations of one run have two logs: the first that writes has the plain name, the others
    carry the destination's tag in it.
    """

    def __init__(self, log_dir: Path, run: Run, destination: Destination) -> None:
        self._run = run
        self._destination = destination
        self._folder = log_dir / "uploads"
        name = _file_name(run.run_id)
        self.lock_path = log_dir / "locks" / f"{name}.{destination.tag}.lock"
        self._plain = self._folder / f"{name}{LOG_SUFFIX}"
        self._tagged = self._folder / f"{name}.{destination.tag}{LOG_SUFFIX}"
        self._journal: int | None = None

    @property
    def log_path(self) -> Path:
        """Where this destination's log is, or will be if nobody else takes the place first."""
        if self._tagged.exists():
            return self._tagged
        return self._plain if owner(self._plain) in (None, self._destination) else self._tagged

    @property
    def journal_path(self) -> Path:
        """The journal beside the log."""
        return Path(str(self.log_path).removesuffix(LOG_SUFFIX) + JOURNAL_SUFFIX)

    def head(self) -> Head | None:
        """The log in short, None if there is none; raises OSError, or ValueError if it is corrupt."""
        try:
            log = read_head(self.log_path)
        except FileNotFoundError:
            return None
        if not isinstance(log.get("completed"), bool):
            raise ValueError("completed is missing")  # noqa: TRY004 - a value read from a file, not an argument
        return Head(
            completed=log["completed"],
            total_files=_number(log, "total_local_files"),
            uploaded_files=_number(log, "total_uploaded_files"),
            failed_files=_number(log, "total_failed_upload"),
            size=_number(log, "bytes"),
            attempts=_number(log, "attempts"),
            finished=str(log.get("finished", "")),
        )

    def journaled(self) -> int:
        """How many files the journal has: what an upload that is under way has proven so far."""
        try:
            content = self.journal_path.read_bytes()
        except OSError:
            return 0
        return content.count(b"\n[") - content.count(f'\n["{_JOURNAL_OF}"'.encode())

    def prepare(self) -> None:
        """Make the folder and see that it can be written, before any upload; raises StateError."""
        with self._explained("write", self._folder):
            files.make_private_folder(self._folder)
            with self._temporary("probe", b"s3sync"):
                pass

    def load(self, *, set_aside: bool = True) -> Loaded:
        """Log and journal as they are; raises StateError.

        A corrupt log counts as none and is renamed (unless `set_aside` is False: nothing is written),
        so that nothing is lost by writing a new one.
        """
        warnings: list[str] = []
        state = None
        log_path, journal_path = self.log_path, self.journal_path
        try:
            state = _read_log(log_path)
        except _CorruptError as error:
            aside = self._set_aside(log_path) if set_aside else log_path
            warnings.append(
                f"the state log was corrupt ({error}); kept as {printable(str(aside))};"
                " every file is settled again against S3"
            )
        except OSError as error:
            raise StateError(f"cannot read {printable(str(log_path))}: {error.strerror}") from error
        proofs, torn = self._read_journal(journal_path)
        if torn:
            warnings.append(f"{torn} unreadable line(s) in {printable(str(journal_path))} do not count")
        if proofs:
            state = state or RunState(self._run.run_id, str(self._run.path))
            state.completed = False
            state.proven.update((proof.path, proof) for proof in proofs)
        return Loaded(state, tuple(warnings))

    def _set_aside(self, path: Path) -> Path:
        stem = f"{path.name}.corrupt-{now_iso().partition('+')[0].replace(':', '')}"
        names = (f"{stem}{number or ''}" for number in itertools.count())
        aside = next(place for place in map(path.with_name, names) if not place.exists())
        with self._explained("rename", path):
            return path.rename(aside)

    def begin(self, state: RunState) -> None:
        """Write the log of a starting upload, and open the journal; raises StateError."""
        with self._explained("write", self._folder):
            if not self._plain.exists() and not self._tagged.exists():
                self._claim(state)
            self.save(state)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._journal = os.open(self.journal_path, flags, 0o600)
            head = json.dumps([_JOURNAL_OF, *self._destination])
            files.write_all(
                self._journal, f"\n{head}\n".encode("ascii")
            )  # first ends a line that a crash may have torn

    def record(self, proofs: Iterable[Proof]) -> None:
        """Append what was proven to the journal and bring it to the disk; raises StateError."""
        assert self._journal is not None, "begin() comes first"
        lines = "".join(json.dumps(proof, separators=(",", ":")) + "\n" for proof in proofs)
        with self._explained("write", self.journal_path):
            files.write_all(self._journal, lines.encode("ascii"))
            os.fsync(self._journal)

    def save(self, state: RunState) -> None:
        """Replace the log atomically; raises StateError and leaves the old one intact."""
        with self._explained("write", self.log_path):
            files.replace(self.log_path, self._to_json(state))

    def finish(self, state: RunState) -> None:
        """Replace the log, which now holds what the journal holds, and drop the journal."""
        self.save(state)
        self.close()
        with contextlib.suppress(FileNotFoundError), self._explained("remove", self.journal_path):
            self.journal_path.unlink()

    def close(self) -> None:
        """Close the journal; its lines stay."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _claim(self, state: RunState) -> None:
        """Take the plain name, unless an upload to another destination does so at the same moment."""
        with self._temporary("new", self._to_json(state)) as temporary, contextlib.suppress(FileExistsError):
            os.link(temporary, self._plain)

    @contextlib.contextmanager
    def _temporary(self, suffix: str, content: bytes) -> Iterator[Path]:
        """A file in the folder while inside, under a name that no other process or thread takes; raises OSError."""
        path = self._folder / f".{os.getpid()}.{threading.get_ident()}.{suffix}"
        try:
            files.write_synced(path, content)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _to_json(self, state: RunState) -> bytes:
        def absolute(path: str) -> str:
            return os.path.join(self._run.path, path)

        proofs = state.proven.values()
        usual = _usual_way(proofs)
        log = {
            "run_id": state.run_id,
            "run_path": str(self._run.path),
            "completed": state.completed,
            "total_local_files": state.total_local_files,
            "total_uploaded_files": len(state.proven),
            "total_failed_upload": len(state.failed),
            "version": VERSION,
            "bucket": self._destination.bucket,
            "remote_path": self._destination.remote_path,
            "started": state.started,
            "finished": state.finished,
            "bytes": sum(max(proof.size, 0) for proof in proofs),
            "aws": state.aws,
            "attempts": state.attempts,
            "verified_by": usual,
            "failed_upload_files": [printable(absolute(path)) for path in state.failed],
            "failed_reasons": {printable(absolute(path)): reason for path, reason in state.failed.items()},
            "uploaded_files": {absolute(proof.path): proof.etag for proof in proofs},
            "verified_by_exceptions": {p.path: p.verified_by for p in proofs if p.verified_by != usual},
            "local_files": {proof.path: [proof.size, proof.mtime_ns] for proof in proofs},
        }
        return _pretty(log).encode("ascii")

    def _read_journal(self, path: Path) -> tuple[list[Proof], int]:
        """This destination's proofs in the journal, and how many lines before the last were unreadable."""
        try:
            lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise StateError(f"cannot read {printable(str(path))}: {error.strerror}") from error
        proofs: list[Proof] = []
        torn, ours = 0, False
        for line in filter(None, lines):
            values = _json_list(line)
            if values[:1] == [_JOURNAL_OF]:
                ours = values[1:] == [*self._destination]
            elif (proof := _parse_proof(values)) is None:
                torn += line is not lines[-1]
            elif ours:
                proofs.append(proof)
        return proofs, torn

    @contextlib.contextmanager
    def _explained(self, verb: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StateError(
                f"cannot {verb} the state log: {printable(str(path))}: {error.strerror}"
                " (give a writable folder with space left with --log_dir)"
            ) from error


class _CorruptError(ValueError):
    """The log is no log; the text says why."""


def _read_log(path: Path) -> RunState | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        log = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _CorruptError("empty" if not content.strip() else f"no valid JSON: {error}") from error
    if not isinstance(log, dict):
        raise _CorruptError("no JSON object")
    return _parse_log(log)


def _parse_log(log: dict[str, Any]) -> RunState:
    run_path = _typed(log, "run_path", str)
    etags = _typed(log, "uploaded_files", dict)
    sizes = log.get("local_files", {})
    exceptions = log.get("verified_by_exceptions", {})
    if log.get("version", VERSION) != VERSION or not isinstance(sizes, dict) or not isinstance(exceptions, dict):
        raise _CorruptError("its version or types are not this program's")
    ours = "version" in log
    proven = {}
    for absolute, etag in etags.items():
        path = absolute.removeprefix(run_path.rstrip("/") + "/")
        size, mtime_ns = _size_and_mtime(sizes.get(path))
        how = exceptions.get(path, log.get("verified_by", "predecessor")) if ours else "predecessor"
        if not isinstance(etag, str) or not isinstance(how, str):
            raise _CorruptError(f"uploaded_files of {printable(path)} is no text")
        proven[path] = Proof(path, size, mtime_ns, etag.strip('"'), how)
    return RunState(
        run_id=_typed(log, "run_id", str),
        run_path=run_path,
        completed=_typed(log, "completed", bool),
        proven=proven,
        total_local_files=_typed(log, "total_local_files", int),
        started=str(log.get("started", "")),
        finished=str(log.get("finished", "")),
        aws=str(log.get("aws", "")),
        by_predecessor=not ours,
        attempts=log["attempts"] if isinstance(log.get("attempts"), int) else 0,
    )


def _typed(log: dict[str, Any], key: str, kind: type) -> Any:
    value = log.get(key)
    if not isinstance(value, kind):
        raise _CorruptError(f"{key} is missing or no {kind.__name__}")
    return value


def _number(log: dict[str, Any], key: str) -> int:
    value = log.get(key)
    return value if isinstance(value, int) else 0


def _size_and_mtime(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) for n in value):
        return value[0], value[1]
    return -1, -1


def _json_list(line: bytes) -> list[Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) else []


def _parse_proof(values: list[Any]) -> Proof | None:
    if len(values) != len(Proof._fields):
        return None
    proof = Proof(*values)
    strings = (proof.path, proof.etag, proof.verified_by)
    numbers = (proof.size, proof.mtime_ns)
    if all(isinstance(s, str) for s in strings) and all(isinstance(n, int) for n in numbers):
        return proof
    return None


def _usual_way(proofs: Collection[Proof]) -> str:
    """How most files were proven: said once in the log, the exceptions by name."""
    ways = Counter(proof.verified_by for proof in proofs)
    return ways.most_common(1)[0][0] if ways else ""


def read_head(path: Path) -> dict[str, Any]:
    """The keys of a log before those that grow with the run, without reading the rest; the predecessor's logs too.

    One in another layout is read whole. Raises OSError, or ValueError if it is no log.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEAD_BYTES)
        heavy = _HEAVY_KEY.search(start.decode("ascii", "replace"))  # a character each byte: places stay the same
        log = json.loads(start[: heavy.start()] + b"}" if heavy else start + stream.read())
        if heavy and isinstance(log, dict) and not log.keys() >= _LIGHT_KEYS:  # in another order
            log = json.loads(start + stream.read())
    if not isinstance(log, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - a value read from a file, not an argument
    return log


def owner(log_path: Path) -> Destination | None:
    """Whose log it is; None if nobody's: not there, unreadable, or the predecessor's, which did not say."""
    try:
        head = read_head(log_path)
        return Destination(head["bucket"], head["remote_path"].strip("/"))
    except (OSError, ValueError, RecursionError, LookupError, AttributeError):
        return None


def _pretty(log: dict[str, Any]) -> str:
    """JSON with one entry a line, also of the values that are maps or lists: it is read by people, too."""
    lines = []
    for key, value in log.items():
        name = json.dumps(key)
        if isinstance(value, dict) and value:
            entries = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f" {name}: {{\n{entries}\n }}")
        elif isinstance(value, list) and value:
            lines.append(f" {name}: [\n" + ",\n".join(f"  {json.dumps(v)}" for v in value) + "\n ]")
        else:
            lines.append(f" {name}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _file_name(run_id: str) -> str:
    """The run's name, cut where it would be too long for a file name with our suffixes."""
    encoded = os.fsencode(run_id)
    if len(encoded) <= _MAX_NAME_BYTES:
        return run_id
    tag = Destination(run_id, "").tag
    return encoded[: _MAX_NAME_BYTES - 9].decode("utf-8", "ignore") + f"-{tag}"
