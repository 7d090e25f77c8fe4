"""How many models become one, a model at a time: weighted and moving averages of arrays by name. Needs numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from fedlmd.artifacts import Weights

__all__ = ["ROBUST", "STRATEGIES", "WEIGHTINGS", "MovingAverage", "RunningFigures", "RunningMean", "least_replies"]

ROBUST = ("median", "trimmed-mean", "krum")
"""Strategies that bear lying workers, and need all updates of a round at once."""
STRATEGIES = ("fedavg", "fedprox", "fedadam", *ROBUST)
WEIGHTINGS = ("images", "uniform")


def least_replies(strategy: str, trim: float, byzantine: int) -> int:
    """The fewest updates with which a strategy does what it is chosen for.

    The median of two is their mean; a trimmed mean leaves nobody out before ``trim * n`` reaches 1; Krum's guarantee
    needs ``n >= 2 f + 3`` (Blanchard et al. 2017, proposition 1).

    Args:
        strategy: one of ``STRATEGIES``.
        trim: share that a trimmed mean leaves out at each end, in (0, 0.5).
        byzantine: lying workers that Krum is to bear.
    """
    if strategy == "krum":
        return 2 * byzantine + 3
    if strategy == "trimmed-mean":
        return next(number for number in count(int(1 / trim)) if int(trim * number) >= 1)
    return 3 if strategy == "median" else 1


class RunningMean:
    """The weighted mean of arrays by name, in float64 and in the memory of two models, however many come.

    Each model moves the mean by its share of all weight so far (West 1979), so that no sum can overflow.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self.means: Weights = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}

    def add(self, weights: Mapping[str, np.ndarray], weight: float) -> None:
        """Take one model in.

        Args:
            weights: arrays with the names and shapes of those before.
            weight: how much it counts, above 0.
        """
        self.weight += weight
        if not self.means:
            self.means = {name: array.astype(np.float64) for name, array in weights.items()}
            self.dtypes = {name: array.dtype for name, array in weights.items()}
            return
        for name in self.means:
            step = weights[name] - self.means[name]
            step *= weight / self.weight
            self.means[name] += step

    def mean(self) -> Weights:
        """The mean so far, in the types of the first model."""
        return {name: mean.astype(self.dtypes[name]) for name, mean in self.means.items()}


class RunningFigures:
    """The weighted mean of the numbers that all workers report; what only some do, and lists, have none."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.means: dict[str, float] = {}

    def add(self, figures: Mapping[str, Any], weight: float) -> None:
        """Take one worker's figures in; ``weight`` is above 0."""
        numbers = {name: float(of) for name, of in figures.items() if isinstance(of, int | float)}
        first, self.weight = self.weight == 0, self.weight + weight
        share = weight / self.weight
        before = numbers if first else self.means
        shared = before.keys() & numbers.keys()
        self.means = {name: of + share * (numbers[name] - of) for name, of in before.items() if name in shared}


class MovingAverage:
    """The moving average of a model over the rounds, freed of its start as Adam's are (Kingma & Ba 2015, section 3).

    After rounds with the weights ``w_1 … w_t`` it is ``sum d^(t-i) w_i / sum d^(t-i)``: with ``d = 0`` the newest
    weights, towards 1 the mean of all.

    Args:
        decay: the paper's beta, in [0, 1).
    """

    COUNT = "count"

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.rounds = 0
        self.average: Weights = {}

    def add(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take one round's weights in."""
        self.rounds += 1
        share = (1 - self.decay) / (1 - self.decay**self.rounds)
        before = self.average or weights
        self.average = {
            name: (before[name] + share * (array - before[name])).astype(array.dtype) for name, array in weights.items()
        }

    @property
    def state(self) -> Weights:
        """What ``go_on`` takes; empty before the first round."""
        return {**self.average, self.COUNT: np.array([self.rounds])} if self.rounds else {}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state of before."""
        self.average = {name: array for name, array in state.items() if name != self.COUNT}
        self.rounds = int(state[self.COUNT][0]) if state else 0
