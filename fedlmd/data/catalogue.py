"""A source before its images are decoded: which there are, with which labels, and what was passed over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from fedlmd.data.formats import SUFFIXES
from fedlmd.data.images import ImageError
from fedlmd.data.labels import label_notes, natural, normal_label
from fedlmd.data.layouts.splits import Split
from fedlmd.data.pixel_rules import Raw

OF_THE_SYSTEM = "a file or folder of the system"
"""Why something is passed over that nobody misses; every other reason counts where a source is loaded strictly."""

MAX_BYTES = 400_000_000
"""Largest image file that is read: what the largest image takes uncompressed, and as much again."""


class Part(ABC):
    """Images with labels that are decoded one by one.

    Args:
        labels: int64 (N,), indices into the catalogue's labels.
    """

    def __init__(self, labels: Int64[np.ndarray, " n"]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def raw(self, index: int) -> Raw:
        """The image at a position, for ``convert``. Raises DataError."""

    @abstractmethod
    def name(self, index: int) -> str:
        """How messages name the image at a position."""

    @abstractmethod
    def take(self, indices: NDArray[Any]) -> Part:
        """The images at these positions."""


@final
class FilesPart(Part):
    """Image files.

    Args:
        paths: of the files, links resolved where there is a data root.
        labels: of the files.
    """

    def __init__(self, paths: Sequence[str], labels: Int64[np.ndarray, " n"]) -> None:
        super().__init__(labels)
        self.paths = list(paths)

    def raw(self, index: int) -> Raw:
        """The bytes of a file. Raises ImageError for one that is too large or cannot be read."""
        path = Path(self.paths[index])
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(f"the file has more than {MAX_BYTES:,} bytes; scale the image down first")
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"it cannot be read: {error.strerror}") from error

    def name(self, index: int) -> str:
        """The path of a file."""
        return self.paths[index]

    def take(self, indices: NDArray[Any]) -> Part:
        """The files at these positions."""
        return FilesPart([self.paths[index] for index in indices.tolist()], self.labels[indices])


@final
class ArrayPart(Part):
    """Images of one array.

    Args:
        images: (N, H, W) or (N, H, W, C).
        labels: of the images.
        source: how messages name the array.
    """

    def __init__(self, images: NDArray[Any], labels: Int64[np.ndarray, " n"], source: str) -> None:
        super().__init__(labels)
        self.images, self.source = images, source

    def raw(self, index: int) -> Raw:
        """One image as an array."""
        image: NDArray[Any] = self.images[index]
        return image

    def name(self, index: int) -> str:
        """The source and the position."""
        return f"{self.source}, image {index}"

    def take(self, indices: NDArray[Any]) -> Part:
        """The images at these positions."""
        return ArrayPart(self.images[indices], self.labels[indices], self.source)


@final
class JoinedPart(Part):
    """Several parts, one after the other.

    Args:
        parts: the parts.
        places: which of their images these are, counted through all parts; None for all.
    """

    def __init__(self, parts: Sequence[Part], places: NDArray[Any] | None = None) -> None:
        labels = np.concatenate([part.labels for part in parts])
        self.parts, self.places = parts, np.arange(len(labels)) if places is None else places
        super().__init__(labels[self.places])

    def place(self, index: int) -> tuple[Part, int]:
        """The part that an image lies in, and its position there."""
        position, number = int(self.places[index]), 0
        while position >= len(self.parts[number]):
            position -= len(self.parts[number])
            number += 1
        return self.parts[number], position

    def raw(self, index: int) -> Raw:
        """The image at a position. Raises DataError."""
        part, position = self.place(index)
        return part.raw(position)

    def name(self, index: int) -> str:
        """How its part names the image."""
        part, position = self.place(index)
        return part.name(position)

    def take(self, indices: NDArray[Any]) -> Part:
        """The images at these positions."""
        return JoinedPart(self.parts, self.places[indices])


@final
class PassedOver:
    """What a source holds and is not loaded: counted by reason, with the first example of each.

    Attributes:
        counts: by reason.
        examples: by reason.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Count something that is passed over."""
        self.counts[reason] += count
        self.examples.setdefault(reason, example)

    def __len__(self) -> int:
        return self.counts.total()

    def sentences(self) -> list[str]:
        """One sentence for each reason."""
        return [
            f"{count:,} passed over: {reason} (such as {printable(self.examples[reason])})"
            for reason, count in self.counts.most_common()
        ]

    def missed(self) -> list[str]:
        """The sentences without files of the system, which nobody misses."""
        kept = PassedOver()
        kept.counts = Counter({reason: count for reason, count in self.counts.items() if reason != OF_THE_SYSTEM})
        kept.examples = self.examples
        return kept.sentences()


@dataclass(frozen=True)
class Catalogue:
    """A source before its images are decoded.

    Args:
        name: how messages name the source.
        labels: of all parts, in natural order.
        parts: "train" and "eval"; or "all" where the source has no part to evaluate on.
        passed_over: what is not loaded.
        notes: what was guessed or changed, one sentence each.
    """

    name: str
    labels: tuple[str, ...]
    parts: dict[Split, Part]
    passed_over: PassedOver = field(default_factory=PassedOver)
    notes: tuple[str, ...] = ()

    @property
    def divided(self) -> bool:
        """Whether the source has a part of its own to evaluate on."""
        return "all" not in self.parts

    def part(self, split: Split, evaluation: float) -> Part:
        """The images of a split, "all" for every image; of an undivided source a seeded share is for evaluation.

        Args:
            split: which.
            evaluation: that share of each label, 0 to below 1; rounded to whole images, at least one where a label has
                two or more.
        """
        if split in self.parts:
            return self.parts[split]
        if self.divided:
            return JoinedPart([self.parts["train"], self.parts["eval"]])
        whole = self.parts["all"]
        held = evaluation_share(whole.labels, evaluation)
        return whole.take(np.flatnonzero(held if split == "eval" else ~held))


def evaluation_share(labels: Int64[np.ndarray, " n"], share: float) -> NDArray[np.bool_]:
    """Which images are for evaluation: a share of each label, drawn with a fixed seed, the same in every run."""
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.random.default_rng([0, int(label)]).permutation(np.flatnonzero(labels == label))
        held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    return held


def numbered(raw: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int], list[str]]:
    """Labels in natural order, the number of each name as it was given, and what is to be said of the names."""
    distinct = list(dict.fromkeys(raw))
    labels = tuple(sorted({normal_label(name) for name in distinct}, key=natural))
    positions = {label: number for number, label in enumerate(labels)}
    return labels, {name: positions[normal_label(name)] for name in distinct}, label_notes(distinct)


def printable(name: str) -> str:
    """A file's name as one line of text, with escapes for line breaks and other characters that do not print."""
    return name if name.isprintable() else ascii(name)


def is_image(name: str) -> bool:
    """Whether a file's name ends as that of an image of a format that is read."""
    return name.casefold().endswith(SUFFIXES)
