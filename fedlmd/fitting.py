"""The training of one of a run's two networks on one site's images, and how far that moved it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from fedlmd.artifacts import Weights
from fedlmd.data import LabelledImages
from fedlmd.diffusion import Schedule
from fedlmd.networks import Networks
from fedlmd.progress import Progress
from fedlmd.settings import Settings
from fedlmd.training import Objective, TrainingConfig, batches, classification, denoising, proximal, train

__all__ = ["fit", "norms"]


def fit(
    part: str,
    networks: Networks,
    images: LabelledImages,
    settings: Settings,
    span: range,
    *,
    seed: int,
    mu: float = 0.0,
) -> Iterator[Progress]:
    """Train one of the two networks in place.

    Args:
        part: "classifier" or "denoiser".
        networks: both.
        images: what to learn from.
        settings: of the run.
        span: the steps to do now, out of the part's whole training.
        seed: of shuffling, noise and dropout.
        mu: strength of FedProx's pull towards the weights at the start.
    """
    if not span:
        return
    generator = torch.Generator().manual_seed(seed)
    config: TrainingConfig = getattr(settings, part)
    network: nn.Module = networks.parts()[part]
    views = networks.classifier.config.views
    objective: Objective = classification(config.label_smoothing, views=views, generator=generator)
    if part == "denoiser":
        schedule, classes = Schedule(settings.schedule), len(settings.labels)
        objective = denoising(schedule, classes, label_dropout=config.label_dropout, generator=generator)
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}
    data = batches(images.pixels, images.labels, config, generator)
    loss = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws from torch's own generator
        steps = train(network, proximal(objective, mu, anchor), data, config, first=span.start, steps=len(span))
        for done, step in enumerate(steps, start=1):
            # What one step says is noise; the mean of about the last twenty is what is shown.
            loss = step.loss if done == 1 else 0.95 * loss + 0.05 * step.loss
            yield Progress(part, done, len(span), {"loss": loss})


def norms(changed: Weights) -> dict[str, float]:
    """How far each network moved: the L2 norm of the change of its weights, as "classifier-norm" and so on."""
    squares: dict[str, float] = {}
    for name, of in changed.items():
        key = f"{name.partition('.')[0]}-norm"
        squares[key] = squares.get(key, 0.0) + float(np.square(of, dtype=np.float64).sum())
    return {key: math.sqrt(square) for key, square in squares.items()}
