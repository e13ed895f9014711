"""Read single values of a state log, which may contain anything: a value of the wrong kind counts as missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeGuard

from s3sync.aws.destination import Destination
from s3sync.text import printable


def shared_values(log: dict[str, Any]) -> dict[str, Any]:
    """Return the values that the state of a run and its summary both have, by their names there."""
    return {
        "attempts": number_of(log, "attempts"),
        "finished": str(log.get("finished", "")),
        "first_completed": parse_time(log.get("first_completed")),
        "folder": _folder_of(log),
        "instrument_done": parse_time(log.get("instrument_done")),
        "is_from_predecessor": "version" not in log or log.get("verified_by") == "predecessor",
        "on_complete": printable(str(log.get("on_complete", ""))),
        "seconds": _seconds_of(log, "seconds"),
        "sent_bytes": number_of(log, "sent_bytes"),
        "watched": _watched_of(log),
    }


def parse_time(value: object) -> str:
    """Return an ISO 8601 time with its zone; any other value becomes an empty string."""
    try:
        return value if isinstance(value, str) and datetime.fromisoformat(value).tzinfo else ""
    except ValueError:
        return ""


def _folder_of(log: dict[str, Any]) -> tuple[int, ...]:
    """Return the numbers of the run folder; none in a log of an older version."""
    value = log.get("folder")
    return tuple(value) if isinstance(value, list) and len(value) == 3 and all(map(is_number, value)) else ()


def _watched_of(log: dict[str, Any]) -> dict[str, tuple[int, int]] | None:
    """Return the values that reveal later changes, by path; None in a log of an older version."""
    value = log.get("watched")
    if not isinstance(value, dict):
        return None
    return {path: (seen[0], seen[1]) for path, seen in value.items() if isinstance(seen, list) and len(seen) == 2}


def folders_of(log: dict[str, Any]) -> dict[str, int]:
    """Return when the folders of the run were modified, in ns; none in a log of an older version."""
    value = log.get("folders")
    return {path: time for path, time in value.items() if is_number(time)} if isinstance(value, dict) else {}


def number_of(log: dict[str, Any], key: str) -> int:
    """Return a number of files or bytes; 0 if the value cannot be one."""
    value = log.get(key)
    return value if is_number(value) else 0


def _seconds_of(log: dict[str, Any], key: str) -> float:
    """Return a number of seconds; 0 if the value cannot be one."""
    value = log.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if 0 <= value < 2**63 else 0.0


def is_number(value: object) -> TypeGuard[int]:
    """Return whether a value can be a number of files, bytes or nanoseconds. Larger ones could not be displayed."""
    return isinstance(value, int) and abs(value) < 2**63


def destination_of(log: dict[str, Any]) -> Destination | None:
    """Return the destination that a log names; None in a log of the predecessor."""
    bucket, remote_path = log.get("bucket"), log.get("remote_path")
    if not isinstance(bucket, str) or not isinstance(remote_path, str):
        return None
    return Destination(bucket, remote_path.strip("/"))
