"""The exponential moving average of weights, which has less noise than the last weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Average of a model's parameters over the last steps (Polyak & Juditsky 1992, exponentially weighted).

    Early on the average runs over all steps so far: its decay after n updates is min(decay, n / (n + 1)), which makes
    the first n updates their plain mean.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema decay is {decay}; it lies in [0, 1), 0 keeping the last weights only")
        self.decay = decay
        self.updates = 0
        self.weights: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the model's present weights to the average."""
        decay = min(self.decay, self.updates / (self.updates + 1))
        values = [value.detach() for _, value in model.named_parameters()]
        torch._foreach_lerp_(list(self.weights.values()), values, 1 - decay)
        self.updates += 1
