"""Plan the upload of N files, and print the cost as JSON; in a separate process, to measure its memory.

python -m scripts.bench.planning 1000000
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import psutil

from s3sync.runs.local_files import LocalFile
from s3sync.transfer.batches import BatchQueue, split_by_phase

_PROCESSES = 4  # that take batches
_PROC_STATUS = Path("/proc/self/status")


def main() -> int:
    """Print `files`, `seconds` of planning alone, and `bytes`: of memory for listing and plan at their largest."""
    number = int(sys.argv[1])
    before = most_bytes()
    files = made_up_files(number)
    started = time.perf_counter()
    batches = plan(files)
    seconds = time.perf_counter() - started
    print(json.dumps({"files": number, "batches": batches, "seconds": seconds, "bytes": most_bytes() - before}))
    return 0


def made_up_files(number: int) -> tuple[LocalFile, ...]:
    """Return many small files, sorted by path, as the listing of a HiSeq run has them."""
    paths = (
        f"Data/Intensities/BaseCalls/L{i % 8 + 1:03}/C{i // 896 + 1}.1/s_{i % 8 + 1}_{i % 112 + 1101}_{i}.bcl"
        for i in range(number)
    )
    return tuple(sorted(LocalFile(path, 600_000 + index, 10**18 + index) for index, path in enumerate(paths)))


def plan(files: tuple[LocalFile, ...]) -> int:
    """Plan everything between listing and transfer, and return the number of batches."""
    phases = split_by_phase(files)
    queue = BatchQueue([phases.metadata, phases.data, phases.markers])
    batches = 0
    while queue:
        queue.take(_PROCESSES)
        batches += 1
    return batches


def most_bytes() -> int:
    """Return the peak memory of this process in bytes; the present one if the system does not report the peak."""
    try:
        fields = dict(line.split(":", 1) for line in _PROC_STATUS.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024  # not ru_maxrss, which the parent's memory is part of
    except (OSError, KeyError):
        return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    sys.exit(main())
