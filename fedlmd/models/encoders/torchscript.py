"""A TorchScript file as encoder: a network and its weights in one file, written by ``torch.jit.save``.

Settings: ``name = "torchscript"``, ``weights`` a file; it takes RGB images in [-1, 1] and gives one map (B, D, h, w) or
a list of them, of which ``layers`` are taken, by default all. Such a file is a program: take it from people you trust.
"""

from __future__ import annotations

import warnings
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.encoders.encoder import Encoder, EncoderError, EncoderSource, chosen, last_line
from fedlmd.models.encoders.network import NetworkEncoder


@final
class Script(nn.Module):
    """A loaded file, and the layers to take.

    Args:
        module: the file's network.
        layers: indices into its list of maps; empty for all.
    """

    def __init__(self, module: nn.Module, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.layers = module, layers

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Any:  # noqa: ANN401 - checked by ``joined``
        """The maps of the chosen layers."""
        return chosen(self.module(images), self.layers)


def torchscript(source: EncoderSource) -> Encoder:
    """The network of a TorchScript file.

    Raises:
        EncoderError: the file is no TorchScript.
    """
    with warnings.catch_warnings():
        # torch deprecates writing and reading TorchScript, but still does both.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = torch.jit.load(str(source.path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise EncoderError(
                f"the encoder's file {str(source.path)!r} is no TorchScript, as torch.jit.save writes it: "
                f"{last_line(error)}"
            ) from error
    return NetworkEncoder(Script(module, source.layers), source.digest)
