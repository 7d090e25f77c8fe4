"""Detectors that look at the classifier alone: at its logits, or at the features behind them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection.detector import in_batches

__all__ = ["KNN", "ClassGaussians", "Energy", "Features", "Mahalanobis", "ViM", "directions"]

# Images to feature vectors, (B, C, H, W) to (B, D).
Features = Callable[[Tensor], Tensor]


def directions(features: Features) -> Features:
    """The same feature vectors, each scaled to a mean square of 1: their length says little of what an image shows."""

    def scaled(images: Tensor) -> Tensor:
        found = features(images)
        return F.normalize(found) * math.sqrt(found.shape[1])

    return scaled


class NoDenoiser:
    """What the detectors of this module have in common."""

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser per image (NFE): none."""
        return 0


@final
class Energy(NoDenoiser):
    """Minus the log of the summed exponentials of the logits (Liu et al. 2020, eq. 4, at temperature 1).

    Args:
        classifier: images to logits (B, K).
    """

    def __init__(self, classifier: Callable[[Tensor], Tensor]) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The energy."""
        return -self.classifier(images).logsumexp(1)


@final
class KNN(NoDenoiser):
    """Distance to the k-th nearest in-domain image among features of unit length (Sun et al. 2022).

    Args:
        features: images to feature vectors.
        in_domain: images that no network was trained on, ``k`` or more.
        k: which neighbour counts, 1 or more. The paper takes 50 for 50,000 images, and more for more.

    Raises:
        ValueError: when there are fewer than ``k`` images.
    """

    def __init__(self, features: Features, in_domain: Float[Tensor, "n c h w"], k: int = 5) -> None:
        if not 1 <= k <= len(in_domain):
            raise ValueError(f"k is {k}; with {len(in_domain)} in-domain images it lies between 1 and {len(in_domain)}")
        self.features, self.k = features, k
        self.bank = F.normalize(in_batches(features, in_domain).double())

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Euclidean distance to the k-th nearest, in [0, 2]."""
        found = F.normalize(self.features(images).double())
        # Computed by differences: by products, as for speed, it loses the digits that tell near neighbours apart.
        distances = torch.cdist(found, self.bank, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.kthvalue(self.k, dim=1).values.float()


class ClassGaussians(NamedTuple):
    """A Gaussian for the features of each class.

    Args:
        counts: images that it was fitted to; where there were none, the class is left out.
        means: of their features.
        covariances: of their features.
    """

    counts: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]


@final
class Mahalanobis(NoDenoiser):
    """Mahalanobis distance to the nearest class (Lee et al. 2018, eq. 2, its root), each with its own covariance.

    A covariance of few images says little. It is drawn towards the mean covariance of all classes by d / (n + d), n
    being the images of the class and d the size of the features, and then towards a sphere of the same total variance
    by ``shrinkage`` (Friedman 1989, eq. 16 and 18: regularised discriminant analysis).

    Args:
        features: images to feature vectors.
        gaussians: of in-domain images' features.
        shrinkage: in (0, 1].

    Raises:
        ValueError: when no class has an image, or the features of none vary.
    """

    def __init__(self, features: Features, gaussians: ClassGaussians, shrinkage: float = 0.1) -> None:
        self.features = features
        there = gaussians.counts > 0
        counts, self.means, own = (part[there].double() for part in gaussians)
        shared = (counts[:, None, None] * own).sum(0) / counts.sum()
        if not there.any() or not shared.diagonal().sum() > 0:
            raise ValueError("there are no images whose features vary; a Mahalanobis distance needs some of each class")
        size = own.shape[1]
        weight = (size / (counts + size))[:, None, None]
        mixed = (1 - weight) * own + weight * shared
        sphere = torch.eye(size, dtype=own.dtype, device=own.device)
        spheres = mixed.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * sphere
        shrunk = (1 - shrinkage) * mixed + shrinkage * spheres
        # By numpy: torch's own inverse takes minutes where two threads share a busy processor.
        self.precisions = torch.from_numpy(np.linalg.inv(shrunk.cpu().numpy())).to(own.device)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The smallest of the distances, 0 or more."""
        apart = self.features(images).double() - self.means[:, None]
        squared = ((apart @ self.precisions) * apart).sum(2)
        return squared.amin(0).clamp(min=0).sqrt().float()


@final
class ViM(NoDenoiser):
    """Virtual logit minus energy (Wang et al. 2022): features outside their usual subspace count as logit.

    Args:
        features: images to feature vectors.
        in_domain: images that no network was trained on, 1 or more.
        weight: of the linear head behind the features, (K, D).
        bias: of the head, (K,).
        dimensions: of the usual subspace, 0 to D - 1; half of D unless told. The authors take 1000 where D is 2048 or
            more, and 512 below.

    Raises:
        ValueError: when the subspace leaves no direction over, or there are no images.
    """

    def __init__(
        self,
        features: Features,
        in_domain: Float[Tensor, "n c h w"],
        weight: Float[Tensor, "k d"],
        bias: Float[Tensor, " k"],
        dimensions: int | None = None,
    ) -> None:
        size = weight.shape[1]
        dimensions = size // 2 if dimensions is None else dimensions
        if not 0 <= dimensions < size or not len(in_domain):
            raise ValueError(
                f"dimensions is {dimensions}, with {len(in_domain)} in-domain images; features of {size} dimensions "
                f"take 0 to {size - 1}, and 1 image or more"
            )
        self.features = features
        self.weight, self.bias = weight.detach().double(), bias.detach().double()
        self.origin: Tensor = -torch.linalg.pinv(self.weight) @ self.bias
        found = in_batches(features, in_domain).double()
        centred = found - self.origin
        # Eigenvectors come with the smallest eigenvalue first: these span what the subspace leaves over.
        self.residual: Tensor = torch.linalg.eigh(centred.T @ centred / len(found)).eigenvectors[:, : size - dimensions]
        self.scale = self.logits(found).amax(1).mean() / self.left_over(found).mean()

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The virtual logit minus the energy of the true ones."""
        found = self.features(images).double()
        return (self.scale * self.left_over(found) - self.logits(found).logsumexp(1)).float()

    def left_over(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Length of what the usual subspace leaves over of features."""
        return ((features - self.origin) @ self.residual).square().sum(1).sqrt()

    def logits(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """What the head makes of features."""
        return features @ self.weight.T + self.bias
