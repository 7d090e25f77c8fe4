"""Feature vectors of images, for the detectors that use a classifier's embedding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

# Images to feature vectors, (B, C, H, W) to (B, D).
Features = Callable[[Tensor], Tensor]


def l2_normalised(features: Features) -> Features:
    """The same feature vectors, each scaled to a mean square of 1: the length depends little on the image."""

    def scaled(images: Tensor) -> Tensor:
        vectors = features(images)
        return F.normalize(vectors) * math.sqrt(vectors.shape[1])

    return scaled
