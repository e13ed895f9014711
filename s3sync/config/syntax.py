"""Explain errors of the YAML parser in words that say what to type instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import yaml

from s3sync.config.problem import Position, UnparsableError
from s3sync.text import printable


class _Mistake(NamedTuple):
    """What people mean, by the parser's message and the lines of the file from the key to the error."""

    is_made: Callable[[str, list[str]], bool]
    text: str
    id: str


_ITEM = r"\s*(-|- +[\w$-]+:|[\w$-]+:)\s+"  # a key, or an item of a list, before its value
_UNQUOTED = re.compile(rf"{_ITEM}([*&!%@`|>?]|\[[^\[\]]*\][^\s,\]}}]|\{{[^{{}}]*\}}[^\s,\]}}])")
_NO_SPACE = re.compile(r"\s*(- +)?[\w$-]+:[^\s/]")
_TWO_COLONS = re.compile(rf"{_ITEM}[^'\"#]*: ")
_KEY = re.compile(r"\s*(- +)?[\w$-]+:(\s|$)")


def _last(matches: re.Pattern[str]) -> Callable[[str, list[str]], bool]:
    return lambda _, lines: bool(lines) and matches.match(lines[-1]) is not None


_MISTAKES = (
    _Mistake(lambda said, _: "'\\t'" in said, "has a tab (indent with spaces)", id="config.tab"),
    _Mistake(
        lambda said, _: "escape" in said,
        "has a backslash in double quotes (use single quotes: '\\.jpg$')",
        id="config.backslash",
    ),
    _Mistake(
        lambda said, _: "quoted scalar" in said,
        "a quote is not closed (close it, or write a quote in a quoted text twice)",
        id="config.open-quote",
    ),
    _Mistake(
        lambda said, _: "parsing a flow" in said,
        "a `[` or `{` is not closed (close it, or put a text that begins with it into single quotes)",
        id="config.open-bracket",
    ),
    _Mistake(
        lambda said, _: "single document" in said, "has a second document (remove the line `---`)", id="config.not-yaml"
    ),
    _Mistake(
        _last(_UNQUOTED),
        "the value begins with a character that has a meaning in YAML (put the value into single quotes)",
        id="config.unquoted",
    ),
    _Mistake(
        lambda _, lines: any(map(_NO_SPACE.match, lines)),
        "a space is missing after the colon (write `key: value`)",
        id="config.colon-without-space",
    ),
    _Mistake(
        _last(_TWO_COLONS), "the value has a colon in it (put the value into single quotes)", id="config.unquoted"
    ),
    _Mistake(
        _last(_KEY),
        "the key is not in line with the keys around it (indent keys that belong together by the same spaces)",
        id="config.indentation",
    ),
)


def explain(error: yaml.YAMLError, text: str) -> UnparsableError:
    """Return what is wrong with the text, by the error of the parser."""
    if isinstance(error, yaml.reader.ReaderError):
        character = error.character if isinstance(error.character, int) else ord(error.character[:1])
        what = f"not YAML: it has a character {character:#x} (delete it)"
        return UnparsableError(_position_of(text, error.position), what, id="config.control-character")
    if not isinstance(error, yaml.MarkedYAMLError):
        return UnparsableError((1, 1), f"not YAML: {printable(str(error))}", id="config.not-yaml")
    mark, begin = error.problem_mark or error.context_mark, error.context_mark
    since = f" that begins in line {begin.line + 1}" if begin else ""
    said = f"{error.context}{since}: {error.problem}" if error.context else f"{error.problem}"
    line = mark.line if mark else 0
    lines = _lines_to(text, line, begin.line if begin else line)
    position = (line + 1, mark.column + 1) if mark else (1, 1)
    for mistake in _MISTAKES:
        if mistake.is_made(said, lines):
            return UnparsableError(position, f"not YAML: {mistake.text}", id=mistake.id)
    return UnparsableError(position, f"not YAML: {printable(said)}", id="config.not-yaml")


def _lines_to(text: str, line: int, begin: int) -> list[str]:
    """Return the lines that may have the mistake: where its block begins, before the error, and with the error."""
    lines = text.splitlines()
    return [lines[number] for number in sorted({begin, line - 1, line}) if 0 <= number < len(lines)]


def _position_of(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
