"""Detectors of the literature on the same encoder's features."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from benchmarks.baselines.knn import KNN
from benchmarks.baselines.vim import ViM
from fedlmd.data import LabelledImages
from fedlmd.detection import ClassGaussians, Mahalanobis, in_batches
from fedlmd.inference import Predictor
from fedlmd.models import descriptors
from fedlmd.worker.images import WorkerImages

CENTRES = 300
"""Cells that a patch memory keeps."""


def rival_scores(
    predictor: Predictor, training: WorkerImages, images: Mapping[str, LabelledImages]
) -> dict[str, dict[str, Tensor]]:
    """Scores of known, unknown and far images by each rival, by its name.

    All are fitted to the latents of the training images: "probe" is the largest logit of a linear classifier of the
    descriptors, "mahalanobis" and "mahalanobis++" (L2-normalised; Müller & Hein 2025) have one covariance for all
    classes, "knn" counts the 5th neighbour, "vim" has the linear classifier's head, and "patchcore" is the largest
    distance of a cell to a memory of cells reduced by k-means (after Roth et al. 2022).
    """
    config = predictor.settings.encoder
    fitted = training.training
    vectors = descriptors(fitted.images(), config)
    mean, std = vectors.mean(0), vectors.std(0).clamp(min=1e-6)

    def features(latents: Tensor) -> Tensor:
        return (descriptors(latents, config) - mean) / std

    probe = LogisticRegression(max_iter=300).fit(features(fitted.images()).numpy(), fitted.labels.numpy())
    weight = torch.from_numpy(probe.coef_).float()
    bias = torch.from_numpy(probe.intercept_).float()
    detectors: dict[str, Callable[[Tensor], Tensor]] = {
        "probe": lambda latents: -(features(latents) @ weight.T + bias).amax(1),
        "mahalanobis": tied(features, fitted),
        "mahalanobis++": tied(lambda latents: F.normalize(features(latents)), fitted),
        "knn": KNN(features, fitted.images()).score,
        "vim": ViM(features, fitted.images(), weight, bias).score,
        "patchcore": patch_memory(fitted, config.channels),
    }
    latents = {part: in_batches(predictor.networks.encode, each.images(), 32) for part, each in images.items()}
    return {
        name: {part: in_batches(score, each, 64) for part, each in latents.items()} for name, score in detectors.items()
    }


def tied(features: Callable[[Tensor], Tensor], fitted: LabelledImages) -> Callable[[Tensor], Tensor]:
    """The Mahalanobis distance to the nearest class, with one covariance for all."""
    vectors, classes = features(fitted.images()).double(), range(len(fitted.names))
    counts = torch.tensor([float((fitted.labels == number).sum()) for number in classes])
    means = torch.stack([vectors[fitted.labels == number].mean(0) for number in classes])
    centred = vectors - means[fitted.labels]
    covariance = (centred.T @ centred / len(vectors)).expand(len(classes), -1, -1)
    return Mahalanobis(features, ClassGaussians(counts, means.float(), covariance.float()), 0.02).score


def patch_memory(fitted: LabelledImages, channels: int) -> Callable[[Tensor], Tensor]:
    """The largest distance of an image's cells to the nearest of the memory."""
    cells = fitted.images()[:, :channels].movedim(1, -1).reshape(-1, channels)
    chosen = cells[torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))[:40_000]]
    memory = torch.from_numpy(
        MiniBatchKMeans(CENTRES, random_state=0, n_init=1, batch_size=4096).fit(chosen.numpy()).cluster_centers_
    ).float()

    def score(latents: Tensor) -> Tensor:
        vectors = latents[:, :channels].flatten(2).transpose(1, 2)
        return torch.stack([torch.cdist(each, memory).amin(1).amax() for each in vectors])

    return score
