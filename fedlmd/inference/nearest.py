"""The known images that are nearest to an image, where it cannot be shown what the diffusion model made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from fedlmd.data import LabelledImages
from fedlmd.inference.predictor import BATCH, Predictor

SIDE = 96
"""Known images are kept at most this high and wide, in pixels."""


@dataclass(frozen=True, eq=False)
class NearestImage:
    """A known image near to another.

    Args:
        label: of the known image.
        distance: between the unit-length embeddings of the two, in [0, 2].
        pixels: of the known image (C, S, S), at most ``SIDE`` high and wide.
    """

    label: str
    distance: float
    pixels: UInt8[Tensor, "c s s"]


@final
class NearestImages:
    """Known images to search, by the embeddings whose Gaussians the detector "mahalanobis" has.

    Args:
        predictor: of the release.
        inputs: what the release's networks get of the known images: an encoder's latents, or the images themselves.
        images: the same images as pixels, in the same order.

    Raises:
        ValueError: the two are not of the same images.
    """

    def __init__(self, predictor: Predictor, inputs: LabelledImages, images: LabelledImages) -> None:
        if not torch.equal(inputs.labels, images.labels) or inputs.names != images.names:
            raise ValueError("inputs and images are not of the same known images")
        self.predictor, self.images = predictor, smaller(images)
        batches = torch.split(torch.arange(len(inputs)), BATCH)
        self.embeddings = torch.cat([self.embedding(inputs.images(batch)) for batch in batches])

    @torch.inference_mode()
    def embedding(self, batch: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Unit-length embeddings of latents, on the processor."""
        inputs = self.predictor.inputs
        features = inputs.gaussian_features(inputs.maps(batch.to(self.predictor.networks.device)))
        return F.normalize(features).cpu()

    def nearest(self, image: Float[Tensor, "1 c h w"], count: int) -> list[NearestImage]:
        """The ``count`` nearest known images of an image in [-1, 1] of the release's size, the nearest first."""
        networks = self.predictor.networks
        with torch.inference_mode():
            embedding = self.embedding(networks.encode(image.to(networks.device)))
        distances, positions = torch.cdist(embedding, self.embeddings)[0].topk(
            min(count, len(self.embeddings)), largest=False
        )
        known = self.images.take(positions)
        return [
            NearestImage(known.names[int(label)], float(distance), pixels)
            for label, distance, pixels in zip(known.labels, distances, known.pixels, strict=True)
        ]


def smaller(images: LabelledImages) -> LabelledImages:
    """Images reduced to ``SIDE``; smaller ones as they are."""
    if images.pixels.shape[-1] <= SIDE:
        return images
    parts = [
        F.interpolate(batch.float(), size=(SIDE, SIDE), mode="area").round().byte()
        for batch in torch.split(images.pixels, BATCH)
    ]
    return LabelledImages(torch.cat(parts), images.labels, images.names)
