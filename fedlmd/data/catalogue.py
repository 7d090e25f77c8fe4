"""A source before its images are decoded: which there are, with which labels, and what was passed over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from fedlmd.data.formats import SUFFIXES, Raw
from fedlmd.data.images import DataError, ImageError
from fedlmd.data.labels import label_notes, natural, normal_label
from fedlmd.data.layouts.splits import Split

OF_THE_SYSTEM = "a file or folder of the system"
"""Why something is passed over that nobody misses; every other reason counts where a source is loaded strictly."""

MAX_BYTES = 400_000_000
"""Largest image file that is read: what the largest image takes uncompressed, and as much again."""


class Part(ABC):
    """Images with labels that are decoded one by one.

    Args:
        labels: int64 (N,), indices into the catalogue's labels.
        rows: positions of the images where they are stored; None for all in order.
    """

    def __init__(self, labels: Int64[np.ndarray, " n"], rows: NDArray[Any] | None = None) -> None:
        self.labels, self.rows = labels, np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.labels)

    def raw(self, index: int) -> Raw:
        """The image at a position, for ``convert``. Raises DataError."""
        return self.raw_of(int(self.rows[index]))

    def name(self, index: int) -> str:
        """How messages name the image at a position."""
        return self.name_of(int(self.rows[index]))

    def take(self, indices: NDArray[Any]) -> Part:
        """The images at these positions."""
        taken = copy(self)
        taken.labels, taken.rows = self.labels[indices], self.rows[indices]
        return taken

    @abstractmethod
    def raw_of(self, row: int) -> Raw:
        """A stored image. Raises DataError."""

    @abstractmethod
    def name_of(self, row: int) -> str:
        """How messages name a stored image."""


@final
class FilesPart(Part):
    """Image files.

    Args:
        paths: of the files, links resolved where there is a data root.
        labels: of the files.
    """

    def __init__(self, paths: Sequence[str], labels: Int64[np.ndarray, " n"]) -> None:
        super().__init__(labels)
        self.paths = paths

    def raw_of(self, row: int) -> Raw:
        """The bytes of a file. Raises ImageError for one that is too large or cannot be read."""
        path = Path(self.paths[row])
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(f"the file has more than {MAX_BYTES:,} bytes; scale the image down first")
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f"it cannot be read: {error.strerror}") from error

    def name_of(self, row: int) -> str:
        """The path of a file."""
        return self.paths[row]


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

    def raw_of(self, row: int) -> Raw:
        """One image as an array."""
        image: NDArray[Any] = self.images[row]
        return image

    def name_of(self, row: int) -> str:
        """The source and the position in the array."""
        return f"{self.source}, image {row}"


@final
class JoinedPart(Part):
    """Several parts, one after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__(np.concatenate([part.labels for part in parts]))
        self.parts, self.starts = parts, np.cumsum([0, *map(len, parts)])

    def place(self, row: int) -> tuple[Part, int]:
        """The part that an image lies in, and its position there."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[number], row - int(self.starts[number])

    def raw_of(self, row: int) -> Raw:
        """The image as its part gives it. Raises DataError."""
        part, index = self.place(row)
        return part.raw(index)

    def name_of(self, row: int) -> str:
        """How its part names the image."""
        part, index = self.place(row)
        return part.name(index)


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

    def sentences(self, *, system: bool = True) -> list[str]:
        """One sentence for each reason; files of the system, which nobody misses, can be left out."""
        return [
            f"{count:,} passed over: {reason} (such as {printable(self.examples[reason])})"
            for reason, count in self.counts.most_common()
            if system or reason != OF_THE_SYSTEM
        ]


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

    def missed(self, *, strict: bool) -> list[str]:
        """What is passed over and not of the system, one sentence each. Raises DataError for any where strict."""
        missed = self.passed_over.sentences(system=False)
        if strict and missed:
            raise DataError(f"{self.name}: {'; '.join(missed)}; strict is true")
        return missed

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
        held = held_out(whole.labels, evaluation)
        return whole.take(np.flatnonzero(held if split == "eval" else ~held))


def held_out(labels: Int64[np.ndarray, " n"], share: float, *, least: int = 1, seed: int = 0) -> NDArray[np.bool_]:
    """Which images are held out: a seeded share of each label, ``least`` or more, but never all of a label."""
    held = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        held[members[: min(max(least, round(share * len(members))), len(members) - 1)]] = True
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
