"""Select the files of a run to upload: all but those that the user excludes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from s3sync import own_files
from s3sync.aws import destination as aws_destination
from s3sync.aws.destination import Destination
from s3sync.errors import Notice, RunError
from s3sync.patterns import Pattern
from s3sync.runs import LocalFile, Run, local_files
from s3sync.state import Proof
from s3sync.text import pluralize, printable, summarize

_MAX_NAMES_SHOWN = 5  # entries named in a message

# Instruments write the bulk of a run once, cycle by cycle, but rewrite texts, logs and InterOp. Markers signal that the
# run is complete. So all of these wait until the instrument has finished.
_REWRITTEN_UNTIL_END = re.compile(
    r"[^/]*"  # in the root
    r"|(.*/)?\.[^/]*(/.*)?"  # hidden: copying tools and NFS rename or remove these at the end
    r"|(InterOp|[^/]*Logs?|Config|Recipe|Analysis)/.*"
    r"|.*\.(xml|txt|csv|tsv|log|html|json)",
    re.IGNORECASE | re.DOTALL,
)


UNUSED_PATTERN = "upload.unused-pattern"  # id of the warning about a pattern that may be meant for other runs


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSelection:
    """The files of a listing that must be in S3.

    While the instrument still writes the run, `files` are those that have not changed since
    `unchanged_since_ns` (ns since the epoch); the others are `waiting`.
    """

    files: tuple[LocalFile, ...]
    rejected: tuple[local_files.RejectedEntry, ...]
    excluded: int
    warnings: tuple[Notice, ...]
    skipped: tuple[local_files.SkippedEntry, ...] = ()
    waiting: tuple[LocalFile, ...] = ()
    unchanged_since_ns: int = 0
    folders: tuple[tuple[str, int], ...] = ()  # as in `Listing`, without excluded ones

    @property
    def total(self) -> int:
        """Return the number of files that must be in S3 before the run is complete, including rejected ones."""
        return len(self.files) + len(self.waiting) + len(self.rejected)

    def total_with(self, known: Iterable[str]) -> int:
        """Return `total`, plus the known paths that the listing lacks.

        They are in a folder that cannot be read now, gone from the run, or excluded. The log still has them in S3, so
        without them it would have more files than there are.
        """
        listed = {file.path for file in (*self.files, *self.waiting)} | {item.path for item in self.rejected}
        return self.total + sum(path not in listed for path in known)


def select_files(
    run: Run,
    listing: local_files.Listing,
    destination: Destination,
    excludes: Sequence[Pattern],
    reserved_path: str = "",
) -> UploadSelection:
    """Return the selection that the excludes leave of a listing. They are searched in `run_id/path`.

    A file at the path `reserved_path` cannot be uploaded, because another object will have its key.
    """
    matches = _Excludes(run.run_id, excludes)
    kept = [file for file in listing.files if not matches(file.path)]
    skipped = tuple(item for item in listing.skipped if not matches(item.path))
    rejected = [item for item in listing.rejected if not matches(item.path)]
    prefix_bytes = len(destination.run_prefix(run.run_id).encode())
    reasons = {file.path: why for file in kept if (why := _why_no_key(file.path, prefix_bytes, reserved_path))}
    rejected += [local_files.RejectedEntry(path, why) for path, why in reasons.items()]
    total = len(listing.files) + len(listing.rejected) + len(listing.skipped)
    folders = tuple(
        (path, mtime_ns)
        for path, mtime_ns in listing.folders
        if not any(pattern.search(f"{run.run_id}/{path}/") for pattern in excludes)
    )
    return UploadSelection(
        files=tuple(file for file in kept if file.path not in reasons),
        rejected=tuple(rejected),
        excluded=matches.count,
        warnings=(*matches.warnings(total, is_analysis=bool(run.parent_run)), *_warn_of_skipped(skipped)),
        skipped=skipped,
        folders=folders,
    )


class _Excludes:
    """Matches paths with the exclude patterns, and counts the matches."""

    def __init__(self, run_id: str, patterns: Sequence[Pattern]) -> None:
        self.count = 0  # paths that at least one pattern matches
        self._run_id = run_id
        self._hits = dict.fromkeys(patterns, 0)

    def __call__(self, path: str) -> bool:
        subject = f"{self._run_id}/{path}"
        matching = [pattern for pattern in self._hits if pattern.search(subject)]
        for pattern in matching:
            self._hits[pattern] += 1
        self.count += bool(matching)
        return bool(matching)

    def warnings(self, total: int, *, is_analysis: bool) -> list[Notice]:
        """Warn about patterns that match no path, or all. In an analysis none may match: they are meant for runs."""
        shown = {printable(pattern.pattern): count for pattern, count in self._hits.items()}
        unused = [] if is_analysis else [pattern for pattern, count in shown.items() if count == 0]
        greedy = [pattern for pattern, count in shown.items() if count == total > 0]
        return [
            *(Notice(f"exclude pattern '{pattern}' matches nothing", id=UNUSED_PATTERN) for pattern in unused),
            *(
                Notice(f"exclude pattern '{pattern}' matches every file", id="upload.greedy-pattern")
                for pattern in greedy
            ),
        ]


def _why_no_key(path: str, prefix_bytes: int, reserved_path: str) -> str:
    """Return why a file cannot have a key in S3; empty if it can."""
    if prefix_bytes + len(path.encode()) > aws_destination.MAX_KEY_BYTES:
        return f"key longer than S3's {aws_destination.MAX_KEY_BYTES} bytes"
    if path == reserved_path:
        return "its key is the completion object's (rename it, or exclude it)"
    return ""


def _warn_of_skipped(skipped: Sequence[local_files.SkippedEntry]) -> list[Notice]:
    """Return warnings about skipped entries, with one line for all files of s3sync, which may be a log directory."""
    ours = [item.path for item in skipped if item.reason == own_files.REASON]
    others = [item for item in skipped if item.reason != own_files.REASON]
    lines = [f"left out: {printable(item.path)}: {item.reason}" for item in others[:_MAX_NAMES_SHOWN]]
    if len(others) > _MAX_NAMES_SHOWN:
        lines.append(f"left out: {len(others) - _MAX_NAMES_SHOWN:,} more that are not files")
    found = [Notice(line, id="upload.no-file") for line in lines]
    if ours:
        named = summarize(ours, _MAX_NAMES_SHOWN)
        advice = "an older version may have uploaded such files, keys of AWS included: see docs/SECURITY.md"
        text = f"left out: {pluralize(len(ours), 'file')} that s3sync made inside the run: {named} ({advice})"
        found.append(Notice(text, id="upload.own-files"))
    return found


def require_files(run: Run, selected: UploadSelection) -> None:
    """Raise RunError for a run without any file: that is a mistake, never a finished upload."""
    if not selected.files and not selected.rejected:
        excluded = f"all {selected.excluded:,} are excluded (correct the patterns)"
        why = excluded if selected.excluded else "the folder is empty (give the run's own folder)"
        raise RunError(f"nothing to upload in {printable(str(run.path))}: {why}", id="run.no-files")


def select_settled(selected: UploadSelection, listing: local_files.Listing, unchanged_since_ns: int) -> UploadSelection:
    """Return a selection of bulk data that has not changed since a time (ns since the epoch), for streaming.

    Both mtime and ctime count: copying tools set the first, and nothing sets the second.
    """
    changing = {file.path for file, last in _last_changes(listing) if last > unchanged_since_ns}
    settled = [f.path not in changing and not _REWRITTEN_UNTIL_END.fullmatch(f.path) for f in selected.files]
    return replace(
        selected,
        files=tuple(file for file, is_settled in zip(selected.files, settled, strict=True) if is_settled),
        waiting=tuple(file for file, is_settled in zip(selected.files, settled, strict=True) if not is_settled),
        unchanged_since_ns=unchanged_since_ns,
    )


def changed_since(verified: Mapping[str, Proof], listing: local_files.Listing, unchanged_since_ns: int) -> set[str]:
    """Return the paths of verified files that were touched after a time (ns since the epoch).

    Their size and mtime may be unchanged: tools that copy a run again often restore both.
    """
    return {file.path for file, last in _last_changes(listing) if last > unchanged_since_ns and file.path in verified}


def _last_changes(listing: local_files.Listing) -> list[tuple[LocalFile, int]]:
    pairs = zip(listing.files, listing.ctimes_ns, strict=True)
    return [(file, max(file.mtime_ns, ctime_ns)) for file, ctime_ns in pairs]
