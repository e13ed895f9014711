"""Show one run of the config as a table row and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from s3sync.inventory import RunStatus
from s3sync.text import printable

if TYPE_CHECKING:
    from rich.table import Table

_NAME_WIDTH = 40
_CALENDAR = (-62_000_000_000, 253_370_000_000)  # seconds since the epoch: the years 5 to 9998


def run_table(first: str, runs: Sequence[RunStatus], *others: str) -> Table:
    """Return an empty table whose first column is wide enough for the names of the runs, which people copy."""
    from rich.table import Table  # only what people read is a table, and importing it takes a tenth of a start

    shown = Table(box=None, pad_edge=False, header_style="bold")
    longest = max((len(printable(run.run.root.name)) for run in runs), default=0)
    shown.add_column(first, min_width=min(longest, _NAME_WIDTH))
    for name in others:
        shown.add_column(name, no_wrap=name in ("Files", "Size", "When"))  # a reason can be folded, a date not
    return shown


def run_name(run: RunStatus) -> str:
    """Return the name of a run, or of an analysis in two lines, so that a table does not fold it elsewhere."""
    folder = run.run.root.name
    inside = run.run.run_id.removeprefix(folder)
    return printable(folder) + (f"\n  {printable(inside.lstrip('/'))}" if inside else "")


def destination_name(run: RunStatus) -> str:
    """Return the destination of a run: s3://bucket/path."""
    return run.entry.destination.label


def run_json(run: RunStatus) -> dict[str, Any]:
    """Return the status of a run as one JSON object."""
    return {
        "run_id": run.run.run_id,
        "run_path": str(run.run.path),
        "analysis_of": run.run.root.name if run.run.parent_run else "",
        "state": run.state,
        "reason": run.reason,
        "reason_id": run.id,
        "url": run.url,
        "bucket": run.entry.destination.bucket,
        "remote_path": run.entry.destination.remote_path,
        "began": to_clamped_iso(run.began),
        "log": str(run.log_path),
    }


def to_clamped_iso(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, with times outside the calendar as in `to_datetime`."""
    return to_datetime(seconds).isoformat(timespec="seconds")


def to_datetime(seconds: float) -> datetime:
    """Return seconds since the epoch as a time in UTC. Times outside the calendar become the nearest valid one."""
    return datetime.fromtimestamp(min(max(seconds, _CALENDAR[0]), _CALENDAR[1]), timezone.utc)
