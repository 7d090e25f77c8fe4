"""The union of several workers' detectors: an image is unknown only when it is unknown to every worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedlmd.calibration import Moments
from fedlmd.detection.detector import Detector


@final
class Union:
    """The lowest of the workers' scores, each in standard deviations from its mean on the worker's images.

    A threshold on the lowest is a threshold on all: an image is unknown where every worker's standardised score exceeds
    the threshold, and known where that of one worker does not.

    Args:
        detectors: one for each worker.
        scales: of each worker's scores of its held-back images.
        holds: which labels each worker has images of (K, C), True where it has.
        classify: images to class indices (B,). A worker's detector scores only images classified as a label that it
            has, as its denoiser can redraw no other; without ``classify``, and where no worker has the label, all do.
    """

    def __init__(
        self,
        detectors: Sequence[Detector],
        scales: Sequence[Moments],
        holds: Bool[Tensor, "k c"],
        classify: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not len(detectors) == len(scales) == len(holds):
            raise ValueError(
                f"{len(detectors)} detectors, {len(scales)} scales and the labels of {len(holds)} workers; "
                "give one of each for every worker"
            )
        self.detectors, self.scales, self.classify = tuple(detectors), tuple(scales), classify
        self.holds = holds | ~holds.any(0)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The lowest of the workers' standardised scores."""
        shape = (len(self.detectors), len(images))
        scored_by = torch.ones(shape, dtype=torch.bool, device=images.device)
        if self.classify is not None:
            scored_by = self.holds.to(images.device)[:, self.classify(images)]
        lowest = torch.full((len(images),), torch.inf, device=images.device)
        for detector, scale, rows in zip(self.detectors, self.scales, scored_by, strict=True):
            if rows.any():
                # The same tensor where all images are scored: its embedding is cached.
                scores = (detector.score(images if rows.all() else images[rows]) - scale.mean) / max(scale.std, 1e-12)
                lowest[rows] = torch.minimum(lowest[rows], scores)
        return lowest
