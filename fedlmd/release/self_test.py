"""The self-test in a release: synthetic images, and the release's outputs for them when it was made.

Whoever loads a release computes these outputs again. The images are computed from whole numbers alone, so that every
machine and every version of any library makes the same ones, and none of them is a worker's. Needs numpy only: a server
compares its workers' outputs without a network.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

RECIPE = "level-lines-1"
"""The name of the images of ``patterns``; it changes with every pixel that changes."""

TOLERANCE = 1e-4
"""Differences up to this share of the largest output of their kind count as the rounding of another order of sums.

Other thread counts, batches, memory layouts and kernels stay far below it. A change of the weights that stays below it,
too, such as the scale of a convolution before a norm, is not detected; predictions are then practically the same.
"""

IMAGES = 8
# Along a side of an image; the field between its corners is smooth.
CELLS = 3

LOGITS, VERDICT = "logits", "verdict"

Findings = Mapping[str, np.ndarray]
"""Outputs for the images, one row each: "logits" (N, K), and (N,) scores by name, "verdict" being the fused one."""


@dataclass(frozen=True)
class SelfTest:
    """A release's outputs for the images of ``patterns``.

    Args:
        findings: ``Findings`` as lists.
        unknown: of each image, whether it was called unknown; empty where the verdict is too expensive to be tested.
        recipe: how the images are made.
        tolerance: see ``TOLERANCE``.
    """

    findings: dict[str, Any]
    unknown: list[bool]
    recipe: str = RECIPE
    tolerance: float = TOLERANCE

    @classmethod
    def of(cls, findings: Findings, threshold: float) -> SelfTest:
        """The self-test of a release; above ``threshold`` of the verdict's score an image is called unknown."""
        unknown = [bool(score > threshold) for score in findings.get(VERDICT, ())]
        return cls({name: np.asarray(rows, np.float64).tolist() for name, rows in findings.items()}, unknown)

    def to_json(self) -> dict[str, Any]:
        """The form in a card; ``SelfTest(**form)`` is its inverse."""
        return asdict(self)

    def failure(self, outputs: Findings, threshold: float) -> str | None:
        """Why these are not the outputs from when the release was made, or None where they are.

        A score that differs by rounding alone passes on either side of the threshold. Of an image whose two best labels
        differ by rounding alone, only the logits count.

        Raises:
            KeyError, TypeError, ValueError: when this version does not know the self-test.
        """
        if self.recipe != RECIPE:
            raise ValueError(f"its self-test is made by {self.recipe!r}; this version of fedlmd makes {RECIPE!r}")
        expected = {name: np.asarray(rows, np.float64) for name, rows in self.findings.items()}
        ordered = np.sort(expected[LOGITS], axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 2 * self.tolerance * np.abs(expected[LOGITS]).max()
        for name, rows in expected.items():
            if name not in outputs:
                raise ValueError(f"its self-test has findings of an unknown {name!r}")
            off = relative_difference(outputs[name], rows, slice(None) if name == LOGITS else clear)
            if not off <= self.tolerance:
                return f"{name} is off by {off:.1e} of its largest value; rounding makes {self.tolerance:.0e} at most"
        return self.changed_decisions(outputs, expected, clear, threshold)

    def changed_decisions(
        self, outputs: Findings, expected: Findings, clear: np.ndarray, threshold: float
    ) -> str | None:
        """Why the decisions are not the same, or None; ``clear`` marks the images with a clear label."""
        if not self.unknown:
            return None
        near = self.tolerance * np.abs(expected[VERDICT]).max()
        counts = np.abs(expected[VERDICT] - threshold)[clear] > near
        wrong = ((outputs[VERDICT] > threshold) != np.asarray(self.unknown, bool))[clear] & counts
        return f"it decides otherwise on {wrong.sum()} of {len(wrong)} images" if wrong.any() else None


def relative_difference(outputs: np.ndarray, expected: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
    """Largest difference in some rows as a share of the largest expected magnitude; infinite for other shapes, NaN."""
    if outputs.shape != expected.shape or not np.isfinite(outputs).all():
        return math.inf
    differences = np.abs(outputs.astype(np.float64) - expected)[rows]
    return float(differences.max(initial=0)) / max(float(np.abs(expected).max(initial=0)), 1e-12)


def dissenting(all_findings: Sequence[Findings]) -> list[int]:
    """Positions of the findings that differ from those that most have; where there are equally many, from the first.

    Findings that are not finite equal none, not even themselves; empty ones equal empty ones.
    """
    agreement = [[agree(one, other) for one in all_findings] for other in all_findings]
    usual = max(agreement, key=sum, default=[])
    return [position for position, agrees in enumerate(usual) if not agrees]


def agree(one: Findings, other: Findings) -> bool:
    """Whether two sets of findings are the same up to rounding."""
    if one.keys() != other.keys():
        return False
    try:
        return not other or SelfTest.of(other, math.inf).failure(one, math.inf) is None
    except (KeyError, IndexError, ValueError):
        return False


def patterns(channels: int, size: int, count: int = IMAGES) -> UInt8[np.ndarray, "n c size size"]:
    """Bright curves on black, from a ring, like a zero, to irregular ones: level lines of ever less regular fields.

    The field of image n of N, channel c, is ((N - 1 - n) bowl + n noise) / (N - 1), rounded down, where

    - the bowl is the squared distance from the image's middle, 128 at 3/10 of its side, 255 at most;
    - the noise is bilinear between heights at the 4 by 4 corners of 3 by 3 cells, the first 16 bytes, row by row, of
      the SHA-256 digest of ``level-lines-1/n/c``; places are in steps of 1/256 of a cell.

    A pixel's grey is 255 where its field is within 12 of 128, and falls by 6 with every further step, down to 0.

    Args:
        channels: of an image.
        size: height and width in pixels.
        count: number of images, 2 or more.
    """
    noises = [[noise(f"{RECIPE}/{n}/{channel}", size) for channel in range(channels)] for n in range(count)]
    share = np.arange(count).reshape(-1, 1, 1, 1)
    fields = ((count - 1 - share) * bowl(size) + share * np.array(noises)) // (count - 1)
    beyond = np.maximum(np.abs(fields - 128) - 12, 0)
    grey: np.ndarray = np.maximum(255 - 6 * beyond, 0).astype(np.uint8)
    return grey


def bowl(size: int) -> np.ndarray:
    """A field that rises from the middle outwards, (size, size), int64 from 0 to 255."""
    # Twice the distance, so that it is a whole number from a pixel's centre to the middle of an even side as well.
    line = (2 * np.arange(size) + 1 - size) ** 2
    risen: np.ndarray = np.minimum(128 * 100 * (line[:, None] + line) // (36 * size**2), 255)
    return risen


def noise(name: str, size: int) -> np.ndarray:
    """A smooth field that is drawn from a name, (size, size), int64 from 0 to 255."""
    corners = CELLS + 1
    digest = hashlib.sha256(name.encode()).digest()[: corners**2]
    heights = np.frombuffer(digest, np.uint8).astype(np.int64).reshape(corners, corners)
    places = np.arange(size) * CELLS * 256 // size
    cell, part = places // 256, places % 256
    rows = heights[cell] * (256 - part)[:, None] + heights[cell + 1] * part[:, None]
    both: np.ndarray = rows[:, cell] * (256 - part) + rows[:, cell + 1] * part
    return both // 2**16
