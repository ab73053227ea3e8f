"""Number of cores that this process may use."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return the cores of this process's affinity, limited by the container's CPU quota; 2.5 cores count as 3."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroup v2 and v1
        try:
            quota, period = " ".join((CGROUP / file).read_text() for file in files).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal():  # otherwise `max` or -1: no limit
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores
