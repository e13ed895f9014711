"""Describe mistakes in the config, with their positions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from s3sync.errors import ConfigError

KeyPath = tuple[int | str, ...]  # the path of a value, as in pydantic: ("monitor", 1, "bucket")
Position = tuple[int, int]  # line and column in the file, both from 1

_AT_THE_END: Position = (10**9, 0)  # where problems without a position are sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A mistake in the config; `id` stays the same when the text is reworded."""

    position: Position | None  # None if the value comes from the environment
    keys: KeyPath = ()  # empty if the problem concerns the whole file
    text: str
    id: str

    @property
    def path(self) -> str:
        """The path of the key: `monitor[1].bucket`."""
        return format_path(self.keys)

    def describe(self, file: str) -> str:
        """Return `FILE:LINE:COLUMN: monitor[1].bucket: what is wrong`."""
        where = f"{file}:{self.position[0]}:{self.position[1]}" if self.position else "environment"
        return ": ".join(part for part in (where, self.path, self.text) if part)


class UnparsableError(Exception):
    """The file is neither YAML nor JSON, or has more values than a config can need."""

    def __init__(self, position: Position, text: str, *, id: str) -> None:  # noqa: A002
        super().__init__(text)
        self.problem = Problem(position=position, text=text, id=id)


def format_path(keys: KeyPath) -> str:
    """Return `monitor[1].bucket`. Unusual keys are shortened, since one could be a secret in the wrong place."""
    parts = (key if isinstance(key, int) or re.fullmatch(r"[\w$-]{1,40}", key) else f"{key[:20]!r}" for key in keys)
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def to_error(problems: Iterable[Problem], file: str) -> ConfigError:
    """Return an error with a line for each problem, in the order of the file.

    Only the first problem of each value is reported, because the others follow from it.
    """
    first: dict[tuple[Position | None, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.position, problem.path), problem)
    ordered = sorted(first.values(), key=lambda problem: (problem.position or _AT_THE_END, problem.path))
    if len(ordered) == 1:
        return ConfigError(ordered[0].describe(file), id=ordered[0].id)
    return ConfigError("\n".join(f"{problem.describe(file)} [{problem.id}]" for problem in ordered), id=ordered[0].id)
