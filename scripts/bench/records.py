"""Write and read log and journal of a run with N files, and print as JSON what that cost.

A process of its own, to measure its memory: python -m scripts.bench.records 1000000
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from s3sync.aws.destination import Destination
from s3sync.state.journal import journal_head, journal_lines, parse_journal
from s3sync.state.log_format import parse_log, to_json
from s3sync.state.run_state import Proof, RunState
from scripts.bench.planning import made_up_files, most_bytes

_RUN = Path("/data/runs/20261123_LH00130_0061_A22CC55LT4")
_DESTINATION = Destination("lab-runs", "runs")
_T = TypeVar("_T")


class Cost(NamedTuple):
    """Of a run's log and journal: bytes on disk, seconds, and bytes of memory at their largest."""

    files: int
    log_bytes: int
    journal_bytes: int
    write_seconds: float  # of the log
    read_seconds: float  # of the log
    journal_seconds: float  # to read the journal
    memory_bytes: int


def main() -> int:
    """Print a Cost."""
    print(json.dumps(measure(int(sys.argv[1]))._asdict()))
    return 0


def measure(number: int) -> Cost:
    """Measure the conversion of values to bytes and back, without the disk."""
    before = most_bytes()
    proofs = [Proof.of(file, f"{i:032x}", "etag") for i, file in enumerate(made_up_files(number))]
    state = RunState(run_id=_RUN.name, run_path=str(_RUN), completed=True, total_local_files=number)
    state = replace(state, verified={proof.path: proof for proof in proofs})
    log, write_seconds = timed(lambda: to_json(state, _RUN, _DESTINATION))
    journal = journal_head(_DESTINATION) + journal_lines(proofs)
    read, read_seconds = timed(lambda: parse_log(log))
    (journaled, torn), journal_seconds = timed(lambda: parse_journal(journal, _DESTINATION))
    if read.verified != state.verified or journaled != proofs or torn:
        raise RuntimeError("what was read is not what was written")
    return Cost(number, len(log), len(journal), write_seconds, read_seconds, journal_seconds, most_bytes() - before)


def timed(work: Callable[[], _T]) -> tuple[_T, float]:
    """Return the result of a call, and the seconds that it took."""
    started = time.perf_counter()
    given = work()
    return given, time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
