"""Hold the problems that a scan finds."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias, get_args

from s3sync.errors import S3SyncError, explain_machine
from s3sync.inventory import Problem as InventoryProblem
from s3sync.text import printable

LOG = logging.getLogger(__name__)
Kind: TypeAlias = Literal["run", "aws", "other", "note", "alert"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ONCE_KINDS: frozenset[Kind] = frozenset({"note", "alert"})  # logged once while they last; they fail no scan

MONITOR = "monitor"  # the key of problems that a scan reports about itself
SCANS = "scans"  # the key of problems that others notice about the scans
LATE_SUFFIX = ", late"  # ends the key of an alert about a run


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that exists now.

    `key` identifies it and is shown; `text` says in one line what happened and what to do; `id` is listed in
    docs/reference/errors.md. Kinds: `run` (a run failed), `aws` (a bucket or the credentials cannot be used), `other`,
    `note` (reported once; its end is not reported), `alert` (reported daily, but fails no scan).
    """

    key: str
    text: str
    kind: Kind
    id: str = field(default="", kw_only=True)

    @classmethod
    def of_error(cls, key: str, error: Exception, kind: Kind) -> Problem:
        """Return the problem that an error causes. An unexpected error is also logged with its traceback."""
        if known := error if isinstance(error, S3SyncError) else explain_machine(error):
            return cls(key, str(known), kind, id=known.id)
        text = f"unexpected error (please report it): {printable(f'{type(error).__name__}: {error}')}"
        problem = cls(key, text, kind, id="internal.unexpected-error")
        LOG.error("%s: %s", key, problem.text_with_id, exc_info=error)
        return problem

    @classmethod
    def of_inventory(cls, problem: InventoryProblem, kind: Kind) -> Problem:
        """Return a problem that the inventory found, with a kind."""
        return cls(problem.key, problem.text, kind, id=problem.id)

    def as_json(self) -> dict[str, str]:
        """Return the problem as a JSON object."""
        return asdict(self)

    @property
    def text_with_id(self) -> str:
        """The text, followed by the id in brackets if there is one."""
        return f"{self.text} [{self.id}]" if self.id else self.text


def has_failed(problems: Iterable[Problem]) -> bool:
    """Return whether a scan with these problems has failed; notes and alerts alone do not make it fail."""
    return any(problem.kind not in ONCE_KINDS for problem in problems)
