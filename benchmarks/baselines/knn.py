"""The distance to the nearest in-domain images as an OOD score."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection import Features, in_batches


@final
class KNN:
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
        features = F.normalize(self.features(images).double())
        # By differences: the faster form by products is too inexact to order near neighbours.
        distances = torch.cdist(features, self.bank, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.kthvalue(self.k, dim=1).values.float()
