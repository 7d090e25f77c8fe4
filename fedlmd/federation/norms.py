"""How large an update may be: one that changes the weights far more than others do never reaches the average.

Norm thresholding of Sun et al. 2019, "Can You Really Backdoor Federated Learning?": the server ignores updates whose
norm is above a threshold. Here nobody has to choose the threshold beforehand: it is a multiple of the median norm of
accepted updates, which fewer than half of the workers cannot move far.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import median
from typing import TypeVar

import numpy as np

__all__ = ["NEEDED", "NormBound", "update_norm"]

NEEDED = 3
"""So many norms must be known before any is refused: of two that differ nobody can say which is wrong."""

# So many replies at most wait for each other: of a few, two that are too large could be most.
FIRST = 8
# Norms fall as training goes on, so that only the newest tell what is usual.
REMEMBERED = 32
NORMS = "norms"

Item = TypeVar("Item")


def update_norm(update: Mapping[str, np.ndarray], sent: Mapping[str, np.ndarray]) -> float:
    """Euclidean norm of all that an update changes, of all its arrays together.

    Args:
        update: a worker's weights; every array is one of ``sent``, with the same shape.
        sent: the weights that the worker was sent.
    """
    parts = (np.subtract(array, sent[name], dtype=np.float64) for name, array in update.items())
    return math.sqrt(sum(float(np.vdot(part, part)) for part in parts))


class NormBound:
    """Judges updates by their norms, one after the other, and remembers those that it accepted.

    Args:
        ratio: an update is refused when its norm is more than so many times the median; 0 refuses none.
    """

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.accepted: deque[float] = deque(maxlen=REMEMBERED)
        self.expected: list[float] = []

    @property
    def lacking(self) -> int:
        """How many norms are missing before updates are judged as they come."""
        return max(0, FIRST - len(self.accepted)) if self.ratio > 0 else 0

    def check(self, norm: float) -> str | None:
        """Why an update of this norm is refused, or None; its norm is remembered then."""
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

    def primed(self, items: Iterable[Item], norm_of: Callable[[Item], float | None]) -> Iterator[Item]:
        """Yield replies as they come; the first ones of a run wait for each other, 8 at most.

        So it makes no difference whether an update that is too large is the first to arrive or the last.

        Args:
            items: a round's replies.
            norm_of: the norm of a reply's update; None where there is none to average.
        """
        replies, waiting = iter(items), list[Item]()
        self.expected.clear()
        for reply in replies if self.lacking else ():
            waiting.append(reply)
            norm = norm_of(reply)
            self.expected += [] if norm is None else [norm]
            if len(self.expected) == self.lacking:
                break
        while waiting:
            # Nothing here holds on to a reply that was given.
            yield waiting.pop(0)
        yield from replies

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What must outlive the process, as arrays by name."""
        return {NORMS: np.array(self.accepted, dtype=np.float64)}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Remember what an earlier process did; nothing where its state has no norms."""
        self.accepted.extend(float(norm) for norm in state.get(NORMS, ()))
