"""Patterns that name the wanted keys to the CLI, and no others."""

from __future__ import annotations

import fnmatch
import random

from s3sync.transfer.restore import names, sources

PREFIX = "2026/RUN/"


def matched(found: list[sources.Source], keys: list[str], prefix: str = PREFIX) -> list[str]:
    """The keys that the CLI would download, as its filters work."""
    taken = []
    for source in found:
        if source.includes is None:
            taken += list(source.paths)
            continue
        below = [key for key in keys if key.startswith(source.folder)]
        patterns = [f"b/{prefix}{source.folder}{pattern}" for pattern in source.includes or ("*",)]
        taken += [key for key in below if any(fnmatch.fnmatch(f"b/{prefix}{key}", p) for p in patterns)]
    return sorted(taken)


def test_a_whole_run_needs_no_pattern() -> None:
    keys = ["a", "b/c", "b/d"]
    assert sources.KeyIndex(keys, PREFIX).sources_of(keys) == [sources.Source("", (), ("a", "b/c", "b/d"))]


def test_a_lane_is_a_folder() -> None:
    keys = [f"Data/L00{lane}/C{cycle}.1/x.cbcl" for lane in (1, 2) for cycle in range(300)]
    wanted = [key for key in keys if "/L002/" in key]
    assert [(s.folder, s.includes) for s in sources.KeyIndex(keys, PREFIX).sources_of(wanted)] == [("Data/L002/", ())]


def test_any_choice_of_any_names_is_matched_exactly() -> None:
    chance = random.Random(1)
    letters = ["a", "b", "/", "[", "]", "*", "?", "!", "-", "\n", "é", "🧬", "\uffff", "ab", "C1.1/"]
    for _ in range(300):
        drawn = {"".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(chance.randint(1, 60))}
        keys = sorted(key for key in drawn if not names.why_unusable(key))
        wanted = [key for key in keys if chance.random() < chance.choice((0.1, 0.5, 0.95))]
        if wanted:
            assert matched(sources.KeyIndex(keys, PREFIX).sources_of(wanted), keys) == sorted(wanted)


def test_a_prefix_that_the_patterns_would_misread_has_each_key_alone() -> None:
    assert sources.KeyIndex(["a", "b"], "[x]/RUN/").sources_of(["a", "b"]) == [
        sources.Source("", None, ("a",)),
        sources.Source("", None, ("b",)),
    ]


def test_many_patterns_are_split() -> None:
    keys = [f"{number:04}{end}" for number in range(1000) for end in "xy"]
    wanted = [key for key in keys if key.endswith("x")]
    found = sources.KeyIndex(keys, PREFIX).sources_of(wanted)
    assert len(found) > 10
    assert matched(found, keys) == wanted
