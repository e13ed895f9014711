"""Describe the restores that wait for frozen objects: since when, how far, until when, and what went wrong."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from s3sync.inventory.problems import Problem
from s3sync.state import thaw_log
from s3sync.state.thaw_log import ThawLog, ThawStore
from s3sync.text import human_bytes, parse_iso, pluralize, printable

KEY_PREFIX = "restore of "  # begins the key of what is wrong with a restore


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRestore:
    """A restore that has not ended. Times are ISO 8601, or empty; all texts are printable.

    `frozen` objects are not there yet, `requested` are being thawed or were, and `thawed` of these can be read, or are
    restored already. `problem` is what went wrong in the last try, until another try or a new request resolves it.
    """

    run_id: str
    run_path: str
    url: str
    since: str
    ready_at: str
    expires_at: str  # the first thawed copy that is not restored yet
    days: int  # for which thawed copies stay
    requested: int
    thawed: int
    frozen: int
    frozen_bytes: int
    parts: str = ""  # the options that chose them: another restore may bring others to the same folder
    problem: Problem | None = None

    @property
    def key(self) -> str:
        """The key under which its problems are reported."""
        return f"{KEY_PREFIX}{self.run_id} to {self.run_path}{self.parts}"

    @property
    def progress(self) -> str:
        """How far it is, and when to come back, in one line."""
        frozen = f"{pluralize(self.frozen, 'object')}, {human_bytes(self.frozen_bytes)}"
        if not self.requested:
            return f"{frozen}, frozen, and not requested (add --tier)"
        since, ready, expires = (_minute(iso) for iso in (self.since, self.ready_at, self.expires_at))
        said = f"{frozen}, being thawed"
        said += f" since {since}" if since else ""
        said += f" until about {ready}" if ready else ""
        said += f"; {self.thawed:,} of {self.requested:,} thawed" if self.thawed else ""
        return said + (f", until {expires}" if expires else "")

    @property
    def text(self) -> str:
        """What is wrong, or else how far it is."""
        return self.problem.text if self.problem else self.progress


def load(log_dir: Path, now: float) -> tuple[PendingRestore, ...]:
    """Return all restores that wait; `now` is in seconds since the epoch."""
    return tuple(describe(store, log, now) for store, log in thaw_log.list_stores(log_dir))


def describe(store: ThawStore, log: ThawLog, now: float) -> PendingRestore:
    """Return what is known about a restore."""
    known = PendingRestore(
        run_id=printable(log.run_id),
        run_path=printable(log.run_path),
        url=printable(log.destination.url(log.run_id)),
        since=log.requested_at,
        ready_at=log.ready_at,
        expires_at=log.expires_at,
        days=log.days,
        requested=len(log.requested),
        thawed=log.thawed_files,
        frozen=log.frozen_files,
        frozen_bytes=log.frozen_bytes,
        parts="".join(f" --only {printable(part)}" for part in log.parts),
    )
    return replace(known, problem=_problem(known, store, now))


def _problem(known: PendingRestore, store: ThawStore, now: float) -> Problem | None:
    tried = store.last_try()
    text, id_of_error = (printable(tried[1].get(key, "")) if tried else "" for key in ("text", "id"))
    if text:
        return Problem(known.key, text, id=id_of_error)
    expires = parse_iso(known.expires_at)
    if (expires is None or expires > now) and (known.requested or not known.frozen):
        return None
    text = f"thawed copies have expired at {_minute(known.expires_at)}, before they were restored"
    if not known.expires_at:
        text = f"{pluralize(known.frozen, 'file')} frozen, and no thawing is under way"
    advice = "`s3sync restore` with --tier requests them again, with --cancel ends it"
    return Problem(known.key, f"{text} ({advice})", id="restore.expired")


def _minute(iso: str) -> str:
    """Return a time in local time; empty if it is not a time."""
    seconds = parse_iso(iso)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if seconds is not None:
            return datetime.fromtimestamp(seconds, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    return ""
