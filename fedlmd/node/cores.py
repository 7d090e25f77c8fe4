"""How many processor cores this process may use: a container's share, not all that the machine has."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cores(cgroup: Path = CGROUP, allowed: int | None = None) -> int:
    """The number of cores that this process may use, 1 or more.

    The least of the cores that it may be scheduled on and of the time on them that its control group may use in a
    period, rounded up: a quota of 1.5 cores gives 2.

    Args:
        cgroup: where control groups are mounted, of version 2 or 1.
        allowed: number of cores that the process may be scheduled on; None for that of this process.
    """
    cores = scheduled_cores() if allowed is None else allowed
    quotas = [quota for quota in (quota_v2(cgroup), quota_v1(cgroup)) if quota is not None]
    return max(1, min([cores, *quotas]))


def scheduled_cores() -> int:
    """The number of cores that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota_v2(cgroup: Path) -> int | None:
    """The quota of version 2, in cores: ``cpu.max`` holds microseconds and period, or "max"."""
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return whole_cores(int(quota), int(period))
    return None


def quota_v1(cgroup: Path) -> int | None:
    """The quota of version 1, in cores; a negative one is none."""
    with suppress(OSError, ValueError):
        quota, period = (
            int((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        return whole_cores(quota, period)
    return None


def whole_cores(quota: int, period: int) -> int | None:
    """A quota in cores, rounded up; None where it is none."""
    return -(-quota // period) if quota > 0 and period > 0 else None
