"""The image contract: labelled uint8 images in memory, float32 (B, C, H, W) in [-1, 1] for every model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64, UInt8
from PIL import Image
from torch import Tensor

Indices = Sequence[int] | np.ndarray | Tensor
"""Positions of images, each 0 to N - 1; no boolean masks."""


class DataError(ValueError):
    """A data set, label or file is not what it must be; the message is one sentence for the user."""


class ImageError(DataError):
    """Bytes that are not an acceptable image."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with one label each, kept as bytes: 60,000 MNIST digits take 47 MB; or an encoder's latents of them.

    Args:
        pixels: uint8 (N, C, H, W), 0 (black) to 255; latents are float16.
        labels: int64 (N,), each an index into ``names``.
        names: the label of each index. A worker that holds only some labels keeps all names, so that an index means
            the same on every worker.

    Raises:
        DataError: the three do not fit together.
    """

    pixels: UInt8[Tensor, "n c h w"] | Float16[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype not in (torch.uint8, torch.float16) or self.pixels.ndim != 4:
            raise DataError(
                f"pixels must be uint8 (N, C, H, W) or float16, not {self.pixels.dtype} {tuple(self.pixels.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise DataError(
                f"labels must be int64 ({len(self.pixels)},), one for each image, "
                f"not {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if len(set(self.names)) < len(self.names):
            raise DataError(f"each name may occur once, but names are {', '.join(self.names)}")
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.names):
            raise DataError(f"labels must be 0 to {len(self.names) - 1}, one index for each of the names")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Indices) -> LabelledImages:
        """The images at these positions, in this order, under the same names."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return LabelledImages(self.pixels[chosen], self.labels[chosen], self.names)

    def select(self, labels: Sequence[str], names: Sequence[str] | None = None) -> LabelledImages:
        """Keep only the images of some labels, in their present order.

        Args:
            labels: the labels to keep.
            names: what the indices of the result refer to, a superset of ``labels``; ``labels`` itself by default.

        Raises:
            DataError: a label is unknown, is given twice, has no image, or is missing in ``names``.
        """
        names = tuple(labels if names is None else names)
        check_labels(labels, self.names)
        check_labels(labels, names)
        renumbered = torch.full((len(self.names),), -1, dtype=torch.int64)
        for label in labels:
            old = self.names.index(label)
            if not bool((self.labels == old).any()):
                raise DataError(f"label {label!r} has no image; leave it out, or add images of it")
            renumbered[old] = names.index(label)
        new = renumbered[self.labels]
        return LabelledImages(self.pixels[new >= 0], new[new >= 0], names)

    def images(self, indices: Indices | None = None) -> Float[Tensor, "b c h w"]:
        """All images, or those at these positions, as float32: in [-1, 1], or latents as they are."""
        pixels = self.pixels if indices is None else self.pixels[torch.as_tensor(indices, dtype=torch.int64)]
        return as_float(pixels)


def some(dataset: LabelledImages, most: int, seed: int = 0) -> LabelledImages:
    """At most so many images, drawn at random."""
    return dataset.take(torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))[:most])


def check_labels(labels: Sequence[str], known: Collection[str]) -> None:
    """Refuse a list of labels that is empty, repeats one or names an unknown one.

    Raises:
        DataError: with the label, and with those that exist.
    """
    if not labels:
        raise DataError(f"the list of labels is empty; choose at least one of {', '.join(known)}")
    for position, label in enumerate(labels):
        if label not in known:
            alike = [name for name in known if name.casefold() == label.casefold()]
            but = f", but {alike[0]!r}, which differs only in case; rename one" if alike else ""
            raise DataError(f"there is no label {label!r}{but}; there are {', '.join(known) or 'none'}")
        if label in labels[:position]:
            raise DataError(f"label {label!r} is listed twice; list each label once")


def as_float(values: UInt8[Tensor, "*shape"] | Float16[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels as float32 in [-1, 1], or latents as float32."""
    return to_unit_range(values) if values.dtype == torch.uint8 else values.float()


def to_unit_range(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bytes 0 to 255 as float32 -1 to 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_pixels(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """The inverse of ``to_unit_range``: rounded to the nearest byte; what lies outside [-1, 1] is clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    """An image with 1 or 3 channels, for Pillow."""
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def tensor(image: Image.Image) -> UInt8[Tensor, "c h w"]:
    """The inverse of ``picture``."""
    array = np.array(image)
    return torch.from_numpy(array.reshape(image.height, image.width, -1)).permute(2, 0, 1).contiguous()
