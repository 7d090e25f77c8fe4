"""The two trainings of a run on a worker's images, and the sums of the embeddings of those images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from fedlmd.calibration import sums_by_class
from fedlmd.data import some
from fedlmd.detection import l2_normalised
from fedlmd.diffusion import Schedule
from fedlmd.models import DenoiserNetwork, Networks
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
    """Train one of the two networks in place, "classifier" or "denoiser"; other arguments as for ``fit_classifier``."""
    if part == "classifier":
        return fit_classifier(networks.classifier, images.training, settings.classifier, span, seed=seed, mu=mu)
    if not isinstance(networks.denoiser, DenoiserNetwork):
        raise ValueError("an ensemble of workers' denoisers cannot be trained further")
    schedule, config = Schedule(settings.schedule), settings.denoiser
    return fit_denoiser(networks.denoiser, images.training, config, span, schedule=schedule, seed=seed, mu=mu)


def update_norms(changed: Weights) -> dict[str, float]:
    """How far each network moved: the L2 norm of the change of its weights, as "classifier-norm" and so on."""
    squares: dict[str, float] = {}
    for name, array in changed.items():
        key = f"{name.partition('.')[0]}-norm"
        squares[key] = squares.get(key, 0.0) + float(np.square(array, dtype=np.float64).sum())
    return {key: math.sqrt(square) for key, square in squares.items()}


@torch.inference_mode()
def embedding_sums(settings: Settings, networks: Networks, images: WorkerImages) -> Weights:
    """Sums by class over the L2-normalised embeddings of training images; see ``fedlmd.calibration.sums_by_class``."""
    described = some(images.training, settings.calibration.described, settings.seed)
    embed = l2_normalised(networks.classifier.embedding)
    batches = torch.split(described.images(), 500)
    vectors = torch.cat([embed(batch.to(networks.device)).cpu() for batch in batches])
    return sums_by_class(vectors.numpy(), described.labels.numpy(), len(settings.labels))
