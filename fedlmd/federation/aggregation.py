"""Aggregation of models, one at a time: weighted and moving averages of arrays by name. Needs numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedlmd.release import Weights


class RunningMean:
    """The weighted mean of arrays by name, in float64 and in the memory of two models, whatever their number.

    Each model moves the mean by its share of the total weight so far (West 1979), so that no sum can overflow.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self.means: Weights = {}
        self.dtypes: dict[str, np.dtype[Any]] = {}

    def add(self, weights: Mapping[str, np.ndarray], weight: float) -> None:
        """Add one model.

        Args:
            weights: arrays with the names and shapes of those before.
            weight: its weight in the mean, above 0.
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
        """The mean so far, in the dtypes of the first model."""
        return {name: mean.astype(self.dtypes[name]) for name, mean in self.means.items()}


class RunningFigures:
    """The weighted mean of the numbers that all workers report; others, and lists, are dropped."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.means: dict[str, float] = {}

    def add(self, figures: Mapping[str, Any], weight: float) -> None:
        """Add one worker's figures; ``weight`` is above 0."""
        numbers = {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
        first, self.weight = self.weight == 0, self.weight + weight
        share = weight / self.weight
        before = numbers if first else self.means
        shared = before.keys() & numbers.keys()
        self.means = {name: before[name] + share * (numbers[name] - before[name]) for name in before if name in shared}


class MovingAverage:
    """The moving average of a model over the rounds, bias-corrected as Adam's are (Kingma & Ba 2015, section 3).

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
        """Add one round's weights."""
        self.rounds += 1
        share = (1 - self.decay) / (1 - self.decay**self.rounds)
        before = self.average or weights
        self.average = {
            name: (before[name] + share * (array - before[name])).astype(array.dtype) for name, array in weights.items()
        }

    @property
    def state(self) -> Weights:
        """What ``load_state`` takes; empty before the first round."""
        return {**self.average, self.COUNT: np.array([self.rounds])} if self.rounds else {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from an earlier ``state``."""
        self.average = {name: array for name, array in state.items() if name != self.COUNT}
        self.rounds = int(state[self.COUNT][0]) if state else 0
