"""Images with the same pixels: copies within a part, in both parts, and under different labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXAMPLES = 5
"""At most so many groups of copies are kept as examples of each kind."""

Pair = tuple[int, int]
"""Positions of two images with the same pixels."""


@dataclass(frozen=True)
class Copies:
    """How many images repeat others; with examples, by their positions in ``Measurements``.

    Args:
        groups: of two or more images with the same pixels.
        repeated: images that could be removed, so that each occurs once in its part; without contradictory ones.
        leaked: images of the part to evaluate on that are in the part to train on too.
        contradictory: images that occur under more than one label.
        repeated_examples: two images of one part.
        leaked_examples: an image to train on, and the same to evaluate on.
        contradictory_examples: the same image under two labels.
    """

    groups: int = 0
    repeated: int = 0
    leaked: int = 0
    contradictory: int = 0
    repeated_examples: tuple[Pair, ...] = ()
    leaked_examples: tuple[Pair, ...] = ()
    contradictory_examples: tuple[Pair, ...] = ()


def copies_of(rows: NDArray[Any]) -> Copies:
    """Compare the hashes of all images that could be decoded.

    Args:
        rows: (N,) of ``fedlmd.data.check.measure.ROW``.
    """
    same = groups(rows)
    repeated = leaked = contradictory = 0
    repeats, leaks, contradictions = list[Pair](), list[Pair](), list[Pair]()
    for group in same:
        evaluated, others = rows["evaluation"][group], group[rows["label"][group] != rows["label"][group[0]]].tolist()
        train, held = group[~evaluated].tolist(), group[evaluated].tolist()
        if train and held:
            leaked += len(held)
            leaks.append((train[0], held[0]))
        if others:
            contradictory += len(group)
            contradictions.append((int(group[0]), others[0]))
        else:
            repeated += sum(len(part) - 1 for part in (train, held) if part)
            repeats += [(part[0], part[1]) for part in (train, held) if len(part) > 1]
    examples = (tuple(pairs[:EXAMPLES]) for pairs in (repeats, leaks, contradictions))
    return Copies(len(same), repeated, leaked, contradictory, *examples)


def groups(rows: NDArray[Any]) -> list[NDArray[np.int64]]:
    """Positions of images with the same pixels, two or more in each group, in the order of the source."""
    readable = np.flatnonzero(rows["readable"])
    order = readable[np.argsort(rows["pixels"][readable], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(rows["pixels"][order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda group: int(group[0]))
