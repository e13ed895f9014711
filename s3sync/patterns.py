"""Search with a regular expression of a user, but only for a limited time.

A regular expression can take years for a short text, and Python's `re` cannot be interrupted from another thread. The
library `regex` has a timeout. It agrees with `re` once the pattern and the text are rewritten where the two differ (see
the tests, with random patterns). Patterns that cannot take long, which are most of them, are left to `re`.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from functools import cached_property
from typing import Any

from s3sync.delays import DELAYS
from s3sync.errors import RunError
from s3sync.text import human_seconds, printable

_MAX_CHARS = 60  # shown of a pattern or text in a message
_QUANTIFIER = re.compile(r"[*+?{]")
# Where `regex` has more: `{` begins a fuzzy match, `[` in a set a nested one. The rest are names of characters.
_REWRITTEN = re.compile(
    r"\\N\{(?P<name>[^}]*)\}|\\(?:x(?P<x>\w\w)|u(?P<u>\w{4})|U(?P<U>\w{8}))|\\."
    r"|\[(?P<negation>\^?)(?P<set>\]?(?:\\.|[^]\\])*)\]|(?P<brace>\{(?!\d*,?\d*\}))",
    re.DOTALL,
)


class SlowPatternError(RunError):
    """A search takes too long."""


class Pattern:
    """A regular expression of a user. Raises ValueError if `pattern` is not one, with the reason."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings about patterns that a later Python may read differently
                self._exact = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(printable(str(error))) from None
        quantifiers = len(_QUANTIFIER.findall(pattern))
        self._is_limited = quantifiers > 1 or (quantifiers == 1 and "|" in pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.pattern == other.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Pattern({self.pattern!r})"

    def search(self, text: str, seconds: float = DELAYS.pattern_searches) -> bool:
        """Return whether the pattern is found in the text. Raises SlowPatternError after `seconds` of CPU time."""
        if not self._is_limited or not text:
            return self._exact.search(text) is not None
        try:
            subject = text if text.isascii() and text.isprintable() else "".join(map(self._alike, text))
            return self._limited.search(subject, timeout=seconds) is not None
        except (TimeoutError, MemoryError):
            raise SlowPatternError(
                f"'{_shorten(self.pattern)}' takes longer than {human_seconds(seconds)} to search in"
                f" {_shorten(text)} (simplify it)",
                id="config.slow-pattern",
            ) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Let pydantic read a pattern from text, and write it as text."""
        from pydantic_core import PydanticKnownError, core_schema

        def validate(value: Any) -> Pattern:
            if not isinstance(value, str | cls):
                raise PydanticKnownError("string_type")
            return cls(value) if isinstance(value, str) else value

        write = core_schema.plain_serializer_function_ser_schema(lambda pattern: pattern.pattern)
        return core_schema.no_info_plain_validator_function(validate, serialization=write)

    def _alike(self, character: str) -> str:
        """Return a character that `regex` treats as `re` treats this one. They differ in letters and spaces."""
        if character in self.pattern or character.isalpha() or character.isdecimal():
            return character
        if character.isalnum():
            return "\ua66e"
        if character.isspace():
            return character if character.isascii() and character < "\x1c" else "\u2008"
        return character if character.isascii() else "\u20bf"

    @cached_property
    def _limited(self) -> Any:
        import regex  # only few patterns need it, and loading it takes as long as a tenth of a start

        return regex.compile(_REWRITTEN.sub(_rewrite, self.pattern))


def _rewrite(found: re.Match[str]) -> str:
    """Rewrite a part of a pattern so that `regex` reads it as `re` does."""
    if found["set"] is not None:
        inner = re.sub(r"^\]|\[", r"\\\g<0>", _REWRITTEN.sub(_rewrite, found["set"]))
        return f"[{found['negation']}{inner}]"
    if found["brace"]:
        return r"\{"
    if found["name"]:
        return re.escape(unicodedata.lookup(found["name"]))
    code = found["x"] or found["u"] or found["U"]
    return re.escape(chr(int(code, 16))) if code else found[0]


def _shorten(text: str) -> str:
    return printable(text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 3] + "...")
