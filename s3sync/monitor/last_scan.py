"""What is remembered of the scans so far, for the page and the metrics: the last one, and counters that only grow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple, get_args

from s3sync import files
from s3sync.monitor.notify import Kind, Problem
from s3sync.text import printable

VERSION = 1
KINDS: tuple[Kind, ...] = get_args(Kind)


class Counters(NamedTuple):
    """What the scans have completed since they are counted: runs, with the files and bytes that were sent for these."""

    runs: int = 0
    files: int = 0
    size: int = 0  # bytes

    def plus(self, more: Counters) -> Counters:
        """Both together."""
        return Counters(self.runs + more.runs, self.files + more.files, self.size + more.size)


class LastScan(NamedTuple):
    """The last scan that came to an end, however. Moments are seconds since the epoch; `succeeded` is 0 for never."""

    ended: float
    seconds: float
    succeeded: float
    problems: tuple[Problem, ...] = ()
    counted: Counters = Counters()


def place(log_dir: Path) -> Path:
    """The file."""
    return log_dir / "last_tick.json"


def read(log_dir: Path) -> LastScan | None:
    """None if there is nothing that can be read: counters begin again then, as Prometheus expects of them."""
    return load(log_dir)[0]


def load(log_dir: Path) -> tuple[LastScan | None, str]:
    """The same, and why it cannot be read if there is one."""
    where = printable(str(place(log_dir)))
    try:
        return _parse(json.loads(place(log_dir).read_bytes())), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"cannot read what the last scan found: {where}: {error.strerror}"
    except (ValueError, RecursionError, LookupError, TypeError):
        return None, f"cannot understand what the last scan found: {where} (the next scan writes it anew)"


def write(log_dir: Path, last: LastScan) -> None:
    """Raises OSError."""
    problems = [problem._asdict() for problem in last.problems]
    facts = {"version": VERSION, **last._asdict(), "problems": problems, "counted": last.counted._asdict()}
    files.atomic_write(place(log_dir), json.dumps(facts, indent=1).encode("ascii") + b"\n")


def _parse(facts: Any) -> LastScan:
    """Raises ValueError, LookupError or TypeError for what is none of ours."""
    if facts["version"] != VERSION:
        raise ValueError("of another version")
    problems = [
        (problem["key"], problem["text"], problem["kind"]) for problem in facts["problems"] if problem["kind"] in KINDS
    ]
    counted = facts["counted"]
    return LastScan(
        ended=_number(facts["ended"]),
        seconds=_number(facts["seconds"]),
        succeeded=_number(facts["succeeded"]),
        problems=tuple(Problem(printable(str(key)), printable(str(text)), kind) for key, text, kind in problems),
        counted=Counters(*(int(_number(counted[key])) for key in Counters._fields)),
    )


def _number(value: Any) -> float:
    """Also of an integer beyond 2**53, which stays one; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"no number: {value!r}")
    return value
