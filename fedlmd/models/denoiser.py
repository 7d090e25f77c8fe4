"""The denoiser: a small class-conditional U-Net (Ronneberger et al. 2015; Ho et al. 2020) shaped for CPUs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from fedlmd.choices import between


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of the denoiser.

    Args:
        image_size: height and width of the images, in pixels; a multiple of ``patch * 2 ** (len(widths) - 1)``.
        channels: image channels, 1 (grey) or 3 (RGB).
        classes: number of labels that it can be conditioned on.
        widths: feature channels of each resolution, finest first; multiples of 8.
        blocks: residual blocks of each resolution, on the way down and again on the way up.
        patch: pixels of a patch's side. Patches are folded into channels before the first convolution, so that no
            layer runs at full resolution, which a CPU needs much time for.
        network: a name of ``fedlmd.models.DENOISERS``.
        options: further settings of a network; the U-Net has none.
    """

    image_size: int = 28
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 128)
    blocks: int = 1
    patch: int = 2
    network: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.widths or any(width % 8 or width < 8 for width in self.widths):
            raise ValueError(f"widths {self.widths} must be one or more multiples of 8")
        between(self, 1, math.inf, "blocks")
        multiple = self.patch * 2 ** (len(self.widths) - 1)
        if self.image_size % multiple:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {multiple} for {len(self.widths)} widths"
            )


class DenoiserNetwork(nn.Module, ABC):
    """Predicts the velocity ``v`` of a noisy image (Salimans & Ho 2022), with or without a label.

    Attributes:
        local_layers: prefixes of the weights that stay at each worker where a federation shares only a part of the
            network.
    """

    local_layers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Predict v.

        Args:
            x_t: noisy images, float32.
            t: noise level of each image, 0 (least noise) to the schedule's last step.
            label: class index of each image; ``classes`` means "no label", and so does None for the whole batch.
        """


@final
class UNet(DenoiserNetwork):
    """A small class-conditional U-Net.

    Local layers are the way up, where the workers' data differ most (De Goede et al. 2024, FedDiffuse, share parts of
    it likewise).
    """

    local_layers: ClassVar[tuple[str, ...]] = ("up.", "upsample.", "norm.", "head.")

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        widths, embedding = config.widths, 2 * max(config.widths)
        folded = config.channels * config.patch**2
        self.time_embedding = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        # The last row stands for "no label".
        self.label_embedding = nn.Embedding(config.classes + 1, embedding)
        self.stem = nn.Conv2d(folded, widths[0], 3, padding=1)

        self.down = nn.ModuleList(Level(width, width, config.blocks, embedding) for width in widths)
        self.up = nn.ModuleList(Level(2 * width, width, config.blocks, embedding) for width in widths[:-1])
        self.downsample = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.upsample = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.attention = SelfAttention(widths[-1])
        self.middle = ResidualBlock(widths[-1], widths[-1], embedding)
        self.norm = nn.GroupNorm(8, widths[0])
        self.head = nn.Conv2d(widths[0], folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Predict v."""
        if label is None:
            label = torch.full_like(t, self.config.classes)
        condition = F.silu(self.time_embedding(sinusoid(t)) + self.label_embedding(label))
        h = self.stem(F.pixel_unshuffle(x_t, self.config.patch))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            h = blocks(h, condition)
            if level < len(self.downsample):
                skips.append(h)
                h = self.downsample[level](h)
        h = self.middle(self.attention(h), condition)
        for level in reversed(range(len(self.up))):
            h = F.interpolate(self.upsample[level](h), scale_factor=2.0)
            h = self.up[level](torch.cat([h, skips[level]], dim=1), condition)
        return F.pixel_shuffle(self.head(F.silu(self.norm(h), inplace=True)), self.config.patch)


class Level(nn.Module):
    """Residual blocks at one resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, embedding: int) -> None:
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding) for a, b in pairwise(widths))

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        """Features after all blocks."""
        for block in self.blocks:
            x = block(x, condition)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut; time and label scale and shift the normalised features (AdaGN)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b e"]) -> Float[Tensor, "b d h w"]:
        """Features after the block, conditioned on time and label."""
        h = self.conv1(F.silu(self.norm1(x), inplace=True))
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        result: Tensor = self.conv2(F.silu(h, inplace=True)).add_(self.shortcut(x))
        return result


class SelfAttention(nn.Module):
    """Multi-head attention over all positions, at the coarsest resolution, where it is cheap."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.project = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.project.weight)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Features after attention over all positions."""
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, height * width).transpose(-1, -2)
        h = F.scaled_dot_product_attention(*qkv.unbind(1))
        result: Tensor = x + self.project(h.transpose(-1, -2).reshape(b, c, height, width))
        return result


def sinusoid(t: Int[Tensor, " b"], width: int = 64) -> Float[Tensor, "b w"]:
    """Sines and cosines of the noise level at geometrically spaced frequencies (Vaswani et al. 2017)."""
    frequencies = torch.exp(torch.arange(width // 2, device=t.device) * (-math.log(10_000.0) / (width // 2)))
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
