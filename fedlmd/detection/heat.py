"""Why an image is strange: where it differs from what the diffusion model agrees on, as a map of heat."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedlmd.detection.lmd import LMDConfig, Reconstruction
from fedlmd.diffusion import InpaintingConfig, Schedule

__all__ = ["agreed", "explaining", "heat"]

RECONSTRUCTIONS, STEPS = 8, 8
# Enough noise for the model to redraw what is wrong, and little enough for it to leave alone what is right.
START = 0.8
# Deviation of the smoothing as a share of an image's side: one pixel in 28.
SMOOTHING = 1 / 28


def explaining(config: LMDConfig, schedule: Schedule) -> LMDConfig:
    """LMD's settings for a heat-map, of the same class and cells as for a score.

    Scores are best when nothing of the hidden part is left. A heat-map is clearer from less than full noise, with
    enough reconstructions to tell what they agree on, and is cheap whatever a score costs: 64 evaluations at most.
    """
    steps = min(STEPS, round(START * len(schedule)))
    return replace(
        config,
        mask="alternating-checkerboard",
        reconstructions=RECONSTRUCTIONS,
        inpainting=InpaintingConfig(steps=steps, start=START),
    )


def redrawn_only(redrawn: Reconstruction) -> Float[Tensor, "r b c h w"]:
    """The reconstructions with NaN wherever they merely repeat the image."""
    return redrawn.images.masked_fill(redrawn.keep[:, None], torch.nan)


def agreed(images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "b c h w"]:
    """The median reconstruction: per pixel, over those that redrew it; the image itself where none did."""
    median = redrawn_only(redrawn).nanquantile(0.5, dim=0)
    return torch.where(median.isnan(), images, median)


def heat(images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "b h w"]:
    """How far images are from their median reconstructions, beyond what the reconstructions differ among themselves.

    Per pixel and channel the distance to the median, less the standard deviation of the reconstructions that redrew
    it (0 where that is more); then squared, averaged over channels, and smoothed by a Gaussian as maps of anomalies
    usually are (Defard et al. 2021, PaDiM, section IV). In [0, 4]. The edges of every stroke come back a little
    thicker or thinner; the deviation takes that away, and what remains is what no reconstruction has.

    Args:
        images: images in [-1, 1].
        redrawn: their reconstructions.
    """
    only = redrawn_only(redrawn)
    spread = (only - only.nanmean(0)).square().nanmean(0).sqrt().nan_to_num(0.0)
    excess = ((images - agreed(images, redrawn)).abs() - spread).clamp(min=0)
    return smoothed(excess.square().mean(1))


def smoothed(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Maps under a Gaussian whose deviation is ``SMOOTHING`` of the longer side; it ends at three deviations."""
    deviation = SMOOTHING * max(maps.shape[1:])
    reach = min(round(3 * deviation), *(side - 1 for side in maps.shape[1:]))
    offsets = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    line = torch.exp(-(offsets**2) / (2 * deviation**2))
    line = line / line.sum()
    padded = F.pad(maps[:, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, line[None, None, :, None]), line[None, None, None, :])[:, 0]
