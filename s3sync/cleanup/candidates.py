"""Which runs may be deleted locally, and why not the others: decisions alone, nothing is written.

A run may go if its logs call it completed for long enough, every destination of its folder is done with it, and disk
and S3 are found identical now.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from s3sync import invocation
from s3sync.cleanup import delete
from s3sync.cleanup import record as cleanup_record
from s3sync.cleanup.record import Record
from s3sync.config import Config
from s3sync.errors import S3SyncError
from s3sync.inventory import Problem, RunStatus, discovery, states, statuses
from s3sync.patterns import Pattern
from s3sync.runs import local_files, run_folder
from s3sync.state import Proof, log_format
from s3sync.text import human_seconds, parse_iso, pluralize, printable
from s3sync.transfer import verify

_ANALYSIS = "Analysis/"


class Subject(NamedTuple):
    """A run folder and what each entry of the config that watches it says of it and of the analyses in it.

    `reason` is why it cannot go, whatever is in S3; empty if it is to be verified. `age` is in seconds since the last
    destination was `completed` (ISO 8601); None if no log says so.
    """

    folder: Path
    units: tuple[RunStatus, ...]
    reason: str
    completed: str
    age: float | None

    @property
    def runs(self) -> tuple[RunStatus, ...]:
        """The run at each destination; what is compared there is the whole folder, analyses included."""
        return tuple(unit for unit in self.units if not unit.run.parent_run)

    @property
    def uploaded(self) -> tuple[RunStatus, ...]:
        """Those that are in S3, as their logs say."""
        return tuple(run for run in self.runs if run.state == "uploaded")

    @property
    def files(self) -> int:
        """How many there are, as the logs say."""
        return max((head.uploaded_files for head in self._heads()), default=0)

    @property
    def size(self) -> int:
        """Their bytes, as the logs say."""
        return max((head.size for head in self._heads()), default=0)

    def _heads(self) -> Iterator[log_format.Head]:
        """The log of each destination in short, with what the analyses there add to it."""
        for run in self.uploaded:
            heads = [unit.head for unit in self.units if unit.entry is run.entry and unit.state == "uploaded"]
            known = [head for head in heads if head]
            if known:
                files, size = (sum(getattr(head, name) for head in known) for name in ("uploaded_files", "size"))
                yield known[0]._replace(uploaded_files=files, size=size)


class Plan(NamedTuple):
    """Every subject that was asked for, which of them are to be verified, and what could not be looked into."""

    subjects: tuple[Subject, ...]
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]  # names that no run has

    @property
    def to_verify(self) -> list[Subject]:
        """Those that nothing but S3 can keep."""
        return [subject for subject in self.subjects if not subject.reason]


class Proven(NamedTuple):
    """What was found identical, each file by its identity then, and its proofs by destination."""

    files: dict[str, local_files.FileIdentity]
    proofs: dict[str, dict[str, Proof]]  # by URL, then by path
    stays: tuple[str, ...]
    found: tuple[verify.Verification, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(identity.size for identity in self.files.values())


NOTHING = Proven({}, {}, (), ())


def survey_runs(config: Config, names: Iterable[str], older_than: float, now: float | None = None) -> Plan:
    """Every run folder, or those with these names, judged at all of its destinations; oldest first. Reads only."""
    moment = time.time() if now is None else now
    found = discovery.discover(config)
    candidates = found.candidates
    wanted = set(discovery.resolve_names(names, candidates))
    by_folder: dict[
        object, list[discovery.Candidate]
    ] = {}  # all entries that watch it have to agree, under whichever name
    for candidate in candidates:
        by_folder.setdefault(_identity(candidate.run.path), []).append(candidate)
    chosen = [group for group in by_folder.values() if not wanted or not wanted.isdisjoint(c.run.run_id for c in group)]
    occupied = _occupied(config, {os.path.realpath(candidate.run.path) for candidate in candidates})
    judged = (statuses.run_statuses(config, group) for group in chosen)
    subjects = [_subject(units, config, older_than, moment, occupied) for units in judged]
    subjects.sort(key=lambda subject: (subject.completed or "~", subject.folder))
    unknown = wanted - {candidate.run.run_id for candidate in candidates}
    return Plan(tuple(subjects), tuple(found.problems), tuple(sorted(unknown)))


def _identity(folder: Path) -> object:
    """The same for two paths that lead to one folder, by links or by mounting it twice."""
    try:
        status = os.stat(folder)
    except OSError:
        return os.path.realpath(folder)
    return status.st_dev, status.st_ino


def _occupied(config: Config, runs: Iterable[str]) -> dict[str, str]:
    """Real paths that must not lie in what is deleted, and what each is."""
    directories = {directory for entry in config.monitor for directory in entry.monitored_directories}
    return {
        **dict.fromkeys(runs, "another run"),
        **{os.path.realpath(directory): "a monitored directory" for directory in directories},
        os.path.realpath(config.log_dir): "log_dir",
    }


def _subject(
    units: Sequence[RunStatus], config: Config, older_than: float, now: float, occupied: Mapping[str, str]
) -> Subject:
    runs = [unit for unit in units if not unit.run.parent_run]
    name = runs[0].run.path
    folder = Path(os.path.realpath(name.parent)) / name.name  # one path, by whichever the config has it
    completed, age = _completed(units, now)
    reason = (
        _why_not_these_states(units, _unfinished(config, folder))
        or _why_not_this_age(units, age, older_than)
        or _why_not_this_folder(runs, occupied)
    )
    return Subject(folder, tuple(units), reason, completed, age)


def _why_not_this_folder(runs: Sequence[RunStatus], occupied: Mapping[str, str]) -> str:
    for run in runs:
        if os.path.islink(run.run.path):
            target = printable(os.path.realpath(run.run.path))
            return f"{printable(str(run.run.path))} is a link, to {target} (the run itself is to be watched)"
    if len({run.run.run_id for run in runs}) > 1:
        return f"it is watched under several names: {', '.join(sorted({printable(str(r.run.path)) for r in runs}))}"
    root = os.path.realpath(runs[0].run.path)
    for place, what in occupied.items():
        if (place == root and what != "another run") or local_files.is_inside(place, root):
            return f"{what} is in it: {printable(place)}" if place != root else f"the folder is {what}"
        if what == "another run" and local_files.is_inside(root, place):
            return f"it is a folder of another run: {printable(place)}"
    return mounted_in(Path(root))


def mounted_in(folder: Path) -> str:
    """Why a run folder (its real path) is not all one: names the mount point in it, or says that it is one."""
    for partition in psutil.disk_partitions(all=True):  # only their names: whoever looks at a dead share hangs
        place = partition.mountpoint
        if place == str(folder):
            return "the folder is a mount point"
        if local_files.is_inside(place, str(folder)):
            return f"a mount point is in it: {printable(place)}"
    return ""


def _why_not_these_states(runs: Sequence[RunStatus], record: Record | None) -> str:
    for run in runs:
        if run.state != "uploaded" and not _is_never(run, record):
            return f"{run.state} at {printable(run.url)}: {run.reason}"
    if not any(run.state == "uploaded" for run in runs):
        return f"never uploaded: {runs[0].state}: {runs[0].reason}"
    return ""


def _is_never(run: RunStatus, record: Record | None) -> bool:
    """Whether it is not going to be uploaded there. What a cleanup that was interrupted took away of the run does not
    change what was so before."""
    if run.state in states.SKIPPED_STATES:
        return True
    before = {target.url: target.state for target in record.targets} if record else {}
    return (
        run.head is None
        and run.state in ("sequencing", "settling", "incomplete")
        and before.get(run.url) in states.SKIPPED_STATES
    )


def _completed(runs: Iterable[RunStatus], now: float) -> tuple[str, float | None]:
    """When the last destination was completed, and how many seconds ago; None if that is not known of all."""
    texts = [run.head.finished for run in runs if run.state == "uploaded" and run.head]
    moments = [(moment, text) for text in texts if (moment := parse_iso(text)) is not None]
    if not moments or len(moments) < len(texts):
        return "", None
    last, text = max(moments)
    return text, now - last


def _why_not_this_age(runs: Iterable[RunStatus], age: float | None, older_than: float) -> str:
    if age is None:
        paths = [run.log_path for run in runs if run.state == "uploaded"]
        return f"not old enough for all we know: {printable(str(paths[0]))} has no `finished` that is a time"
    if age < 0:
        return "not old enough: its log says that it was completed in the future (is the clock right?)"
    if age < older_than:
        return f"not old enough: completed {human_seconds(age)} ago"
    return ""


def _unfinished(config: Config, folder: Path) -> Record | None:
    """The record of a cleanup of this very folder that was interrupted; one that cannot be read is told later."""
    try:
        record = cleanup_record.load(cleanup_record.path_for(config.log_dir, folder))
        return record_of(record, folder)
    except S3SyncError:
        return None


def record_of(record: Record | None, folder: Path) -> Record | None:
    """The record if it is of an interrupted cleanup of this very folder; raises RunError if that is no folder."""
    if record is None or record.finished or not record.is_of(folder):
        return None
    return record if record.identity == delete.identity_of(folder) else None


def doubt(found: verify.Verification, record: Record | None, log_dir: Path) -> str:
    """Why what was found at a destination keeps the run; empty if it does not."""
    url = printable(found.destination.url(found.run.run_id))
    if found.remote is None or found.extra is None:
        return f"what only S3 has is not known: these credentials may not list {url}"
    if found.differing:
        return f"{_named(f'not identical with {url}', found.differing)}; {_fix(found, log_dir)}"
    if found.by_size:
        same = dict.fromkeys((proof.path for proof in found.by_size), "no ETag or checksum to compare")
        return _named(f"proven by size alone in {url}", same)
    known = record.etags_at(found.destination.url(found.run.run_id)) if record else {}
    remote = {path: (item.size, item.etag) for path, item in found.remote.items()}
    here = {file.path for file in found.selection.files}
    lost = {
        path: "it was proven, and is not as it was then"
        for path, proven in known.items()
        if path not in here and remote.get(path) != proven
    }
    if lost:
        return _named(f"deleted here by a cleanup that was interrupted, and CHANGED OR GONE in {url} since", lost)
    extra = dict.fromkeys((path for path in found.extra if path not in known), "not on the disk")
    if extra:
        return _named(f"only in {url}", extra)
    return "" if found.proven else f"nothing of it is in {url}"


def _fix(found: verify.Verification, log_dir: Path) -> str:
    """What sends what came or changed after the upload."""
    words = ["upload", "--local_path", str(found.run.path), "--bucket", found.destination.bucket]
    words += ["--remote_path", found.destination.remote_path] if found.destination.prefix else []
    return f"`{printable(invocation.command_line(*words, '--log_dir', str(log_dir), '--recheck'))}` sends what differs"


def _named(what: str, reasons: Mapping[str, str]) -> str:
    """In one sentence, with the first by name; what only concerns the instrument's own analysis is called that."""
    path, why = next(iter(reasons.items()))
    more = f", and {len(reasons) - 1:,} more" if len(reasons) > 1 else ""
    analysis = sum(name.startswith(_ANALYSIS) for name in reasons)
    share = "" if not analysis else f"; {'all' if analysis == len(reasons) else f'{analysis:,}'} of it in {_ANALYSIS}"
    note = f"{share}: the instrument's own analysis" if share else ""
    return f"{pluralize(len(reasons), 'file')} {what}: {printable(path)}: {why}{more}{note} (`verify` names them all)"


def joined(subject: Subject, found: Sequence[verify.Verification]) -> tuple[str, Proven]:
    """What the destinations have together, and why that is not enough to delete it."""
    files: dict[str, local_files.FileIdentity] = {}
    proofs: dict[str, dict[str, Proof]] = {}
    for one in found:
        identities = one.identities or {}
        for proof in one.proven:
            if files.setdefault(proof.path, identities[proof.path]) != identities[proof.path]:
                return f"{printable(proof.path)}: changed while the run was verified", NOTHING
        proofs[one.destination.url(one.run.run_id)] = {proof.path: proof for proof in one.proven}
    listing = local_files.list_files(found[0].run)
    if run_folder.RUN_INFO in files and files[run_folder.RUN_INFO].is_link:
        return f"{run_folder.RUN_INFO} is a link: without what it leads to, the rest could not be recognised", NOTHING
    paths = [*(file.path for file in listing.files), *(item.path for item in listing.rejected)]
    rest = [path for path in paths if path not in files]
    stays = sorted([*rest, *(item.path for item in listing.skipped)])
    proven = Proven(files, proofs, tuple(stays), tuple(found))
    if strangers := [path for path in rest if not _is_excluded(subject, path)]:
        return f"{printable(strangers[0])}: came to the disk while the run was verified", proven
    return "", proven


def _is_excluded(subject: Subject, path: str) -> bool:
    """From every destination that the run went to."""
    return all(_matches(run.entry.excludes, f"{run.run.run_id}/{path}") for run in subject.uploaded)


def _matches(excludes: Iterable[Pattern], text: str) -> bool:
    return any(pattern.search(text) for pattern in excludes)
