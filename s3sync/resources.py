"""What this process may really use of the machine."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Literal

import psutil

_LOWEST_OF_CLASS = 7
_PROC_CGROUP = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(proc_cgroup: Path = _PROC_CGROUP, cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Processors this process may run on: its affinity, capped by the CPU quota of its cgroups; at least 1."""
    cores = float(_affinity())
    for quota in _cgroup_quotas(proc_cgroup, cgroup_root):
        cores = min(cores, quota)
    return max(1, math.floor(cores))


IoPriority = Literal["normal", "low", "idle"]


def step_back(nice: int, io_priority: IoPriority) -> None:
    """Let others go first, at the CPU (`nice`, 0 to 19) and at the disks; what is started from now on inherits it.

    Never takes more than there is now, and what the system does not know or allow is left as it is.
    """
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        if process.nice() < nice:
            process.nice(nice)
    with contextlib.suppress(psutil.Error, OSError, AttributeError):  # not on macOS
        if io_priority == "low" and process.ionice().ioclass == psutil.IOPRIO_CLASS_NONE:
            process.ionice(psutil.IOPRIO_CLASS_BE, _LOWEST_OF_CLASS)
        elif io_priority == "idle":
            process.ionice(psutil.IOPRIO_CLASS_IDLE)


def _affinity() -> int:
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity() or [])
    return psutil.cpu_count() or 1


def _cgroup_quotas(proc_cgroup: Path, root: Path) -> list[float]:
    """Quotas in processors, from the process's cgroup (v2 or v1) up to the root; a quota of an ancestor binds too."""
    try:
        lines = [line for line in proc_cgroup.read_text(errors="surrogateescape").splitlines() if line.count(":") >= 2]
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        if not base.is_dir():
            base = root / "cpu"
        group = base / path.lstrip("/")
        quotas += [q for folder in (group, *group.parents) if folder.is_relative_to(base) for q in _quota(folder)]
    return quotas


def _quota(folder: Path) -> list[float]:
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (folder / "cpu.max").read_text().split()
        return [] if limit == "max" else [int(limit) / int(period)]
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return [limit_us / period_us] if limit_us > 0 else []
    return []
