"""A mistake in the config, with its position."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from s3sync.errors import ConfigError

KeyPath = tuple[int | str, ...]  # of a value, as pydantic has it: ("monitor", 1, "bucket")
Position = tuple[int, int]  # in the file: line and column, from 1

_MAX_ORDER = (10**9, 0)  # what has no position comes last


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong in the config; `id` stays the same when the text is reworded."""

    position: Position | None  # None for what comes from the environment
    path: str = ""  # of the key, see path_of
    text: str
    id: str

    def line(self, file: str) -> str:
        """Return `FILE:LINE:COLUMN: monitor[1].bucket: what is wrong`."""
        where = f"{file}:{self.position[0]}:{self.position[1]}" if self.position else "environment"
        return ": ".join(part for part in (where, self.path, self.text) if part)


class UnparsableError(Exception):
    """The file is neither YAML nor JSON, or has more values than a config needs."""

    def __init__(self, position: Position, text: str, *, id: str) -> None:  # noqa: A002
        super().__init__(text)
        self.problem = Problem(position=position, text=text, id=id)


def path_of(path: KeyPath) -> str:
    """Return `monitor[1].bucket`. A key that looks strange is cut: it could be a secret in the wrong place."""
    keys = (part if isinstance(part, int) or re.fullmatch(r"[\w$-]{1,40}", part) else f"{part[:20]!r}" for part in path)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def to_error(problems: Iterable[Problem], file: str) -> ConfigError:
    """Return an error with a line for each problem, in the order of the file.

    Only the first problem of each value is kept, because the others follow from it.
    """
    first: dict[tuple[Position | None, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.position, problem.path), problem)
    ordered = sorted(first.values(), key=lambda problem: (problem.position or _MAX_ORDER, problem.path))
    if len(ordered) == 1:
        return ConfigError(ordered[0].line(file), id=ordered[0].id)
    return ConfigError("\n".join(f"{problem.line(file)} [{problem.id}]" for problem in ordered), id=ordered[0].id)
