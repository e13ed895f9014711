"""Name many objects to one `aws s3 cp --recursive`: a folder of keys, and a few patterns that match no other key.

The CLI lists the whole folder and compares each key with each pattern. So the folder is the innermost one, and there
are few patterns: prefixes that only wanted keys have.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

_MAX_PATTERNS = 60
_MAX_NAME_BYTES = 240  # the CLI adds a suffix, and 255 bytes are the limit
_SPECIAL = re.compile(r"[*?[]")  # characters that are special in the CLI's patterns


def has_long_name(path: str) -> bool:
    """Return whether the name of a file leaves no room for the suffix of the file that the CLI writes first."""
    return len(path.rpartition("/")[2].encode()) > _MAX_NAME_BYTES


class Source(NamedTuple):
    """What one process downloads: keys below `folder` (empty, or with a slash at its end) that match `includes`.

    Without patterns that is all of them. With `includes` None, it is the only one of `paths`.
    """

    folder: str
    includes: tuple[str, ...] | None
    paths: tuple[str, ...]


class KeyIndex:
    """All keys of a run without its prefix. `prefix_is_plain` says that the CLI cannot misread the prefix itself."""

    def __init__(self, paths: Sequence[str], prefix: str) -> None:
        self._paths = sorted(paths)
        self._prefix_is_plain = not _SPECIAL.search(prefix)

    def sources_of(self, wanted: Sequence[str]) -> list[Source]:
        """Return sources that together download exactly these paths."""
        alone = [path for path in wanted if not self._prefix_is_plain or has_long_name(path)]
        wanted = sorted({*wanted} - {*alone})
        if alone or len(wanted) < 2:
            singles = [Source("", None, (path,)) for path in (alone or wanted)]
            return singles + (self.sources_of(wanted) if alone and wanted else [])
        folder = self._folder_of(wanted)
        includes = tuple(self._patterns(folder, wanted))
        if len(includes) <= _MAX_PATTERNS:
            return [Source(folder, includes, tuple(wanted))]
        middle = len(wanted) // 2
        return self.sources_of(wanted[:middle]) + self.sources_of(wanted[middle:])

    def _folder_of(self, wanted: Sequence[str]) -> str:
        folder = common_prefix(wanted[0], wanted[-1]).rpartition("/")[0]
        while _SPECIAL.search(folder):
            folder = folder.rpartition("/")[0]
        return f"{folder}/" if folder else ""

    def _patterns(self, folder: str, wanted: Sequence[str]) -> Iterator[str]:
        """Yield patterns that match the wanted keys in the folder, and no other one; none if all are wanted."""
        start = bisect_left(self._paths, folder)
        end = bisect_left(self._paths, f"{folder}\U0010ffff") if folder else len(self._paths)
        names = [path[len(folder) :] for path in self._paths[start:end]]
        chosen = {path[len(folder) :] for path in wanted}
        counts = [0, *accumulate(name in chosen for name in names)]
        if counts[-1] < len(names):
            yield from _cover(names, counts, 0, len(names), "")


def _cover(names: Sequence[str], counts: Sequence[int], start: int, end: int, prefix: str) -> Iterator[str]:
    """Yield the shortest prefixes that only chosen names have, of names[start:end] that all begin with `prefix`."""
    count = counts[end] - counts[start]
    if not count:
        return
    if end - start == 1:
        yield _escape(names[start])
    elif count == end - start and prefix:
        yield f"{_escape(prefix)}*"
    else:
        common = common_prefix(names[start], names[end - 1])
        if names[start] == common:
            if counts[start + 1] - counts[start]:
                yield _escape(common)
            start += 1
        while start < end:
            longer = names[start][: len(common) + 1]
            after = bisect_left(names, f"{longer}\U0010ffff", start, end)
            after = max(after, start + 1)
            yield from _cover(names, counts, start, after, longer)
            start = after


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"[{match[0]}]", text)


def common_prefix(one: str, other: str) -> str:
    """Return the longest text that both texts start with."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))]
