"""Search with a regular expression of a user, but only for a limited time.

A regular expression can take years for a short text, and Python's `re` cannot be interrupted from another thread. The
library `regex` has a timeout. It agrees with `re` on printable ASCII text (tested with 116,000 random patterns), but
not on all other text, which is left to `re`, as are patterns that cannot take long: most of them.
"""

from __future__ import annotations

import re
import warnings
from functools import cached_property
from typing import Any

from s3sync.errors import RunError
from s3sync.text import human_seconds, printable

SEARCH_SECONDS = 5.0  # of CPU; a usual search takes microseconds
_MAX_CHARS = 60  # of a pattern or text in a message
_QUANTIFIER = re.compile(r"[*+?{]")
_READ_DIFFERENTLY = re.compile(r"\{(?!\d*,?\d*\})|\[[^\]]*\[|\\N")  # by `regex`: fuzzy matches, nested sets


class SlowPatternError(RunError):
    """A search takes too long."""


class Pattern:
    """A regular expression of a user. Raises ValueError if `pattern` is not one, with the reason."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what a later Python may read differently
                self._exact = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(printable(str(error))) from None
        quantifiers = len(_QUANTIFIER.findall(pattern))
        can_backtrack = quantifiers > 1 or (quantifiers == 1 and "|" in pattern)
        self._is_limited = can_backtrack and not _READ_DIFFERENTLY.search(pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.pattern == other.pattern

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"Pattern({self.pattern!r})"

    def search(self, text: str, seconds: float = SEARCH_SECONDS) -> bool:
        """Return whether the pattern is found in the text. Raises SlowPatternError after `seconds` of CPU time."""
        if not self._is_limited:
            return self._exact.search(text) is not None
        try:
            is_found = self._limited.search(text, timeout=seconds) is not None
        except (TimeoutError, MemoryError):
            raise SlowPatternError(
                f"'{_shorten(self.pattern)}' takes longer than {human_seconds(SEARCH_SECONDS)} to search in"
                f" {_shorten(text)} (simplify it)",
                id="config.slow-pattern",
            ) from None
        is_plain = text.isascii() and text.isprintable() and text != ""
        return is_found if is_plain else self._exact.search(text) is not None

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

    @cached_property
    def _limited(self) -> Any:
        import regex  # only few patterns need it, and loading it takes as long as a tenth of a start

        return regex.compile(self.pattern)


def _shorten(text: str) -> str:
    return printable(text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 3] + "...")
