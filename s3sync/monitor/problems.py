"""Problems that a scan finds, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias, get_args

from s3sync.errors import S3SyncError
from s3sync.inventory import Problem as InventoryProblem

Kind: TypeAlias = Literal["run", "aws", "other", "note", "alert"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ONCE_KINDS: frozenset[Kind] = frozenset({"note", "alert"})  # logged once while they last; they fail no scan

MONITOR = "monitor"  # the key of what a scan says of itself
SCANS = "scans"  # and of what others see of the scans
LATE_SUFFIX = ", late"  # ends the key of an alert about a run


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem that exists now.

    `key` identifies it and is shown; `text` says in one line what happened and what to do; `id` is that of the error,
    as documented in docs/reference/errors.md. Kinds: `run` (a run failed), `aws` (a bucket or the credentials cannot
    be used), `other`, `note` (to be known once: its end is no recovery), `alert` (needs a look, but fails no scan).
    """

    key: str
    text: str
    kind: Kind
    id: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, key: str, error: S3SyncError, kind: Kind) -> Problem:
        """Return the problem that an error is, with the error's id."""
        return cls(key, str(error), kind, id=error.id)

    @classmethod
    def of_inventory(cls, known: InventoryProblem, kind: Kind) -> Problem:
        """Return a problem that the inventory knows."""
        return cls(known.key, known.text, kind, id=known.id)

    def as_json(self) -> dict[str, str]:
        """Return the problem as a JSON object."""
        return asdict(self)

    @property
    def text_with_id(self) -> str:
        """The text, followed by the id in brackets if there is one."""
        return f"{self.text} [{self.id}]" if self.id else self.text


def has_failed(problems: Iterable[Problem]) -> bool:
    """Return whether a scan that found these problems has failed: notes and alerts fail none."""
    return any(problem.kind not in ONCE_KINDS for problem in problems)
