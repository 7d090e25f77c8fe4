"""Lift, Map, Detect (Liu et al., ICML 2023): what a diffusion model redraws differently lies outside its domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fedlmd.detection.distances import Distance
from fedlmd.detection.masks import MaskKind, masks
from fedlmd.diffusion import Denoiser, InpaintingConfig, Noise, Schedule, inpaint

__all__ = ["FAST", "LMD", "PAPER", "PRESETS", "Condition", "DistanceKind", "LMDConfig", "Reconstruction", "fixed_noise"]

Condition = Literal["none", "predicted"]
DistanceKind = Literal["mse", "ssim", "features", "embedding", "lpips"]


@dataclass(frozen=True)
class LMDConfig:
    """The settings of LMD. ``PAPER`` and ``FAST`` are the named presets.

    Args:
        mask: what stays visible, see ``masks``.
        cells: mask cells along a side.
        reconstructions: how many times an image is redrawn, 1 or more (the paper: 10).
        distance: "mse", "ssim", "features" (in the classifier's maps), "embedding" (in what its head sees of all views)
            or "lpips" (the paper's; needs the extra).
        condition: "none" redraws as any known class, as in the paper; "predicted" redraws as the class that the
            classifier takes the image for, so that an unseen digit comes back as the one it was mistaken for.
        inpainting: steps, noise and starting level of the sampler.
        seed: of the masks and the noise; the score is a fixed function of the image.
    """

    mask: MaskKind = "alternating-checkerboard"
    cells: int = 4
    reconstructions: int = 6
    distance: DistanceKind = "embedding"
    condition: Condition = "predicted"
    inpainting: InpaintingConfig = field(default_factory=lambda: InpaintingConfig(steps=8))
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.reconstructions < 1:
            raise ValueError(f"reconstructions is {self.reconstructions}; at least 1 is needed, the paper takes 10")
        for name, value, kind in (
            ("mask", self.mask, MaskKind),
            ("distance", self.distance, DistanceKind),
            ("condition", self.condition, Condition),
        ):
            if value not in get_args(kind):
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(kind))}")

    @property
    def evaluations(self) -> int:
        """Network evaluations per image (NFE)."""
        return self.reconstructions * self.inpainting.steps


PAPER = LMDConfig(
    mask="alternating-checkerboard",
    cells=8,
    reconstructions=10,
    distance="lpips",
    condition="none",
    inpainting=InpaintingConfig(steps=1000, eta=1.0, start=1.0),
)
FAST = LMDConfig()
PRESETS = {"paper": PAPER, "fast": FAST}


class Reconstruction(NamedTuple):
    """What LMD saw: R masks (True keeps) and R redrawn copies of each image."""

    keep: Bool[Tensor, "r 1 h w"]
    images: Float[Tensor, "r b c h w"]


@final
class LMD:
    """Median distance between an image and its reconstructions (Liu et al. 2023, algorithm 1).

    Lift: hide part of the image. Map: let the diffusion model redraw it. Detect: measure how far the result is off.

    Args:
        denoiser: the diffusion model, see ``Denoiser``.
        schedule: its noise levels.
        distance: compares image and reconstruction.
        classify: images to class indices (B,), needed when the map is conditioned on the predicted class.
        config: the settings.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        distance: Distance,
        config: LMDConfig = FAST,
        classify: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if config.condition == "predicted" and classify is None:
            raise ValueError("condition 'predicted' needs a classifier; give one or set the condition to 'none'")
        self.denoiser, self.schedule, self.distance = denoiser, schedule, distance
        self.config, self.classify = config, classify

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Median of the distances to the reconstructions."""
        return self.judge(images, self.reconstruct(images))

    def judge(self, images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, " b"]:
        """The score that given reconstructions amount to."""
        return self.distances(images, redrawn).quantile(0.5, dim=0)

    @torch.inference_mode()
    def distances(self, images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "r b"]:
        """How far each given reconstruction is off."""
        return torch.stack([self.distance(images, copy) for copy in redrawn.images])

    @torch.inference_mode()
    def reconstruct(self, images: Float[Tensor, "b c h w"], which: range | None = None) -> Reconstruction:
        """Redraw every image; all reconstructions go through the network together.

        Args:
            images: images in [-1, 1].
            which: numbers of the reconstructions, all R without it. One is the same whatever others are asked for.
        """
        config, (b, c, h, w) = self.config, images.shape
        which = range(config.reconstructions) if which is None else which
        generator = torch.Generator().manual_seed(config.seed)
        every = masks(config.mask, config.reconstructions, (h, w), config.cells, generator)
        keep = every[which.start : which.stop].to(images.device)
        label: Int[Tensor, " n"] | None = None
        if config.condition == "predicted" and self.classify is not None:
            label = self.classify(images).repeat(len(which))
        redrawn = inpaint(
            self.denoiser,
            self.schedule,
            images.repeat(len(which), 1, 1, 1),
            keep.repeat_interleave(b, dim=0),
            config=config.inpainting,
            noise=fixed_noise(config.seed, which),
            label=label,
        )
        return Reconstruction(keep, redrawn.reshape(len(which), b, c, h, w))


def fixed_noise(seed: int, repeats: Sequence[int]) -> Noise:
    """Noise that differs between the repeats of an image but not between the images of a batch.

    A score is then a fixed function of its image, whatever batch the image came in, and images are compared under
    the same noise. Batches are ordered with the repeats outermost; each repeat has its
    own noise by its number, whichever others are drawn with it.
    """
    generators = [torch.Generator().manual_seed(1_000 * seed + number) for number in repeats]

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = torch.stack([torch.randn(*shape[1:], generator=generator) for generator in generators])
        return noise.repeat_interleave(shape[0] // len(generators), dim=0)

    return draw
