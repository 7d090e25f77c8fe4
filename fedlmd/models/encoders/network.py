"""An encoder that is a torch network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.encoders.encoder import check_colour, encoded, joined

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of a network that takes images in [-1, 1]."""

TOGETHER = 64
"""So many images are encoded at a time on a graphics processor, which bounds the memory."""


@final
class NetworkEncoder(nn.Module):
    """A frozen torch network, on the graphics processor where there is one.

    Processors encode image by image. So the maps of an image do not depend on the images beside it, not even in the
    last bit, and what a layer writes is still in the cache when the next one reads it: EfficientNet-Lite0 encodes
    twice as many images in a second as in batches of 64.

    Args:
        network: normalised images to one map or several.
        digest: SHA-256 of its weights.
        mean: of each colour of the network's training images, in [0, 1].
        deviation: standard deviation of each colour.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, digest: str, mean: Sequence[float] = HALF, deviation: Sequence[float] = HALF
    ) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.digest = digest
        # ((image + 1) / 2 - mean) / deviation
        self.register_buffer("scale", (0.5 / torch.tensor(deviation)).view(3, 1, 1))
        self.register_buffer("shift", ((0.5 - torch.tensor(mean)) / torch.tensor(deviation)).view(3, 1, 1))
        if torch.cuda.is_available():
            # Ten bits of TensorFloat-32 would give a graphics processor other maps than the processor gives.
            torch.backends.cudnn.allow_tf32 = False
            self.cuda()

    def forward(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d h w"]:
        """Encode images, see ``Encoder``."""
        check_colour(images)
        with torch.no_grad():
            inputs = images.to(self.scale) * self.scale + self.shift
            if torch.compiler.is_exporting():  # a graph has no loop over its images
                return joined(self.network(inputs), inputs.shape[0])
            return encoded(self.network, inputs, TOGETHER if inputs.is_cuda else 1).to(images.device)

    def train(self, mode: bool = True) -> NetworkEncoder:  # noqa: ARG002 - as in torch
        """Stay in evaluation mode."""
        return super().train(False)
