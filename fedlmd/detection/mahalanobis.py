"""The Mahalanobis distance of features to Gaussians of the known classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from fedlmd.calibration import GAUSSIANS, square
from fedlmd.detection.distances import Distance, LastCallCache
from fedlmd.detection.features import Features

FLOOR = 1e-6
"""Least variance of features, as a share of their mean square."""


class ClassGaussians(NamedTuple):
    """A Gaussian for the features of each class.

    Args:
        counts: images that it was fitted to; a class without any is left out.
        means: of their features.
        covariances: of their features.
    """

    counts: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]


@final
class Mahalanobis:
    """Mahalanobis distance to the nearest class (Lee et al. 2018, eq. 2, its root), each with its own covariance.

    A covariance of few images is uncertain. It is shrunk towards the mean covariance of all classes by d / (n + d), n
    being the images of the class and d the size of the features, and then towards a sphere of the same total variance
    by ``shrinkage`` (Friedman 1989, eq. 16 and 18: regularised discriminant analysis).

    Args:
        features: images to feature vectors.
        gaussians: of known images' features.
        shrinkage: in (0, 1].

    Raises:
        ValueError: when no class has an image.
    """

    def __init__(self, features: Features, gaussians: ClassGaussians, shrinkage: float = 0.1) -> None:
        self.features = features
        present = gaussians.counts > 0
        self.classes = present.nonzero()[:, 0]
        counts, self.means, covariances = (part[present].double() for part in gaussians)
        if not present.any():
            raise ValueError("there are no images; a Mahalanobis distance needs some of a class")
        shared = (counts[:, None, None] * covariances).sum(0) / counts.sum()
        size = covariances.shape[1]
        weight = (size / (counts + size))[:, None, None]
        mixed = (1 - weight) * covariances + weight * shared
        sphere = torch.eye(size, dtype=shared.dtype, device=shared.device)
        # Features of images that are all alike do not vary at all.
        least = FLOOR * self.means.square().mean().clamp(min=FLOOR)
        spheres = mixed.diagonal(dim1=1, dim2=2).mean(1).clamp(min=least)[:, None, None] * sphere
        shrunk = (1 - shrinkage) * mixed + shrinkage * spheres
        # By numpy: torch's own inverse takes minutes where two threads share a busy processor.
        self.precisions = torch.from_numpy(np.linalg.inv(shrunk.cpu().numpy())).to(shared.device)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The smallest of the distances, 0 or more."""
        return self.to_classes(images).amin(0).sqrt().float()

    @torch.inference_mode()
    def nearest(self, images: Float[Tensor, "b c h w"]) -> Int[Tensor, " b"]:
        """The index of the nearest class."""
        return self.classes[self.to_classes(images).argmin(0)]

    def to_classes(self, images: Float[Tensor, "b c h w"]) -> Float64[Tensor, "k b"]:
        """The squared distances to each class that has images."""
        return self.squared(self.features(images).double() - self.means[:, None])

    def squared(self, offsets: Float64[Tensor, "*k b d"]) -> Float64[Tensor, "k b"]:
        """The squared lengths of differences of features, 0 or more, by the covariance of each class."""
        return ((offsets @ self.precisions) * offsets).sum(2).clamp(min=0)


def mahalanobis_distance(detector: Mahalanobis) -> Distance:
    """The squared Mahalanobis distance between the features of two images, 0 or more.

    The covariance is that of the class which is nearest to the first image.
    """

    def with_nearest(images: Tensor) -> tuple[Tensor, Tensor]:
        features = detector.features(images).double()
        return features, detector.squared(features - detector.means[:, None]).argmin(0)

    first = LastCallCache(with_nearest)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        features, nearest = first(a)
        squared = detector.squared(detector.features(b).double() - features)
        return squared.gather(0, nearest[None])[0].float()

    return distance


def standardised(gaussians: ClassGaussians) -> tuple[Float[Tensor, " d"], ClassGaussians]:
    """Factors that give each feature a variance of 1 over all images, and the Gaussians of features so scaled."""
    counts = gaussians.counts.double()
    shares = (counts / counts.sum())[:, None]
    mean = (shares * gaussians.means).sum(0)
    within = gaussians.covariances.diagonal(dim1=1, dim2=2)
    variances = (shares * (within + (gaussians.means - mean) ** 2)).sum(0)
    scale = (1 / variances.clamp(min=1e-8).sqrt()).float()
    return scale, ClassGaussians(
        gaussians.counts, gaussians.means * scale, gaussians.covariances * scale * scale[:, None]
    )


def class_gaussians(weights: Mapping[str, Any], before: str = "") -> ClassGaussians | None:
    """The Gaussians that a release holds beside its weights; None where there are none.

    Args:
        weights: of the release.
        before: what precedes their names: "" for embeddings, ``fedlmd.calibration.DESCRIBED`` for descriptors,
            ``THUMBNAILS`` for the embeddings of thumbnails.

    Raises:
        ValueError: when some are missing or broken, or do not fit each other.
    """
    prefix = before + GAUSSIANS
    parts = {n.removeprefix(prefix): np.asarray(v) for n, v in weights.items() if n.startswith(prefix)}
    if not parts:
        return None
    shapes = [parts[name].shape if name in parts else None for name in ClassGaussians._fields]
    classes, size = shapes[1] if shapes[1] is not None and len(shapes[1]) == 2 else (0, 0)
    if shapes != [(classes,), (classes, size), (classes, size * (size + 1) // 2)]:
        raise ValueError(f"the Gaussians {prefix!r} do not fit each other: they have the shapes {shapes}")
    if not all(np.isfinite(part).all() for part in parts.values()) or not parts["counts"].sum() > 0:
        raise ValueError(f"the Gaussians {prefix!r} are broken: they are not finite, or of no image")
    parts["covariances"] = square(parts["covariances"], size)
    return ClassGaussians(**{name: torch.from_numpy(part.astype(np.float32)) for name, part in parts.items()})
