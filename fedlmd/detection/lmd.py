"""Lift, Map, Detect (Liu et al., ICML 2023): a diffusion model redraws out-of-distribution images differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from fedlmd.choices import between, one_of
from fedlmd.detection.distances import Distance, DistanceKind
from fedlmd.detection.masks import MaskKind, masks
from fedlmd.diffusion import Denoiser, InpaintingConfig, Noise, Schedule, inpaint

Condition = Literal["none", "predicted"]

# Images to class indices (B,).
Classify = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LMDConfig:
    """The settings of LMD. ``PAPER`` and ``FAST`` are the named presets.

    Args:
        mask: what stays visible, see ``masks``.
        cells: mask cells along a side.
        reconstructions: how many times an image is redrawn, 1 or more (the paper: 10).
        distance: "mse", "ssim", "features" (in the classifier's maps), "embedding" (in the input of its head),
            "mahalanobis" (by the Gaussians of known images) or "lpips" (the paper's; needs the extra).
        condition: "none" redraws as any known class, as in the paper; "predicted" redraws as the class that the
            classifier predicts, so that an unseen digit is redrawn as the known one that it is mistaken for.
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
        between(self, 1, math.inf, "reconstructions")
        one_of(self, MaskKind, "mask")
        one_of(self, DistanceKind, "distance")
        one_of(self, Condition, "condition")

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
    """R masks (True keeps) and R redrawn copies of each image."""

    keep: Bool[Tensor, "r 1 h w"]
    images: Float[Tensor, "r b c h w"]


@final
class LMD:
    """Median distance between an image and its reconstructions (Liu et al. 2023, algorithm 1).

    Lift: hide part of the image. Map: redraw it with the diffusion model. Detect: measure the distance of the result.

    Args:
        denoiser: the diffusion model, see ``Denoiser``.
        schedule: its noise levels.
        distance: compares image and reconstruction.
        config: the settings.
        classify: images to class indices (B,), needed when conditioned on the predicted class.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        distance: Distance,
        config: LMDConfig = FAST,
        classify: Classify | None = None,
    ) -> None:
        self.denoiser, self.schedule, self.distance, self.config = denoiser, schedule, distance, config
        self.classify = label_source(config.condition, classify)

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Median of the distances to the reconstructions."""
        return self.distances(images, self.reconstruct(images)).quantile(0.5, dim=0)

    @torch.inference_mode()
    def distances(self, images: Float[Tensor, "b c h w"], redrawn: Reconstruction) -> Float[Tensor, "r b"]:
        """The distance between each image and each of its reconstructions."""
        return torch.stack([self.distance(images, copy) for copy in redrawn.images])

    @torch.inference_mode()
    def reconstruct(self, images: Float[Tensor, "b c h w"], which: range | None = None) -> Reconstruction:
        """Redraw every image in [-1, 1]; all reconstructions go through the network together.

        ``which`` are numbers of reconstructions, by default all R. Each is the same whichever others are made with it.
        """
        config, (b, c, h, w) = self.config, images.shape
        which = range(config.reconstructions) if which is None else which
        generator = torch.Generator().manual_seed(config.seed)
        every = masks(config.mask, config.reconstructions, (h, w), config.cells, generator)
        keep = every[which.start : which.stop].to(images.device)
        redrawn = inpaint(
            self.denoiser,
            self.schedule,
            images.repeat(len(which), 1, 1, 1),
            each_repeated(keep, b),
            config=config.inpainting,
            noise=fixed_noise(config.seed, which),
            label=None if self.classify is None else self.classify(images).repeat(len(which)),
        )
        return Reconstruction(keep, redrawn.reshape(len(which), b, c, h, w))


def label_source(condition: Condition, classify: Classify | None) -> Classify | None:
    """``classify`` where the condition is "predicted", else None. Raises ValueError where it is needed and missing."""
    if condition == "predicted" and classify is None:
        raise ValueError("condition 'predicted' needs a classifier; give one or set the condition to 'none'")
    return classify if condition == "predicted" else None


def fixed_noise(seed: int, repeats: Sequence[int]) -> Noise:
    """Noise that differs between the repeats of an image but not between the images of a batch.

    A score is then a fixed function of its image, whatever batch the image is in, and images are compared under the
    same noise. Batches are ordered with the repeats outermost; the noise of a repeat depends on its number alone.
    """
    generators = [torch.Generator().manual_seed(1_000 * seed + number) for number in repeats]

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = torch.stack([torch.randn(*shape[1:], generator=generator) for generator in generators])
        return each_repeated(noise, shape[0] // len(generators))

    return draw


def each_repeated(x: Shaped[Tensor, "n ..."], times: int | torch.SymInt) -> Shaped[Tensor, "m ..."]:
    """Every entry several times, as ``repeat_interleave``, whose ONNX form takes no batch of another size."""
    return x[:, None].expand(-1, times, *x.shape[1:]).flatten(0, 1)
