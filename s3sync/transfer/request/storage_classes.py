"""Choose the storage class of each file by the patterns of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from s3sync.aws.destination import is_completion_object
from s3sync.aws.objects import RemoteObject
from s3sync.aws.thaw import ARCHIVES
from s3sync.patterns import Pattern
from s3sync.runs import LocalFile
from s3sync.transfer.batches import is_marker

WARM = "STANDARD"  # S3's default class
_KIB = 1024
# What AWS charges for small objects: as much as for this size, or for this many more bytes.
_LEAST_BYTES = dict.fromkeys(("STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"), 128 * _KIB)
_ADDED_BYTES = dict.fromkeys(ARCHIVES, 40 * _KIB)


class ClassRule(NamedTuple):
    """The storage class of files whose `RUN/path/in/the/run` matches the pattern."""

    pattern: Pattern
    storage_class: str


class ClassChoice:
    """Chooses the storage class of each file of a run: by the first rule that matches, or `default`.

    With rules, completion markers and completion objects never go into an archive, so that they can always be read.
    """

    def __init__(self, run_id: str, rules: Sequence[ClassRule], default: str) -> None:
        self._run_id = run_id
        self._rules = rules
        self._default = default

    def class_of(self, path: str) -> str:
        """Return the storage class to request; empty for none. Raises SlowPatternError."""
        if not self._rules:
            return self._default
        subject = f"{self._run_id}/{path}"
        found = (rule.storage_class for rule in self._rules if rule.pattern.search(subject))
        chosen = next(found, self._default)
        return WARM if chosen in ARCHIVES and (is_marker(path) or is_completion_object(path)) else chosen

    def group(self, files: Iterable[LocalFile]) -> dict[str, list[LocalFile]]:
        """Return the files by storage class, sorted by its name. Raises SlowPatternError."""
        groups: dict[str, list[LocalFile]] = {}
        for file in files:
            groups.setdefault(self.class_of(file.path) or WARM, []).append(file)
        return dict(sorted(groups.items()))

    def count_in_others(self, paths: Iterable[str], remote: Mapping[str, RemoteObject]) -> int:
        """Return how many of these files S3 has in another class than they would get now. Raises SlowPatternError."""
        if not self._rules:
            return 0
        pairs = ((self.class_of(path), remote[path].storage_class) for path in paths if path in remote)
        return sum(bool(wanted and there) and wanted != there for wanted, there in pairs)


def explain_small(name: str, files: Iterable[LocalFile]) -> str:
    """Return why small files are cheaper in another class; empty if none is."""
    least, added = _LEAST_BYTES.get(name, 0), _ADDED_BYTES.get(name, 0)
    small = sum(file.size < (least or added) for file in files)
    if not small:
        return ""
    how = f"AWS charges for {least // _KIB} KiB each" if least else f"AWS charges for {added // _KIB} KiB more each"
    return f"{small:,} of them {'is' if small == 1 else 'are'} smaller than {(least or added) // _KIB} KiB: {how}"
