"""The record of a cleanup: what was verified and is going to be deleted, written before the first file is.

`LOG_DIR/cleanups/RUN[.tag].cleanup.json`, private, always replaced as a whole, never inside the run folder. While
`finished` is empty, files may be left; what is missing then on the disk is no reason to doubt the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from s3sync import files
from s3sync.errors import StateError
from s3sync.text import printable

SUFFIX = ".cleanup.json"
_VERSION = 1
_MAX_NAME_BYTES = 180  # leaves room for tag, time and suffix in a file name's 255
_FILES = '\n "files": {'  # from here on a record grows with the run
_HEAD_CHARS = 64 * 1024


class Target(NamedTuple):
    """A destination of the run. Of those that are not `uploaded` nothing was compared."""

    url: str
    state: str
    reason: str
    log: str
    completed: str  # ISO 8601, empty if it never was
    verdict: str


class Deleted(NamedTuple):
    """A file that was to be deleted. `etags` go with the destinations; None where that one does not have it."""

    size: int  # bytes
    mtime_ns: int
    etags: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One run folder, and why it could go. Times are ISO 8601.

    Names are as the disk has them, to be used as paths: JSON escapes what is not printable, bytes that are not UTF-8
    included.
    """

    run_id: str
    run_path: str
    device: int  # of the run folder, as
    inode: int
    user: str
    host: str
    older_than_seconds: float
    begun: str
    targets: tuple[Target, ...]
    stays: tuple[str, ...]  # paths of what is excluded or has no bytes of its own
    deleted_files: int = 0
    deleted_bytes: int = 0
    went_on: tuple[str, ...] = ()  # when it was taken up again
    finished: str = ""
    left: dict[str, str] = field(default_factory=dict)  # why something was still there after the last call
    files: dict[str, Deleted] = field(default_factory=dict)

    def is_of(self, folder: Path) -> bool:
        """Return whether the record is about a folder with this path; earlier versions wrote it as it is printed."""
        return self.run_path in (str(folder), printable(str(folder)))

    @property
    def identity(self) -> tuple[int, int]:
        """Of the run folder."""
        return self.device, self.inode

    def at(self, urls: Sequence[str]) -> dict[str, Deleted]:
        """The files with their ETags at these destinations."""
        places = {target.url: number for number, target in enumerate(self.targets)}
        order = [places.get(url) for url in urls]
        return {
            path: file._replace(etags=tuple(None if place is None else file.etags[place] for place in order))
            for path, file in self.files.items()
        }

    def etags_at(self, url: str) -> dict[str, tuple[int, str]]:
        """Size and ETag of what was proven there, by path."""
        places = [number for number, target in enumerate(self.targets) if target.url == url]
        return {
            path: (file.size, etag)
            for place in places
            for path, file in self.files.items()
            if (etag := file.etags[place])
        }


def path_for(log_dir: Path, run_path: Path) -> Path:
    """Where the record of this run folder is, or will be. One of the same name elsewhere has a tag in its name."""
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
        is_ours = len(os.fsencode(run_path.name)) <= _MAX_NAME_BYTES  # to be read, and complained about
    return plain if is_ours else tagged


def load(path: Path) -> Record | None:
    """None if there is none; raises StateError if it cannot be read."""
    try:
        return _typed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else printable(str(error))
        raise StateError(f"cannot read the record {printable(str(path))}: {why} (move it away)") from error


def save(path: Path, record: Record) -> None:
    """Bring it to the disk as a whole; raises StateError."""
    with _explained(path):
        files.make_private_folder(path.parent)
        files.atomic_write(path, _to_json(record))


def put_aside(path: Path, record: Record) -> None:
    """Keep a finished record under the time it began; raises StateError."""
    stamp = "".join(c for c in record.begun if c.isalnum())[:15]
    with _explained(path):
        path.rename(path.with_name(f"{path.name.removesuffix(SUFFIX)}.{stamp}{SUFFIX}"))


def unfinished(log_dir: Path) -> Iterator[Path]:
    """Records of cleanups that did not come to their end, or that cannot be read: `load` says why."""
    for path in sorted((log_dir / "cleanups").glob(f"*{SUFFIX}")):
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            try:
                is_finished = _head(path)["finished"]
            except OSError:
                is_finished = False
            if not is_finished:
                yield path


def _head(path: Path) -> dict[str, Any]:
    """The keys before those that grow with the run; raises OSError, ValueError."""
    with path.open(encoding="ascii") as stream:
        start = stream.read(_HEAD_CHARS)
        place = start.find(_FILES)
        text = start + stream.read() if place < 0 else start[:place].rstrip().rstrip(",") + "}"
    head = json.loads(text)
    if not isinstance(head, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - a value read from a file, not an argument
    return head


def _to_json(record: Record) -> bytes:
    """A key a line, a file a line; the files come last, so that the rest can be read without them."""
    values: dict[str, Any] = {"version": _VERSION, **asdict(replace(record, files={}))}
    del values["files"]
    values["targets"] = [target._asdict() for target in record.targets]
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    lines = ",\n".join(f"  {json.dumps(path)}: {json.dumps(file)}" for path, file in record.files.items())
    return f"{{\n{head},{_FILES}\n{lines}\n }}\n}}\n".encode("ascii")


def _typed(values: dict[str, Any]) -> Record:
    """Raises what anything can raise that is not made of the right values."""
    if values.pop("version") != _VERSION:
        raise ValueError("another version")
    values["targets"] = tuple(Target(**target) for target in values["targets"])
    values["stays"], values["went_on"] = tuple(values["stays"]), tuple(values["went_on"])
    values["files"] = {
        path: Deleted(int(size), int(mtime_ns), tuple(etags))
        for path, (size, mtime_ns, etags) in values["files"].items()
    }
    record = Record(**values)
    texts = (record.run_path, record.finished, record.begun)
    widths = {len(file.etags) for file in record.files.values()} - {len(record.targets)}
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.left, dict) or widths:
        raise ValueError("its types are not this program's")
    return record


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"cannot write the record {printable(str(path))}: {error.strerror} (log_dir needs space and permission)"
        ) from error
