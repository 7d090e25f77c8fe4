"""From images to latents, what both networks work on: a frozen encoder's maps, whitened; or the images themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16
from torch import Tensor

from fedlmd.calibration import ENCODER
from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder

LIMIT = 6.0
"""Latents are clipped at so many standard deviations of those of the training images."""

NONE = ("auto", "pixels")
"""Encoders that leave images as they are; "auto" is one before a run chose another."""


@final
class LatentEncoder:
    """Images to latents (B, C + T + E, h, w): the whitened maps, a thumbnail for the classifier, and the descriptor.

    The C channels, which both networks work on, are the whitened features of the cells. The T channels hold the
    thumbnail, where the encoder's configuration has one: each cell its square of pixels. The descriptor are the means
    of all D features over the cells, standardised; it fills the last channels row by row.

    Args:
        config: of the encoder, which is loaded when it is first needed.
        weights: those of a run or release; those that begin with ``encoder.`` are the whitening.

    Raises:
        ValueError: the whitening does not fit the encoder's maps.
    """

    def __init__(self, config: EncoderConfig, weights: Mapping[str, Any] | None = None) -> None:
        self.config = config
        given = (weights or {}).items()
        arrays = {name.removeprefix(ENCODER): array for name, array in given if name.startswith(ENCODER)}
        self.whitening: tuple[Tensor, Tensor, Tensor] | None = None
        if arrays and not self.is_identity:
            size = config.features
            shapes = {"mean": (size,), "projection": (config.channels, size), "deviation": (size,)}
            if {name: np.shape(array) for name, array in arrays.items()} != shapes:
                raise ValueError(f"the whitening of the encoder's maps has not the shapes {shapes}")
            mean, projection, deviation = (torch.from_numpy(np.asarray(arrays[n], np.float32)) for n in shapes)
            if not all(torch.isfinite(part).all() for part in (mean, projection, deviation)) or deviation.min() <= 0:
                raise ValueError("the whitening of the encoder's maps is not finite, or a deviation is not above 0")
            self.whitening = mean, projection, deviation

    @property
    def is_identity(self) -> bool:
        """Whether the networks work on images themselves."""
        return self.config.name in NONE

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _d _h _w"]:
        """Latents of images in [-1, 1], the same as those of ``maps`` and ``whitened`` in half precision."""
        return images if self.is_identity else self.whitened(self.maps(images)).float()

    @torch.no_grad()
    def maps(self, images: Float[Tensor, "b c h w"]) -> Float16[Tensor, "b _d _h _w"]:
        """The encoder's maps, and behind them the thumbnail's channels, in half precision.

        Raises:
            EncoderError: the encoder cannot be loaded, is another than the run's, or its maps have another form.
        """
        maps = load_encoder(self.config)(images)
        expected = (images.shape[0], self.config.features, self.config.side, self.config.side)
        if tuple(maps.shape) != expected:
            raise EncoderError(f"the encoder's maps have the shape {tuple(maps.shape)}; the run's have {expected}")
        half = maps.half()
        if not torch.compiler.is_exporting() and not torch.isfinite(half).all():
            raise EncoderError("the encoder's maps exceed half precision; choose another of its layers")
        if not self.config.thumbnail_channels:
            return half
        thumbnails = F.adaptive_avg_pool2d(images, self.config.thumbnail)
        return torch.cat([half, pixels_to_cells(thumbnails, self.config.side).half()], dim=1)

    @torch.no_grad()
    def whitened(self, maps: Float16[Tensor, "b _d h w"]) -> Float16[Tensor, "b _c h w"]:
        """Latents of maps: unit variance over the training images' cells, uncorrelated, clipped at ``LIMIT``.

        Raises:
            EncoderError: the whitening is not known.
        """
        if self.whitening is None:
            raise EncoderError("the whitening of the encoder's maps is missing in these weights")
        mean, projection, deviation = (part.to(maps.device) for part in self.whitening)
        features = self.config.features
        centred = maps[:, :features].float().movedim(1, -1) - mean
        channels = (centred @ projection.T).movedim(-1, 1).clamp(-LIMIT, LIMIT)
        described = packed(centred.mean((1, 2)) / deviation, maps.shape[2:])
        return torch.cat([channels, maps[:, features:].float(), described], dim=1).half()


def packed(descriptors: Float[Tensor, "b d"], cells: Sequence[int]) -> Float[Tensor, "b _e h w"]:
    """Descriptors as channels of so many rows and columns, the rest filled with zeros."""
    channels = -(-descriptors.shape[1] // (cells[0] * cells[1]))
    filled = F.pad(descriptors, (0, channels * cells[0] * cells[1] - descriptors.shape[1]))
    return filled.reshape(descriptors.shape[0], channels, *cells)


def descriptors(latents: Float[Tensor, "b _c h w"], config: EncoderConfig) -> Float[Tensor, "b d"]:
    """The descriptors that latents hold."""
    return latents[:, config.channels + config.thumbnail_channels :].flatten(1)[:, : config.features]


def pixels_to_cells(images: Float[Tensor, "b c s s"], side: int) -> Float[Tensor, "b _d h w"]:
    """Images as channels of ``side`` rows and columns: each cell has its square of pixels."""
    return F.pixel_unshuffle(images, images.shape[-1] // side)


def cells_to_pixels(channels: Float[Tensor, "b d h w"], size: int) -> Float[Tensor, "b _c s s"]:
    """The images of ``size`` pixels that ``pixels_to_cells`` made channels of."""
    return F.pixel_shuffle(channels, size // channels.shape[-1])
