"""Check whether a run may be uploaded: by its completion marker, its base calls, its manifest, and the time.

A marker alone is no proof: if runs are copied into the watched folder, the markers may arrive before the data, and the
copy may pause. If the base calls prove nothing, the run must stay unchanged for a while.
"""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from s3sync import files
from s3sync.errors import Notice
from s3sync.patterns import Pattern
from s3sync.runs import analysis_manifest, completion, local_files, run_folder, structure
from s3sync.runs.analysis_manifest import MANIFEST_TSV
from s3sync.runs.completion import Completion
from s3sync.runs.local_files import Listing
from s3sync.runs.run_folder import RUN_INFO, Run
from s3sync.text import human_seconds, pluralize, printable

MARKER_WAIT_SECONDS = 24 * 3600.0  # how long to wait for a last marker that does not come
ADVICE = "`upload --skip-check` uploads it as it is"

State: TypeAlias = Literal["complete", "sequencing", "settling", "incomplete"]

_INSTRUMENT_FILE = re.compile(  # files in folders that instruments write; users put their own files elsewhere
    r"(Data/Intensities|InterOp|Thumbnail_Images|Images|[^/]*Logs?|Config|Recipe)/.*", re.DOTALL
)
_MIN_AGE_SECONDS = 60.0  # if the mtime is older than the ctime by this much, the file was copied with its times
_MAX_HEADERS = 200  # base-call files whose headers are read in one run
_MAX_STREAMS = 64  # twice the number of files that a tool copies at once
_HEADER_BYTES = 64 * 1024  # the header of a real CBCL of 1,000 tiles has 16 kB
_ENDED_AS_PLANNED = ("completedasplanned", "runcompleted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The conditions that a run must meet before it is uploaded."""

    quiet_seconds: float = completion.QUIET_SECONDS
    marker_wait_seconds: float = MARKER_WAIT_SECONDS
    require_whole: bool = True
    excludes: tuple[Pattern, ...] = ()


class Readiness(NamedTuple):
    """Whether a run may be uploaded, and why, or what is missing; the warnings are about a complete run."""

    state: State
    reason: str
    warnings: tuple[Notice, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Return whether the run may be uploaded."""
        return self.state == "complete"


def check_marker(run: Run, requirements: Requirements, now: float | None = None) -> Completion:
    """Check only the completion marker, not the base calls. Raises RunError."""

    def newest_change() -> float:
        return local_files.last_change(local_files.list_files(run), now)

    return completion.check_completion(run, newest_change, requirements.quiet_seconds, now)


def check(
    run: Run,
    requirements: Requirements,
    listing: Listing | None = None,
    now: float | None = None,
    marked: Completion | None = None,
) -> Readiness:
    """Return whether the run may be uploaded, by its marker, RunInfo.xml and its own manifest. Raises RunError.

    Pass `listing` and `marked` (the result of `check_marker`) if they are known already.
    """
    return _ReadinessCheck(run, requirements, listing, time.time() if now is None else now).result(marked)


def has_old_times(run: Run) -> bool:
    """Return whether the run was copied to this disk with its old times: most mtimes are older than the ctimes.

    Raises RunError.
    """
    listing = local_files.list_files(run)
    ages_ns = [
        ctime_ns - file.mtime_ns
        for file, ctime_ns in zip(listing.files, listing.ctimes_ns, strict=True)
        if file.path != RUN_INFO
    ]
    return sum(age > _MIN_AGE_SECONDS * 1e9 for age in ages_ns) > len(ages_ns) / 2


def describe_missing_base_calls(run: Run, excludes: Sequence[Pattern]) -> str:
    """Return which base calls are neither in the folder nor excluded; empty if there are none. Raises RunError."""
    found = structure.check(structure.read_flow_cell(run.path), local_files.list_files(run).files)
    missing = [path for path in found.missing if not any(e.search(f"{run.run_id}/{path}") for e in excludes)]
    return found.summary if found.kind == "missing" and missing else ""


class _ReadinessCheck:
    """One check of one run, which lists its files at most once."""

    def __init__(self, run: Run, requirements: Requirements, listing: Listing | None, now: float) -> None:
        self._run, self._requirements, self._now = run, requirements, now
        self._known_listing = listing

    @property
    def _listing(self) -> Listing:
        if self._known_listing is None:
            self._known_listing = local_files.list_files(self._run)
        return self._known_listing

    @property
    def _quiet(self) -> float:
        """Return for how many seconds nothing in the run has changed."""
        return max(0.0, self._now - local_files.last_change(self._listing, self._now))

    def result(self, marked: Completion | None) -> Readiness:
        if marked is None:
            marked = completion.check_completion(
                self._run,
                lambda: local_files.last_change(self._listing, self._now),
                self._requirements.quiet_seconds,
                self._now,
            )
        if marked.is_complete:
            if not self._requirements.require_whole:
                return Readiness("complete", marked.reason)
            return self._check_files(marked)
        if marked.awaits_copy_complete and self._is_marker_overdue():
            return self._check_without_marker(marked)
        return Readiness("settling" if marked.is_settling else "sequencing", marked.reason)

    def _is_marker_overdue(self) -> bool:
        """Return whether the last marker is overdue. Lists the folder only if the marker before it is old enough."""
        arrived_at, wait = completion.arrived_at(self._run), self._requirements.marker_wait_seconds
        return arrived_at is not None and self._now - arrived_at >= wait and self._quiet >= wait

    def _check_without_marker(self, marked: Completion) -> Readiness:
        """Check a run whose last marker never comes: the instrument crashed, or its software writes none."""
        waited = f"CopyComplete.txt did not arrive within {human_seconds(self._requirements.marker_wait_seconds)}"
        overdue = Notice(waited, id="run.no-copy-complete")
        if not self._requirements.require_whole:
            return Readiness("complete", f"{waited} after RTAComplete", (overdue,))
        found = structure.check(structure.read_flow_cell(self._run.path), self._listing.files)
        if found.kind in ("none", "unknown"):
            return Readiness("incomplete", f"{waited}; {found.summary} (copy the rest; {ADVICE})")
        result = self._check_files(marked)
        if not result.is_complete:
            return result._replace(reason=f"{waited}; {result.reason}")
        if not result.warnings:
            overdue = overdue._replace(text=f"{waited}; uploaded without it, as it has all base calls")
        warnings = (overdue, *result.warnings)
        return Readiness("complete", "; ".join(warning.text for warning in warnings), warnings)

    def _check_files(self, marked: Completion) -> Readiness:
        found = structure.check(structure.read_flow_cell(self._run.path), self._listing.files)
        if self._has_unreadable_folder():
            return Readiness("complete", marked.reason)  # the upload reports which folder cannot be read
        found = self._without_rejected(found)
        missing_in_manifest, warnings = self._compare_with_manifest()
        problems = (self._describe_missing(found), missing_in_manifest, self._describe_truncated(found))
        if any(problems):
            return self._incomplete("; ".join(filter(None, problems)))
        if found.kind == "whole" and not self._has_late_files():
            return Readiness("complete", marked.reason, warnings)
        return self._check_by_time(marked, found, warnings)

    def _describe_missing(self, found: structure.BaseCalls) -> str:
        wanted = self._filter_wanted(found.missing) if found.kind == "missing" else []
        if len(wanted) == len(found.missing):
            return found.summary if wanted else ""
        return f"{pluralize(len(wanted), 'file')} missing" if wanted else ""

    def _describe_truncated(self, found: structure.BaseCalls) -> str:
        suspects = self._filter_wanted(found.suspects[:_MAX_HEADERS])
        paths = sorted({*filter(self._is_truncated, suspects), *self._broken_off()})
        if not paths:
            return ""
        return f"{pluralize(len(paths), 'base-call file')} truncated, the first is {printable(paths[0])}"

    def _broken_off(self) -> list[str]:
        """Return the newest base calls if they are shorter than their headers say: a copy broke off there.

        If most of them are, their headers mean something else.
        """
        pairs = zip(self._listing.ctimes_ns, (file.path for file in self._listing.files), strict=True)
        arrivals = (pair for pair in pairs if structure.has_header(pair[1]))
        newest = self._filter_wanted([path for _, path in heapq.nlargest(_MAX_STREAMS, arrivals)])
        short = [path for path in newest if self._is_truncated(path)]
        return short if len(short) <= len(newest) / 2 else []

    def _incomplete(self, problems: str) -> Readiness:
        if remaining := self._remaining_quiet():
            wait = f"may still be copied: waits until nothing changed for {remaining} more"
            return Readiness("settling", f"{problems} ({wait})")
        return Readiness("incomplete", f"{problems}{self._describe_early_end()} (copy the rest; {ADVICE})")

    def _check_by_time(self, marked: Completion, found: structure.BaseCalls, warnings: tuple[Notice, ...]) -> Readiness:
        """Require a quiet period, because the files alone do not show that the copy is over."""
        cause = found.summary or "files arrived after the completion marker"
        if remaining := self._remaining_quiet():
            return Readiness("settling", f"{marked.reason}; {cause}; must stay unchanged for {remaining} more")
        if found.kind == "none" and self._filter_wanted((f"{structure.BASE_CALLS}L001/C1.1/L001_1.cbcl",)):
            cause = "it has no base calls (not copied, or deleted after demultiplexing)"
            warnings = (Notice(cause, id="run.no-base-calls"), *warnings)
        return Readiness("complete", f"{marked.reason} and nothing changed for {human_seconds(self._quiet)}", warnings)

    def _remaining_quiet(self) -> str:
        """Return for how long the run must still stay unchanged; empty if it was quiet for long enough."""
        remaining = self._requirements.quiet_seconds - self._quiet
        return human_seconds(remaining) if remaining > 0 else ""

    def _has_late_files(self) -> bool:
        """Return whether files of the instrument came to this disk after the completion marker, its last file."""
        arrived_at = completion.arrived_at(self._run)
        if arrived_at is None:
            return False
        arrived_ns = int(arrived_at * 1e9) + 1000  # a float is not more precise
        pairs = zip(self._listing.files, self._listing.ctimes_ns, strict=True)
        late = [file.path for file, ctime_ns in pairs if ctime_ns > arrived_ns]
        return any(_INSTRUMENT_FILE.fullmatch(path) for path in self._filter_wanted(late))

    def _is_truncated(self, path: str) -> bool:
        """Return whether a file is shorter than its header says. The upload reports files that cannot be read."""
        absolute = self._run.path / path
        try:
            header = files.read_limited(absolute, _HEADER_BYTES)[:_HEADER_BYTES]
            return structure.is_truncated(header, os.stat(absolute).st_size, path)
        except OSError:
            return False

    def _has_unreadable_folder(self) -> bool:
        """Return whether a folder that may contain base calls cannot be read."""
        folders = [entry.path for entry in self._listing.rejected if entry.path.endswith("/")]
        base = structure.BASE_CALLS
        return any(base.startswith(folder) or folder.startswith(base) for folder in folders)

    def _without_rejected(self, found: structure.BaseCalls) -> structure.BaseCalls:
        """Do not count rejected files as missing: the upload reports them with their reasons."""
        rejected = {entry.path for entry in self._listing.rejected}
        is_only_rejected = found.missing and rejected.issuperset(found.missing)
        return structure.BaseCalls(kind="whole") if is_only_rejected else found

    def _filter_wanted(self, paths: Sequence[str]) -> list[str]:
        """Return the paths that are neither excluded nor rejected."""
        rejected = {entry.path for entry in self._listing.rejected}
        excludes, run_id = self._requirements.excludes, self._run.run_id
        return [p for p in paths if p not in rejected and not any(e.search(f"{run_id}/{p}") for e in excludes)]

    def _compare_with_manifest(self) -> tuple[str, tuple[Notice, ...]]:
        """Return the missing files that the run's own manifest lists, and a warning if it was not compared."""
        checksums, warnings = analysis_manifest.read_run_manifest(self._run)
        present = {file.path for file in self._listing.files} | {path for path, _ in self._listing.folders}
        if not checksums:
            return "", warnings
        if present.isdisjoint(checksums):
            foreign = Notice(f"{MANIFEST_TSV} lists no file of the run: it was not compared", id="run.foreign-manifest")
            return "", warnings or (foreign,)
        absent = (path for path in checksums if path not in present)
        if self._run.excludes_analyses:
            absent = (path for path in absent if not local_files.is_inside_analysis(path))
        missing = sorted(self._filter_wanted(list(absent)))
        if not missing:
            return "", warnings
        count = pluralize(len(missing), "file")
        return f"{count} missing that {MANIFEST_TSV} lists, the first is {printable(missing[0])}", warnings

    def _describe_early_end(self) -> str:
        """Return what RunCompletionStatus.xml says about a run that did not end as planned."""
        root = run_folder.parse_optional_xml(self._run.path / "RunCompletionStatus.xml")
        if root is None:
            return ""
        texts = [(root.findtext(f".//{name}") or "").strip() for name in ("CompletionStatus", "RunStatus")]
        status = next((text for text in texts if text), "")
        if not status or status.lower() in _ENDED_AS_PLANNED:
            return ""
        error = (root.findtext(".//ErrorDescription") or "").strip()
        detail = f" ({printable(error[:100])})" if error and error.lower() != "none" else ""
        return f"; the run ended early: RunCompletionStatus.xml says {printable(status[:50])}{detail}"
