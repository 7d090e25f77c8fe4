"""The losses of both networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fedlmd.diffusion import Schedule
from fedlmd.models import Classifier, turned


class Batch(NamedTuple):
    """Images in [-1, 1] and their class indices."""

    images: Float[Tensor, "b c h w"]
    labels: Int[Tensor, " b"]


FOCUS = (0.5, 0.95)
"""Noise levels, as fractions of the schedule, that half of the denoiser's training is spent on."""

# The loss of a model on a batch, a scalar.
Objective = Callable[[nn.Module, Batch], Tensor]


def classification(
    smoothing: float = 0.0, *, views: int = 1, shown: int = 2, generator: torch.Generator | None = None
) -> Objective:
    """Cross-entropy in nats of the label, or of label and view together (Lee, Hwang & Shin 2020, eq. 4).

    Of a classifier that has several members each has its own loss, as they would otherwise rely on each other; the
    result is the mean.

    Args:
        smoothing: label smoothing in [0, 1) (Szegedy et al. 2016).
        views: views that the model's ``joint`` distinguishes; with 1 the model itself gives the logits. A classifier's
            configuration says it instead.
        shown: views of each image per step, drawn anew each time.
        generator: draws the views.
    """

    def of_one(model: nn.Module, views: int, batch: Batch) -> Tensor:
        if views == 1:
            return F.cross_entropy(model(batch.images).float(), batch.labels, label_smoothing=smoothing)
        drawn = torch.randperm(views, generator=generator)[:shown].tolist()
        logits = model.joint(torch.cat([turned(batch.images, view) for view in drawn]))  # type: ignore[operator]
        targets = torch.cat([batch.labels * views + view for view in drawn])
        return F.cross_entropy(logits.flatten(1).float(), targets, label_smoothing=smoothing)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if not isinstance(model, Classifier):
            return of_one(model, views, batch)
        members = model.members(batch.images)
        losses = [of_one(member, member.config.views, Batch(part, batch.labels)) for member, part in members]
        return torch.stack(losses).mean()

    return loss


def denoising(schedule: Schedule, classes: int, *, label_dropout: float, generator: torch.Generator) -> Objective:
    """Mean squared error of the predicted velocity (Salimans & Ho 2022).

    Half of the images have uniform noise levels, as sampling needs all of them; half have levels in ``FOCUS``, which
    decide the class of an image and which the detectors use.

    The share ``label_dropout`` of the images is without label, for which the index ``classes`` stands, so that one
    network learns both the conditional and the unconditional distribution (Ho & Salimans 2021). The generator draws the
    levels, the noise and the dropped labels.
    """

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        size, device = len(batch.images), batch.images.device
        # Levels are stratified over the batch: the same distribution with less variance between batches.
        drawn = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        t = (focused(drawn) * len(schedule)).long().clamp(max=len(schedule) - 1).to(device)
        noise = torch.randn(batch.images.shape, generator=generator).to(device)
        dropped = (torch.rand(size, generator=generator) < label_dropout).to(device)
        labels = torch.where(dropped, classes, batch.labels)
        predicted = model(schedule.add_noise(batch.images, noise, t), t, labels).float()
        return F.mse_loss(predicted, schedule.velocity(batch.images, noise, t))

    return loss


def focused(drawn: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Uniform draws from [0, 1) as noise levels: the lower half spread over all, the upper half over ``FOCUS``."""
    low, high = FOCUS
    return torch.where(drawn < 0.5, 2 * drawn, low + (2 * drawn - 1) * (high - low))


def proximal(objective: Objective, mu: float, network: nn.Module, apart: nn.Module | None = None) -> Objective:
    """Add FedProx's pull towards a network's present weights, mu / 2 ||w - w_global||^2 (Li et al. 2020, eq. 2).

    Those of ``apart``, a part that the objective does not train, have none: a gradient of 0 would let them decay.
    """
    if mu == 0:
        return objective
    others = set() if apart is None else set(apart.parameters())
    anchor = {name: weight.detach().clone() for name, weight in network.named_parameters() if weight not in others}

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        weights = dict(model.named_parameters())
        distances = [(weights[name] - start).square().sum() for name, start in anchor.items()]
        return objective(model, batch) + mu / 2 * torch.stack(distances).sum()

    return loss
