"""Remember in LOG_DIR which objects of a run are being thawed, so that thawing is requested once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.aws.destination import Destination, parse_destination
from s3sync.errors import S3SyncError, explained
from s3sync.mounts import Mount
from s3sync.text import now_iso, parse_iso

RESTORES = "restores"
_SUFFIX = ".thaw.json"
_TRIED = ".tried"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawLog:
    """A restore that waits for frozen objects. `requested` are their paths in the run, `ready_at` is when all of them
    should be thawed (ISO 8601). `thawed_files` of them can be read now, or are restored already; of those that are not,
    the first thawed copy expires at `expires_at` (empty if none does). `options` are those of the restore, for the next
    call.
    """

    run_id: str
    run_path: str
    destination: Destination
    tier: str
    days: int
    requested_at: str = ""
    ready_at: str = ""
    frozen_files: int = 0
    frozen_bytes: int = 0
    thawed_files: int = 0
    expires_at: str = ""
    requested: frozenset[str] = frozenset()
    mount: Mount | None = None  # the file system of the folder that the run goes to; None: not known
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        """Return the parts of the run that are restored; none if that is all of it."""
        parts = self.options.get("only")
        return list(map(str, parts)) if isinstance(parts, list) else []

    def with_requested(self, paths: Iterable[str]) -> ThawLog:
        """Return the log with more objects whose thawing was requested."""
        return replace(self, requested=self.requested | frozenset(paths), requested_at=self.requested_at or now_iso())


class ThawStore:
    """The file of one restore."""

    def __init__(self, log_dir: Path, name: str) -> None:
        """`name` is the name of the run's lock, without its suffix, and a tag of the target and the parts."""
        self.path = log_dir / RESTORES / f"{name}{_SUFFIX}"
        self._tried = log_dir / RESTORES / f"{name}{_TRIED}"

    def load(self) -> ThawLog | None:
        """Return the log; None if there is none, or if it is damaged: then thawing is requested again."""
        try:
            return _parse(files.read_json(self.path))
        except (OSError, ValueError, S3SyncError):
            return None

    def save(self, log: ThawLog, *, is_attempt: bool = True) -> None:
        """Replace the file; for an attempt, also remove the result of the last one. Raises StateError."""
        facts = {
            "version": _VERSION,
            "run_id": log.run_id,
            "run_path": log.run_path,
            "bucket": log.destination.bucket,
            "remote_path": log.destination.remote_path,
            "tier": log.tier,
            "days": log.days,
            "requested_at": log.requested_at,
            "ready_at": log.ready_at,
            "frozen_files": log.frozen_files,
            "frozen_bytes": log.frozen_bytes,
            "thawed_files": log.thawed_files,
            "expires_at": log.expires_at,
            "mount": asdict(log.mount) if log.mount else None,
            "options": dict(log.options),
            "requested": sorted(log.requested),
        }
        with explained("write", self.path, "give a writable folder with --log-dir", id="state.log-unwritable"):
            files.make_private_folder(self.path.parent)
            files.write_json(self.path, facts)
            if is_attempt:
                self._tried.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the file, once the restore no longer waits. Raises StateError."""
        with explained("remove", self.path, "give a writable folder with --log-dir", id="state.log-unwritable"):
            self._tried.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def record_attempt(self, problem: Mapping[str, str]) -> None:
        """Record that the monitor has just tried to continue, and the problem that it reports. Raises StateError."""
        with explained("write", self._tried, "give a writable folder with --log-dir", id="state.log-unwritable"):
            if files.is_there(self.path):
                files.write_json(self._tried, dict(problem))

    def last_attempt(self) -> tuple[float, dict[str, str]] | None:
        """Return when the monitor last tried to continue (seconds since 1970), and the problem that it reported."""
        try:
            problem = files.read_json(self._tried)
            return self._tried.stat().st_mtime, {str(key): str(value) for key, value in problem.items()}
        except (OSError, ValueError, AttributeError):
            return None


def list_stores(log_dir: Path) -> list[tuple[ThawStore, ThawLog]]:
    """Return all restores that wait for frozen objects, each with its store; the one that is ready first leads."""
    try:
        paths = sorted((log_dir / RESTORES).glob(f"*{_SUFFIX}"))
    except OSError:
        return []
    stores = [ThawStore(log_dir, path.name.removesuffix(_SUFFIX)) for path in paths]
    found = [(store, log) for store in stores if (log := store.load())]
    return sorted(found, key=lambda pair: (pair[1].ready_at, pair[1].run_id))


def _parse(facts: Any) -> ThawLog:
    """Return the value of a file that may contain anything. Raises ValueError, UsageError."""
    if not isinstance(facts, dict) or facts.get("version") != _VERSION:
        raise ValueError("it is not a restore log")
    options, requested = facts.get("options"), facts.get("requested")
    if not isinstance(options, dict) or not isinstance(requested, list):
        raise ValueError("it is not a restore log")  # noqa: TRY004 - a value read from a file, not an argument
    return ThawLog(
        run_id=_text(facts, "run_id"),
        run_path=_text(facts, "run_path"),
        destination=parse_destination(_text(facts, "bucket"), _text(facts, "remote_path")),
        tier=_text(facts, "tier"),
        days=_number(facts, "days"),
        requested_at=_moment(facts, "requested_at"),
        ready_at=_moment(facts, "ready_at"),
        frozen_files=_number(facts, "frozen_files"),
        frozen_bytes=_number(facts, "frozen_bytes"),
        thawed_files=_number({"thawed_files": 0, **facts}, "thawed_files"),
        expires_at=_moment({"expires_at": "", **facts}, "expires_at"),
        requested=frozenset(map(str, requested)),
        mount=_mount(facts.get("mount")),
        options=options,
    )


def _mount(facts: Any) -> Mount | None:
    if not isinstance(facts, dict) or facts.keys() != {*Mount.__slots__}:
        return None
    return Mount(**{key: str(value) for key, value in facts.items()})


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is not text")  # noqa: TRY004 - a value read from a file, not an argument
    return value


def _number(facts: Mapping[str, Any], key: str) -> int:
    value = facts.get(key)
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{key} is not a number")
    return value


def _moment(facts: Mapping[str, Any], key: str) -> str:
    moment = _text(facts, key)
    return moment if parse_iso(moment) is not None else ""
