"""The training of one network on one worker's images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from fedlmd.data import LabelledImages
from fedlmd.diffusion import Schedule
from fedlmd.models import Classifier, DenoiserNetwork
from fedlmd.progress import Progress
from fedlmd.training.loop import TrainingConfig, batches, train
from fedlmd.training.objectives import Batch, Objective, classification, denoising, proximal


def fit_classifier(
    classifier: Classifier,
    images: LabelledImages,
    config: TrainingConfig,
    span: range,
    *,
    seed: int,
    mu: float = 0.0,
    stage: str = "classifier",
) -> Iterator[Progress]:
    """Train a classifier in place.

    Args:
        classifier: what is trained.
        images: what it is trained on.
        config: of its whole training.
        span: the steps to do now, out of the whole training.
        seed: of shuffling, augmentation and dropout.
        mu: strength of FedProx's pull towards the weights at the start (Li et al. 2020, eq. 2).
        stage: name of the training in its progress.
    """
    generator = torch.Generator().manual_seed(seed)
    objective = classification(config.label_smoothing, views=classifier.config.views, generator=generator)
    objective = proximal(objective, mu, classifier, classifier.thumbnail_cnn)
    data = batches(images.pixels, images.labels, config, generator)
    return fit(stage, classifier, objective, data, of_images(config, images), span, seed)


def fit_denoiser(
    denoiser: DenoiserNetwork,
    images: LabelledImages,
    config: TrainingConfig,
    span: range,
    *,
    schedule: Schedule,
    seed: int,
    mu: float = 0.0,
) -> Iterator[Progress]:
    """Train a denoiser in place on the noise levels of a schedule; other arguments as for ``fit_classifier``."""
    generator = torch.Generator().manual_seed(seed)
    classes = denoiser.config.classes
    objective = denoising(schedule, classes, label_dropout=config.label_dropout, generator=generator)
    objective = proximal(objective, mu, denoiser)
    data = batches(images.pixels, images.labels, config, generator)
    return fit("denoiser", denoiser, objective, data, of_images(config, images), span, seed)


def of_images(config: TrainingConfig, images: LabelledImages) -> TrainingConfig:
    """The configuration with the number of steps that suits so many images."""
    return replace(config, steps=config.steps_for(len(images)))


def fit(
    stage: str,
    network: nn.Module,
    objective: Objective,
    data: Iterator[Batch],
    config: TrainingConfig,
    span: range,
    seed: int,
) -> Iterator[Progress]:
    """Train a network in place; yields its loss after every step. The seed is dropout's."""
    if not span:
        return
    loss = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws from torch's own generator
        steps = train(network, objective, data, config, first=span.start, steps=len(span))
        for done, step in enumerate(steps, start=1):
            # The loss of a single step is noisy; reported is the mean of about the last twenty.
            loss = step.loss if done == 1 else 0.95 * loss + 0.05 * step.loss
            yield Progress(stage, done, len(span), {"loss": loss})
