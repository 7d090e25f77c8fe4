"""Peak memory of this process and its descendants."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psutil

from fedlmd.service.metrics import children_memory


@dataclass
class PeakMemory:
    """Largest resident memory of this process and all its descendants together, sampled every half second.

    Attributes:
        mib: the peak so far, in MiB.
        over: ends the sampling when it is set.
    """

    mib: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Sample until ``over`` is set."""
        while not self.over.wait(0.5):
            self.mib = max(self.mib, (psutil.Process().memory_info().rss + children_memory()) / 2**20)
