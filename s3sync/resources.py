"""What this process may really use of the machine."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import psutil

_PROC_CGROUP = Path("/proc/self/cgroup")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_cores(proc_cgroup: Path = _PROC_CGROUP, cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Processors this process may run on: its affinity, capped by the CPU quota of its cgroups; at least 1."""
    cores = float(_affinity())
    for quota in _cgroup_quotas(proc_cgroup, cgroup_root):
        cores = min(cores, quota)
    return max(1, math.floor(cores))


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
