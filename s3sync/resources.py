"""Find out how many processors this process may use, and lower its priority."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Literal, TypeAlias

import psutil

IoPriority: TypeAlias = Literal["normal", "low", "idle"]

MAX_USEFUL_CORES = 256  # `aws` processes at once: more are probably a mistake
_LOWEST_IN_CLASS = 7
_PROC_CGROUP = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(proc_cgroup: Path = _PROC_CGROUP, cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Return how many processors this process may use: its affinity, limited by the CPU quota of its cgroups."""
    cores = float(_affinity())
    for quota in _cgroup_quotas(proc_cgroup, cgroup_root):
        cores = min(cores, quota)
    return max(1, math.floor(cores))


def lower_priority(nice: int, io_priority: IoPriority) -> None:
    """Lower the priority of this process, and of those it starts later, for the CPU (`nice`, 0 to 19) and the disks.

    Never raises a priority. Does nothing where the system does not support or allow the change.
    """
    process = psutil.Process()
    with contextlib.suppress(psutil.Error, OSError):
        if process.nice() < nice:
            process.nice(nice)
    with contextlib.suppress(psutil.Error, OSError, AttributeError):  # not on macOS
        if io_priority == "low" and process.ionice().ioclass == psutil.IOPRIO_CLASS_NONE:
            process.ionice(psutil.IOPRIO_CLASS_BE, _LOWEST_IN_CLASS)
        elif io_priority == "idle":
            process.ionice(psutil.IOPRIO_CLASS_IDLE)


def _affinity() -> int:
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity() or [])
    return psutil.cpu_count() or 1


def _cgroup_quotas(proc_cgroup: Path, root: Path) -> list[float]:
    """Return the quotas, in processors, of the process's cgroup (v1 or v2) and its ancestors: all of them apply."""
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
