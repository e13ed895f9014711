"""Parse YAML and JSON into values, and keep the position of each.

Only the part of YAML that JSON has is supported, plus comments, unquoted texts and aliases: `no` and `010` are texts,
not False and 8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from s3sync.config import syntax
from s3sync.config.problem import KeyPath, Position, Problem, UnparsableError
from s3sync.text import printable

MAX_VALUES = 10_000  # each use of an alias counts: a few lines of YAML can expand to billions of values

_PREFIX = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?P<rest>(\.[0-9]+)?([eE][-+]?[0-9]+)?)")
_CONSTANTS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_QUOTES = ("\u201c", "\u201d", "\u201e", "\u2018", "\u2019", "\u201a", "\u00ab", "\u00bb")


class ParsedConfig:
    """The values of the file, the position of each, and the problems that are visible only in the text."""

    def __init__(self, text: str, *, is_json: bool) -> None:
        """Parse a text. Raises UnparsableError."""
        self.positions: dict[KeyPath, Position] = {}
        self.key_positions: dict[KeyPath, Position] = {}
        self.problems: list[Problem] = []
        try:
            self.value = self._value(_compose(text, is_json=is_json), ())
        except RecursionError:
            raise UnparsableError((1, 1), "values are nested too deeply", id="config.too-many-values") from None

    def problem(self, keys: KeyPath, text: str, *, id: str) -> Problem:  # noqa: A002
        """Return a problem at the position of a value or, if it is missing, of the value that should contain it."""
        found = keys
        while found not in self.positions:
            found = found[:-1]
        return Problem(position=self.positions[found], keys=keys, text=text, id=id)

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.positions[path] = _position(node)
        if len(self.positions) > MAX_VALUES:
            what = f"more than {MAX_VALUES:,} values (is this the config file?)"
            raise UnparsableError(_position(node), what, id="config.too-many-values")
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_PREFIX}map":
            return dict(self._items(node, path))
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_PREFIX}seq":
            return [self._value(item, (*path, number)) for number, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == f"{_PREFIX}str":
            return self._scalar(node, path)
        self._add(node, path, "has a YAML tag, and tags are not supported (remove it)", id="config.yaml-tag")
        return None

    def _items(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        for key_node, value_node in node.value:
            key = printable(_text(key_node)) if isinstance(key_node, yaml.ScalarNode) else "?"
            here = (*path, key)
            if here in self.key_positions:
                what = f"is a duplicate of the key in line {self.key_positions[here][0]} (remove one)"
                self._add(key_node, here, what, id="config.duplicate-key")
            else:
                self.key_positions[here] = _position(key_node)
                yield key, self._value(value_node, here)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text = _text(node)
        if text.startswith(_QUOTES):
            what = "begins with a typographic quote, as word processors insert (type plain quotes: \" or ')"
            self._add(node, path, what, id="config.typographic-quotes")
        if node.style is not None:  # quoted
            return text
        if text in _CONSTANTS:
            if _CONSTANTS[text] is None:
                self._add(node, path, "has no value (give it one, or remove the key)", id="config.no-value")
            return _CONSTANTS[text]
        number = _NUMBER.fullmatch(text)
        try:
            return text if number is None else float(text) if number["rest"] else int(text)
        except ValueError:  # more digits than Python converts
            self._add(node, path, "is too large for a number", id="config.number-too-large")
            return None

    def _add(self, node: yaml.Node, keys: KeyPath, text: str, *, id: str) -> None:  # noqa: A002
        self.problems.append(Problem(position=_position(node), keys=keys, text=text, id=id))


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _text(node: yaml.ScalarNode) -> str:
    text: str = node.value
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # joins pairs: "\ud83e\uddec"


def _compose(text: str, *, is_json: bool) -> yaml.Node:
    """Return the root node of a text. JSON is parsed as YAML, which it is except for its tabs."""
    if is_json:
        _require_json(text)
        text = text.replace("\t", " ")  # a tab in JSON is always between values
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise syntax.explain(error, text) from None
    except (ValueError, OverflowError):  # "\UFFFFFFFF"
        raise UnparsableError((1, 1), "the code of a character is too large", id="config.not-yaml") from None
    if node is None:
        advice = "`s3sync init` writes a config; conf/s3sync.minimal.yaml is a small one"
        raise UnparsableError((1, 1), f"is empty ({advice})", id="config.empty")
    return node


def _require_json(text: str) -> None:
    if not text.strip():
        return
    try:
        json.loads(text, parse_int=str)  # Python limits the digits of an int
    except json.JSONDecodeError as error:
        advice = "JSON has no comments, and no comma after the last item"
        position = (error.lineno, error.colno)
        raise UnparsableError(position, f"not JSON: {error.msg} ({advice})", id="config.not-json") from None
