"""The union of several sites' detectors: an image is strange only when it is strange to every site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedlmd.detection.calibration import Moments
from fedlmd.detection.detector import Detector

__all__ = ["Union"]


@final
class Union:
    """The lowest of the sites' scores, each in standard deviations from its mean on the site's own images.

    A threshold on the lowest is a threshold on all: an image is called unknown where every site's calibrated score
    calls it so, and an image that one site knows is known.

    Args:
        detectors: one for each site.
        scales: of each site's scores on its own in-domain images.
        holds: which labels each site has images of (K, C), True where it has.
        classify: images to class indices (B,). A site is asked only for images taken for a label that it has, as its
            denoiser can redraw no other; without it, and where nobody has the label, all sites are.
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
                f"{len(detectors)} detectors, {len(scales)} scales and the labels of {len(holds)} sites; "
                "give one of each for every site"
            )
        self.detectors, self.scales, self.classify = tuple(detectors), tuple(scales), classify
        self.holds = holds | ~holds.any(0)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The lowest of the standardised scores of those sites that are asked."""
        shape = (len(self.detectors), len(images))
        asked = torch.ones(shape, dtype=torch.bool, device=images.device)
        if self.classify is not None:
            asked = self.holds.to(images.device)[:, self.classify(images)]
        lowest = torch.full((len(images),), torch.inf, device=images.device)
        for detector, scale, of in zip(self.detectors, self.scales, asked, strict=True):
            if of.any():
                # The very same tensor where all are asked: its embedding is remembered.
                found = (detector.score(images if of.all() else images[of]) - scale.mean) / max(scale.std, 1e-12)
                lowest[of] = torch.minimum(lowest[of], found)
        return lowest
