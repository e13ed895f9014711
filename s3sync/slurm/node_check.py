"""What a job finds on its node, for `check --submit`: Slurm runs `python -m s3sync.slurm.node_check FOLDER` there."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from s3sync import __version__, files
from s3sync.aws import access
from s3sync.errors import StateError
from s3sync.signals import StopRequest
from s3sync.text import human_bytes, printable
from s3sync.transfer import context

_ASKED, _FOUND = "asked.json", "found.json"


class Asked(NamedTuple):
    """What the host that asks has, and expects to be there, too."""

    version: str  # of this program
    directories: tuple[tuple[str, str], ...]  # each with the name of a run in it, or nothing
    places: tuple[access.UploadTarget, ...]
    aws_command: str | None
    threads: int


def ask(folder: Path, asked: Asked) -> None:
    """Leave it in the folder, for the job; raises OSError."""
    files.atomic_write(folder / _ASKED, json.dumps(asked).encode("ascii"))


def answer(folder: Path) -> list[access.CheckResult] | None:
    """What the job found; None as long as it has not said."""
    try:
        found = json.loads((folder / _FOUND).read_bytes())
        return [_parse_result(**fields) for fields in found]
    except (OSError, ValueError, TypeError):
        return None


def _parse_result(*, ok: bool, what: str, text: str, id: str, **_: object) -> access.CheckResult:  # noqa: A002 - a field
    return access.CheckResult(ok=bool(ok), what=printable(str(what)), text=printable(str(text)), id=printable(str(id)))


def look(asked: Asked, environ: Mapping[str, str], stop: StopRequest) -> Iterator[access.CheckResult]:
    """Everything that an upload from here needs."""
    yield _version(asked.version)
    yield from (_directory(*directory) for directory in asked.directories)
    try:
        with context.work_folder(environ, map(Path, (path for path, _ in asked.directories))) as (work, _):
            yield _temporary(environ.get("TMPDIR", ""), work)
            query = access.AccessQuery(aws_command=asked.aws_command, threads=asked.threads, targets=asked.places)
            yield from access.check_access(query, environ, stop, work)
    except StateError as error:
        yield access.CheckResult(ok=False, what="temporary files", text=str(error))


def _version(expected: str) -> access.CheckResult:
    text = f"s3sync {__version__} ({printable(sys.executable)})"
    if __version__ != expected:
        text += f", but {expected} on the host that asks (install the same on all nodes)"
    return access.CheckResult(ok=__version__ == expected, what="program", text=text)


def _directory(path: str, run: str) -> access.CheckResult:
    """An empty folder may be where nobody mounted what has the runs."""
    where, advice = printable(path), "mount it there, too, under the same path"
    try:
        os.listdir(path)
    except OSError as error:
        return access.CheckResult(ok=False, what="directory", text=f"{where}: {error.strerror} ({advice})")
    if run and not os.path.isdir(os.path.join(path, run)):
        return access.CheckResult(
            ok=False, what="directory", text=f"{where}: {printable(run)} is not in it there ({advice})"
        )
    return access.CheckResult(ok=True, what="directory", text=f"{where}: readable")


def _temporary(wanted: str, work: Path) -> access.CheckResult:
    """Another folder is used where TMPDIR cannot be."""
    used, free = str(work.parent.parent), human_bytes(shutil.disk_usage(work).free)
    text = f"{printable(used)}: writable, {free} free"
    if wanted and os.path.realpath(wanted) != os.path.realpath(used):
        text += f"; TMPDIR={printable(wanted)} cannot be written there"
    return access.CheckResult(ok=True, what="temporary files", text=text)


def _asked(folder: Path) -> Asked:
    facts = json.loads((folder / _ASKED).read_bytes())
    version, directories, places, aws_command, threads = facts
    pairs = tuple((str(path), str(run)) for path, run in directories)
    return Asked(version, pairs, tuple(access.UploadTarget(*place) for place in places), aws_command, threads)


def main(folder: Path) -> None:
    """Look, and leave what was found in the folder; raises OSError."""
    os.umask(0o077)
    found = list(look(_asked(folder), os.environ, StopRequest()))
    files.atomic_write(folder / _FOUND, json.dumps(list(map(asdict, found))).encode("ascii"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
