"""A bound on the norm of updates: one that changes the weights far more than others do is refused.

Norm thresholding of Sun et al. 2019, "Can You Really Backdoor Federated Learning?": the server ignores updates whose
norm is above a threshold. Here the threshold need not be chosen beforehand: it is a multiple of the median norm of
accepted updates, on which fewer than half of the workers have little influence.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import median
from typing import TypeVar

import numpy as np

NEEDED = 3
"""Number of norms that must be known before any is refused: of two that differ either could be wrong."""

# At most so many updates wait for each other: among fewer, two that are too large could be the majority.
FIRST = 8
# Norms fall during training, so that only the newest are representative.
WINDOW = 32
NORMS = "norms"

Item = TypeVar("Item")


def update_norm(update: Mapping[str, np.ndarray], sent: Mapping[str, np.ndarray]) -> float:
    """Euclidean norm of the change that an update makes, over all its arrays together.

    Args:
        update: a worker's weights; every array is one of ``sent``, with the same shape.
        sent: the weights that the worker was sent.
    """
    parts = (np.subtract(array, sent[name], dtype=np.float64) for name, array in update.items())
    return math.sqrt(sum(float(np.vdot(part, part)) for part in parts))


class NormBound:
    """Accepts or refuses updates by their norms, one after the other, and keeps the norms of those that it accepted.

    Args:
        ratio: an update is refused when its norm is more than ``ratio`` times the median; 0 refuses none.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.accepted: deque[float] = deque(maxlen=WINDOW)
        self.expected: list[float] = []

    @property
    def lacking(self) -> int:
        """How many more norms must be known before updates are checked as they arrive."""
        return max(0, FIRST - len(self.accepted)) if self.ratio > 0 else 0

    def check(self, norm: float) -> str | None:
        """Why an update of this norm is refused; or None, and its norm is kept."""
        known = [*self.accepted, *self.expected]
        usual = median(known) if len(known) >= NEEDED else 0.0
        if self.ratio > 0 and 0 < self.ratio * usual < norm:
            return (
                f"it changes the weights by {norm:.3g}, more than {self.ratio:g} times as much as updates do"
                f" ({usual:.3g}, median of {len(known)}); max_norm_ratio sets this bound"
            )
        if norm in self.expected:
            self.expected.remove(norm)
        self.accepted.append(norm)
        return None

    def warm_up(self, items: Iterable[Item], norm_of: Callable[[Item], float | None]) -> Iterator[Item]:
        """Yield updates as they arrive; the first ones of a run wait for each other, 8 at most.

        So the result does not depend on whether an update that is too large arrives first or last.

        Args:
            items: a round's updates; no item is kept once it was yielded.
            norm_of: the norm of an update; None where it is refused anyway.
        """
        arriving = iter(items)
        self.expected.clear()
        waiting = self.first(arriving, norm_of)
        while waiting:
            yield waiting.pop(0)
        yield from arriving

    def first(self, arriving: Iterator[Item], norm_of: Callable[[Item], float | None]) -> list[Item]:
        """The updates that wait for each other: until as many norms are known as are lacking."""
        waiting: list[Item] = []
        for item in arriving if self.lacking else ():
            waiting.append(item)
            norm = norm_of(item)
            self.expected += [] if norm is None else [norm]
            if len(self.expected) == self.lacking:
                break
        return waiting

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The norms that a resumed run needs, as arrays by name."""
        return {NORMS: np.array(self.accepted, dtype=np.float64)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Add the norms of an earlier process; none where its state has none."""
        self.accepted.extend(float(norm) for norm in state.get(NORMS, ()))
