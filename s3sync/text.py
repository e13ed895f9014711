"""Names, sizes and times as people read them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from urllib.parse import quote

_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([kKMG]?)B/s")
_ONE_BY_ONE = 5  # files that failed for one reason are all named; of more of them
_OF_ONE_REASON = 3  # are named
_SHOWN = 20  # of a list that may be long


def printable(name: str) -> str:
    """A file name safe for terminals, logs and JSON: control characters and bytes that are not UTF-8 as escapes.

    A run folder is written by machines and mounted from shares: its names may hold escape sequences.
    """
    try:
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of surrogate pairs, which JSON may hold
        text = name
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def human_bytes(count: float) -> str:
    """Bytes in decimal units, as disks and S3 prices are given: 512 B, 1.5 kB, 102.3 GB."""
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def parse_rate(text: str) -> int:
    """Bytes a second, decimal as `human_bytes` gives them: 50MB/s, 800 kB/s, 0.5 GB/s; raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    rate = round(float(match[1]) * 1000 ** "_kmg".index(match[2].lower() or "_")) if match else 0
    if rate < 1:
        raise ValueError(f"no rate in bytes a second: {printable(text)!r} (e.g. 50MB/s)")
    return rate


def human_seconds(seconds: float) -> str:
    """A duration: 0.4 s, 12 s, 7 min 49 s, 3 h 05 min, 12 days."""
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


def count_of(number: int, noun: str) -> str:
    """`1 file`, `5,492 files`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def indented(items: Sequence[str], hint: str = "") -> list[str]:
    """Lines of a list for people: the first items, and how many more there are; `hint` says where those are."""
    more = len(items) - _SHOWN
    return [*(f"    {item}" for item in items[:_SHOWN]), *([f"    and {more:,} more{hint}"] if more > 0 else [])]


def by_reason(reasons: Mapping[str, str], hint: str = "") -> list[str]:
    """Lines of a list of files with why each failed, for people: of many that failed for one reason only the first."""
    groups: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        groups.setdefault(_without_names(reason, path), []).append(path)
    items: list[str] = []
    for paths in groups.values():
        shown = paths if len(paths) <= _ONE_BY_ONE else paths[:_OF_ONE_REASON]
        items += [f"{printable(path)}: {reasons[path]}" for path in shown]
        if len(shown) < len(paths):
            items.append(f"and {len(paths) - len(shown):,} more for the same reason{hint}")
    return indented(items, hint)


def _without_names(reason: str, path: str) -> str:
    """A reason without the file's own name, as a path and as a URL has it."""
    return reason.replace(path, "\0").replace(quote(path, errors="replace"), "\0") if path else reason


def now_iso() -> str:
    """This moment, UTC, to the second: 2026-11-23T01:02:03+00:00."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def iso_of(moment: float | None) -> str:
    """A moment in seconds since the epoch in the same way; empty if there is none, or no calendar has it."""
    try:
        return "" if moment is None else datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def moment_of(iso: str) -> float | None:
    """What `iso_of` was given, in seconds since the epoch; None if the text is no moment."""
    try:
        moment = datetime.fromisoformat(iso)
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
