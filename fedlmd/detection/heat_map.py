"""Where an image differs from its reconstructions, as a heat-map."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.detection.lmd import LMDConfig, Reconstruction, fixed_noise
from fedlmd.diffusion import Denoiser, InpaintingConfig, Schedule

RECONSTRUCTIONS, STEPS = 8, 8
# Enough noise to redraw what the model does not know, and little enough to keep the rest.
START = 0.8
# Standard deviation of the smoothing as a share of an image's side: one pixel in 28.
SMOOTHING = 1 / 28


def explanation_config(config: LMDConfig, schedule: Schedule) -> LMDConfig:
    """LMD's settings for a heat-map, of the same class and cells as for a score.

    Scores are best when nothing of the hidden part is left. A heat-map is clearer from less than full noise and several
    reconstructions. It takes 64 evaluations at most, whatever a score takes.
    """
    steps = min(STEPS, round(START * len(schedule)))
    return replace(
        config,
        mask="alternating-checkerboard",
        reconstructions=RECONSTRUCTIONS,
        inpainting=InpaintingConfig(steps=steps, start=START),
    )


def redrawn_only(redrawn: Reconstruction) -> Float[Tensor, "r b c h w"]:
    """The reconstructions with NaN wherever the image was kept."""
    return redrawn.images.masked_fill(redrawn.keep[:, None], torch.nan)


def median_reconstruction(images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "b c h w"]:
    """The median reconstruction: per pixel, over those that redrew it; the image itself where none did."""
    median = redrawn_only(redrawn).nanquantile(0.5, dim=0)
    return torch.where(median.isnan(), images, median)


def heat(images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "b h w"]:
    """How far images are from their median reconstructions, less the spread of the reconstructions.

    Per pixel and channel the distance to the median, less the standard deviation of the reconstructions that redrew
    it (0 where that is more); then squared, averaged over channels, and smoothed by a Gaussian as anomaly maps
    usually are (Defard et al. 2021, PaDiM, section IV). In [0, 4]. The edges of strokes vary between reconstructions;
    subtracting the standard deviation removes them from the map.

    Args:
        images: images in [-1, 1].
        redrawn: their reconstructions.
    """
    only = redrawn_only(redrawn)
    spread = (only - only.nanmean(0)).square().nanmean(0).sqrt().nan_to_num(0.0)
    excess = ((images - median_reconstruction(images, redrawn)).abs() - spread).clamp(min=0)
    return smoothed(excess.square().mean(1))


def smoothed(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Maps under a Gaussian: its standard deviation is ``SMOOTHING`` of the longer side, its radius three of these."""
    std = SMOOTHING * max(maps.shape[1:])
    radius = min(round(3 * std), *(side - 1 for side in maps.shape[1:]))
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    line = torch.exp(-(offsets**2) / (2 * std**2))
    line = line / line.sum()
    padded = F.pad(maps[:, None], (radius, radius, radius, radius), mode="reflect")
    return F.conv2d(F.conv2d(padded, line[None, None, :, None]), line[None, None, None, :])[:, 0]


LEVELS = (0.3, 0.5, 0.7)
"""Noise levels of ``residual_heat``, as fractions of the schedule."""


@torch.inference_mode()
def residual_heat(
    latents: Float[Tensor, "b c h w"],
    denoiser: Denoiser,
    schedule: Schedule,
    label: Int[Tensor, " b"] | None = None,
    seed: int = 0,
) -> Float[Tensor, "b h w"]:
    """How far latents are from their posterior means, cell by cell.

    The root mean square over channels and noise levels of the difference to E[x_0 | x_t], each from a single step, as
    the score of one-step denoising has it; in standard deviations of the training images' cells.

    Args:
        latents: of images.
        denoiser: the diffusion model.
        schedule: its noise levels.
        label: class indices to denoise as; None denoises as any.
        seed: of the noise, which is the same for every image.
    """
    squares = []
    for number, level in enumerate(LEVELS):
        t = torch.full((len(latents),), round(level * len(schedule)) - 1, device=latents.device)
        noise = fixed_noise(seed, [number])(tuple(latents.shape)).to(latents.device)
        x_t = schedule.add_noise(latents, noise, t)
        squares.append((latents - schedule.clean(x_t, denoiser(x_t, t, label), t)).square().mean(1))
    return torch.stack(squares).mean(0).sqrt()
