"""Disk against S3, now, whatever any log says: works months later, and on a machine that never uploaded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s3sync import awscli, plan, readback, runfolder
from s3sync.destination import Destination
from s3sync.interrupt import Stop
from s3sync.job import Job
from s3sync.pipeline import CHANGED, Hasher
from s3sync.plan import Scope
from s3sync.progress import Display, Snapshot
from s3sync.readback import Absent, Reader, RemoteObject, Seen
from s3sync.runfolder import LocalFile, Run
from s3sync.staging import work_folder
from s3sync.statelog import Proof
from s3sync.text import count_of, human_bytes, human_seconds, indented, printable

_AT_ONCE = 1000  # files compared at a time


@dataclass(slots=True)
class Verification:
    """What was found. `differing` maps paths in the run to what is wrong; `extra` are paths only S3 has."""

    run: Run
    destination: Destination
    scope: Scope
    proven: list[Proof] = field(default_factory=list)
    differing: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    seconds: float = 0.0
    checked_size: int = 0  # bytes, of the files looked at so far

    @property
    def identical(self) -> bool:
        """Whether disk and S3 hold the same files with the same bytes, as far as ETags and checksums can tell."""
        by_size = any(proof.verified_by == "size" for proof in self.proven)
        return bool(self.proven) and not self.differing and not self.extra and not by_size


def verify(job: Job, environ: Mapping[str, str], stop: Stop, display: Display) -> Verification:
    """Compare every file; nothing is written anywhere. Raises RunError, AwsError, InterruptedBySignal."""
    started = time.monotonic()
    run = runfolder.open_run(job.local_path, need_run_info=False)
    scope = plan.scope_of(run, runfolder.list_files(run), job.destination, job.excludes)
    plan.require_files(run, scope)
    for warning in scope.warnings:
        display.say(f"warning: {warning}")
    found = Verification(run, job.destination, scope, differing=dict(scope.unsendable))
    hasher = Hasher(run, job.multipart, stop, job.cores)
    try:
        with work_folder() as (work, work_lock):
            aws = awscli.connect(job.aws_command, job.settings, environ, stop, work, (work_lock,), job.stall_seconds)
            reader = Reader(aws, job.destination, run.run_id, job.readback, job.cores, job.owner)
            remote = reader.list_run()
            files_total, size_total = len(scope.files), sum(file.size for file in scope.files)

            def snapshot() -> Snapshot:
                checked = len(found.proven) + len(found.differing) - len(scope.unsendable)
                return Snapshot("verifying", checked, files_total, found.checked_size, size_total, 0)

            display.follow(
                f"verifying {printable(run.run_id)} in {printable(job.destination.url(run.run_id))}", snapshot
            )
            found.extra = _extra(run, scope, job, remote or {})
            for files in _some(scope.files):
                stop.check()
                _compare(found, files, reader, hasher, remote)
    finally:
        hasher.close()
    found.seconds = time.monotonic() - started
    return found


def _compare(
    found: Verification,
    files: Sequence[LocalFile],
    reader: Reader,
    hasher: Hasher,
    remote: Mapping[str, RemoteObject] | None,
) -> None:
    """Add what these files are to what was found. Without a listing each object is asked for."""
    etags = hasher.etags(files)
    seen: dict[str, Seen] = (
        dict(reader.look(files)) if remote is None else {f.path: remote.get(f.path, Absent(listed=True)) for f in files}
    )
    if doubtful := [f for f in files if _is_doubtful(f, seen[f.path], etags.get(f.path))]:
        seen.update(reader.look_closer(doubtful))
    for file in files:
        verdict = _judge(found.run, file, seen[file.path], etags.get(file.path), hasher)
        if isinstance(verdict, Proof):
            found.proven.append(verdict)
        else:
            found.differing[file.path] = verdict
        found.checked_size += file.size


def _judge(run: Run, file: LocalFile, seen: Seen, etag: str | None, hasher: Hasher) -> Proof | str:
    if etag is None:
        return "cannot be read"
    try:
        verdict = readback.judge(file, seen, etag, hasher)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return verdict if runfolder.stat_again(run, file.path) == file else CHANGED


def _is_doubtful(file: LocalFile, seen: Seen, etag: str | None) -> bool:
    """Whether only head-object can tell: the same size with another ETag, which may be no MD5."""
    if not isinstance(seen, RemoteObject) or not seen.listed or seen.size != file.size:
        return False
    return not readback.is_settled(file, seen, etag)


def _extra(run: Run, scope: Scope, job: Job, remote: Iterable[str]) -> list[str]:
    """What only S3 has, but for what is excluded."""
    here = {file.path for file in scope.files} | {item.path for item in scope.unsendable}
    beyond = sorted(path for path in remote if path not in here)
    return [p for p in beyond if not any(e.search(f"{run.run_id}/{p}") for e in job.excludes)]


def _some(files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
    return (files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE))


def lines(found: Verification) -> list[str]:
    """For people: a verdict in one line, and what is behind it."""
    size = human_bytes(sum(proof.size for proof in found.proven))
    share = f"{len(found.proven):,} of {count_of(found.scope.total, 'file')}, {size}"
    url = printable(found.destination.url(found.run.run_id))
    if found.identical:
        verdict = [f"{share}: identical; safe to delete the local copy"]
    else:
        verdict = [f"{share} identical; NOT safe to delete the local copy"]
    by_size = [proof.path for proof in found.proven if proof.verified_by == "size"]
    return [
        *verdict,
        f"  in      {url}, compared in {human_seconds(found.seconds)}",
        *_named("differ", [f"{printable(p)}: {why}" for p, why in found.differing.items()]),
        *_named("only in S3", [printable(path) for path in found.extra]),
        *_named("of the same size only: no ETag or checksum to compare", [printable(path) for path in by_size]),
    ]


def as_json(found: Verification) -> dict[str, Any]:
    """The same as one object."""
    return {
        "run_id": found.run.run_id,
        "run_path": str(found.run.path),
        "url": found.destination.url(found.run.run_id),
        "identical": found.identical,
        "total_local_files": found.scope.total,
        "identical_files": len(found.proven),
        "identical_bytes": sum(proof.size for proof in found.proven),
        "differing": {printable(path): why for path, why in found.differing.items()},
        "only_in_s3": [printable(path) for path in found.extra],
        "by_size_only": [printable(p.path) for p in found.proven if p.verified_by == "size"],
        "excluded_files": found.scope.excluded,
        "seconds": round(found.seconds, 3),
    }


def _named(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    return [f"  {count_of(len(items), 'file')} {what}:", *indented(items, " (--json names them all)")]
