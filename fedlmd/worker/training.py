"""The two trainings of a run on a worker's images, and the sums over their embeddings and over an encoder's cells."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from fedlmd.calibration import DESCRIBED, THUMBNAILS, added, cell_sums, sums_by_class
from fedlmd.data import LabelledImages, some
from fedlmd.detection import Features, gaussian_features
from fedlmd.models import DenoiserNetwork, Networks, cells_to_pixels, descriptors
from fedlmd.progress import Progress
from fedlmd.release import Weights
from fedlmd.settings import Settings
from fedlmd.training import fit_classifier, fit_denoiser
from fedlmd.worker.images import WorkerImages


def fit_part(
    part: str,
    networks: Networks,
    images: WorkerImages,
    settings: Settings,
    span: range,
    *,
    seed: int,
    mu: float = 0.0,
) -> Iterator[Progress]:
    """Train a network of ``parts`` in place; other arguments as for ``fit_classifier``."""
    training, classifier = of_networks(images.training, settings), networks.classifier
    if part == "classifier":
        return fit_classifier(classifier, training, settings.classifier, span, seed=seed, mu=mu)
    if part == "thumbnails" and classifier.thumbnail_cnn is not None:
        small = thumbnails_of(training, settings)
        return fit_classifier(
            classifier.thumbnail_cnn, small, settings.thumbnails, span, seed=seed, mu=mu, stage="thumbnails"
        )
    if not isinstance(networks.denoiser, DenoiserNetwork):
        raise ValueError("an ensemble of workers' denoisers cannot be trained further")
    channels = networks.denoiser.config.channels  # a thumbnail is the classifier's alone
    training = LabelledImages(training.pixels[:, :channels], training.labels, training.names)
    schedule, config = settings.noise, settings.denoiser
    return fit_denoiser(networks.denoiser, training, config, span, schedule=schedule, seed=seed, mu=mu)


def parts(settings: Settings) -> dict[str, str]:
    """The networks that are trained one after the other, and what the names of their weights begin with."""
    thumbnails = {"thumbnails": "classifier.thumbnail_cnn."} if settings.networks.classifier.thumbnail else {}
    return {"classifier": "classifier.", **thumbnails, "denoiser": "denoiser."}


def update_norms(changed: Weights) -> dict[str, float]:
    """How far each network moved: the L2 norm of the change of its weights, as "classifier-norm" and so on."""
    squares: dict[str, float] = {}
    for name, array in changed.items():
        key = f"{name.partition('.')[0]}-norm"
        squares[key] = squares.get(key, 0.0) + float(np.square(array, dtype=np.float64).sum())
    return {key: math.sqrt(square) for key, square in squares.items()}


@torch.inference_mode()
def embedding_sums(settings: Settings, networks: Networks, images: WorkerImages) -> Weights:
    """Sums by class over the embeddings of training images, and over those of their thumbnails and their descriptors.

    See ``fedlmd.calibration.sums_by_class``.
    """
    described = some(images.training, settings.calibration.described, settings.seed)
    labels, classes = described.labels.numpy(), len(settings.labels)
    embed = gaussian_features(settings.detectors, networks.classifier)
    batches = torch.split(of_networks(described, settings).images(), 500)

    def vectors(features: Features) -> np.ndarray:
        return torch.cat([features(batch.to(networks.device)).cpu() for batch in batches]).numpy()

    sums = sums_by_class(vectors(embed), labels, classes)
    if settings.networks.classifier.thumbnail:
        sums |= sums_by_class(vectors(networks.classifier.thumbnail_embedding), labels, classes, THUMBNAILS)
    if settings.has_latents:
        read = descriptors(described.images(), settings.encoder)
        sums |= sums_by_class(read.numpy(), labels, classes, DESCRIBED)
    return sums


def of_networks(images: LabelledImages, settings: Settings) -> LabelledImages:
    """The part of latents that the classifier gets; images without an encoder whole."""
    if not settings.has_latents:
        return images
    return LabelledImages(images.pixels[:, : settings.networks.classifier.channels], images.labels, images.names)


def thumbnails_of(latents: LabelledImages, settings: Settings) -> LabelledImages:
    """The thumbnails beside latents."""
    config = settings.networks.classifier
    pixels = cells_to_pixels(latents.pixels[:, settings.encoder.channels : config.channels], config.thumbnail)
    return LabelledImages(pixels, latents.labels, latents.names)


def sums_over_cells(images: WorkerImages) -> Weights:
    """Sums over the cells of the training images' maps; see ``fedlmd.calibration.whitening``."""
    parts = [cell_sums(batch.numpy()) for batch in torch.split(images.training.pixels, 256)]
    return added(parts)
