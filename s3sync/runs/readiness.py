"""Whether a run may go up: its completion marker, the base calls that RunInfo.xml asks for, its manifest, and the time.

A marker alone is no proof: where runs are copied into the watched folder, the markers arrive before the data, and the
copy may pause. What the base calls cannot show, a quiet time must.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from s3sync.errors import RunError
from s3sync.runs import analysis_manifest, completion, run_folder, structure
from s3sync.runs.analysis_manifest import MANIFEST
from s3sync.runs.completion import Completion
from s3sync.runs.run_folder import RUN_INFO, Listing, Run
from s3sync.text import human_seconds, pluralize, printable

MARKER_WAIT_SECONDS = 24 * 3600.0  # for a last marker that does not come
ADVICE = "`upload --skip_check` uploads it as it is"

State: TypeAlias = Literal["complete", "sequencing", "settling", "incomplete"]

_OF_THE_INSTRUMENT = re.compile(  # folders that instruments write; what users add to a run lies elsewhere
    r"(Data/Intensities|InterOp|Thumbnail_Images|Images|[^/]*Logs?|Config|Recipe)/.*", re.DOTALL
)
_SET_BACK_SECONDS = 60.0  # between mtime and ctime of what was copied with its times, at least
_MOST_HEADERS = 200  # that are read of one run
_HEADER_BYTES = 64 * 1024  # the header of a real CBCL of 1,000 tiles has 16 kB
_ENDED_AS_PLANNED = ("completedasplanned", "runcompleted")


class Terms(NamedTuple):
    """What is asked of a run before it goes up; times in seconds."""

    quiet_seconds: float = completion.QUIET_SECONDS
    marker_wait_seconds: float = MARKER_WAIT_SECONDS
    require_whole: bool = True
    excludes: tuple[re.Pattern[str], ...] = ()


class Verdict(NamedTuple):
    """Whether a run is complete, and how that is known or what is missing; `warning` is not empty if it is complete and
    somebody should still know something about it."""

    state: State
    reason: str
    warning: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether it may go up."""
        return self.state == "complete"


def check_marker(run: Run, terms: Terms, now: float | None = None) -> Completion:
    """What the completion marker says: the part of `check` that looks at the root of the run alone. Raises RunError."""

    def newest() -> float:
        return run_folder.last_change(run_folder.list_files(run), now)

    return completion.judge_completion(run, newest, terms.quiet_seconds, now)


def check(
    run: Run,
    terms: Terms,
    listing: Listing | None = None,
    now: float | None = None,
    marked: Completion | None = None,
) -> Verdict:
    """Whether the run is complete, by its marker, by RunInfo.xml, and by its own manifest. Raises RunError.

    `listing` is what is in the run, if that is known; `marked` what `check_marker` said.
    """
    return _Check(run, terms, listing, time.time() if now is None else now).verdict(marked)


def was_copied(run: Run) -> bool:
    """Whether the run was copied to this disk with its old times: then most of its files have an mtime that is older
    than their ctime. Raises RunError."""
    listing = run_folder.list_files(run)
    gaps = [
        c - file.mtime_ns for file, c in zip(listing.files, listing.ctimes_ns, strict=True) if file.path != RUN_INFO
    ]
    return sum(gap > _SET_BACK_SECONDS * 1e9 for gap in gaps) > len(gaps) / 2


def lacking(run: Run, excludes: Sequence[re.Pattern[str]]) -> str:
    """Say which base calls are neither in the folder nor excluded; empty if all are, or none. Raises RunError."""
    files = run_folder.list_files(run).files
    found = structure.check(structure.read_flow_cell(run.path), files)
    lost = [path for path in found.lost if not any(e.search(f"{run.run_id}/{path}") for e in excludes)]
    return found.summary if found.kind == "missing" and lost else ""


class _Check:
    """One check of one run, which is listed at most once."""

    def __init__(self, run: Run, terms: Terms, listing: Listing | None, now: float) -> None:
        self._run, self._terms, self._now = run, terms, now
        self._listing = listing

    @property
    def _files(self) -> Listing:
        if self._listing is None:
            self._listing = run_folder.list_files(self._run)
        return self._listing

    @property
    def _quiet(self) -> float:
        """Seconds since something in the run was last changed."""
        return max(0.0, self._now - run_folder.last_change(self._files, self._now))

    def verdict(self, marked: Completion | None) -> Verdict:
        if marked is None:
            quiet_seconds = self._terms.quiet_seconds
            newest = lambda: run_folder.last_change(self._files, self._now)  # noqa: E731
            marked = completion.judge_completion(self._run, newest, quiet_seconds, self._now)
        if marked.complete:
            return self._of_marked(marked) if self._terms.require_whole else Verdict("complete", marked.reason)
        if marked.awaits_last and self._has_waited_long():
            return self._of_unmarked(marked)
        return Verdict("settling" if marked.settling else "sequencing", marked.reason)

    def _has_waited_long(self) -> bool:
        """Whether the last marker is overdue; the folder is listed only if the marker before it is old enough."""
        basecalled, wait = completion.arrived_at(self._run), self._terms.marker_wait_seconds
        return basecalled is not None and self._now - basecalled >= wait and self._quiet >= wait

    def _of_unmarked(self, marked: Completion) -> Verdict:
        """The last marker never comes: the instrument has crashed, or its software writes none."""
        waited = f"CopyComplete.txt did not come within {human_seconds(self._terms.marker_wait_seconds)}"
        if not self._terms.require_whole:
            return Verdict("complete", f"{waited} after RTAComplete", waited)
        structural = structure.check(structure.read_flow_cell(self._run.path), self._files.files)
        if structural.kind in ("none", "unknown"):
            return Verdict("incomplete", f"{waited}; {structural.summary} (copy the rest; {ADVICE})")
        found = self._of_marked(marked)
        if not found.is_complete:
            return found._replace(reason=f"{waited}; {found.reason}")
        warning = f"{waited}; {found.warning or 'uploaded without it, as all base calls are there'}"
        return Verdict("complete", warning, warning)

    def _of_marked(self, marked: Completion) -> Verdict:
        found = structure.check(structure.read_flow_cell(self._run.path), self._files.files)
        if self._is_hidden():
            return Verdict("complete", marked.reason)  # the upload says which folder cannot be read
        found = self._without_unsendable(found)
        missing, manifest_warning = self._missing_in_manifest()
        if found.kind == "missing" and (lost := self._wanted(found.lost)):
            summary = found.summary if len(lost) == len(found.lost) else f"{pluralize(len(lost), 'file')} missing"
            missing = "; ".join(filter(None, (summary, missing)))
        if torn := [path for path in self._wanted(found.short[:_MOST_HEADERS]) if self._is_torn(path)]:
            what = f"{pluralize(len(torn), 'file')} of base calls broken off, the first is {printable(torn[0])}"
            missing = "; ".join(filter(None, (missing, what)))
        if missing:
            return self._of_incomplete(missing)
        if found.kind == "whole" and not self._is_arriving():
            return Verdict("complete", marked.reason, manifest_warning)
        return self._of_quiet(marked, found, manifest_warning)

    def _of_incomplete(self, missing: str) -> Verdict:
        if rest := self._rest():
            return Verdict("settling", f"{missing} (may still be copied: waits until nothing changed for {rest} more)")
        return Verdict("incomplete", f"{missing}{self._early_end()} (copy the rest; {ADVICE})")

    def _of_quiet(self, marked: Completion, found: structure.Found, warning: str) -> Verdict:
        """What nobody can see in the files the time has to show."""
        what = found.summary or "files came after the completion marker"
        if rest := self._rest():
            return Verdict("settling", f"{marked.reason}; {what}; must stay unchanged for {rest} more")
        if found.kind == "none" and self._wanted((f"{structure.BASE_CALLS}L001/C1.1/L001_1.cbcl",)):
            what = "there are no base calls in it (not copied, or deleted after demultiplexing)"
            warning = "; ".join(filter(None, (what, warning)))
        return Verdict("complete", f"{marked.reason} and nothing changed for {human_seconds(self._quiet)}", warning)

    def _rest(self) -> str:
        """For how long the run must not change yet; empty if it was quiet for long enough."""
        quiet = self._quiet
        return human_seconds(self._terms.quiet_seconds - quiet) if quiet < self._terms.quiet_seconds else ""

    def _is_arriving(self) -> bool:
        """Whether what the instrument wrote came to this disk after the completion marker, which it wrote last."""
        marker = completion.arrived_at(self._run)
        if marker is None:
            return False
        marker_ns = int(marker * 1e9) + 1000  # a float has no more digits
        late = [f.path for f, c in zip(self._files.files, self._files.ctimes_ns, strict=True) if c > marker_ns]
        return any(_OF_THE_INSTRUMENT.fullmatch(path) for path in self._wanted(late))

    def _is_torn(self, path: str) -> bool:
        """Whether a file is shorter than its header says; of one that cannot be read the upload says so."""
        place = self._run.path / path
        try:
            return structure.is_torn(
                run_folder.read_whole(place, _HEADER_BYTES)[:_HEADER_BYTES], os.stat(place).st_size, path
            )
        except (OSError, RunError):
            return False

    def _is_hidden(self) -> bool:
        """Whether a folder in which there may be base calls cannot be read."""
        folders = [item.path for item in self._files.unsendable if item.path.endswith("/")]
        base = structure.BASE_CALLS
        return any(base.startswith(folder) or folder.startswith(base) for folder in folders)

    def _without_unsendable(self, found: structure.Found) -> structure.Found:
        """What is there and cannot be sent is not missing: the upload names it with the reason."""
        there = {item.path for item in self._files.unsendable}
        return structure.Found("whole") if found.lost and there.issuperset(found.lost) else found

    def _wanted(self, paths: Sequence[str]) -> list[str]:
        """Those that are not excluded, and not there under a name that cannot be sent."""
        there = {item.path for item in self._files.unsendable}
        excludes, run_id = self._terms.excludes, self._run.run_id
        return [p for p in paths if p not in there and not any(e.search(f"{run_id}/{p}") for e in excludes)]

    def _missing_in_manifest(self) -> tuple[str, str]:
        """What the run's own manifest names and is not there, and why it could not be compared."""
        named = analysis_manifest.read_of_run(self._run)
        there = {file.path for file in self._files.files}
        if not named.paths or there.isdisjoint(named.paths):
            foreign = f"{MANIFEST} names no file of the run: it was not compared" if named.paths else ""
            return "", named.warning or foreign
        apart = (path for path in named.paths if not (self._run.split and run_folder.is_of_an_analysis(path)))
        missing = sorted(self._wanted([path for path in apart if path not in there]))
        if not missing:
            return "", named.warning
        first = printable(missing[0])
        return f"{pluralize(len(missing), 'file')} that {MANIFEST} names missing, the first is {first}", named.warning

    def _early_end(self) -> str:
        """What RunCompletionStatus.xml says of a run that did not end as it was planned."""
        root = run_folder.optional_xml(self._run.path / "RunCompletionStatus.xml")
        if root is None:
            return ""
        texts = [(root.findtext(f".//{name}") or "").strip() for name in ("CompletionStatus", "RunStatus")]
        status = next((text for text in texts if text), "")
        if not status or status.lower() in _ENDED_AS_PLANNED:
            return ""
        error = (root.findtext(".//ErrorDescription") or "").strip()
        why = f" ({printable(error[:100])})" if error and error.lower() != "none" else ""
        return f"; the run ended early: RunCompletionStatus.xml says {printable(status[:50])}{why}"
