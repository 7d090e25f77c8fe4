"""How many processor cores this process may use: a container's share, not all that the machine has."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
    version_1 = [cgroup / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    return max(1, min(cores, quota([cgroup / "cpu.max"], cores), quota(version_1, cores)))


def scheduled_cores() -> int:
    """The number of cores that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(files: Sequence[Path], otherwise: int) -> int:
    """The quota in files that hold the time in a period and the period, in cores, rounded up.

    Another number where there is none: no such files, "max" or a negative time.
    """
    with suppress(OSError, ValueError):
        time, period = map(int, " ".join(file.read_text(encoding="ascii") for file in files).split())
        return -(-time // period) if time > 0 and period > 0 else otherwise
    return otherwise
