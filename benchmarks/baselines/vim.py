"""Virtual-logit matching: the part of features outside their principal subspace, and the energy, as one OOD score."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection import Features, in_batches


@final
class ViM:
    """Virtual logit minus energy (Wang et al. 2022); the former is the features' part outside a subspace.

    Args:
        features: images to feature vectors.
        in_domain: images that no network was trained on, 1 or more.
        weight: of the linear head behind the features, (K, D).
        bias: of the head, (K,).
        dimensions: of the principal subspace, 0 to D - 1; half of D by default. The authors take 1000 where D is
            2048 or more, and 512 below.

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
        vectors = in_batches(features, in_domain).double()
        centred = vectors - self.origin
        # Eigenvectors come with the smallest eigenvalue first: these span the complement of the subspace.
        eigenvectors = torch.linalg.eigh(centred.T @ centred / len(vectors)).eigenvectors
        self.residual: Tensor = eigenvectors[:, : size - dimensions]
        self.scale = self.logits(vectors).amax(1).mean() / self.residual_norm(vectors).mean()

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The virtual logit minus the energy of the true ones."""
        vectors = self.features(images).double()
        return (self.scale * self.residual_norm(vectors) - self.logits(vectors).logsumexp(1)).float()

    def residual_norm(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Length of the part of features outside the principal subspace."""
        return ((features - self.origin) @ self.residual).square().sum(1).sqrt()

    def logits(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of features."""
        return features @ self.weight.T + self.bias
