"""Decoding of a source's images, one by one, into the memory that they need in the end: as pixels or as latents."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from torch import Tensor

from fedlmd.data.catalogue import Catalogue, Part, PassedOver, printable
from fedlmd.data.formats import Raw
from fedlmd.data.images import DataError, LabelledImages, check_labels
from fedlmd.data.labels import normal_label
from fedlmd.data.layouts.splits import Split
from fedlmd.data.pixel_rules import PixelRules, convert
from fedlmd.progress import Progress

log = logging.getLogger("fedlmd.data.sources")

Loading = Generator[Progress, None, LabelledImages]

DAMAGED = "an image that cannot be decoded"

TOGETHER = 32
"""Images that are encoded at once."""


@runtime_checkable
class Encode(Protocol):
    """Turns pixels into latents. It may have stored those of an image that it has encoded before."""

    def stored(self, raw: Raw) -> Float16[Tensor, "d h w"] | None:
        """The latents of an image that was encoded before; None where they are not stored."""

    def __call__(self, raws: Sequence[Raw], pixels: UInt8[Tensor, "b c s s"]) -> Float16[Tensor, "b d h w"]:
        """Latents of images.

        Args:
            raws: what they were decoded from.
            pixels: uint8.
        """


class Filling:
    """Images that are decoded, and encoded some at a time where they are to be latents.

    Args:
        count: number of images.
        rules: how pixels are made.
        encode: turns pixels into latents; None keeps pixels.
    """

    def __init__(self, count: int, rules: PixelRules, encode: Encode | None) -> None:
        self.count, self.rules, self.encode = count, rules, encode
        self.waiting: list[tuple[int, Raw, Tensor]] = []
        self.values = torch.empty(0)
        if encode is None:
            self.values = torch.empty((count, rules.channels, rules.size, rules.size), dtype=torch.uint8)

    def add(self, index: int, raw: Raw) -> tuple[str, ...]:
        """Decode one image; returns what was changed in it. Raises DataError."""
        if self.encode is None:
            self.values[index], changes = convert(raw, self.rules)
            return changes
        if (latents := self.encode.stored(raw)) is not None:
            self.place([index], latents[None])
            return ()
        pixels, changes = convert(raw, self.rules)
        self.waiting.append((index, raw, pixels))
        if len(self.waiting) == TOGETHER:
            self.flush()
        return changes

    def flush(self) -> None:
        """Encode the images that wait."""
        if self.encode is not None and self.waiting:
            indices, raws, pixels = zip(*self.waiting, strict=True)
            self.place(indices, self.encode(raws, torch.stack(pixels)))
            self.waiting = []

    def place(self, indices: Sequence[int], latents: Float16[Tensor, "b d h w"]) -> None:
        """Put latents where they belong."""
        if not len(self.values):
            self.values = torch.zeros((self.count, *latents.shape[1:]), dtype=latents.dtype)
        self.values[list(indices)] = latents


def decoded(
    catalogue: Catalogue,
    part: Part,
    split: Split,
    rules: PixelRules,
    labels: Sequence[str] | None,
    strict: bool,
    encode: Encode | None,
) -> Loading:
    """Decode images; the generator returns them, and yields its steps where they are encoded.

    Args:
        catalogue: of the source.
        part: the images.
        split: that they belong to, for messages.
        rules: how pixels are made.
        labels: to decode alone, and in what order they are numbered; None for all of the source.
        strict: whether a damaged image is refused rather than passed over.
        encode: see ``Encode``.

    Raises:
        DataError: a label has no image, an image is damaged where ``strict``, or all are.
    """
    names: Sequence[str] = catalogue.labels
    if labels is not None:
        part, names = chosen(catalogue, part, split, [normal_label(label) for label in labels])
    filling, changes, damaged = Filling(len(part), rules, encode), Counter[str](), PassedOver()
    kept = np.ones(len(part), dtype=np.bool_)
    for index in range(len(part)):
        try:
            changes.update(filling.add(index, part.raw(index)))
        except DataError as error:
            if strict:
                raise type(error)(f"{printable(part.name(index))}: {error}; strict is true") from error
            damaged.add(f"{DAMAGED} ({error})", part.name(index))
            kept[index] = False
        if encode is not None and (index + 1) % TOGETHER == 0:
            yield Progress("encoding", index + 1, len(part))
    filling.flush()
    say(catalogue, split, len(part), changes, damaged)
    if not kept.any():
        raise DataError(f"{catalogue.name} has no {split} image that can be decoded: {'; '.join(damaged.sentences())}")
    values = filling.values if kept.all() else filling.values[torch.from_numpy(kept)]
    return LabelledImages(values, torch.from_numpy(part.labels[kept]), tuple(names))


def chosen(catalogue: Catalogue, part: Part, split: Split, labels: Sequence[str]) -> tuple[Part, Sequence[str]]:
    """The images of some labels, with labels numbered in this order. Raises DataError."""
    check_labels(labels, catalogue.labels)
    renumbered = np.full(len(catalogue.labels), -1, dtype=np.int64)
    for number, label in enumerate(labels):
        old = catalogue.labels.index(label)
        if not (part.labels == old).any():
            raise DataError(
                f"label {label!r} has no {split} image in {catalogue.name}; leave it out, or add images of it"
            )
        renumbered[old] = number
    taken = part.take(np.flatnonzero(renumbered[part.labels] >= 0))
    taken.labels = renumbered[taken.labels]
    return taken, labels


def say(catalogue: Catalogue, split: Split, count: int, changes: Counter[str], damaged: PassedOver) -> None:
    """Log what was changed and what was passed over."""
    if changes:
        words = "; ".join(f"{number:,} {change}" for change, number in changes.most_common())
        log.info("%s, %s: of %s images %s", catalogue.name, split, f"{count:,}", words)
    for sentence in damaged.sentences():
        log.warning("%s, %s: %s", catalogue.name, split, sentence)
