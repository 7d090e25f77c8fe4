"""Resident memory of this process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def resident(key: str) -> float:
    """Resident memory of this process in MiB: "VmRSS" is today's, "VmHWM" the most that it ever was."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key)) / 1024
    scale = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
