"""Whether one score separates better than another on the same images, or the images just fell so."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Difference", "difference"]


class Difference(NamedTuple):
    """By how much one AUROC exceeds another, and the standard error of that."""

    value: float
    error: float


def difference(known: Float[Tensor, "2 n"], unknown: Float[Tensor, "2 m"]) -> Difference:
    """AUROC of the first score minus that of the second on the same images (DeLong et al. 1988).

    Args:
        known: both scores of the known images, 2 or more.
        unknown: both scores of the unknown images, 2 or more.

    Raises:
        ValueError: with fewer images.
    """
    if min(known.shape[1], unknown.shape[1]) < 2:
        raise ValueError("a standard error needs at least 2 known and 2 unknown images")
    shares = [placements(of_known, of_unknown) for of_known, of_unknown in zip(known, unknown, strict=True)]
    (a_known, a_unknown), (b_known, b_unknown) = shares
    of_known, of_unknown = a_known - b_known, a_unknown - b_unknown
    variance = of_known.var() / len(of_known) + of_unknown.var() / len(of_unknown)
    return Difference(float(of_known.mean()), math.sqrt(float(variance)))


def placements(
    known: Float[Tensor, " n"], unknown: Float[Tensor, " m"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """The share of unknown images above each known one, and of known ones below each unknown one; ties count half.

    The mean of either is the AUROC.
    """

    def below(these: Tensor, of: Tensor) -> Tensor:
        ordered = of.sort().values
        left, right = (torch.searchsorted(ordered, these, right=right) for right in (False, True))
        return (left + right).double() / (2 * len(of))

    return 1 - below(known, unknown), below(unknown, known)
