"""Format names, sizes and times for people, and parse rates and times."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from urllib.parse import quote

_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([kKMG]?)B/s")
_MAX_LINES = 20  # in a list
_MAX_NAMES_PER_REASON = 5  # if at most this many files failed for one reason, all of them are named,
_NAMES_OF_FREQUENT_REASON = 3  # otherwise this many


def printable(name: str) -> str:
    """Return a name that is safe for terminals, logs and JSON.

    Control characters and bytes that are not UTF-8 become escapes. Run folders are written by machines and mounted from
    shares, so their names may contain escape sequences.
    """
    if name.isascii() and name.isprintable():
        return name
    try:
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of surrogate pairs, which JSON may hold
        text = name
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def human_bytes(count: float) -> str:
    """Return a size in decimal units, as for disks and S3 prices: 512 B, 1.5 kB, 102.3 GB."""
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def parse_rate(text: str) -> int:
    """Return the bytes per second of a rate in decimal units: 50MB/s, 800 kB/s, 0.5 GB/s. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * 1000 ** "_kmg".index(match[2].lower() or "_")) if match else 0
    if rate < 1:
        raise ValueError(f"not a rate in bytes per second: {printable(text)!r} (example: 50MB/s)")
    return rate


def human_seconds(seconds: float) -> str:
    """Return a duration: 0.4 s, 12 s, 7 min 49 s, 3 h 05 min, 12 days."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours >= 72:
        return f"{hours // 24} days"
    return f"{hours} h {minutes:02} min"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 file` or `5,492 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def summarize(names: Iterable[str], limit: int) -> str:
    """Return the first `limit` names, printable, and the number of the others: `A, B, C and 12 more`."""
    all_names = list(names)
    more = f" and {len(all_names) - limit:,} more" if len(all_names) > limit else ""
    return ", ".join(map(printable, all_names[:limit])) + more


def indented_list(items: Sequence[str], hint: str = "") -> list[str]:
    """Return indented lines with the first items and the number of the others. `hint` says where to find these."""
    more = len(items) - _MAX_LINES
    return [*(f"    {item}" for item in items[:_MAX_LINES]), *([f"    and {more:,} more{hint}"] if more > 0 else [])]


def list_by_reason(reasons: Mapping[str, str], hint: str) -> list[str]:
    """Return indented lines of failed files (keys) with their reasons (values); a frequent reason shows few files."""
    groups: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        groups.setdefault(_without_names(reason, path), []).append(path)
    items: list[str] = []
    for paths in groups.values():
        shown = paths if len(paths) <= _MAX_NAMES_PER_REASON else paths[:_NAMES_OF_FREQUENT_REASON]
        items += [f"{printable(path)}: {reasons[path]}" for path in shown]
        if len(shown) < len(paths):
            items.append(f"and {len(paths) - len(shown):,} more for the same reason{hint}")
    return indented_list(items, hint)


def _without_names(reason: str, path: str) -> str:
    """Remove the file's own name, as a path and as in a URL, so that equal reasons compare equal."""
    return reason.replace(path, "\0").replace(quote(path, errors="replace"), "\0") if path else reason


def now_iso() -> str:
    """Return the present time in UTC, to the second: 2026-11-23T01:02:03+00:00."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def to_iso(timestamp: float | None) -> str:
    """Return seconds since the epoch as `now_iso` does; an empty string for None or a time outside the calendar."""
    try:
        return (
            "" if timestamp is None else datetime.fromtimestamp(timestamp, timezone.utc).isoformat(timespec="seconds")
        )
    except (ValueError, OverflowError, OSError):
        return ""


def parse_iso(iso: str) -> float | None:
    """Return the seconds since the epoch of an ISO 8601 time with its zone; None if the text is not one."""
    try:
        time = datetime.fromisoformat(iso)
        return time.timestamp() if time.tzinfo else None
    except (ValueError, OverflowError):
        return None
