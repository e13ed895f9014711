"""Explain errors of the YAML parser: what to type instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import yaml

from s3sync.config.problem import Position, UnparsableError
from s3sync.text import printable

_Lines = dict[int, str]  # by line number, from 0
_Finder = Callable[[str, _Lines], int | None]

_HERE = -1  # the line that the parser names


class _Mistake(NamedTuple):
    """A common mistake. `find` returns its line, or None, from the parser's message and the lines around the error."""

    find: _Finder
    text: str
    id: str


def _by_message(part: str) -> _Finder:
    return lambda message, _: _HERE if part in message else None


def _in_last_line(pattern: re.Pattern[str]) -> _Finder:
    return lambda _, lines: _HERE if lines and pattern.match(lines[max(lines)]) else None


def _in_any_line(pattern: re.Pattern[str]) -> _Finder:
    return lambda _, lines: next((number for number, line in lines.items() if pattern.match(line)), None)


_ITEM = r"\s*(-|- +[\w$-]+:|[\w$-]+:)\s+"  # text before a value: a key, or the dash of a list
_UNQUOTED = re.compile(rf"{_ITEM}([*&!%@`|>?]|\[[^\[\]]*\][^\s,\]}}]|\{{[^{{}}]*\}}[^\s,\]}}])")
_NO_SPACE = re.compile(r"\s*(- +)?[\w$-]+:[^\s/]")
_TWO_COLONS = re.compile(rf"{_ITEM}[^'\"#]*: ")
_KEY = re.compile(r"\s*(- +)?[\w$-]+:(\s|$)")

_MISTAKES = (
    _Mistake(_by_message("'\\t'"), "has a tab (indent with spaces)", id="config.tab"),
    _Mistake(
        _by_message("escape"), "has a backslash in double quotes (use single quotes: '\\.jpg$')", id="config.backslash"
    ),
    _Mistake(
        _by_message("quoted scalar"),
        "a quote is not closed (close it; inside quotes, double a quote that is part of the text)",
        id="config.open-quote",
    ),
    _Mistake(
        _by_message("parsing a flow"),
        "a `[` or `{` is not closed (close it or, if it is part of the text, put the text into single quotes)",
        id="config.open-bracket",
    ),
    _Mistake(_by_message("single document"), "has a second document (remove the line `---`)", id="config.not-yaml"),
    _Mistake(
        _in_last_line(_UNQUOTED),
        "the value begins with a special character of YAML (put the value into single quotes)",
        id="config.unquoted",
    ),
    _Mistake(
        _in_any_line(_NO_SPACE),
        "a space is missing after the colon (write `key: value`)",
        id="config.colon-without-space",
    ),
    _Mistake(
        _in_last_line(_TWO_COLONS),
        "the value contains a colon (put the value into single quotes)",
        id="config.unquoted",
    ),
    _Mistake(
        _in_last_line(_KEY),
        "the key is not aligned with the keys around it (indent keys that belong together by the same spaces)",
        id="config.indentation",
    ),
)


def explain(error: yaml.YAMLError, text: str) -> UnparsableError:
    """Return an error that explains the parser's error, and where it is in the text."""
    if isinstance(error, yaml.reader.ReaderError):
        character = error.character if isinstance(error.character, int) else ord(error.character[:1])
        what = f"not YAML: the character {character:#x} is not allowed (delete it)"
        return UnparsableError(_position_of(text, error.position), what, id="config.control-character")
    if not isinstance(error, yaml.MarkedYAMLError):
        return UnparsableError((1, 1), f"not YAML: {printable(str(error))}", id="config.not-yaml")
    mark, begin = error.problem_mark or error.context_mark, error.context_mark
    since = f" that begins in line {begin.line + 1}" if begin else ""
    message = f"{error.context}{since}: {error.problem}" if error.context else f"{error.problem}"
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = _lines_around(text, begin.line if begin else line, line)
    for mistake in _MISTAKES:
        if (found := mistake.find(message, lines)) is not None:
            position = (line + 1, column + 1) if found in (_HERE, line) else (found + 1, _indentation(lines[found]) + 1)
            return UnparsableError(position, f"not YAML: {mistake.text}", id=mistake.id)
    return UnparsableError((line + 1, column + 1), f"not YAML: {printable(message)}", id="config.not-yaml")


def _lines_around(text: str, begin: int, line: int) -> _Lines:
    """Return the lines that may have the mistake: the first of its block, the one before the error, and the error's."""
    lines = text.splitlines()
    return {number: lines[number] for number in sorted({begin, line - 1, line}) if 0 <= number < len(lines)}


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def _position_of(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
