"""Record what a cleanup deletes, before it deletes the first file.

The record is `LOG_DIR/cleanups/RUN[.tag].cleanup.json`: private, always replaced as a whole, and outside the run. While
`finished` is empty, files may be left; files that are missing on the disk are then no reason to keep the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.errors import StateError, explained
from s3sync.text import printable

SUFFIX = ".cleanup.json"
_VERSION = 1
_MAX_NAME_BYTES = 180  # leaves room for tag, time and suffix in a file name's 255
_FILES = '\n "files": {'  # begins the part that grows with the run
_HEAD_CHARS = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A destination of the run. It was compared with the run only if `state` is `uploaded`."""

    url: str
    state: str
    reason: str
    log: str
    completed: str  # ISO 8601, empty if it never was
    verdict: str


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file that the cleanup deletes or has deleted."""

    size: int  # bytes
    mtime_ns: int
    etags: tuple[str | None, ...]  # in the order of the targets; None if it is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A cleanup of one run folder. Times are ISO 8601.

    Names are those on the disk, so they can be used as paths; JSON escapes bytes that are not UTF-8.
    """

    run_id: str
    run_path: str
    device: int  # the device of the run folder
    inode: int
    user: str
    host: str
    older_than_seconds: float
    begun: str
    targets: tuple[Target, ...]
    kept: tuple[str, ...]  # paths that are excluded or have no content
    deleted_files: int = 0
    deleted_bytes: int = 0
    resumed_at: tuple[str, ...] = ()
    finished: str = ""
    not_deleted: dict[str, str] = field(default_factory=dict)  # reasons by path, after the last call
    files: dict[str, RecordedFile] = field(default_factory=dict)

    def is_of(self, folder: Path) -> bool:
        """Return whether the record is about the folder with this path. Earlier versions wrote it as printable text."""
        return self.run_path in (str(folder), printable(str(folder)))

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the run folder."""
        return self.device, self.inode

    def files_for(self, urls: Sequence[str]) -> dict[str, RecordedFile]:
        """Return the files with their ETags at these destinations."""
        numbers = {target.url: number for number, target in enumerate(self.targets)}
        order = [numbers.get(url) for url in urls]
        return {
            path: replace(file, etags=tuple(None if number is None else file.etags[number] for number in order))
            for path, file in self.files.items()
        }

    def etags_at(self, url: str) -> dict[str, tuple[int, str]]:
        """Return size and ETag, by path, of each file that was verified at a destination."""
        return {
            path: (file.size, etag)
            for path, file in self.files_for([url]).items()
            if (etag := file.etags[0]) is not None
        }


def path_for(log_dir: Path, run_path: Path) -> Path:
    """Return the path of the record of a run folder. If another folder of that name has a record, it has a tag."""
    tag = hashlib.sha256(os.fsencode(run_path)).hexdigest()[:8]
    name = os.fsencode(run_path.name)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    folder = log_dir / "cleanups"
    tagged, plain = folder / f"{name}.{tag}{SUFFIX}", folder / f"{name}{SUFFIX}"
    if tagged.exists():
        return tagged
    try:
        is_ours = _head(plain)["run_path"] in (str(run_path), printable(str(run_path)))  # as in Record.is_of
    except FileNotFoundError:
        is_ours = True
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        is_ours = len(os.fsencode(run_path.name)) <= _MAX_NAME_BYTES  # `load` reports the error
    return plain if is_ours else tagged


def load(path: Path) -> Record | None:
    """Return a record; None if there is none. Raises StateError if it cannot be read."""
    try:
        return _from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else printable(str(error))
        text = f"cannot read the record {printable(str(path))}: {why} (move it away)"
        raise StateError(text, id="cleanup.record-unreadable") from error


def save(path: Path, record: Record) -> None:
    """Write or replace a record; raises StateError."""
    with _record_errors(path):
        files.make_private_folder(path.parent)
        files.atomic_write(path, _to_json(record))


def archive(path: Path, record: Record) -> None:
    """Add the time when the cleanup began to the name of its record; raises StateError."""
    stamp = "".join(c for c in record.begun if c.isalnum())[:15]
    with _record_errors(path):
        path.rename(path.with_name(f"{path.name.removesuffix(SUFFIX)}.{stamp}{SUFFIX}"))


def unfinished(log_dir: Path) -> Iterator[Path]:
    """Yield the paths of the records of unfinished cleanups, and of those that cannot be read."""
    for path in sorted((log_dir / "cleanups").glob(f"*{SUFFIX}")):
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            try:
                is_finished = _head(path)["finished"]
            except OSError:
                is_finished = False
            if not is_finished:
                yield path


def _head(path: Path) -> dict[str, Any]:
    """Return a record without its files, which are not parsed; raises OSError, ValueError."""
    with path.open(encoding="ascii") as stream:
        start = stream.read(_HEAD_CHARS)
        end = start.find(_FILES)
        text = start + stream.read() if end < 0 else start[:end].rstrip().rstrip(",") + "}"
    head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a value from a file, not an argument
    return head


_KEYS = {"kept": "stays", "resumed_at": "went_on", "not_deleted": "left"}  # names of fields that differ in the file


def _to_json(record: Record) -> bytes:
    """Return the content of a record: a line per key, then a line per file, so that `_head` can stop before them."""
    values: dict[str, Any] = {"version": _VERSION, **asdict(replace(record, files={}))}
    del values["files"]
    lines = [f" {json.dumps(_KEYS.get(name, name))}: {json.dumps(value)}" for name, value in values.items()]
    lines_of_files = [
        f"  {json.dumps(path)}: {json.dumps([file.size, file.mtime_ns, file.etags])}"
        for path, file in record.files.items()
    ]
    head, rest = ",\n".join(lines), ",\n".join(lines_of_files)
    return f"{{\n{head},{_FILES}\n{rest}\n }}\n}}\n".encode("ascii")


def _from_json(values: dict[str, Any]) -> Record:
    """Parse a record; invalid values raise ValueError, LookupError or TypeError."""
    if values.pop("version") != _VERSION:
        raise ValueError("of another version")
    values |= {name: values.pop(key) for name, key in _KEYS.items()}
    values["targets"] = tuple(Target(**target) for target in values["targets"])
    values["kept"], values["resumed_at"] = tuple(values["kept"]), tuple(values["resumed_at"])
    values["files"] = {
        path: RecordedFile(int(size), int(mtime_ns), tuple(etags))
        for path, (size, mtime_ns, etags) in values["files"].items()
    }
    record = Record(**values)
    texts = (record.run_path, record.finished, record.begun)
    widths = {len(file.etags) for file in record.files.values()} - {len(record.targets)}
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.not_deleted, dict) or widths:
        raise ValueError("it has values of wrong types")
    return record


def _record_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    advice = "log_dir needs space and permission"
    return explained("write the record", path, advice, id="cleanup.record-not-writable")
