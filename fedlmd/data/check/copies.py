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
    readable = np.flatnonzero(rows["readable"])
    order = readable[np.argsort(rows["pixels"][readable], kind="stable")]
    hashes = rows["pixels"][order]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(order) else order
    several = np.flatnonzero(np.diff(np.append(starts, len(order))) > 1)
    ends = np.append(starts, len(order))
    groups = [order[ends[group] : ends[group + 1]] for group in several.tolist()]
    return Copies(len(groups), *counts(rows, groups), *examples(rows, groups))


def counts(rows: NDArray[Any], groups: list[NDArray[np.int64]]) -> tuple[int, int, int]:
    """Images that are repeated within a part, that are in both parts, and that contradict others."""
    repeated = leaked = contradictory = 0
    for group in groups:
        evaluated = int(rows["evaluation"][group].sum())
        trained = len(group) - evaluated
        leaked += evaluated if trained else 0
        if len(np.unique(rows["label"][group])) > 1:
            contradictory += len(group)
        else:
            repeated += max(0, evaluated - 1) + max(0, trained - 1)
    return repeated, leaked, contradictory


def examples(
    rows: NDArray[Any], groups: list[NDArray[np.int64]]
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """A few pairs of each kind, in the order of the source."""
    repeated, leaked, contradictory = list[Pair](), list[Pair](), list[Pair]()
    for group in sorted(groups, key=lambda group: int(group[0])):
        evaluated, labels = rows["evaluation"][group], rows["label"][group]
        trained, held = group[~evaluated], group[evaluated]
        if len(trained) and len(held):
            leaked.append((int(trained[0]), int(held[0])))
        if (labels != labels[0]).any():
            contradictory.append((int(group[0]), int(group[np.argmax(labels != labels[0])])))
            continue
        repeated += [(int(part[0]), int(part[1])) for part in (trained, held) if len(part) > 1]
    return tuple(repeated[:EXAMPLES]), tuple(leaked[:EXAMPLES]), tuple(contradictory[:EXAMPLES])
