"""Write and parse the state log and its journal.

The first eight keys of the log are a contract that is shared with the predecessor of this program, whose logs are read
too. A file that is read may contain anything.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

from s3sync.aws import etag as aws_etag
from s3sync.aws.destination import Destination
from s3sync.state.run_state import Proof, RunState
from s3sync.text import printable

VERSION = 1
_JOURNAL_OF = "journal of"  # starts the line that names the destination of the following proofs
_HEAVY_KEY = re.compile(r',\s*"(failed_upload_files|uploaded_files)":')  # the first whose value grows with the run
_HEAD_BYTES = 16 * 1024
_FIRST_BYTES = 2048  # contain "completed" in our log, unless its path is very long
_COMPLETED = re.compile(rb'\{\n "run_id": "[^\n]*",\n "run_path": "[^\n]*",\n "completed": true,')
_TAIL_BYTES = 16
_FAILURES_BEGIN, _PROOFS_BEGIN = b' "failed_reasons": {\n', b' "uploaded_files": '  # lines of our log
_REQUIRED_IF_COMPLETED = {"run_id": str, "run_path": str, "total_local_files": int}
_LIGHT_KEYS = {"run_id", "completed", "total_local_files", "total_uploaded_files", "total_failed_upload"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """The keys of a log that can be read without the parts that grow with the run. Times are ISO 8601 or empty."""

    completed: bool
    total_files: int
    uploaded_files: int
    failed_files: int
    size: int  # bytes in S3
    attempts: int
    finished: str
    on_complete: str
    instrument_done: str = ""
    sent_bytes: int = 0  # by all calls of the upload
    seconds: float = 0.0  # of all these calls
    run_path: str = ""  # of the folder that the log belongs to
    folder: tuple[int, ...] = ()  # its numbers, as in RunState
    first_completed: str = ""
    watched: dict[str, tuple[int, int]] | None = None  # None in a log of an older version
    by_predecessor: bool = False

    @property
    def was_complete(self) -> bool:
        """Return whether the run was completed once; if so, its instrument has finished it."""
        return self.completed or bool(self.first_completed)

    @classmethod
    def of(cls, log: dict[str, Any]) -> LogSummary:
        """Return the summary of a log from its keys. Raises ValueError if they are not those of a log."""
        if not isinstance(log.get("completed"), bool):
            raise ValueError("completed is missing")  # noqa: TRY004 - a value read from a file, not an argument
        if log["completed"] and not all(isinstance(log.get(key), kind) for key, kind in _REQUIRED_IF_COMPLETED.items()):
            raise ValueError("it does not say which run is completed")
        return cls(
            completed=log["completed"],
            total_files=_number(log, "total_local_files"),
            uploaded_files=_number(log, "total_uploaded_files"),
            failed_files=_number(log, "total_failed_upload"),
            size=_number(log, "bytes"),
            attempts=_number(log, "attempts"),
            finished=str(log.get("finished", "")),
            on_complete=printable(str(log.get("on_complete", ""))),
            instrument_done=_parse_time(log.get("instrument_done")),
            sent_bytes=_number(log, "sent_bytes"),
            seconds=_duration(log, "seconds"),
            run_path=str(log.get("run_path", "")),
            folder=_folder(log),
            first_completed=_parse_time(log.get("first_completed")),
            watched=_watched(log),
            by_predecessor="version" not in log or log.get("verified_by") == "predecessor",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """A log with its run and destination, which is None in a log of the predecessor."""

    run_id: str
    run_path: str
    destination: Destination | None
    head: LogSummary


def to_json(state: RunState, run_path: Path, destination: Destination) -> bytes:
    """Return the log as JSON: first the small keys, which can be read alone, then those that grow with the run."""

    def absolute(path: str) -> str:
        return os.path.join(run_path, path)

    proofs = state.proven.values()
    usual = _most_common_verification(proofs)
    log = {
        "run_id": state.run_id,
        "run_path": str(run_path),
        "completed": state.completed,
        "total_local_files": state.total_local_files,
        "total_uploaded_files": len(state.proven),
        "total_failed_upload": len(state.failed),
        "version": VERSION,
        "bucket": destination.bucket,
        "remote_path": destination.remote_path,
        "folder": list(state.folder),
        "started": state.started,
        "finished": state.finished,
        "first_completed": state.first_completed,
        **({} if state.watched is None else {"watched": {path: list(seen) for path, seen in state.watched.items()}}),
        "instrument_done": state.instrument_done,
        "sent_files": state.sent_files,
        "sent_bytes": state.sent_bytes,
        "seconds": round(state.seconds, 3),
        "bytes": state.size,
        "aws": state.aws,
        "attempts": state.attempts,
        "completion_object": state.completion_object,
        "on_complete": state.on_complete,
        "parts_since": state.parts_since,
        "orderly": state.orderly,
        "still_since": state.still_since,
        "verified_by": usual,
        "opaque_etags": list(state.opaque_etags),
        "manifest_files": state.manifest_files,
        "failed_upload_files": [printable(absolute(path)) for path in state.failed],
        "failed_reasons": {printable(absolute(path)): reason for path, reason in state.failed.items()},
        "skipped": {printable(absolute(path)): reason for path, reason in state.skipped.items()},
        "uploaded_files": {absolute(proof.path): proof.etag for proof in proofs},
        "verified_by_exceptions": {p.path: p.verified_by for p in proofs if p.verified_by != usual},
        "local_files": {proof.path: [proof.size, proof.mtime_ns] for proof in proofs},
    }
    return _format_json(log).encode("ascii")


def journal_head(destination: Destination) -> bytes:
    """Return the line that names the destination of the proofs after it.

    It starts with a line break, which ends a line that a crash may have left incomplete.
    """
    return f"\n{json.dumps([_JOURNAL_OF, *destination])}\n".encode("ascii")


def journal_lines(proofs: Iterable[Proof]) -> bytes:
    """Return one line for each proof."""
    rows = ((proof.path, proof.size, proof.mtime_ns, proof.etag, proof.verified_by) for proof in proofs)
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode("ascii")


def parse_journal(content: bytes, destination: Destination) -> tuple[list[Proof], int]:
    """Return the proofs of this destination in a journal, and how many lines before the last were unreadable."""
    lines = content.split(b"\n")
    proofs: list[Proof] = []
    unreadable, is_ours = 0, False
    for line in filter(None, lines):
        values = _json_list(line)
        if values[:1] == [_JOURNAL_OF]:
            is_ours = values[1:] == [*destination]
        elif (proof := _parse_proof(values)) is None:
            unreadable += line is not lines[-1]
        elif is_ours:
            proofs.append(proof)
    return proofs, unreadable


def count_journaled(content: bytes) -> int:
    """Return how many proofs a journal has, without parsing them."""
    return content.count(b"\n[") - content.count(f'\n["{_JOURNAL_OF}"'.encode())


class CorruptError(ValueError):
    """The file is not a state log; the message says why."""


def parse_log(content: bytes) -> RunState:
    """Parse a log of this program or its predecessor. Raises CorruptError."""
    try:
        log = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptError("empty" if not content.strip() else f"not valid JSON: {error}") from error
    if not isinstance(log, dict):
        raise CorruptError("not a JSON object")
    return _parse_log(log)


def _parse_log(log: dict[str, Any]) -> RunState:
    run_path = _typed(log, "run_path", str)
    etags = _typed(log, "uploaded_files", dict)
    sizes = log.get("local_files", {})
    exceptions = log.get("verified_by_exceptions", {})
    if log.get("version", VERSION) != VERSION or not isinstance(sizes, dict) or not isinstance(exceptions, dict):
        raise CorruptError("its version or types are not those of this program")
    is_ours = "version" in log
    proven = {}
    for absolute, etag in etags.items():
        path = absolute.removeprefix(run_path.rstrip("/") + "/")
        size, mtime_ns = _size_and_mtime(sizes.get(path))
        how = exceptions.get(path, log.get("verified_by", "predecessor")) if is_ours else "predecessor"
        if not isinstance(etag, str) or not isinstance(how, str):
            raise CorruptError(f"uploaded_files of {printable(path)} is not text")
        proven[path] = Proof(
            path=path, size=size, mtime_ns=mtime_ns, etag=aws_etag.normalize_etag(etag), verified_by=how
        )
    return RunState(
        run_id=_typed(log, "run_id", str),
        run_path=run_path,
        completed=_typed(log, "completed", bool),
        proven=proven,
        failed=_failures(log, run_path),
        total_local_files=_typed(log, "total_local_files", int),
        started=str(log.get("started", "")),
        finished=str(log.get("finished", "")),
        aws=str(log.get("aws", "")),
        parts_since=_parse_time(log.get("parts_since")),
        orderly=log.get("orderly") is True,
        still_since=_number(log, "still_since"),
        by_predecessor=not is_ours or log.get("verified_by") == "predecessor",
        completion_object=str(log.get("completion_object", "")),
        on_complete=printable(str(log.get("on_complete", ""))),
        attempts=_number(log, "attempts"),
        manifest_files=_number(log, "manifest_files"),
        instrument_done=_parse_time(log.get("instrument_done")),
        sent_files=_number(log, "sent_files"),
        sent_bytes=_number(log, "sent_bytes"),
        seconds=_duration(log, "seconds"),
        opaque_etags=_texts(log.get("opaque_etags")),
        folder=_folder(log),
        first_completed=_parse_time(log.get("first_completed")),
        watched=_watched(log),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _failures(log: dict[str, Any], run_path: str) -> dict[str, str]:
    """Return the files that failed in the last call with their reasons, both printable, so for people only."""
    paths, reasons = log.get("failed_upload_files"), log.get("failed_reasons")
    why = reasons if isinstance(reasons, dict) else {}
    names = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
    prefix = run_path.rstrip("/") + "/"
    return {printable(p.removeprefix(prefix)): printable(str(why.get(p, "the log does not say why"))) for p in names}


def _typed(log: dict[str, Any], key: str, kind: type) -> Any:
    value = log.get(key)
    if not isinstance(value, kind) or (kind is int and not _is_number(value)):
        raise CorruptError(f"{key} is missing or not a {kind.__name__}")
    return value


def _parse_time(value: object) -> str:
    """Return an ISO 8601 time with its zone; any other value becomes an empty string."""
    try:
        return value if isinstance(value, str) and datetime.fromisoformat(value).tzinfo else ""
    except ValueError:
        return ""


def _folder(log: dict[str, Any]) -> tuple[int, ...]:
    """Return the numbers of the run folder; none in a log of an older version."""
    value = log.get("folder")
    return tuple(value) if isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)) else ()


def _watched(log: dict[str, Any]) -> dict[str, tuple[int, int]] | None:
    """Return what changes are noticed by; None in a log of an older version."""
    value = log.get("watched")
    if not isinstance(value, dict):
        return None
    return {path: (seen[0], seen[1]) for path, seen in value.items() if isinstance(seen, list) and len(seen) == 2}


def _number(log: dict[str, Any], key: str) -> int:
    value = log.get(key)
    return value if _is_number(value) else 0


def _duration(log: dict[str, Any], key: str) -> float:
    """Return a number of seconds; 0 if the value cannot be one."""
    value = log.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 <= value < 2**63 else 0.0


def _is_number(value: object) -> TypeGuard[int]:
    """Return whether a value can be a number of files, bytes or nanoseconds. Larger ones could not be displayed."""
    return isinstance(value, int) and abs(value) < 2**63


def _size_and_mtime(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)):
        return value[0], value[1]
    return -1, -1


def _json_list(line: bytes) -> list[Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return values if isinstance(values, list) else []


def _parse_proof(values: list[Any]) -> Proof | None:
    """Return the proof that `journal_lines` has written; None if these values are no proof."""
    if len(values) != 5:
        return None
    path, size, mtime_ns, etag, verified_by = values
    if not all(isinstance(text, str) for text in (path, etag, verified_by)) or not all(
        map(_is_number, (size, mtime_ns))
    ):
        return None
    etag = aws_etag.normalize_etag(etag)
    return Proof(path=path, size=size, mtime_ns=mtime_ns, etag=etag, verified_by=verified_by)


def _most_common_verification(proofs: Collection[Proof]) -> str:
    """Return how most files were proven. The log has this once, and the exceptions by name."""
    ways = Counter(proof.verified_by for proof in proofs)
    return ways.most_common(1)[0][0] if ways else ""


def read_head(path: Path) -> dict[str, Any]:
    """Return the keys of a log before those that grow with the run, without reading the rest.

    This works for logs of the predecessor too. A log in another layout is read as a whole. Raises OSError, or
    ValueError if the file is not a log.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEAD_BYTES)
        heavy = _HEAVY_KEY.search(
            start.decode("ascii", "replace")
        )  # one character for each byte, so that indices stay the same
        log = json.loads(start[: heavy.start()] + b"}" if heavy else start + stream.read())
        if heavy and isinstance(log, dict) and not log.keys() >= _LIGHT_KEYS:  # in another order
            log = json.loads(start + stream.read())
    if not isinstance(log, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a value read from a file, not an argument
    return log


def read_logged_run(path: Path) -> LoggedRun:
    """Return a log in short, with its run and destination. Raises OSError, or ValueError if it is not a log."""
    log = read_head(path)
    run_id, run_path = log.get("run_id"), log.get("run_path")
    if not isinstance(run_id, str) or not isinstance(run_path, str):
        raise ValueError("it does not name its run")  # noqa: TRY004 - a value read from a file, not an argument
    destination = _destination(log)
    return LoggedRun(run_id=run_id, run_path=run_path, destination=destination, head=LogSummary.of(log))


def is_completed(path: Path) -> bool:
    """Return whether a log of this program is completed. Reads only its first bytes. Raises OSError."""
    with path.open("rb") as stream:
        return _COMPLETED.match(stream.read(_FIRST_BYTES)) is not None


def read_failures(path: Path, limit: int) -> Iterator[tuple[str, str]]:
    """Yield the first failed files, as printable absolute paths, with their reasons. Raises OSError.

    Reads no more than needed, because a log may have hundreds of MB. Yields nothing from a log of the predecessor.
    """
    with path.open("rb") as stream:
        before = itertools.takewhile(lambda line: not line.startswith(_PROOFS_BEGIN), stream)
        if not any(line == _FAILURES_BEGIN for line in before):
            return
        for line in itertools.islice(stream, limit):
            try:
                entry = json.loads(b"{" + line.strip().removesuffix(b",") + b"}")
            except (ValueError, RecursionError):
                return  # the brace after the last entry
            yield from ((printable(name), printable(str(reason))) for name, reason in entry.items())


def is_truncated(path: Path) -> bool:
    """Return whether a log has lost its end, or has zeros there. Raises OSError."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL_BYTES))
        _, line_end, last = stream.read().rstrip().rpartition(b"\n")
    return last != b"}" if line_end else not last.endswith(b"}")  # the brace of an inner value is indented


def destination_of_log(log_path: Path) -> Destination | None:
    """Return the destination of a log; None if it is missing, unreadable, or from the predecessor."""
    try:
        return _destination(read_head(log_path))
    except (OSError, ValueError, RecursionError):
        return None


def _destination(log: dict[str, Any]) -> Destination | None:
    bucket, remote_path = log.get("bucket"), log.get("remote_path")
    if not isinstance(bucket, str) or not isinstance(remote_path, str):
        return None
    return Destination(bucket, remote_path.strip("/"))


def _format_json(log: dict[str, Any]) -> str:
    """Return JSON with one entry per line, also in its maps and lists, because people read it too."""
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
