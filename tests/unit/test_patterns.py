"""Regular expressions of users: they match as Python's `re` matches, and none takes for ever."""

from __future__ import annotations

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync.patterns import Pattern, SlowPatternError

PIECES = [
    "a",
    "b",
    "A",
    r"\.",
    ".",
    r"\w",
    r"\W",
    r"\d",
    r"\s",
    r"\b",
    "^",
    "$",
    "[ab]",
    "[^a]",
    "(a|b)",
    "(?i:a)",
    "a|b",
]
PIECES += ["(?:ab)", "(?=a)", "(?!b)", "{e}", "[a[b]", "[[:alpha:]]", r"\N{DIGIT ONE}", "[a&&b]", "[a--b]"]
PIECES += ["é", r"\u00e9", r"\x41", "[]a]", "[^]a[]", r"[\]a[]", r"[^\W]", r"[\w.]", r"\B", r"\1", "{", r"\{"]
QUANTIFIERS = ["", "", "*", "+", "?", "*?", "{2}", "{1,2}", "{,2}"]
PATTERNS = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(QUANTIFIERS)), min_size=1, max_size=4)
TEXTS = st.text("abAB1_-. /[{e}&]é\u0301²\u2003\u20ac\x1c\n\t", max_size=8)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(PATTERNS, TEXTS)
def test_a_pattern_matches_as_the_standard_library_does(pieces: list[tuple[str, str]], text: str) -> None:
    source = "".join(map("".join, pieces))
    try:
        exact = re.compile(source)
    except re.error:
        with pytest.raises(ValueError, match=r"."):
            Pattern(source)
        return
    assert Pattern(source).search(text) == (exact.search(text) is not None)


@pytest.mark.parametrize("source", ["(", "*", r"\q", "(?P<n>a", "a{2,1}", "(?V1)a", r"\p{L}", "(?|a)"])
def test_a_pattern_that_the_standard_library_rejects_is_rejected(source: str) -> None:
    with pytest.raises(ValueError, match="at position"):
        Pattern(source)


@pytest.mark.parametrize("text", ["a" * 60 + "!", "é" + "a" * 60 + "!"])
@pytest.mark.parametrize("source", ["(a|aa)+$", "(a|aa|{x)+$", "(a|aa|[[b])+$", r"(a|a\N{LATIN SMALL LETTER A})+$"])
def test_a_search_without_end_is_ended_in_any_thread(source: str, text: str) -> None:
    caught: list[SlowPatternError] = []

    def search() -> None:
        try:
            Pattern(source).search(text, 0.1)
        except SlowPatternError as error:
            caught.append(error)

    start = time.process_time()
    search()
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert time.process_time() - start < 60, "it ends: without the limit it would take years"
    assert [error.id for error in caught] == ["config.slow-pattern"] * 2
    assert str(caught[0]).startswith(f"'{source}' takes longer than 0.1 s to search in ")


def test_equal_patterns_are_equal() -> None:
    assert {Pattern("a"), Pattern("a")} == {Pattern("a")} != {Pattern("b")}
    assert repr(Pattern("a")) == "Pattern('a')"
