"""An encoder: a frozen network that turns images into the maps that classifier, denoiser and detectors work on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


class EncoderError(ValueError):
    """An encoder that cannot be loaded, or cannot encode such images. The message says how to mend it."""


@runtime_checkable
class Encoder(Protocol):
    """Images to maps. It is frozen: the same image always has the same maps."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, 64 hexadecimal digits; empty for an encoder without weights."""

    def __call__(self, images: Float[Tensor, "b c s s"]) -> Float[Tensor, "b d h w"]:
        """Encode images.

        Args:
            images: float32 in [-1, 1], on any device; RGB except for the encoder "pixels", which takes grey ones, too.

        Returns:
            float32 maps on the device of the images, without gradients.

        Raises:
            EncoderError: the encoder cannot take images of this form.
        """


@dataclass(frozen=True)
class EncoderSource:
    """What an encoder is built from.

    Args:
        model: name of the network, for encoders that have several.
        layers: which maps are concatenated, numbered from 0; empty for the encoder's default.
        weights: the file or folder of the weights; None for encoders that take none.
        digest: SHA-256 of ``weights``; empty without them.
    """

    model: str = ""
    layers: tuple[int, ...] = ()
    weights: Path | None = None
    digest: str = ""

    @property
    def path(self) -> Path:
        """The file or folder of the weights. Raises EncoderError where none is given."""
        if self.weights is None:
            raise EncoderError("the encoder needs weights: the name of a file of the folder of encoders")
        return self.weights


EncoderBuilder = Callable[[EncoderSource], Encoder]
"""Makes an encoder. Raises EncoderError."""


def shape(encoder: Encoder, size: int, channels: int = 3) -> tuple[int, int, int]:
    """Channels, height and width of the maps of square images, found by encoding one image of zeros.

    Args:
        encoder: to be asked.
        size: height and width of the images.
        channels: of the images.

    Raises:
        EncoderError: the encoder cannot take images of this size, or its maps are not finite.
    """
    try:
        maps = encoder(torch.zeros(1, channels, size, size))
    except EncoderError:
        raise
    # What a network raises for a size that it does not fit is its own choice: AssertionError, RuntimeError, ...
    except Exception as error:
        raise EncoderError(f"the encoder cannot take images of {size} x {size}: {last_line(error)}") from error
    if not torch.isfinite(maps).all():
        raise EncoderError(f"the encoder's maps of an image of {size} x {size} are not finite; use other weights")
    _, features, height, width = maps.shape
    return features, height, width


def encoded(
    network: Callable[[Float[Tensor, "b c s s"]], Any], images: Float[Tensor, "n c s s"], together: int
) -> Float[Tensor, "n d h w"]:
    """The maps of images, a few images at a time.

    Args:
        network: images to one map, or to several of which coarser ones are enlarged.
        images: any number of them, none as well.
        together: so many images are encoded at a time.

    Raises:
        EncoderError: the network's output is no map.
    """
    some = images if len(images) else images.new_zeros(1, *images.shape[1:])
    return torch.cat([joined(network(part), len(part)) for part in torch.split(some, together)])[: len(images)]


def joined(maps: Any, count: int | torch.SymInt) -> Float[Tensor, "b d h w"]:  # noqa: ANN401 - whatever a network gives
    """Maps concatenated at the resolution of the finest; the others are enlarged to it by repeating their cells.

    Args:
        maps: a tensor (B, D, h, w), or a list or tuple of them.
        count: B; a symbol while a graph is exported.

    Raises:
        EncoderError: the maps are of another form.
    """
    several = list(maps) if isinstance(maps, list | tuple) and len(maps) else [maps]
    for one in several:
        if not (isinstance(one, Tensor) and one.ndim == 4 and one.shape[0] == count and one.is_floating_point()):
            got = f"a tensor {tuple(one.shape)} of {one.dtype}" if isinstance(one, Tensor) else type(one).__name__
            raise EncoderError(
                f"the encoder's output for {count} images is {got}; it must be maps of floats, (B, D, height, width): "
                "take the output of a layer before the pooling"
            )
    finest = max((tuple(one.shape[2:]) for one in several), key=lambda size: size[0] * size[1])
    enlarged = [one if tuple(one.shape[2:]) == finest else F.interpolate(one, size=finest) for one in several]
    return torch.cat([one.float() for one in enlarged], dim=1).contiguous()


def chosen(maps: Any, layers: tuple[int, ...]) -> Any:  # noqa: ANN401 - whatever a network gives
    """The maps of some layers of a network's output; all of it where ``layers`` is empty. Raises EncoderError."""
    if not layers:
        return maps
    several = list(maps) if isinstance(maps, list | tuple) else [maps]
    if layers[-1] >= len(several):
        raise EncoderError(f"layers is {layers}, but the encoder has the maps 0 to {len(several) - 1}; choose of these")
    return [several[layer] for layer in layers]


def check_colour(images: Float[Tensor, "b c s s"]) -> None:
    """Refuse images that are not RGB. Raises EncoderError."""
    if images.shape[1] != 3:
        raise EncoderError(f"the encoder takes images of 3 channels, these have {images.shape[1]}; set channels to 3")


def imported(module: str, encoder: str, extra: str) -> ModuleType:
    """Import a package that an encoder needs.

    Args:
        module: name of the package.
        encoder: name of the encoder, for messages.
        extra: the extra of this package that installs it.

    Raises:
        EncoderError: the package is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise EncoderError(f"the encoder {encoder!r} cannot import {module}: {last_line(error)}") from error
        message = f"the encoder {encoder!r} needs the extra: pip install 'fedlmd[{extra}]'"
        raise EncoderError(message) from None
    # torchvision built for another torch raises RuntimeError.
    except (ImportError, RuntimeError, OSError) as error:
        raise EncoderError(f"the encoder {encoder!r} cannot import {module}: {last_line(error)}") from error


def last_line(error: BaseException) -> str:
    """The last line of an error's message, or its type: what torch writes before is the trace of the network."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
