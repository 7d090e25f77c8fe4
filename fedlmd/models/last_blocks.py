"""The last blocks of EfficientNet-Lite0 as a classifier: fine-tuned from what they learned on ImageNet."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.classifier import Classifier, ClassifierConfig
from fedlmd.models.encoders.efficientnet import BLOCKS, DEFAULT, LAYERS, folded, pretrained

FIRST = DEFAULT[0] + 1
"""The first block that is fine-tuned: the one behind the maps that the latents are made of."""

WIDTH = 320
"""Features of the last block."""

RATE = 0.25
"""Share of the learning rate that the blocks have: a whole one destroys what they know."""


@final
class LastBlocks(Classifier):
    """Blocks 11 to 15 behind the maps of block 10, which are recovered from the latents; then the mean over cells.

    The convolutions of single cells are trained. Those of each channel over its neighbours stay as they are: they have
    few weights, which hardly change, and half of the training's time would be theirs. They are no weights of the run.

    Args:
        config: of the classifier; ``channels`` are the whitened ones of the maps of block 10.

    Raises:
        EncoderError: the extra ``photos`` is not installed.
        ValueError: more than one view is asked for.
    """

    rate_share = RATE

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        if config.views != 1:
            raise ValueError(f"views is {config.views}; fine-tuned blocks know upright images alone, set it to 1")
        self.blocks = nn.ModuleList(Block(*arrays) for arrays in pretrained_blocks())
        features = pretrained_blocks()[0][0][0].shape[1]
        self.unwhiten: Float[Tensor, "d c 1 1"]
        self.mean: Float[Tensor, " d"]
        # They follow from the run's whitening, so they are none of the classifier's weights.
        self.register_buffer("unwhiten", torch.zeros(features, config.channels, 1, 1), persistent=False)
        self.register_buffer("mean", torch.zeros(features), persistent=False)
        self.build_head(WIDTH)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # two thirds of the time on processors

    def follow(self, mean: Float[Tensor, " d"], projection: Float[Tensor, "c d"]) -> None:
        """Take the whitening whose latents the classifier gets: maps are the least-squares solution of theirs."""
        features = len(self.mean)
        inverse = torch.linalg.pinv(projection[:, :features].double()).float()
        self.unwhiten.copy_(inverse[:, :, None, None])
        self.mean.copy_(mean[:features])

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The maps of every block."""
        x = F.conv2d(images.contiguous(memory_format=torch.channels_last), self.unwhiten, self.mean)
        maps: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def pooled(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The mean over cells of the last block's maps, which have both signs."""
        return self.maps(images)[-1].mean((2, 3))

    def stages_embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The last block's means alone, scaled to a mean square of 1."""
        return F.normalize(self.pooled(images)) * math.sqrt(WIDTH)


@final
class Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018) with the batch norms folded in.

    Args:
        expand: weights and bias of the convolution of single cells that widens.
        depthwise: of that of each channel over its neighbours.
        project: of that of single cells that narrows.
        stride: of the second.
    """

    def __init__(
        self,
        expand: tuple[Tensor, Tensor],
        depthwise: tuple[Tensor, Tensor],
        project: tuple[Tensor, Tensor],
        stride: int,
    ) -> None:
        super().__init__()
        self.expand, self.project = cellwise(*expand), cellwise(*project)
        self.kernel: Tensor
        self.bias: Tensor
        self.register_buffer("kernel", depthwise[0].clone(), persistent=False)
        self.register_buffer("bias", depthwise[1].clone(), persistent=False)
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d _h _w"]:
        """Features (B, D, ceil(H / stride), ceil(W / stride))."""
        wide = F.hardtanh(self.expand(x), 0.0, 6.0)
        size = self.kernel.shape[-1]
        if self.stride > 1:  # TensorFlow's padding, one more cell at the right and the bottom
            missing = [
                max((-(-n // self.stride) - 1) * self.stride + size - n, 0) for n in (wide.shape[3], wide.shape[2])
            ]
            wide = F.pad(wide, [part for n in missing for part in (n // 2, n - n // 2)])
        padding = 0 if self.stride > 1 else size // 2
        wide = F.conv2d(wide, self.kernel, self.bias, self.stride, padding, groups=len(self.kernel))
        out: Tensor = self.project(F.hardtanh(wide, 0.0, 6.0))
        return x + out if out.shape == x.shape else out


def cellwise(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of single cells with these weights."""
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()  # type: ignore[union-attr]
    return layer


@lru_cache(maxsize=1)
def pretrained_blocks() -> list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]]:
    """Weights and biases of the three convolutions of each block, and the stride; raises EncoderError."""
    blocks = []
    for block in pretrained()._blocks[FIRST:BLOCKS]:
        layers = [folded(getattr(block, convolution), getattr(block, norm)) for convolution, norm in LAYERS]
        arrays = [(layer.weight.detach(), layer.bias.detach()) for layer in layers if layer.bias is not None]
        blocks.append((arrays[0], arrays[1], arrays[2], layers[1].stride[0]))
    return blocks
