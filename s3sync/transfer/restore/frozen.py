"""Handle objects in archives: find out which are frozen, request once that they are thawed, and remember that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from s3sync.aws import thaw
from s3sync.mounts import mount_of
from s3sync.state.thaw_log import ThawLog
from s3sync.text import pluralize, to_iso
from s3sync.transfer.restore.plan import RestorePlan
from s3sync.transfer.restore.session import RestoreSession

_SAMPLE = 4  # objects whose state is taken for all, where no listing says it: each takes a process
_MAX_HEADS = 100  # objects that are all asked for, each by a process
_SAVE_EVERY = 200  # requests after which the log is saved
_ANNOUNCED = 50  # for this number of requests or more, the user is warned that they take a while


@dataclass(slots=True)
class Outcome:
    """The outcome of the requests to thaw: S3 did not accept those for `failed` objects, each with the reason."""

    log: ThawLog | None
    failed: dict[str, str]


class Archive:
    """The archived objects of one restore."""

    def __init__(self, session: RestoreSession, plan: RestorePlan) -> None:
        self._request = request = session.request
        self._thawing = session.thawing
        self._store = request.thaw_store
        self._plan = plan
        self._display = session.runtime.display
        self._states: dict[str, thaw.ThawState] = {}  # the state of each examined object before the downloads
        self._log = self._store.load()
        if self._log and (self._log.run_id, self._log.destination) != (request.run_id, request.destination):
            self._log = None

    def find_frozen(self, paths: Iterable[str]) -> set[str]:
        """Return which of these objects are frozen, as far as is known, so that a download would fail.

        If a listing does not show that, a sample stands for the others: S3 rejects the download of those that are
        frozen after all. Raises AwsError.
        """
        requested = self._log.requested if self._log else frozenset()
        paths = list(paths)
        in_tiers = self._find_in_archive_tiers(paths)
        archived = sorted(
            (path for path in paths if self._plan.remote[path].storage_class in thaw.ARCHIVES),
            key=lambda path: path not in requested,
        )
        if not archived and not self._states:
            return set()
        listed = self._thawing.listed_states(archived) if archived else {}
        if listed is not None:
            self._states.update((path, item.state) for path, item in listed.items())
        elif len(archived) <= _MAX_HEADS:
            self._states.update(self._thawing.states(archived))
        else:
            return self._find_by_sample(archived, requested) | in_tiers
        frozen = {path for path, state in self._states.items() if state != "thawed"} | in_tiers
        expiries = [item.expires for item in (listed or {}).values() if item.expires]
        self._note_states(frozen, requested & {*paths} - self._states.keys(), min(expiries, default=0.0))
        return frozen

    def _find_in_archive_tiers(self, paths: Sequence[str]) -> set[str]:
        """Return which objects of INTELLIGENT_TIERING are frozen: all, if all of a sample are."""
        candidates = [path for path in paths if thaw.may_be_in_archive_tier(self._plan.remote[path])]
        states = self._thawing.tiered_states(candidates)
        self._states = dict(states)
        frozen = {path for path, state in states.items() if state != "thawed"}
        return set(candidates) if states and frozen == states.keys() else frozen

    def _note_states(self, frozen: set[str], unknown: Collection[str], expires: float) -> None:
        """Save the progress of the thawing, even if nothing can be downloaded now. Raises StateError.

        `unknown` are requested objects whose class does not show whether they are frozen.
        """
        if not self._log:
            return
        again = {path for path, state in self._states.items() if state == "frozen"}  # expired, or never accepted
        requested = self._log.requested - again
        self._log = replace(
            self._log,
            requested=requested,
            thawed_files=len(requested - frozen - {*unknown}),
            frozen_files=len(frozen),
            frozen_bytes=self._plan.size_of(frozen),
            expires_at=to_iso(expires) if expires else "",
        )
        self._store.save(self._log, is_attempt=False)

    def _find_by_sample(self, archived: list[str], requested: frozenset[str]) -> set[str]:
        frozen: set[str] = set()
        for group in ([p for p in archived if p in requested], [p for p in archived if p not in requested]):
            states = self._thawing.states(thaw.choose_sample(group, _SAMPLE))
            if group and "thawed" not in states.values():
                frozen.update(group)
            if group and self._log and set(states.values()) == {"frozen"}:  # it has expired, or was never accepted
                self._log = replace(self._log, requested=self._log.requested - frozenset(group))
        return frozen

    def request(self, frozen: Collection[str]) -> Outcome:
        """Request that these objects are thawed, unless that was done before or there is no tier. Raises AwsError."""
        tier, before = self._request.tier, self._log
        if tier is None and before is None:
            return Outcome(None, {})
        classes = {self._plan.remote[path].storage_class for path in frozen}
        log = before or self._new_log(tier or "Bulk", classes)
        size = self._plan.size_of(frozen)
        log = self._without_expired(log, frozen)
        log = replace(log, frozen_files=len(frozen), frozen_bytes=size, expires_at="", options=self._options())
        failed: dict[str, str] = {}
        missing = sorted(set(frozen) - log.requested)
        if missing and tier:
            log, failed = self._request_all(log, missing, tier, classes)
        log = replace(log, thawed_files=len(log.requested - set(frozen)))
        if before or log.requested:
            self._store.save(log)
            self._log = log
        return Outcome(log, failed)

    def _without_expired(self, log: ThawLog, frozen: Collection[str]) -> ThawLog:
        """Return the log without objects that were thawed and that S3 rejected: they have frozen again meanwhile.

        Objects that were not examined before are examined now, unless they are too many.
        """
        expired = {path for path in frozen if self._states.get(path) == "thawed"}
        unexamined = sorted(path for path in log.requested & set(frozen) if path not in self._states)
        if len(unexamined) <= _MAX_HEADS:
            expired.update(path for path, state in self._thawing.states(unexamined).items() if state == "frozen")
        return replace(log, requested=log.requested - expired)

    def forget(self) -> None:
        """Remove the log, since nothing is frozen. Raises StateError."""
        if self._log:
            self._store.forget()

    def _request_all(
        self, log: ThawLog, paths: list[str], tier: thaw.Tier, classes: set[str]
    ) -> tuple[ThawLog, dict[str, str]]:
        failed = {path: why for path in paths if (why := self._why_never(path, tier))}
        paths = [path for path in paths if path not in failed]
        if len(paths) >= _ANNOUNCED:
            self._display.print(f"requesting that {pluralize(len(paths), 'object')} are thawed, one process for each")
        log = replace(log, tier=tier, days=self._request.days, requested_at="", ready_at=_ready_at(classes, tier))
        accepted = []
        try:
            for path, why in self._thawing.request(paths, tier, self._days):
                if why:
                    failed[path] = f"could not be thawed: {why}"
                else:
                    accepted.append(path)
                if accepted and len(accepted) % _SAVE_EVERY == 0:
                    self._store.save(log.with_requested(accepted))
        finally:
            log = log.with_requested(accepted)
            if accepted:
                self._store.save(log)
        return log, failed

    def _why_never(self, path: str, tier: thaw.Tier) -> str:
        """Return why S3 would refuse to thaw an object in this way; empty if it may not refuse."""
        storage_class = self._plan.remote[path].storage_class
        able = thaw.hours_by_tier([storage_class])  # none of a class that only this server has
        if not able or tier in able:
            return ""
        return f"{storage_class} cannot be thawed with {tier} (use {' or '.join(able)})"

    def _days(self, path: str) -> int | None:
        return None if self._plan.remote[path].storage_class == thaw.TIERED else self._request.days

    def _new_log(self, tier: str, classes: set[str]) -> ThawLog:
        request = self._request
        return ThawLog(
            run_id=request.run_id,
            run_path=str(request.target),
            destination=request.destination,
            tier=tier,
            days=request.days,
            ready_at=_ready_at(classes, tier),
            mount=mount_of(request.target.parent),
        )

    def _options(self) -> dict[str, Any]:
        """Return the options of this command, so that the monitor continues with the same ones."""
        request = self._request
        return {
            "only": [part.text for part in request.parts],
            "umask": request.umask,
            "overwrite": request.overwrite,
            "use_record": request.use_record,
            "verify": request.verify,
            "manifest": str(request.manifest) if request.manifest else "",
            "bucket_owner": request.bucket_owner,
            "profile": request.profile.name,
            "region": request.profile.region,
        }


def _ready_at(classes: Iterable[str], tier: str) -> str:
    hours = thaw.hours_to_thaw(classes, tier)
    return to_iso((datetime.now(timezone.utc) + timedelta(hours=hours)).timestamp())
