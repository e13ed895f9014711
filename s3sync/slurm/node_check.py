"""Check a node from a job on it, for `check --submit`: Slurm runs `python -m s3sync.slurm.node_check FOLDER` there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from s3sync import __version__, files
from s3sync.aws import access
from s3sync.errors import StateError
from s3sync.signals import StopRequest
from s3sync.text import human_bytes, printable
from s3sync.transfer import context

_QUERY, _RESULTS = "asked.json", "found.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeQuery:
    """The expectations of the submitting host: its own version of this program, directories and targets.

    Each directory comes with the name of a run in it, which may be empty.
    """

    version: str
    directories: tuple[tuple[str, str], ...]
    targets: tuple[access.UploadTarget, ...]
    aws_command: str | None
    threads: int


def write_query(folder: Path, query: NodeQuery) -> None:
    """Write the query into the folder of the job. Raises OSError."""
    files.write_json(folder / _QUERY, asdict(query), indent=None)


def read_results(folder: Path) -> list[access.CheckResult] | None:
    """Return the results of the job; None until it has written them."""
    try:
        return [_parse_result(**fields) for fields in files.read_json(folder / _RESULTS)]
    except (OSError, ValueError, TypeError):
        return None


def check_node(query: NodeQuery, environ: Mapping[str, str], stop: StopRequest) -> Iterator[access.CheckResult]:
    """Yield a result for everything that an upload from this node needs. Raises StoppedError."""
    yield _check_version(query.version)
    yield from (_check_directory(*directory) for directory in query.directories)
    try:
        with context.temporary_folder(environ, map(Path, (path for path, _ in query.directories))) as (folder, _):
            yield _check_temporary_folder(environ.get("TMPDIR", ""), folder)
            aws = access.AccessQuery(aws_command=query.aws_command, threads=query.threads, targets=query.targets)
            yield from access.check_access(aws, environ, stop, folder)
    except StateError as error:
        yield access.CheckResult.of_error("temporary files", error)


def _check_version(expected: str) -> access.CheckResult:
    text = f"s3sync {__version__} ({printable(sys.executable)})"
    if __version__ == expected:
        return access.CheckResult(ok=True, what="program", text=text)
    text = f"{text}, but {expected} on the host that submits (install the same version on all nodes)"
    return access.CheckResult(ok=False, what="program", text=text, id="slurm.other-version")


def _check_directory(path: str, run: str) -> access.CheckResult:
    """Check a directory, which may be an empty mount point."""
    where, advice = printable(path), "mount it there under the same path"
    try:
        os.listdir(path)
    except OSError as error:
        text = f"{where}: {error.strerror} ({advice})"
        return access.CheckResult(ok=False, what="directory", text=text, id="slurm.directory-unreadable")
    if run and not os.path.isdir(os.path.join(path, run)):
        text = f"{where}: {printable(run)} is missing there ({advice})"
        return access.CheckResult(ok=False, what="directory", text=text, id="slurm.directory-not-mounted")
    return access.CheckResult(ok=True, what="directory", text=f"{where}: readable")


def _check_temporary_folder(wanted: str, folder: Path) -> access.CheckResult:
    """Report the folder in use: another one than TMPDIR if that is not writable."""
    used, free = str(folder.parent.parent), human_bytes(shutil.disk_usage(folder).free)
    text = f"{printable(used)}: writable, {free} free"
    if wanted and os.path.realpath(wanted) != os.path.realpath(used):
        text += f"; TMPDIR={printable(wanted)} is not writable there"
    return access.CheckResult(ok=True, what="temporary files", text=text)


def _read_query(folder: Path) -> NodeQuery:
    facts = files.read_json(folder / _QUERY)
    return NodeQuery(
        version=facts["version"],
        directories=tuple((str(path), str(run)) for path, run in facts["directories"]),
        targets=tuple(access.UploadTarget(*target) for target in facts["targets"]),
        aws_command=facts["aws_command"],
        threads=facts["threads"],
    )


def _parse_result(*, ok: bool, what: str, text: str, id: str, **_: object) -> access.CheckResult:  # noqa: A002 - a field
    return access.CheckResult(ok=bool(ok), what=printable(str(what)), text=printable(str(text)), id=printable(str(id)))


def main(folder: Path) -> None:
    """Check this node, and write the results into the folder. Raises OSError."""
    os.umask(0o077)
    results = [asdict(result) for result in check_node(_read_query(folder), os.environ, StopRequest())]
    files.write_json(folder / _RESULTS, results, indent=None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
