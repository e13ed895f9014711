"""A config file as a tree that knows where everything stands: YAML and JSON alike, whatever it means.

Of YAML only what JSON has too is taken, plus comments, bare words and aliases: `no` and `010` are the
text that stands there, never False and 8.
"""

from __future__ import annotations

import json
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from s3sync.errors import ConfigError
from s3sync.text import printable

MAX_CONFIG_BYTES = 1024 * 1024
MAX_VALUES = 10_000  # aliases count as often as they are used: a few lines of YAML can stand for billions

Loc = tuple[int | str, ...]  # of a value in the tree, as pydantic has it: ("monitor", 1, "bucket")
Place = tuple[int, int]  # in the file: line and column, from 1


class Problem(NamedTuple):
    """Something wrong. What comes from the environment has no place."""

    place: Place | None
    path: str
    what: str

    def line(self, file: str) -> str:
        """`FILE:LINE:COLUMN: monitor[1].bucket: what is wrong`."""
        where = f"{file}:{self.place[0]}:{self.place[1]}" if self.place else "environment"
        return ": ".join(part for part in (where, self.path, self.what) if part)


class UnparsableError(Exception):
    """The file is neither YAML nor JSON, or more of it than a config needs; `problem` says where."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.problem = Problem(place, "", what)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for the other end of a pipe


def read_config(path: Path, file: str) -> tuple[str, int]:
    """The text, and what others than its owner may do with it, as mode bits; raises ConfigError."""
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{file}: is no regular file (give the configuration's file)")
            content = stream.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{file}: cannot be read: {why} (check --config and the modes on the way there)") from None
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{file}: is larger than {MAX_CONFIG_BYTES:,} bytes (is it the configuration?)")
    return _decoded(content, file), mode & 0o077


def _decoded(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise ConfigError(f"{file}: is UTF-16, or no text (save it as UTF-8)")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}:1: this line is not UTF-8 (save the file as UTF-8)") from None
    if not text.strip():
        raise ConfigError(f"{file}:1:1: is empty")
    return text


class _Loader(yaml.SafeLoader):
    """Stops at too many values, and takes for numbers only what JSON does."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (as the base class has it)
    _count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _too_many(_place(self.peek_event()))  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def _too_many(place: Place) -> UnparsableError:
    return UnparsableError(place, f"more than {MAX_VALUES:,} values (is it the configuration?)")


def _place(node: Any) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


_YAML = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT, _BOOL, _NULL = (_YAML + name for name in ("str", "int", "float", "bool", "null"))
for _tag, _pattern, _first in (
    (_INT, r"-?(0|[1-9][0-9]*)\Z", "-0123456789"),
    (_FLOAT, r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z", "-0123456789"),
    (_BOOL, r"(true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    (_NULL, r"(~|null|Null|NULL)?\Z", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)
_TRUE = ("true", "True", "TRUE")
_SCALARS: dict[str, Callable[[str], Any]] = {_STR: str, _INT: int, _FLOAT: float, _BOOL: lambda word: word in _TRUE}


def _yaml_node(text: str) -> yaml.Node:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        since = f" that begins in line {error.context_mark.line + 1}" if error.context_mark else ""
        words = f"{error.context}{since}: {error.problem}" if error.context else f"{error.problem}"
        advice = " (indent with spaces, not with tabs)" if "'\\t'" in words else ""
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise UnparsableError(place, f"not YAML: {printable(words)}{advice}") from None
    except yaml.reader.ReaderError as error:
        place = _Lines(text).place(error.position)
        raise UnparsableError(place, f"not YAML: it has a character {error.character:#x}") from None
    except (ValueError, OverflowError):  # "\UFFFFFFFF"
        raise UnparsableError((1, 1), "not YAML: a number or the code of a character is too large") from None
    if node is None:
        raise UnparsableError((1, 1), "is empty")
    return node


class _Lines:
    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, offset: int) -> Place:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


# Of text that is known to be JSON, in which commas and colons tell nothing more.
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s{}\[\],:"]+')
_JSON_WORDS = {"true": _BOOL, "false": _BOOL, "null": _NULL}


def json_node(text: str) -> yaml.Node:
    """The nodes that YAML would have, had it no rules for tabs, long keys and surrogates."""
    try:
        json.loads(text, parse_int=str)  # Python limits the digits of an int
    except json.JSONDecodeError as error:
        advice = "JSON has no comments, and no comma after the last item"
        raise UnparsableError((error.lineno, error.colno), f"not JSON: {error.msg} ({advice})") from None
    tokens = list(_JSON_TOKEN.finditer(text))
    lines = _Lines(text)
    if len(tokens) > 2 * MAX_VALUES:
        raise _too_many(lines.place(tokens[2 * MAX_VALUES].start()))
    tokens.reverse()
    return _json_nodes(tokens, lines)


def _json_nodes(tokens: list[re.Match[str]], lines: _Lines) -> yaml.Node:
    """The next value; takes its tokens off the end of the list."""
    token = tokens.pop()
    word = token.group()
    line, column = lines.place(token.start())
    mark = yaml.Mark("", token.start(), line - 1, column - 1, None, 0)
    if word in "[{":
        end, values = "]" if word == "[" else "}", []
        while tokens[-1].group() != end:
            values.append(_json_nodes(tokens, lines))
        tokens.pop()
        if word == "[":
            return yaml.SequenceNode(_YAML + "seq", values, mark)
        return yaml.MappingNode(_YAML + "map", list(zip(values[::2], values[1::2], strict=True)), mark)
    if word.startswith('"'):
        return yaml.ScalarNode(_STR, json.loads(word), mark)
    return yaml.ScalarNode(_JSON_WORDS.get(word) or (_INT if re.fullmatch("-?[0-9]+", word) else _FLOAT), word, mark)


class Tree:
    """The values of the file, the place of each, and what is wrong that a value does not show."""

    def __init__(self, text: str, is_json: bool) -> None:
        self.places: dict[Loc, Place] = {}
        self.keys: dict[Loc, Place] = {}
        self.problems: list[Problem] = []
        try:
            self.value = self._value(json_node(text) if is_json else _yaml_node(text), ())
        except RecursionError:
            raise UnparsableError((1, 1), "values are nested too deeply") from None

    def place(self, loc: Loc) -> Place:
        """Of the value, or else of what it should be in."""
        while loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self.places[loc] = _place(node)
        if len(self.places) > MAX_VALUES:
            raise _too_many(_place(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _YAML + "map":
            return dict(self._items(node, loc))
        if isinstance(node, yaml.SequenceNode) and node.tag == _YAML + "seq":
            return [self._value(item, (*loc, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except ValueError:  # `!!int x`, a number of 5,000 digits
                self._wrong(node, loc, "is no number")
        elif node.tag == _NULL:
            self._wrong(node, loc, "has no value (give it one, or remove it)")
        else:
            self._wrong(node, loc, "has a tag of YAML's that means nothing here (remove the tag)")
        return None

    def _items(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            key = printable(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*loc, key)
            if here in self.keys:
                self._wrong(key_node, here, f"is here twice, first in line {self.keys[here][0]} (remove one)")
            else:
                self.keys[here] = _place(key_node)
                yield key, self._value(value_node, here)

    def _wrong(self, node: yaml.Node, loc: Loc, what: str) -> None:
        self.problems.append(Problem(_place(node), path_of(loc), what))


def path_of(loc: Loc) -> str:
    """`monitor[1].bucket`. What does not look like a key is cut: it could be a URL in the wrong place."""
    keys = (part if isinstance(part, int) or re.fullmatch(r"[\w$-]{1,40}", part) else f"{part[:20]!r}" for part in loc)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
