"""Remember the last scan, and the totals of all scans, for the dashboard and the metrics."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s3sync import files
from s3sync.errors import advice_for
from s3sync.monitor.problems import KINDS, SCANS, Problem, has_failed
from s3sync.text import printable

VERSION = 1


@dataclass(frozen=True, slots=True)
class Counters:
    """The runs that scans have completed, and the files and bytes that were sent for them."""

    runs: int = 0
    files: int = 0
    size: int = 0  # bytes

    def __add__(self, other: Counters) -> Counters:
        return Counters(self.runs + other.runs, self.files + other.files, self.size + other.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one scan."""

    problems: tuple[Problem, ...]
    completed: Counters = Counters()
    seconds: float = 0.0  # that it took


@dataclass(frozen=True, slots=True, kw_only=True)
class LastScan:
    """The last scan that has ended, with any result. Times are in seconds since the epoch."""

    ended: float = 0.0
    seconds: float = 0.0  # that it took
    succeeded: float = 0.0  # the end of the last scan without problems; 0 if there was none
    problems: tuple[Problem, ...] = ()
    counted: Counters = Counters()  # the totals of all scans

    @property
    def ok(self) -> bool:
        """Whether the scan succeeded."""
        return not has_failed(self.problems)


def path_of(log_dir: Path) -> Path:
    """Return the path of the file."""
    return log_dir / "last_tick.json"


def read(log_dir: Path) -> LastScan | None:
    """Return the last scan; None if there is none, or it cannot be read. Counters then start again at 0."""
    return read_or_explain(log_dir)[0]


def read_or_explain(log_dir: Path) -> tuple[LastScan | None, Problem | None]:
    """Return the last scan, and the problem if its file cannot be read."""
    where = printable(str(path_of(log_dir)))
    try:
        return _parse(files.read_json(path_of(log_dir))), None
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError as error:
        advice = advice_for(error, "make it readable")
        text = f"cannot read the result of the last scan: {where}: {error.strerror} ({advice})"
        return None, Problem(SCANS, text, "other", id="monitor.last-scan-unreadable")
    except (ValueError, LookupError, TypeError):
        text = f"the result of the last scan is corrupt: {where} (the next scan replaces it)"
        return None, Problem(SCANS, text, "other", id="monitor.last-scan-corrupt")


def write(log_dir: Path, last: LastScan) -> None:
    """Replace the file; raises OSError."""
    files.write_json(path_of(log_dir), {"version": VERSION, **asdict(last)})


def _parse(facts: Any) -> LastScan:
    """Parse the file; raise ValueError, LookupError or TypeError if it is not a file of this version."""
    if facts["version"] != VERSION:
        raise ValueError("of another version")
    counted = facts["counted"]
    return LastScan(
        ended=_number(facts["ended"]),
        seconds=_number(facts["seconds"]),
        succeeded=_number(facts["succeeded"]),
        problems=tuple(_problem(problem) for problem in facts["problems"] if problem["kind"] in KINDS),
        counted=Counters(*(int(_number(counted[key])) for key in ("runs", "files", "size"))),
    )


def _problem(facts: Any) -> Problem:
    """Parse a problem, which has no id if version 0.1.0 wrote it."""
    key, text, error_id = (printable(str(facts.get(name, ""))) for name in ("key", "text", "id"))
    return Problem(key, text, facts["kind"], id=error_id)


def _number(value: Any) -> float:
    """Return a number without converting it, since floats cannot hold all large integers; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"not a number: {value!r}")
    return value
