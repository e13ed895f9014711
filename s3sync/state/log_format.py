"""Write and parse the state log.

The first eight keys of the log are a contract that is shared with the predecessor of this program, whose logs are read
too. A file that is read may contain anything.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Collection, ItemsView, Iterable, Iterator
from pathlib import Path
from typing import Any

from s3sync.aws import etag as aws_etag
from s3sync.aws.destination import Destination
from s3sync.state.log_values import folders_of, is_number, number_of, parse_time, shared_values
from s3sync.state.run_state import Proof, RunState
from s3sync.text import printable

VERSION = 1
_PIECE_TEXTS = 500  # entries, or parts of them, that are written at once


def to_json(state: RunState, run_path: Path, destination: Destination) -> bytes:
    """Return the log as JSON: first the small keys, which can be read alone, then those that grow with the run."""
    return b"".join(to_pieces(state, run_path, destination))


def to_pieces(state: RunState, run_path: Path, destination: Destination) -> Iterator[bytes]:
    """Return what `to_json` does, in pieces: the log of a large run never is in memory as a whole."""

    def absolute(path: str) -> str:
        return os.path.join(run_path, path)

    proofs = state.verified.values()
    usual = _most_common_verification(proofs)
    log = {
        "run_id": state.run_id,
        "run_path": str(run_path),
        "completed": state.completed,
        "total_local_files": state.total_local_files,
        "total_uploaded_files": len(state.verified),
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
        "parts_since": state.stale_parts_since,
        "orderly": state.ended_cleanly,
        "still_since": state.streamed_until_ns,
        "verified_by": usual,
        "opaque_etags": list(state.opaque_etags),
        "manifest_files": state.manifest_checked_files,
        "failed_upload_files": [printable(absolute(path)) for path in state.failed],
        "failed_reasons": {printable(absolute(path)): reason for path, reason in state.failed.items()},
        "skipped": {printable(absolute(path)): reason for path, reason in state.skipped.items()},
        "uploaded_files": ((absolute(proof.path), proof.etag) for proof in proofs) if proofs else {},
        "verified_by_exceptions": {p.path: p.verified_by for p in proofs if p.verified_by != usual},
        "local_files": ((proof.path, [proof.size, proof.mtime_ns]) for proof in proofs) if proofs else {},
        **({"folders": dict(state.folders)} if state.folders else {}),
    }
    return _collect(_format_json(log))


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
    run_path = _require(log, "run_path", str)
    etags = _require(log, "uploaded_files", dict)
    sizes = log.get("local_files", {})
    exceptions = log.get("verified_by_exceptions", {})
    if log.get("version", VERSION) != VERSION or not isinstance(sizes, dict) or not isinstance(exceptions, dict):
        raise CorruptError("its version or types are not those of this program")
    is_ours = "version" in log
    verified = {}
    for absolute, etag in etags.items():
        path = absolute.removeprefix(run_path.rstrip("/") + "/")
        size, mtime_ns = _size_and_mtime(sizes.get(path))
        how = exceptions.get(path, log.get("verified_by", "predecessor")) if is_ours else "predecessor"
        if not isinstance(etag, str) or not isinstance(how, str):
            raise CorruptError(f"uploaded_files of {printable(path)} is not text")
        verified[path] = Proof(
            path=path, size=size, mtime_ns=mtime_ns, etag=aws_etag.normalize_etag(etag), verified_by=how
        )
    return RunState(
        run_id=_require(log, "run_id", str),
        run_path=run_path,
        completed=_require(log, "completed", bool),
        verified=verified,
        failed=_failures(log, run_path),
        total_local_files=_require(log, "total_local_files", int),
        started=str(log.get("started", "")),
        aws=str(log.get("aws", "")),
        stale_parts_since=parse_time(log.get("parts_since")),
        ended_cleanly=log.get("orderly") is True,
        streamed_until_ns=number_of(log, "still_since"),
        completion_object=str(log.get("completion_object", "")),
        manifest_checked_files=number_of(log, "manifest_files"),
        sent_files=number_of(log, "sent_files"),
        opaque_etags=_texts(log.get("opaque_etags")),
        folders=folders_of(log),
        **shared_values(log),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _failures(log: dict[str, Any], run_path: str) -> dict[str, str]:
    """Return the files that failed in the last call with their reasons, both printable, so only for display."""
    paths, reasons = log.get("failed_upload_files"), log.get("failed_reasons")
    why = reasons if isinstance(reasons, dict) else {}
    names = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
    prefix = run_path.rstrip("/") + "/"
    return {printable(p.removeprefix(prefix)): printable(str(why.get(p, "the log does not say why"))) for p in names}


def _require(log: dict[str, Any], key: str, kind: type) -> Any:
    value = log.get(key)
    if not isinstance(value, kind) or (kind is int and not is_number(value)):
        raise CorruptError(f"{key} is missing or not a {kind.__name__}")
    return value


def _size_and_mtime(value: object) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)):
        return value[0], value[1]
    return -1, -1


def _most_common_verification(proofs: Collection[Proof]) -> str:
    """Return how most files were verified. The log has this once, and the exceptions by name."""
    ways = Counter(proof.verified_by for proof in proofs)
    return ways.most_common(1)[0][0] if ways else ""


def _format_json(log: dict[str, Any]) -> Iterator[str]:
    """Yield JSON with one entry per line, also in its maps and lists, because people read it too.

    A map may be an iterator over its pairs. With hundreds of thousands of files, dictionaries and joined texts would
    take several times the memory.
    """
    for number, (key, value) in enumerate(log.items()):
        yield f"{',' if number else '{'}\n {json.dumps(key)}: "
        pairs = value.items() if isinstance(value, dict) and value else value
        if isinstance(pairs, ItemsView | Iterator):
            yield from _format_lines("{}", (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in pairs))
        elif isinstance(value, list) and value:
            yield from _format_lines("[]", map(json.dumps, value))
        else:
            yield json.dumps(value)
    yield "\n}\n"


def _format_lines(brackets: str, entries: Iterable[str]) -> Iterator[str]:
    separator = brackets[0]
    for entry in entries:
        yield f"{separator}\n  {entry}"
        separator = ","
    yield f"\n {brackets[1]}"


def _collect(texts: Iterator[str]) -> Iterator[bytes]:
    """Join ASCII texts to pieces that are worth a write each."""
    while some := "".join(itertools.islice(texts, _PIECE_TEXTS)):
        yield some.encode("ascii")
