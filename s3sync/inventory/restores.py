"""Describe the restores that wait for frozen objects: their progress, and what went wrong."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from s3sync.inventory.problems import Problem
from s3sync.state import thaw_log
from s3sync.state.thaw_log import ThawLog, ThawStore
from s3sync.text import human_bytes, parse_iso, pluralize, printable

REQUEST_AGAIN = "`s3sync restore` with --tier requests them again; with --cancel, it gives up"
KEY_PREFIX = "restore of "  # starts the keys of problems with restores


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRestore:
    """A restore that is not finished. Times are ISO 8601, or empty; all texts are printable."""

    run_id: str
    run_path: str
    url: str
    since: str  # when the objects were requested
    ready_at: str
    expires_at: str  # when the first thawed copy expires that is not restored yet
    days: int  # how long thawed copies are kept
    requested: int  # objects for which S3 has accepted a request to thaw them
    thawed: int  # of these, how many can be read or are already restored
    frozen: int  # objects that are not restored yet
    frozen_bytes: int
    parts: str = ""  # the --only options: another restore may write other files to the same folder
    problem: Problem | None = None  # from the last attempt, until another attempt or a new request resolves it

    @property
    def key(self) -> str:
        """The key of its problems."""
        return f"{KEY_PREFIX}{self.run_id} to {self.run_path}{self.parts}"

    @property
    def progress(self) -> str:
        """The progress in one line: how many objects are frozen, and when they will be thawed."""
        frozen = f"{pluralize(self.frozen, 'object')}, {human_bytes(self.frozen_bytes)}"
        if not self.requested:
            return f"{frozen}, frozen, and not requested (add --tier)"
        since, ready, expires = (_minute(iso) for iso in (self.since, self.ready_at, self.expires_at))
        text = f"{frozen}, being thawed"
        text += f" since {since}" if since else ""
        text += f" until about {ready}" if ready else ""
        text += f"; {self.thawed:,} of {self.requested:,} thawed" if self.thawed else ""
        return text + (f", until {expires}" if expires else "")

    @property
    def text(self) -> str:
        """The problem or, without one, the progress."""
        return self.problem.text if self.problem else self.progress


def load(log_dir: Path, now: float) -> tuple[PendingRestore, ...]:
    """Return all pending restores; `now` is in seconds since the epoch."""
    return tuple(describe(store, log, now) for store, log in thaw_log.list_stores(log_dir))


def describe(store: ThawStore, log: ThawLog, now: float) -> PendingRestore:
    """Return a restore with its problem, if it has one; `now` is in seconds since the epoch."""
    restore = PendingRestore(
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
    return replace(restore, problem=_problem_of(restore, store, now))


def _problem_of(restore: PendingRestore, store: ThawStore, now: float) -> Problem | None:
    tried = store.last_attempt()
    text, error_id = (printable(tried[1].get(key, "")) if tried else "" for key in ("text", "id"))
    if text:
        return Problem(restore.key, text, id=error_id)
    expires = parse_iso(restore.expires_at)
    if (expires is None or expires > now) and (restore.requested or not restore.frozen):
        return None
    text = f"thawed copies expired at {_minute(restore.expires_at)}, before they were restored"
    if not restore.expires_at:
        text = f"{pluralize(restore.frozen, 'file')} frozen, and none is being thawed"
    return Problem(restore.key, f"{text} ({REQUEST_AGAIN})", id="restore.expired")


def _minute(iso: str) -> str:
    """Return a time as local time, to the minute; empty if it is not a time."""
    seconds = parse_iso(iso)
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if seconds is not None:
            return datetime.fromtimestamp(seconds, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M")
    return ""
